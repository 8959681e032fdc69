//! Names of what is secret: of parameters, members, elements, attributes and headers.

/// A name with one of these among its words is a secret's.
const WORDS: [&str; 26] = [
    "apikey",
    "assertion",
    "auth",
    "authentication",
    "authorization",
    "bearer",
    "cookie",
    "csc",
    "cvc",
    "cvv",
    "jwt",
    "otp",
    "pass",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "pin",
    "pwd",
    "secret",
    "secrets",
    "session",
    "sid",
    "sig",
    "signature",
    "totp",
];
/// A name that holds one of these, however it is divided, is a secret's.
const PARTS: [&str; 24] = [
    "accesskey",
    "apikey",
    "assertion",
    "authcode",
    "authkey",
    "authorization",
    "credential",
    "encryptionkey",
    "hmackey",
    "licensekey",
    "masterkey",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secretkey",
    "securitycode",
    "sessid",
    "sessionid",
    "sharedkey",
    "signature",
    "signingkey",
    "userpwd",
    "verificationcode",
];
/// Headers with the word `key` that hold none.
const KEY_HEADERS: [&str; 3] = ["idempotency-key", "sec-websocket-key", "surrogate-key"];

/// Whether a name says that its value is secret. Names are read as words, however they
/// are divided: `api_key`, `API-Key` and `apiKey` are the same one, and `author` is another
/// than `auth`.
pub(super) fn is_secret(name: &str) -> bool {
    says_so(&words(name))
}

/// As [`is_secret`], of a parameter of a query or a form, where a `key` is one of an API
/// more often than one of a map, and `code` is that of an authorization (RFC 6749,
/// section 4.1.2).
pub(super) fn is_secret_parameter(name: &str) -> bool {
    let words = words(name);
    words == ["code"] || words.iter().any(|word| word == "key") || says_so(&words)
}

/// As [`is_secret`], of a header, where a `key` is one too, with some exceptions.
pub(super) fn is_secret_header(name: &str) -> bool {
    let words = words(name);
    let is_key = words.iter().any(|word| word == "key")
        && !KEY_HEADERS.iter().any(|other| name.eq_ignore_ascii_case(other));
    is_key || says_so(&words)
}

fn says_so(words: &[String]) -> bool {
    let is_word = |word: &String| {
        WORDS.contains(&word.as_str()) || word.ends_with("token") || word.ends_with("secret")
    };
    // What kind a token is is no secret.
    let kind = |word: &String| word == "type" || word == "count" || word == "limit";
    if words.iter().any(is_word) && !words.last().is_some_and(kind) {
        return true;
    }
    let joined = words.concat();
    PARTS.iter().any(|part| joined.contains(part))
}

/// The words of a name in lower case, divided at all that is no letter, where small letters
/// end, and before the last capital of several.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let chars = name.chars().collect::<Vec<_>>();
    for (at, char) in chars.iter().enumerate() {
        let was = |is: fn(char) -> bool| at > 0 && is(chars[at - 1]);
        let is_next_small = chars.get(at + 1).is_some_and(|next| next.is_lowercase());
        let begins = char.is_uppercase()
            && (was(char::is_lowercase) || (was(char::is_uppercase) && is_next_small));
        if begins || !char.is_alphabetic() {
            words.push(String::new());
        }
        if char.is_alphabetic() {
            words.last_mut().expect("there is one").extend(char.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_by_their_words() {
        for secret in [
            "password",
            "userPassword",
            "PASSWORD",
            "new-password",
            "passwd",
            "pwd",
            "user_pass",
            "api_key",
            "API-Key",
            "apiKey",
            "APIKEY",
            "x-api-key",
            "access_token",
            "accesstoken",
            "csrfToken",
            "X-Amz-Signature",
            "sig",
            "client_secret",
            "clientSecretKey",
            "JSESSIONID",
            "PHPSESSID",
            "sessionId",
            "Set-Cookie",
            "Authorization",
            "proxy-authorization",
            "X-Authentication",
            "wsse:Password",
            "cvv",
            "cvv2",
            "cardPin",
            "PINCode",
            "OTPCode",
            "pin1",
            "totp",
            "sid",
            "security_code",
            "privateKey",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for open in [
            "key",
            "sort_key",
            "keyword",
            "monkey",
            "keyboard",
            "turkey",
            "author",
            "authority",
            "code",
            "state",
            "opinion",
            "pinned",
            "signed",
            "design",
            "passenger",
            "company",
            "",
            "---",
            "sessions_open",
            "max_tokens",
            "prompt_tokens",
            "tokenizer",
            "token_type",
            "secretary",
            "side",
            "sidecar",
            "passport_country",
            "compass",
        ] {
            assert!(!is_secret(open), "{open}");
        }
        for (name, is_one) in [("Code", true), ("codec", false), ("key", true), ("keyword", false)]
        {
            assert_eq!(is_secret_parameter(name), is_one, "{name}");
        }
        for (name, is_one) in [
            ("ocp-apim-subscription-key", true),
            ("x-functions-key", true),
            ("idempotency-key", false),
            ("sec-websocket-key", false),
            ("keep-alive", false),
        ] {
            assert_eq!(is_secret_header(name), is_one, "{name}");
        }
    }
}
