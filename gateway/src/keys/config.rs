use std::net::SocketAddr;
use std::path::PathBuf;

use ingest::registry::Fault;
use serde::{Deserialize, Serialize};

/// How the key manager is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens; port 0 takes any that is free.
    pub address: SocketAddr,
    /// Its address as callers know it, which is `iss` of its tokens: without a path,
    /// a query and a slash at the end.
    pub issuer: String,
    /// Who its tokens are for, as in `aud`.
    pub audience: String,
    /// The file of what opens the signing keys, the same on every node of this role;
    /// absent, `keys-passphrase` in the data directory, made at the first start.
    pub passphrase_file: Option<PathBuf>,
    /// How long a token is good, 60 to 86,400 s.
    pub token_ttl_s: u32,
}

impl Default for Config {
    /// On loopback; whoever composes it gives the issuer.
    fn default() -> Self {
        Self {
            address: ([127, 0, 0, 1], 9443).into(),
            issuer: String::new(),
            audience: "weir".to_owned(),
            passphrase_file: None,
            token_ttl_s: 3_600,
        }
    }
}

impl Config {
    /// Says everything that is wrong with it.
    ///
    /// # Errors
    /// The faults, at least one.
    pub fn validate(&self) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        let mut add = |at: &str, what: String, mend: &str| faults.push(Fault::new(at, what, mend));
        let is_issuer = reqwest::Url::parse(&self.issuer).is_ok_and(|url| {
            // A good one is its own origin; so it has no user, path, query or fragment.
            matches!(url.scheme(), "http" | "https")
                && url.origin().ascii_serialization() == self.issuer
        });
        if !is_issuer {
            add("issuer", "is not an http address alone".into(), "give it as https://host:port");
        }
        if self.audience.is_empty() {
            add("audience", "is empty".into(), "give the name that gateways expect");
        }
        if !(60..=86_400).contains(&self.token_ttl_s) {
            let what = format!("{} is out of range", self.token_ttl_s);
            add("token_ttl_s", what, "use 60 to 86400");
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |issuer: &str, ttl: u32, expected: &[&str]| {
            let config = Config {
                address: "127.0.0.1:0".parse().unwrap(),
                issuer: issuer.to_owned(),
                audience: "apis".to_owned(),
                passphrase_file: None,
                token_ttl_s: ttl,
            };
            let faults = config.validate().err().unwrap_or_default();
            let found: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
            assert_eq!(found, expected, "{issuer} {ttl}");
        };
        check("https://keys.example:9443", 3_600, &[]);
        check("http://127.0.0.1:8080", 60, &[]);
        check("https://keys.example/", 60, &["issuer"]);
        check("https://keys.example/path", 60, &["issuer"]);
        check("https://a:b@keys.example", 60, &["issuer"]);
        check("ldap://keys.example", 59, &["issuer", "token_ttl_s"]);
        check("keys", 86_401, &["issuer", "token_ttl_s"]);
    }
}
