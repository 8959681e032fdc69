use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use ingest::http::Code;
use ingest::registry::kind::Environment;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::caller::{Caller, Denied};
use super::config::{Algorithm, Config};
use super::key_sets::{KeySets, Keys, KeysReader};
use super::token_cache::{Times, TokenCache};

/// Checks the bearer tokens of one thread's requests.
#[derive(Debug)]
pub struct Verifier {
    sets: KeySets,
    keys: KeysReader,
    /// Of the keys that checked what is cached.
    generation: u64,
    cache: TokenCache,
    rules: Rules,
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    leeway_s: i64,
    token_bytes_max: usize,
    accept_plain_jwt: bool,
}

/// The header (RFC 7515, section 4.1). What it says of keys, such as `jku`, `jwk`
/// and `x5c`, is never looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// The claims (RFC 9068, section 2.2).
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    client_id: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: Option<String>,
    scope: Option<String>,
    environment: Option<Environment>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Verifier {
    /// A verifier for one thread, of the configuration that `sets` was made of.
    pub fn new(config: &Config, sets: &KeySets) -> Self {
        let rules = Rules {
            leeway_s: i64::try_from(config.leeway_s).unwrap_or(i64::MAX),
            token_bytes_max: config.token_bytes_max,
            accept_plain_jwt: config.accept_plain_jwt,
        };
        let mut keys = sets.reader();
        let generation = keys.load().generation;
        let cache = TokenCache::new(config.cache_tokens_max);
        Self { sets: sets.clone(), keys, generation, cache, rules }
    }

    /// Who calls, by the value of the `Authorization` header, at `now_s` seconds
    /// since 1970.
    ///
    /// # Errors
    /// [`Denied`] with one of the codes `Token…`.
    pub fn verify(
        &mut self,
        authorization: Option<&HeaderValue>,
        now_s: i64,
    ) -> Result<Arc<Caller>, Denied> {
        let token = bearer(authorization)?;
        if token.len() > self.rules.token_bytes_max {
            return Err(malformed("the token is too long"));
        }
        let keys = self.keys.load();
        if keys.generation != self.generation {
            self.cache.clear();
            self.generation = keys.generation;
        }
        if let Some(known) = self.cache.get(token) {
            // One that has ended stays until it is driven out: refusing it again is
            // then as cheap as letting it in was.
            return self.rules.check_times(known.times, now_s).map(|()| known.caller.clone());
        }
        let (caller, times) =
            self.rules.check(keys, token, now_s, |issuer| self.sets.want(issuer))?;
        let caller = Arc::new(caller);
        self.cache.insert(token, caller.clone(), times);
        Ok(caller)
    }
}

/// The token of `Bearer <token>` (RFC 6750, section 2.1). Another scheme is no
/// bearer token.
fn bearer(authorization: Option<&HeaderValue>) -> Result<&str, Denied> {
    let missing = |reason| Denied { code: Code::TokenMissing, reason };
    let value = authorization.ok_or(missing("there is no authorization header"))?;
    let value = value.to_str().map_err(|_| malformed("the header is not visible ASCII"))?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing("the authorization is of another scheme"));
    }
    let token = token.trim_matches(' ');
    if token.is_empty() { Err(malformed("there is no token")) } else { Ok(token) }
}

fn malformed(reason: &'static str) -> Denied {
    Denied { code: Code::TokenMalformed, reason }
}

