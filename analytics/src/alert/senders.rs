use std::time::Duration;

use tokio::sync::Semaphore;

use super::mailer::Mailer;
use super::note::Note;
use super::outbox::Target;
use super::owner::now_ms;
use super::picture::{Picture, Pictures};
use super::transport::Failed;
use super::webhook::Poster;
use super::{Mail, Webhook};

/// The first pause between attempts, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a message is tried, from when it is due.
const GIVE_UP_MS: i64 = 24 * 3_600_000;
/// How many emails are under way at once.
const EMAILS: usize = 8;
/// How long one attempt may take in all: a server may take a connection and say nothing.
const ATTEMPT: Duration = Duration::from_secs(60);

/// What sends messages: emails and posts to webhooks.
#[derive(Debug)]
pub struct Senders {
    mailer: Option<Mailer>,
    /// What draws the charts of emails.
    pictures: Option<Pictures>,
    posters: Vec<Poster>,
    emails: Semaphore,
    attempt: Duration,
    /// What the first failure pauses for.
    pause: Duration,
}

impl Senders {
    /// By the settings.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(mail: Option<&Mail>, webhooks: &[Webhook]) -> Result<Self, String> {
        Self::pausing(mail, webhooks, PAUSES.0, ATTEMPT)
    }

    pub(super) fn pausing(
        mail: Option<&Mail>,
        webhooks: &[Webhook],
        pause: Duration,
        attempt: Duration,
    ) -> Result<Self, String> {
        let mailer = mail.map(Mailer::new).transpose()?;
        let posters = webhooks.iter().map(Poster::new).collect::<Result<_, _>>()?;
        let emails = Semaphore::new(EMAILS);
        Ok(Self { mailer, pictures: None, posters, emails, attempt, pause })
    }

    /// The same, with charts in emails.
    #[must_use]
    pub fn with_pictures(self, pictures: Pictures) -> Self {
        Self { pictures: Some(pictures), ..self }
    }

    /// What a target's channel is called in events.
    pub(super) fn channel(&self, to: &Target) -> &'static str {
        match (to, &self.mailer) {
            (Target::Email(_), Some(mailer)) => mailer.channel(),
            (Target::Email(_), None) => "email",
            (Target::Webhook(_), _) => "webhook",
        }
    }

    /// Tries until the server takes it, refuses it for good, or a day has passed since it was
    /// due, in ms since 1970.
    pub(super) async fn send(&self, note: &Note, to: &Target, due_ms: i64) -> Result<(), String> {
        let mut pause = self.pause;
        let picture = match (to, &self.pictures) {
            (Target::Email(_), Some(pictures)) => pictures.of(note).await,
            _ => None,
        };
        loop {
            let attempt = self.attempt(note, to, picture.as_ref()).await;
            let Err(Failed { why, is_permanent }) = attempt else {
                return Ok(());
            };
            if is_permanent || now_ms() > due_ms.saturating_add(GIVE_UP_MS) {
                return Err(why);
            }
            let channel = self.channel(to);
            tracing::warn!(message = note.name, channel, error = why, "an alert is sent again");
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn attempt(
        &self,
        note: &Note,
        to: &Target,
        picture: Option<&Picture>,
    ) -> Result<(), Failed> {
        let unknown = |why: &str| Failed { why: why.to_owned(), is_permanent: true };
        match to {
            Target::Email(address) => match &self.mailer {
                Some(mailer) => {
                    let _place = self.emails.acquire().await.expect("nobody closes it");
                    match tokio::time::timeout(self.attempt, mailer.send(note, address, picture))
                        .await
                    {
                        Ok(sent) => sent,
                        Err(_) => Err(Failed {
                            why: format!("the server did not answer within {:?}", self.attempt),
                            is_permanent: false,
                        }),
                    }
                }
                None => Err(unknown("there is no mail server any more")),
            },
            Target::Webhook(name) => match self.posters.iter().find(|of| of.name() == name) {
                Some(poster) => poster.post(note).await,
                None => Err(unknown("there is no webhook of this name any more")),
            },
        }
    }
}
