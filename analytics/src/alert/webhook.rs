//! Alerts to other systems, as Standard Webhooks (standardwebhooks.com) has it: a POST with
//! JSON, an id that stays the same, a time, and a signature of the three.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ingest::registry::Fault;
use reqwest::{StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::json;

use super::config::secret;
use super::note::{Note, Says};
use super::transport::{Failed, told};
use crate::query::Severity;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How a secret begins that is written as base64.
const WRITTEN: &str = "whsec_";
/// Of a secret, so that nobody guesses it.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=1_024;

/// Where alerts are posted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What it is called in events and in the log; it stays, since it says what was sent:
    /// 1 to 40 letters, digits and hyphens.
    pub name: String,
    /// Where to: `https://`, or `http://` to this machine.
    pub url: String,
    /// The file of the secret that signs, which nobody but its owner may read: 24 bytes or
    /// more, or `whsec_` with their base64.
    pub secret_file: PathBuf,
    /// From which severity on.
    #[serde(default)]
    pub severity: Severity,
}

impl Webhook {
    /// Says everything that is wrong with it, `path` being where it stands.
    pub(crate) fn faults(&self, path: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut add = |of: &str, what: String, mend: &str| {
            faults.push(Fault::new(format!("{path}.{of}"), what, mend));
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(1..=40).contains(&self.name.len()) || !self.name.chars().all(is_plain) {
            let what = format!("{:?} is no name", self.name);
            add("name", what, "give 1 to 40 letters, digits and hyphens");
        }
        match self.url.parse::<Url>() {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                add("url", "holds a user or a password".to_owned(), "the signature proves it");
            }
            Ok(url) if url.scheme() == "https" => {}
            Ok(url) if url.scheme() == "http" && is_here(&url) => {}
            // It is not repeated: somebody may have put a secret in it.
            _ => add(
                "url",
                "is no address that keeps what is sent secret".to_owned(),
                "give it as https://host/path, or http:// to this machine",
            ),
        }
        if let Err(why) = self.key() {
            add("secret_file", why, "name a file with mode 0600 that holds 24 bytes or more");
        }
        faults
    }

    fn key(&self) -> Result<hmac::Key, String> {
        let text = secret(&self.secret_file)?;
        let bytes = match text.strip_prefix(WRITTEN) {
            Some(written) => BASE64_STANDARD
                .decode(written)
                .map_err(|error| format!("{}: {error}", self.secret_file.display()))?,
            None => text.into_bytes(),
        };
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(format!("{} holds {} bytes", self.secret_file.display(), bytes.len()));
        }
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }
}

fn is_here(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Posts alerts.
#[derive(Debug)]
pub(super) struct Poster {
    name: String,
    url: Url,
    key: hmac::Key,
    client: reqwest::Client,
}

impl Poster {
    /// By the settings.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(webhook: &Webhook) -> Result<Self, String> {
        let Webhook { name, url, .. } = webhook;
        let failed = |why: String| format!("webhooks: {name}: {why}");
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(ANSWER_WITHIN)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let parsed = url.parse::<Url>().map_err(|error| failed(error.to_string()))?;
        let key = webhook.key().map_err(failed)?;
        Ok(Self { name: name.clone(), url: parsed, key, client })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Posts it once. The receiver has taken it if it answers 2xx.
    pub(super) async fn post(&self, note: &Note) -> Result<(), Failed> {
        let time = note.alerts.first().map(|alert| alert.from.to_string());
        let data = match &note.alerts[..] {
            [alert] if note.says != Says::Gathered => json!(alert),
            alerts => json!({"alerts": alerts}),
        };
        let body = json!({"type": note.kind(), "timestamp": time, "data": data}).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = sign(&self.key, &note.name, now, &body);
        let posted = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("user-agent", "weir")
            .header("webhook-id", &note.name)
            .header("webhook-timestamp", now)
            .header("webhook-signature", format!("v1,{signature}"))
            .body(body);
        let status = match posted.send().await {
            Ok(answer) => answer.status(),
            // The address may hold a secret.
            Err(error) => {
                return Err(Failed { why: told(&error.without_url()), is_permanent: false });
            }
        };
        let is_passing = status.is_server_error()
            || matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
            );
        match status.is_success() {
            true => Ok(()),
            false => Err(Failed {
                why: format!("{} answered {status}", self.name),
                is_permanent: !is_passing,
            }),
        }
    }
}

/// The signature of a post: of its id, its time in seconds since 1970, and its body.
fn sign(key: &hmac::Key, id: &str, time: u64, body: &str) -> String {
    BASE64_STANDARD.encode(hmac::sign(key, format!("{id}.{time}.{body}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Standard Webhooks.
    #[test]
    fn a_post_is_signed_as_the_standard_says() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let body = r#"{"test": 2432232314}"#;
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