impl Rules {
    fn check(
        self,
        keys: &Keys,
        token: &str,
        now_s: i64,
        want: impl Fn(usize),
    ) -> Result<(Caller, Times), Denied> {
        let denied = |code, reason| Denied { code, reason };
        let (signed, signature) =
            token.rsplit_once('.').ok_or(malformed("the token has no three parts"))?;
        let (header, payload) = match signed.split_once('.') {
            Some((header, payload)) if !payload.contains('.') => (header, payload),
            _ => return Err(malformed("the token has no three parts")),
        };
        let header: Header = part(header).ok_or(malformed("the header cannot be read"))?;
        if header.crit.is_some() {
            return Err(malformed("the header asks for an extension"));
        }
        let kid = header.kid.as_deref().ok_or(malformed("the header has no key id"))?;
        let claims: Claims = part(payload).ok_or(malformed("the claims cannot be read"))?;

        // Which key it must be is the one thing that is taken from the token before
        // its signature is known to be good.
        let is_of = |issuer: &str| claims.iss.as_deref() == Some(issuer);
        let index = keys.issuers.iter().position(|keys| is_of(&keys.issuer.issuer));
        let index = index.ok_or(denied(Code::TokenIssuerInvalid, "the issuer is unknown"))?;
        let issuer = &keys.issuers[index];
        let Some(key) = issuer.keys.get(kid) else {
            want(index);
            return Err(denied(Code::TokenKeyUnknown, "the issuer has no such key"));
        };
        let (name, algorithm) = match key.algorithm {
            Algorithm::Es256 => ("ES256", jsonwebtoken::Algorithm::ES256),
            Algorithm::Rs256 => ("RS256", jsonwebtoken::Algorithm::RS256),
            Algorithm::EdDsa => ("EdDSA", jsonwebtoken::Algorithm::EdDSA),
        };
        if header.alg != name {
            let reason = "the algorithm is not the key's";
            return Err(denied(Code::TokenSignatureInvalid, reason));
        }
        let is_good =
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm);
        if !is_good.unwrap_or(false) {
            return Err(denied(Code::TokenSignatureInvalid, "the signature does not fit"));
        }

        self.check_type(header.typ.as_deref())?;
        let is_for_us = match &claims.aud {
            Some(Audience::One(one)) => *one == issuer.issuer.audience,
            Some(Audience::Many(many)) => many.contains(&issuer.issuer.audience),
            None => false,
        };
        if !is_for_us {
            return Err(denied(Code::TokenAudienceInvalid, "the token is for others"));
        }
        let times = Times {
            expires_s: claims.exp.ok_or(malformed("the token has no end"))? as i64,
            not_before_s: claims.nbf.map_or(i64::MIN, |nbf| nbf as i64),
            issued_s: claims.iat.map_or(i64::MIN, |iat| iat as i64),
        };
        self.check_times(times, now_s)?;
        Ok((claims.caller(token, times)?, times))
    }

    /// RFC 9068, section 4.
    fn check_type(self, typ: Option<&str>) -> Result<(), Denied> {
        let is_type = |expected: &str| typ.is_some_and(|typ| typ.eq_ignore_ascii_case(expected));
        let is_access_token = is_type("at+jwt") || is_type("application/at+jwt");
        let is_plain = typ.is_none() || is_type("jwt");
        if is_access_token || (self.accept_plain_jwt && is_plain) {
            return Ok(());
        }
        Err(malformed("the token is not of the type at+jwt"))
    }

    /// RFC 7519, sections 4.1.4 to 4.1.6; a token of the future is none yet.
    fn check_times(self, times: Times, now_s: i64) -> Result<(), Denied> {
        if now_s >= times.expires_s.saturating_add(self.leeway_s) {
            return Err(Denied { code: Code::TokenExpired, reason: "the token has ended" });
        }
        if now_s.saturating_add(self.leeway_s) < times.not_before_s.max(times.issued_s) {
            let reason = "the token has not begun";
            return Err(Denied { code: Code::TokenNotYetValid, reason });
        }
        Ok(())
    }
}

impl Claims {
    fn caller(self, token: &str, times: Times) -> Result<Caller, Denied> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let client_id = given(self.client_id).ok_or(malformed("the token has no client_id"))?;
        let subject = given(self.sub).ok_or(malformed("the token has no sub"))?;
        let scope = self.scope.unwrap_or_default();
        let mut scopes: Vec<Box<str>> = scope.split_ascii_whitespace().map(Into::into).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let id = given(self.jti);
        Ok(Caller {
            subject: subject.into(),
            client_id: client_id.into(),
            scopes: scopes.into(),
            scope: scope.into(),
            environment: self.environment.unwrap_or_default(),
            token_id: token_id(id.as_deref().unwrap_or(token)),
            expires_s: times.expires_s,
        })
    }
}

/// 32 hexadecimal digits that stand for a token in events: of its `jti`.
pub(crate) fn token_id(jti: &str) -> Arc<str> {
    let digest = Sha256::digest(jti.as_bytes());
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// Reads a part: an object of which no member that matters comes twice.
fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
