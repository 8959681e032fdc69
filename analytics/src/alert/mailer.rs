//! Alerts as emails, sent or written to files.

use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};

use super::Mail;
use super::compose::{CHART, compose};
use super::note::Note;
use super::picture::Picture;
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

    /// Sends it once, with a chart if there is one.
    pub(super) async fn send(
        &self,
        note: &Note,
        recipient: &str,
        picture: Option<&Picture>,
    ) -> Result<(), Failed> {
        let message = self.message(note, recipient, picture);
        let message = message.map_err(|why| Failed { why, is_permanent: true })?;
        self.transport.send(&message, &format!("{}.{recipient}", note.name)).await
    }

    fn message(
        &self,
        note: &Note,
        recipient: &str,
        picture: Option<&Picture>,
    ) -> Result<Message, String> {
        let email = compose(note, self.console.as_deref(), picture);
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
        let parts = match picture {
            None => MultiPart::alternative_plain_html(email.text, email.html),
            Some(picture) => {
                let png = ContentType::parse("image/png").map_err(|error| error.to_string())?;
                let chart =
                    Attachment::new_inline_with_name(CHART.to_owned(), "chart.png".to_owned());
                let related = MultiPart::related().singlepart(SinglePart::html(email.html));
                let related = related.singlepart(chart.body(picture.png.clone(), png));
                MultiPart::alternative()
                    .singlepart(SinglePart::plain(email.text))
                    .multipart(related)
            }
        };
        message.multipart(parts).map_err(|error| error.to_string())
    }
}
