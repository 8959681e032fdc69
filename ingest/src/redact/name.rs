//! Names of what is secret: of parameters, members, elements, attributes and headers.

/// A name with one of these among its words is a secret's.
const WORDS: [&str; 22] = [
    "apikey",
    "assertion",
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "cvc",
    "cvv",
    "jwt",
    "otp",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "pin",
    "pwd",
    "secret",
    "session",
    "sig",
    "signature",
];
/// A name that holds one of these, however it is divided, is a secret's.
const PARTS: [&str; 19] = [
    "accesskey",
    "apikey",
    "assertion",
    "authorization",
    "credential",
    "encryptionkey",
    "hmackey",
    "masterkey",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "sessid",
    "sessionid",
    "sharedkey",
    "signature",
    "signingkey",
    "token",
];

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

fn says_so(words: &[String]) -> bool {
    if words.iter().any(|word| WORDS.contains(&word.as_str())) {
        return true;
    }
    let joined = words.concat();
    PARTS.iter().any(|part| joined.contains(part))
}

/// The words of a name in lower case, divided where it changes from small to capital, and
/// at all that is no letter and no digit.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for char in name.chars() {
        if !char.is_alphanumeric() || (was_small && char.is_uppercase()) {
            words.push(String::new());
        }
        if char.is_alphanumeric() {
            words.last_mut().expect("there is one").extend(char.to_lowercase());
        }
        was_small = char.is_lowercase() || char.is_numeric();
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
            "api_key",
            "API-Key",
            "apiKey",
            "APIKEY",
            "x-api-key",
            "access_token",
            "accesstoken",
            "X-Amz-Signature",
            "sig",
            "client_secret",
            "JSESSIONID",
            "PHPSESSID",
            "sessionId",
            "Set-Cookie",
            "Authorization",
            "proxy-authorization",
            "wsse:Password",
            "cvv",
            "cardPin",
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
        ] {
            assert!(!is_secret(open), "{open}");
        }
        for (name, is_one) in [("Code", true), ("codec", false), ("key", true), ("keyword", false)]
        {
            assert_eq!(is_secret_parameter(name), is_one, "{name}");
        }
    }
}
