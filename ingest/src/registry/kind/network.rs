use std::net::IpAddr;

use crate::registry::Faults;

/// Refuses what is no network (RFC 4632, section 3.1) with all host bits zero.
pub(super) fn check_network(faults: &mut Faults, at: &str, text: &str) {
    if !is_network(text) {
        let mend = "give an address and a prefix length, as 192.0.2.0/24, no bits beyond it set";
        faults.add(at, "is not a network", mend);
    }
}

fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    match address {
        IpAddr::V4(v4) => length <= 32 && v4.to_bits().checked_shl(length).unwrap_or(0) == 0,
        IpAddr::V6(v6) => length <= 128 && v6.to_bits().checked_shl(length).unwrap_or(0) == 0,
    }
}
