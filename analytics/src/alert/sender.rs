use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ingest::emit::Emitter;
use ingest::event::{Kind, Outcome};
use ingest::log::{Error, EventLog, Partition, Polled, ReadLimit, Record};
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::transport::{Failed, Transport};
use super::{Mail, compose};
use crate::detect::Alert;
use crate::run::NOTICES_TOPIC;

/// The group whose one member sends.
const GROUP: &str = "weir.alert-mail";
/// How long one poll waits, and so how long a sent email may wait for its commit.
const POLL: Duration = Duration::from_millis(200);
/// The first pause between attempts, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a notice is tried.
const GIVE_UP: Duration = Duration::from_hours(24);
/// The pause after the log failed.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// What notices are sent with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where notices come from.
    pub log: Arc<dyn EventLog>,
    /// Where it is told what was sent.
    pub emitter: Emitter,
    /// Sends the emails.
    pub sender: Arc<Sender>,
}

/// Sends one alert to one recipient at a time, or writes it to a file.
#[derive(Debug)]
pub struct Sender {
    transport: Transport,
    from: Mailbox,
    recipients: Vec<String>,
    /// What the first failure pauses for.
    pause: Duration,
}

impl Sender {
    /// By the settings.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(mail: &Mail) -> Result<Self, String> {
        let from = mail.from.parse().map_err(|error| format!("mail.from: {error}"))?;
        let transport = mail.transport()?;
        Ok(Self { transport, from, recipients: mail.recipients.clone(), pause: PAUSES.0 })
    }

    #[cfg(test)]
    pub(super) fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
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

    /// Tries until the server takes it, refuses it for good, or a day has passed.
    pub(super) async fn send(&self, alert: &Alert, recipient: &str) -> Result<(), String> {
        let message = self.message(alert, recipient)?;
        let name = format!("{}.{recipient}", alert.id);
        let (began, mut pause) = (Instant::now(), self.pause);
        loop {
            let Failed { why, is_permanent } = match self.transport.send(&message, &name).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            if is_permanent || began.elapsed() > GIVE_UP {
                return Err(why);
            }
            tracing::warn!(alert = alert.id, error = why, "an email is tried again");
            tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Sends notices until it is told to stop. The topic is there.
pub async fn run(parts: Parts, mut stop: watch::Receiver<bool>) {
    loop {
        let ended = tokio::select! {
            ended = take_part(&parts) => ended,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Err(error) = ended;
        tracing::warn!(%error, "the sending of alerts is taken up again");
        tokio::select! {
            () = tokio::time::sleep(LOG_PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// The sending of one notice, which ends with its holder.
struct Sending {
    offset: u64,
    task: JoinHandle<()>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends by a failure of the log alone.
async fn take_part(parts: &Parts) -> Result<std::convert::Infallible, Error> {
    let partition = Partition::new(NOTICES_TOPIC, 0);
    let mut member = parts.log.join(GROUP, &[NOTICES_TOPIC]).await?;
    let mut waiting: VecDeque<Record> = VecDeque::new();
    let mut sending: Option<Sending> = None;
    loop {
        let limit = ReadLimit { wait: POLL, ..ReadLimit::default() };
        match member.poll(limit).await? {
            Polled::Records(batch) => {
                waiting.extend(batch.records);
                member.pause(std::slice::from_ref(&partition))?;
            }
            Polled::Revoked(_) | Polled::Lost(_) => {
                waiting.clear();
                sending = None;
            }
            Polled::Assigned(_) | Polled::Idle => {}
        }
        if sending.as_ref().is_some_and(|of| of.task.is_finished())
            && let Some(mut done) = sending.take()
        {
            let offset = done.offset;
            // What breaks once breaks again, and others would wait behind it for ever.
            if let Err(error) = (&mut done.task).await {
                tracing::error!(%error, offset, "the sending of a notice broke off; it is left out");
            }
            member.commit(&[(partition.clone(), offset + 1)]).await?;
        }
        if sending.is_none() {
            match waiting.pop_front() {
                Some(record) => {
                    let (parts, offset) = (parts.clone(), record.offset);
                    let task = tokio::spawn(async move { notify(&parts, &record).await });
                    sending = Some(Sending { offset, task });
                }
                None => member.resume(std::slice::from_ref(&partition))?,
            }
        }
    }
}

/// Sends a notice to each of its recipients, and tells how that ended.
async fn notify(parts: &Parts, record: &Record) {
    let value = record.value.as_deref().unwrap_or_default();
    let alert: Alert = match serde_json::from_slice(value) {
        Ok(alert) => alert,
        Err(error) => {
            tracing::error!(offset = record.offset, %error, "a notice cannot be read");
            return;
        }
    };
    let own = Some(&alert.recipients).filter(|own| !own.is_empty());
    for recipient in own.unwrap_or(&parts.sender.recipients) {
        let sent = parts.sender.send(&alert, recipient).await;
        tell(parts, &alert, recipient, sent);
    }
}

fn tell(parts: &Parts, alert: &Alert, recipient: &str, sent: Result<(), String>) {
    let outcome = if sent.is_ok() { Outcome::Success } else { Outcome::UpstreamError };
    let mut event = parts.emitter.event(Kind::Alert, outcome);
    event.alert_id = Some(alert.id.clone().into());
    event.alert_state = Some("notified".into());
    event.alert_channel = Some(parts.sender.transport.channel().into());
    event.alert_recipient = Some(recipient.to_owned().into());
    event.detection_name = Some(alert.detection.clone().into());
    event.detection_subject_kind = Some(alert.subject_kind.clone().into());
    event.detection_subject = Some(alert.subject.clone().into());
    event.detection_window_start_time = Some(alert.from);
    event.detection_window_end_time = Some(alert.until);
    event.detection_evidence = Some(alert.query.clone().into());
    match sent {
        Ok(()) => tracing::info!(alert = alert.id, "an alert was sent"),
        Err(why) => {
            tracing::error!(alert = alert.id, recipient, why, "an alert could not be sent");
            event.alert_state = None;
            event.fault_message = Some(why.into());
        }
    }
    if let Err(error) = parts.emitter.emit(event) {
        tracing::error!(%error, "the event of a notice could not be kept");
    }
}
