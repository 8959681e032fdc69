//! Alerts as emails, sent or written to files.

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};

use super::Mail;
use super::compose::compose;
use super::note::Note;
use super::transport::{Failed, Transport};

/// Sends emails.
#[derive(Debug)]
pub(super) struct Mailer {
    transport: Transport,
    from: Mailbox,
    /// Where the console is, without a slash at its end.
    console: Option<String>,
}

impl Mailer {
    /// By the settings.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(mail: &Mail) -> Result<Self, String> {
        let from = mail.from.parse().map_err(|error| format!("mail.from: {error}"))?;
        let console = mail.console_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
        Ok(Self { transport: mail.transport()?, from, console })
    }

    pub(super) fn channel(&self) -> &'static str {
        self.transport.channel()
    }

    /// Sends it once.
    pub(super) async fn send(&self, note: &Note, recipient: &str) -> Result<(), Failed> {
        let message = self.message(note, recipient);
        let message = message.map_err(|why| Failed { why, is_permanent: true })?;
        self.transport.send(&message, &format!("{}.{recipient}", note.name)).await
    }

    fn message(&self, note: &Note, recipient: &str) -> Result<Message, String> {
        let email = compose(note, self.console.as_deref());
        let domain = self.from.email.domain();
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        let to: Mailbox = recipient.parse().map_err(|error| format!("{recipient}: {error}"))?;
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(email.subject)
            .date_now()
            .message_id(Some(note.message_id(domain)))
            .raw_header(HeaderValue::new(name, "auto-generated".to_owned()));
        // So that readers show it below the first about the same alert.
        if let Some(first) = note.first_id(domain) {
            message = message.in_reply_to(first.clone()).references(first);
        }
        let message = message.multipart(MultiPart::alternative_plain_html(email.text, email.html));
        message.map_err(|error| error.to_string())
    }
}
