use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ingest::emit::Emitter;
use ingest::event::{Kind, Outcome};
use ingest::log::{Error, EventLog, Partition, Polled, ReadLimit, Record};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::mailer::Mailer;
use super::transport::Failed;
use super::webhook::Poster;
use super::{Mail, Webhook};
use crate::detect::Alert;
use crate::run::NOTICES_TOPIC;

/// How long one poll waits, and so how long what was sent may wait for its commit.
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
    /// Sends them.
    pub sender: Arc<Sender>,
}

/// Sends one alert to one recipient at a time, on one channel.
#[derive(Debug)]
pub struct Sender {
    channel: Channel,
    /// What the first failure pauses for.
    pause: Duration,
}

/// How alerts are sent.
#[derive(Debug)]
enum Channel {
    Mail(Box<Mailer>),
    Webhook(Box<Poster>),
}

impl Sender {
    /// Of emails, by the settings.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn mail(mail: &Mail) -> Result<Self, String> {
        Ok(Self { channel: Channel::Mail(Box::new(Mailer::new(mail)?)), pause: PAUSES.0 })
    }

    /// Of posts to another system, by the settings.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn webhook(webhook: &Webhook) -> Result<Self, String> {
        Ok(Self { channel: Channel::Webhook(Box::new(Poster::new(webhook)?)), pause: PAUSES.0 })
    }

    #[cfg(test)]
    pub(super) fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// The group whose one member sends: each channel has its own, so that one that is away
    /// holds no other up.
    pub(super) fn group(&self) -> String {
        match &self.channel {
            Channel::Mail(_) => "weir.alert-mail".to_owned(),
            Channel::Webhook(poster) => format!("weir.alert-webhook.{}", poster.name()),
        }
    }

    /// What the channel is called in events.
    fn channel(&self) -> &'static str {
        match &self.channel {
            Channel::Mail(mailer) => mailer.channel(),
            Channel::Webhook(_) => "webhook",
        }
    }

    fn recipients(&self, alert: &Alert) -> Vec<String> {
        match &self.channel {
            Channel::Mail(mailer) => mailer.recipients(alert).to_vec(),
            Channel::Webhook(poster) if poster.wants(alert) => vec![poster.name().to_owned()],
            Channel::Webhook(_) => Vec::new(),
        }
    }

    /// Tries until the server takes it, refuses it for good, or a day has passed.
    pub(super) async fn send(&self, alert: &Alert, recipient: &str) -> Result<(), String> {
        let (began, mut pause) = (Instant::now(), self.pause);
        loop {
            let sent = match &self.channel {
                Channel::Mail(mailer) => mailer.send(alert, recipient).await,
                Channel::Webhook(poster) => poster.post(alert).await,
            };
            let Err(Failed { why, is_permanent }) = sent else { return Ok(()) };
            if is_permanent || began.elapsed() > GIVE_UP {
                return Err(why);
            }
            let channel = self.channel();
            tracing::warn!(alert = alert.id, channel, error = why, "an alert is sent again");
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
    let mut member = parts.log.join(&parts.sender.group(), &[NOTICES_TOPIC]).await?;
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
    // What a channel that is new, or was away for long, finds there is news no more.
    if is_old(record) {
        tracing::info!(offset = record.offset, "a notice older than a day is left out");
        return;
    }
    let value = record.value.as_deref().unwrap_or_default();
    let alert: Alert = match serde_json::from_slice(value) {
        Ok(alert) => alert,
        Err(error) => {
            tracing::error!(offset = record.offset, %error, "a notice cannot be read");
            return;
        }
    };
    for recipient in parts.sender.recipients(&alert) {
        let sent = parts.sender.send(&alert, &recipient).await;
        tell(parts, &alert, &recipient, sent);
    }
}

fn is_old(record: &Record) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let age_ms = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(record.time.0);
    u128::try_from(age_ms).is_ok_and(|age| age > GIVE_UP.as_millis())
}

fn tell(parts: &Parts, alert: &Alert, recipient: &str, sent: Result<(), String>) {
    let outcome = if sent.is_ok() { Outcome::Success } else { Outcome::UpstreamError };
    let mut event = parts.emitter.event(Kind::Alert, outcome);
    event.alert_id = Some(alert.id.clone().into());
    event.alert_state = Some("notified".into());
    event.alert_channel = Some(parts.sender.channel().into());
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
            let channel = parts.sender.channel();
            tracing::error!(alert = alert.id, channel, why, "an alert could not be sent");
            event.alert_state = None;
            event.fault_message = Some(why.into());
        }
    }
    if let Err(error) = parts.emitter.emit(event) {
        tracing::error!(%error, "the event of a notice could not be kept");
    }
}

#[cfg(test)]
mod tests {
    use ingest::log::{Headers, LogTime};

    use super::*;

    #[test]
    fn a_notice_of_yesterday_is_news_no_more() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let of = |hours: i64| Record {
            offset: 0,
            time: LogTime(now - hours * 3_600_000),
            key: None,
            value: None,
            headers: Headers::default(),
        };
        assert!(!is_old(&of(0)) && !is_old(&of(23)) && !is_old(&of(-1)));
        assert!(is_old(&of(25)));
    }
}
