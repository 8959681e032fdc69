//! Alerts as emails, sent or written to files.

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};

use super::transport::{Failed, Transport};
use super::{Mail, compose};
use crate::detect::Alert;

/// Sends emails.
#[derive(Debug)]
pub(super) struct Mailer {
    transport: Transport,
    from: Mailbox,
    recipients: Vec<String>,
}

impl Mailer {
    /// By the settings.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(mail: &Mail) -> Result<Self, String> {
        let from = mail.from.parse().map_err(|error| format!("mail.from: {error}"))?;
        Ok(Self { transport: mail.transport()?, from, recipients: mail.recipients.clone() })
    }

    pub(super) fn channel(&self) -> &'static str {
        self.transport.channel()
    }

    /// Those whom the detection names, else those of the node.
    pub(super) fn recipients<'a>(&'a self, alert: &'a Alert) -> &'a [String] {
        if alert.recipients.is_empty() { &self.recipients } else { &alert.recipients }
    }

    /// Sends it once.
    pub(super) async fn send(&self, alert: &Alert, recipient: &str) -> Result<(), Failed> {
        let message = self.message(alert, recipient);
        let message = message.map_err(|why| Failed { why, is_permanent: true })?;
        self.transport.send(&message, &format!("{}.{recipient}", alert.id)).await
    }

    fn message(&self, alert: &Alert, recipient: &str) -> Result<Message, String> {
        let email = compose(alert);
        let domain = self.from.email.domain();
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        let to: Mailbox = recipient.parse().map_err(|error| format!("{recipient}: {error}"))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(email.subject)
            .date_now()
            .message_id(Some(format!("<{}@{domain}>", alert.id)))
            .raw_header(HeaderValue::new(name, "auto-generated".to_owned()))
            .multipart(MultiPart::alternative_plain_html(email.text, email.html));
        message.map_err(|error| error.to_string())
    }
}
