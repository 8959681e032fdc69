use std::fmt;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use ingest::http::Code;
use ingest::registry::kind::Environment;

/// Who calls, as a good token says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user or client (`sub`).
    pub subject: Arc<str>,
    /// The application's name (`client_id`).
    pub client_id: Arc<str>,
    /// The scopes, sorted.
    pub scopes: Box<[Box<str>]>,
    /// The scopes as they were given, separated by spaces.
    pub scope: Arc<str>,
    /// Which of the application's keys were used.
    pub environment: Environment,
    /// 32 hexadecimal digits of the SHA-256 of the token's id; of the token itself
    /// if it has none.
    pub token_id: Arc<str>,
    /// When the token ends, in seconds since 1970.
    pub expires_s: i64,
}

impl Caller {
    /// Whether the token has a scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.binary_search_by(|held| (**held).cmp(scope)).is_ok()
    }

    /// Whether the token has one of the scopes that a resource asks for; none asked
    /// for: any token will do.
    ///
    /// # Errors
    /// [`Code::ScopeMissing`].
    pub fn check_scopes(&self, any_of: &[String]) -> Result<(), Denied> {
        if any_of.is_empty() || any_of.iter().any(|scope| self.has_scope(scope)) {
            return Ok(());
        }
        Err(Denied { code: Code::ScopeMissing, reason: "the token has none of the scopes" })
    }
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// What the caller is told.
    pub code: Code,
    /// What it was exactly, for those who read the events. Never a part of the token.
    pub reason: &'static str,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.text(), self.reason)
    }
}

impl std::error::Error for Denied {}

/// `WWW-Authenticate` for a refusal (RFC 6750, section 3); `None` where a token
/// would mend nothing. `scopes` are those of which a token needs one. A request
/// without a token is told no error.
pub fn challenge(realm: &str, code: Code, scopes: &[String]) -> Option<HeaderValue> {
    let error = match (code, code.status()) {
        (Code::TokenMissing, _) => None,
        (Code::ScopeMissing, _) => Some("insufficient_scope"),
        (Code::ClientInvalid, _) => return None,
        (_, StatusCode::UNAUTHORIZED) => Some("invalid_token"),
        _ => return None,
    };
    let mut text = format!("Bearer realm=\"{}\"", quotable(realm));
    if let Some(error) = error {
        text += &format!(", error=\"{error}\", error_description=\"{}\"", code.title());
    }
    if !scopes.is_empty() && code == Code::ScopeMissing {
        text += &format!(", scope=\"{}\"", quotable(&scopes.join(" ")));
    }
    HeaderValue::try_from(text).ok()
}

/// What may stand between quotes as it is.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_follow_rfc_6750() {
        let scopes = ["read".to_owned(), "wr\"ite".to_owned()];
        let check = |code, scopes: &[String], expected: Option<&str>| {
            let found = challenge("orders", code, scopes);
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), expected);
        };
        check(Code::TokenMissing, &scopes, Some("Bearer realm=\"orders\""));
        check(
            Code::TokenExpired,
            &[],
            Some(
                "Bearer realm=\"orders\", error=\"invalid_token\", \
                 error_description=\"the bearer token has expired\"",
            ),
        );
        check(
            Code::ScopeMissing,
            &scopes,
            Some(
                "Bearer realm=\"orders\", error=\"insufficient_scope\", error_description=\
                 \"the scope that is needed here is missing\", scope=\"read write\"",
            ),
        );
        check(Code::SubscriptionMissing, &scopes, None);
        check(Code::Throttled, &[], None);
    }

    #[test]
    fn one_of_the_scopes_is_enough() {
        let caller = Caller {
            subject: "s".into(),
            client_id: "shop".into(),
            scopes: ["read", "write"].map(Into::into).into(),
            scope: "read write".into(),
            environment: Environment::Production,
            token_id: "0".into(),
            expires_s: 0,
        };
        let check = |any_of: &[&str], expected: Option<Code>| {
            let any_of: Vec<String> = any_of.iter().map(ToString::to_string).collect();
            let found = caller.check_scopes(&any_of).err().map(|denied| denied.code);
            assert_eq!(found, expected, "{any_of:?}");
        };
        check(&[], None);
        check(&["write"], None);
        check(&["admin", "read"], None);
        check(&["admin"], Some(Code::ScopeMissing));
        check(&["rea", "readwrite", ""], Some(Code::ScopeMissing));
    }
}
