use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The largest network that a decision is against, by its prefix: a provider gives a customer
/// a /48 of IPv6 at most, and of IPv4 mostly an address.
const PREFIX_MIN: (u8, u8) = (24, 48);
/// The longest name of an application or a user, in bytes.
const NAME_BYTES_MAX: usize = 1_024;

/// Whom a decision is against.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Clients of an address, or of a network.
    Address(Network),
    /// An application, by its name.
    Application(String),
    /// A user: the subject of a token.
    User(String),
}

/// What a subject is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    /// An address or a network.
    Address,
    /// An application.
    Application,
    /// A user.
    User,
}

impl SubjectKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Address, Self::Application, Self::User];

    /// As `decision_subject_kind` of events.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Application => "application",
            Self::User => "user",
        }
    }
}

impl Subject {
    /// The subject of this kind and name.
    ///
    /// # Errors
    /// What is wrong with the name, and what to give.
    pub fn parse(kind: SubjectKind, name: &str) -> Result<Self, String> {
        if kind == SubjectKind::Address {
            return name.parse().map(Self::Address);
        }
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
            return Err(format!(
                "no name of a {}: give 1 to {NAME_BYTES_MAX} bytes, without control characters",
                kind.text()
            ));
        }
        let name = name.to_owned();
        Ok(match kind {
            SubjectKind::Application => Self::Application(name),
            _ => Self::User(name),
        })
    }

    /// What it is.
    pub const fn kind(&self) -> SubjectKind {
        match self {
            Self::Address(_) => SubjectKind::Address,
            Self::Application(_) => SubjectKind::Application,
            Self::User(_) => SubjectKind::User,
        }
    }

    /// Its name alone.
    pub fn name(&self) -> String {
        match self {
            Self::Address(network) => network.to_string(),
            Self::Application(name) | Self::User(name) => name.clone(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().text(), self.name())
    }
}

/// A network, or a single address; IPv4 ones never in their mapped form. Its host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// The network, as one of prefixes.
    pub fn net(self) -> IpNet {
        self.0
    }
}

/// An IPv4 address as itself, also where it comes as one of IPv6 (RFC 4291, section 2.5.5.2).
pub(super) fn plain(net: IpNet) -> IpNet {
    match (net.addr(), net.prefix_len()) {
        (IpAddr::V6(v6), 96..) if v6.to_ipv4_mapped().is_some() => {
            let v4 = v6.to_ipv4_mapped().expect("it was looked at");
            IpNet::new(v4.into(), net.prefix_len() - 96).expect("of 32 bits at most")
        }
        _ => net,
    }
    .trunc()
}

impl Network {
    /// The network that one client has: an address of IPv4, the /64 of one of IPv6 (RFC 6177),
    /// of which it may take any.
    #[must_use]
    pub fn of_client(self) -> Self {
        match self.0 {
            IpNet::V6(net) if net.prefix_len() > 64 => {
                let net = IpNet::new(net.addr().into(), 64).expect("of 128 bits at most");
                Self(net.trunc())
            }
            _ => self,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MEND: &str = "give an address, or a network as 192.0.2.0/24 or 2001:db8:1::/48";
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| format!("it is no address: {MEND}"))?,
        };
        let net = plain(net);
        let (v4, v6) = PREFIX_MIN;
        if net.prefix_len() < if net.addr().is_ipv4() { v4 } else { v6 } {
            return Err(format!("the network is larger than a /{v4}, or a /{v6} of IPv6: {MEND}"));
        }
        Ok(Self(net))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            return self.0.addr().fmt(f);
        }
        self.0.fmt(f)
    }
}
