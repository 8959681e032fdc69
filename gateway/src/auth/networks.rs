use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A set of networks, asked in logarithmic time.
///
/// Held as ranges of IPv6 addresses, sorted and apart, IPv4 ones mapped
/// (`::ffff:0:0/96`): so an IPv4 address and its mapped form are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Box<[(u128, u128)]>);

impl Networks {
    /// Reads networks as `192.0.2.0/24`.
    ///
    /// # Errors
    /// The place of the first text that is no network.
    pub fn parse(texts: &[String]) -> Result<Self, usize> {
        let mut ranges = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            ranges.push(range(text.parse().map_err(|_| i)?));
        }
        Ok(Self::merged(ranges))
    }

    fn merged(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    /// Those of several lists together.
    pub(crate) fn of(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self::merged(networks.into_iter().map(range).collect())
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// Whether there is none, so that no address is in one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Indices by the network that they are of, found by an address: with one look for each length
/// of a prefix that there is, the longest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByNetwork(Vec<(u32, HashMap<u128, Vec<usize>>)>);

impl ByNetwork {
    /// Puts an index under the first and the last address of its network.
    pub(crate) fn add(&mut self, (first, last): (u128, u128), index: usize) {
        let shift = 128 - (first ^ last).leading_zeros();
        let at = match self.0.binary_search_by_key(&shift, |(held, _)| *held) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (shift, HashMap::new()));
                at
            }
        };
        self.0[at].1.entry(shifted(first, shift)).or_default().push(index);
    }

    /// Those of the networks that an address is in.
    pub(crate) fn of(&self, address: IpAddr) -> impl Iterator<Item = usize> + '_ {
        let number = number(address);
        let found = self.0.iter().filter_map(move |(shift, of)| of.get(&shifted(number, *shift)));
        found.flatten().copied()
    }
}

fn shifted(number: u128, shift: u32) -> u128 {
    number.checked_shr(shift).unwrap_or(0)
}

/// The address as a number, of IPv6.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The first and the last address of a network.
pub(crate) fn range(network: IpNet) -> (u128, u128) {
    (number(network.network()), number(network.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_their_networks() {
        let texts = ["192.0.2.0/24", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "::1/128"];
        let networks = Networks::parse(&texts.map(str::to_owned)).unwrap();
        let check = |address: &str, expected| {
            assert_eq!(networks.contains(address.parse().unwrap()), expected, "{address}");
        };
        check("192.0.2.0", true);
        check("192.0.2.255", true);
        check("192.0.3.0", false);
        check("192.0.1.255", false);
        check("::ffff:192.0.2.7", true);
        check("::ffff:192.0.3.7", false);
        check("10.0.255.1", true);
        check("10.1.0.1", true);
        check("10.255.255.255", true);
        check("11.0.0.0", false);
        check("2001:db8:ffff::1", true);
        check("2001:db9::", false);
        check("::1", true);
        check("::2", false);
        check("0.0.0.1", false);
        assert!(!Networks::default().contains("10.0.0.1".parse().unwrap()));
        assert_eq!(Networks::parse(&["10.0.0.0/8".into(), "10.0.0/8".into()]), Err(1));
    }

    #[test]
    fn everything_is_a_network_too() {
        let all = Networks::parse(&["::/0".to_owned()]).unwrap();
        assert!(all.contains("10.0.0.1".parse().unwrap()));
        let v4 = Networks::parse(&["0.0.0.0/0".to_owned()]).unwrap();
        assert!(v4.contains("255.255.255.255".parse().unwrap()));
        assert!(!v4.contains("::1".parse().unwrap()));
    }
}
