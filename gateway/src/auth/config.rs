use ingest::registry::Fault;
use serde::{Deserialize, Serialize};

/// How tokens are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whose tokens are taken, 0 to 10; none: no token is.
    pub issuers: Vec<Issuer>,
    /// How far clocks may be apart, 0 to 300 s.
    pub leeway_s: u64,
    /// How many good tokens a thread remembers, 0 to 1,000,000.
    pub cache_tokens_max: usize,
    /// The longest token, 256 to 65,536 bytes.
    pub token_bytes_max: usize,
    /// How often keys are fetched, 1 to 86,400 s.
    pub jwks_refresh_s: u64,
    /// How long after a fetch the next one may be, 1 to 3,600 s.
    pub jwks_min_interval_s: u64,
    /// Whether a token of the type `JWT`, or of none, is taken too, as issuers make
    /// that know no RFC 9068. What else they sign, such as ID tokens, must then have
    /// another audience.
    pub accept_plain_jwt: bool,
}

/// Whose tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The issuer, as in `iss`.
    pub issuer: String,
    /// Where its public keys are: `https://`, or `http://` in a network that is
    /// trusted.
    pub jwks_url: String,
    /// Who the tokens must be for, as in `aud`.
    pub audience: String,
    /// What it signs with, 1 to 3.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
}

/// What a token is signed with (RFC 7518, section 3.1, and RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with SHA-256, PKCS #1 v1.5.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

fn algorithms() -> Vec<Algorithm> {
    vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa]
}

impl Default for Config {
    fn default() -> Self {
        Self {
            issuers: Vec::new(),
            leeway_s: 30,
            cache_tokens_max: 10_000,
            token_bytes_max: 16 * 1024,
            jwks_refresh_s: 300,
            jwks_min_interval_s: 10,
            accept_plain_jwt: false,
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
        let mut range = |at: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                let what = format!("{value} is out of range");
                faults.push(Fault::new(at, what, format!("use {min} to {max}")));
            }
        };
        range("leeway_s", self.leeway_s, 0, 300);
        range("cache_tokens_max", self.cache_tokens_max as u64, 0, 1_000_000);
        range("token_bytes_max", self.token_bytes_max as u64, 256, 65_536);
        range("jwks_refresh_s", self.jwks_refresh_s, 1, 86_400);
        range("jwks_min_interval_s", self.jwks_min_interval_s, 1, 3_600);
        range("issuers", self.issuers.len() as u64, 0, 10);
        for (i, issuer) in self.issuers.iter().enumerate() {
            let mut add = |field: &str, what: &str, mend: &str| {
                faults.push(Fault::new(format!("issuers[{i}].{field}"), what, mend));
            };
            if issuer.issuer.is_empty() {
                add("issuer", "is empty", "give it as in the tokens' iss");
            }
            if self.issuers[..i].iter().any(|other| other.issuer == issuer.issuer) {
                add("issuer", "is another's too", "give each issuer once");
            }
            if issuer.audience.is_empty() {
                add("audience", "is empty", "give it as in the tokens' aud");
            }
            let url = reqwest::Url::parse(&issuer.jwks_url);
            let is_good = url.is_ok_and(|url| {
                let plain = url.username().is_empty() && url.password().is_none();
                matches!(url.scheme(), "http" | "https") && url.has_host() && plain
            });
            if !is_good {
                add("jwks_url", "is not an http address", "give it as https://host/jwks");
            }
            if issuer.algorithms.is_empty() {
                add("algorithms", "is empty", "give some of ES256, RS256, EdDSA");
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let check = |json: &str, expected: &[&str]| {
            let config: Config = serde_json::from_str(json).unwrap();
            let faults = config.validate().err().unwrap_or_default();
            let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{json}");
        };
        let issuer = r#""issuer":"i","jwks_url":"https://i/jwks","audience":"a""#;
        check("{}", &[]);
        check(&format!(r#"{{"issuers":[{{{issuer}}}]}}"#), &[]);
        check(r#"{"leeway_s":301}"#, &["leeway_s: 301 is out of range; use 0 to 300"]);
        check(
            &format!(r#"{{"issuers":[{{{issuer}}},{{{issuer}}}]}}"#),
            &["issuers[1].issuer: is another's too; give each issuer once"],
        );
        check(
            r#"{"issuers":[{"issuer":"i","jwks_url":"ftp://a:hush@i","audience":"a"}]}"#,
            &["issuers[0].jwks_url: is not an http address; give it as https://host/jwks"],
        );
        check(
            &format!(r#"{{"issuers":[{{{issuer},"algorithms":[]}}]}}"#),
            &["issuers[0].algorithms: is empty; give some of ES256, RS256, EdDSA"],
        );
    }

    #[test]
    fn unknown_keys_and_symmetric_algorithms_are_refused() {
        for json in [
            r#"{"leeway":1}"#,
            r#"{"issuers":[{"issuer":"i","jwks_url":"u","audience":"a","algorithms":["HS256"]}]}"#,
        ] {
            assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
        }
    }
}
