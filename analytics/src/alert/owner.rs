//! The one node that tells.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ingest::emit::Emitter;
use ingest::event::{Kind, Outcome};
use ingest::log::{
    Error, EventLog, NewRecord, Partition, Polled, ReadLimit, Scan, Transaction, Writer,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::act::{ACTS_TOPIC, Act};
use super::note::{Note, Says};
use super::outbox::{Message, OUTBOX_TOPIC, Outbox, Routes, State, Target};
use super::senders::Senders;
use crate::detect::{self, Alert};
use crate::run::ALERTS_TOPIC;

/// The group whose one member tells, and the writer that it is.
const GROUP: &str = "weir.alert-outbox";
/// How long one poll of the group waits, and so how long news may wait.
const POLL: Duration = Duration::from_millis(50);
/// How often the time is looked at.
const PLAN_EVERY: Duration = Duration::from_secs(1);
/// How often what is old is dropped.
const DROP_EVERY: Duration = Duration::from_secs(60);
/// The pause after the log failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How many batches wait to be taken in.
const BATCHES: usize = 16;

/// How many records a transaction has at most.
const RECORDS: usize = 200;

/// What alerts are told with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where alerts come from.
    pub log: Arc<dyn EventLog>,
    /// Where it is told what was sent.
    pub emitter: Emitter,
    /// Who is told of what.
    pub(crate) routes: Routes,
    /// Sends it.
    pub senders: Arc<Senders>,
}

/// Takes part in telling until it is told to stop: of several nodes one does. The topics are
/// there.
pub async fn run(parts: Parts, mut stop: watch::Receiver<bool>) {
    loop {
        let ended = tokio::select! {
            ended = take_part(&parts) => ended,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Err(error) = ended;
        tracing::warn!(%error, "the telling of alerts is taken up again");
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Ends by a failure of the log alone.
async fn take_part(parts: &Parts) -> Result<Infallible, Error> {
    let mut member = parts.log.join(GROUP, &[OUTBOX_TOPIC]).await?;
    let mut owner: Option<Owner> = None;
    loop {
        match member.poll(ReadLimit { wait: POLL, ..ReadLimit::default() }).await? {
            // It reads for itself; the group says who does.
            Polled::Assigned(partitions) => {
                let partitions: Vec<Partition> = partitions.into_iter().map(|(of, _)| of).collect();
                member.pause(&partitions)?;
                owner = Some(Owner::take_over(parts).await?);
            }
            Polled::Revoked(_) | Polled::Lost(_) => owner = None,
            Polled::Records(_) | Polled::Idle => {}
        }
        if let Some(owner) = &mut owner {
            owner.step().await?;
        }
    }
}

/// Whoever tells: what it knows, and what is being sent, which ends with it.
struct Owner {
    parts: Parts,
    writer: Box<dyn Writer>,
    outbox: Outbox,
    news: mpsc::Receiver<Result<News, Error>>,
    _reading: AbortOnDropHandle<()>,
    sending: JoinSet<Sent>,
    busy: HashSet<Target>,
    planned: Option<Instant>,
    dropped: Option<Instant>,
}

/// Records of alerts or acts.
type News = ingest::log::Batch;

/// How the sending of a message ended.
struct Sent {
    message: Message,
    note: Note,
    outcome: Result<(), String>,
}

impl Owner {
    /// Fences the former one, and reads what it came to.
    async fn take_over(parts: &Parts) -> Result<Self, Error> {
        let log = &parts.log;
        let writer = log.writer(GROUP).await?;
        let mut outbox = Outbox::default();
        let mut from = Vec::new();
        for topic in [OUTBOX_TOPIC, ACTS_TOPIC, ALERTS_TOPIC] {
            let partition = Partition::new(topic, 0);
            let mut scan = Scan::open(&**log, [partition]).await?;
            // What comes meanwhile is news, also what was read with the last that was there.
            if topic != OUTBOX_TOPIC {
                from.extend(scan.ends());
            }
            while let Some(batch) = scan.next().await? {
                take(&mut outbox, &batch);
            }
        }
        let mut reader = log.reader(from).await?;
        let (sender, news) = mpsc::channel(BATCHES);
        let reading = tokio::spawn(async move {
            loop {
                let read = reader.next(ReadLimit::default()).await.transpose();
                let Some(read) = read else { continue };
                let failed = read.is_err();
                if sender.send(read).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Self {
            parts: parts.clone(),
            writer,
            outbox,
            news,
            _reading: AbortOnDropHandle::new(reading),
            sending: JoinSet::new(),
            busy: HashSet::new(),
            planned: None,
            dropped: None,
        })
    }

    /// Takes in what there is, plans, sends, and writes down what was sent.
    async fn step(&mut self) -> Result<(), Error> {
        let mut is_new = false;
        while let Ok(news) = self.news.try_recv() {
            take(&mut self.outbox, &news?);
            is_new = true;
        }
        is_new |= self.settle().await?;
        let is_time = self.planned.is_none_or(|planned| planned.elapsed() >= PLAN_EVERY);
        if is_new || is_time {
            let made = self.outbox.plan(&self.parts.routes, now_ms());
            self.keep(made).await?;
            self.planned = Some(Instant::now());
        }
        if self.dropped.is_none_or(|dropped| dropped.elapsed() >= DROP_EVERY) {
            self.drop_old().await?;
        }
        let mut due = self.outbox.due(now_ms(), &self.busy);
        for message in &mut due {
            self.settle_over(message);
        }
        // Whoever cannot write, as somebody else tells by now, sends nothing either.
        self.keep(due.clone()).await?;
        due.into_iter().for_each(|message| self.send(message));
        Ok(())
    }

    /// Writes messages down, and only then counts on them.
    async fn keep(&mut self, messages: Vec<Message>) -> Result<(), Error> {
        for messages in messages.chunks(RECORDS) {
            let records = messages.iter().map(Message::record).collect();
            self.writer.commit(Transaction { records, offsets: Vec::new() }).await?;
            messages.iter().for_each(|message| self.outbox.put(message.clone()));
        }
        Ok(())
    }

    async fn drop_old(&mut self) -> Result<(), Error> {
        let now_ms = now_ms();
        for old in self.outbox.old(now_ms).chunks(RECORDS) {
            let partition = Partition::new(OUTBOX_TOPIC, 0);
            let tombstone = |key: &String| (partition.clone(), NewRecord::tombstone(key.clone()));
            let records = old.iter().map(tombstone).collect();
            self.writer.commit(Transaction { records, offsets: Vec::new() }).await?;
            old.iter().for_each(|key| self.outbox.forget(key));
        }
        let silences = self.outbox.drop_old(now_ms);
        let ends = silences.into_iter().map(|id| Act::Silenced(id, None).record()).collect();
        self.writer.commit(Transaction { records: ends, offsets: Vec::new() }).await?;
        self.dropped = Some(Instant::now());
        Ok(())
    }

    /// Settles of which alerts a message says that they are over, before its first attempt.
    fn settle_over(&self, message: &mut Message) {
        let is_over = |id: &String| {
            self.outbox.alert(id).is_some_and(|of| of.state == detect::State::Resolved)
        };
        let ids = message.of.iter().map(|of| of.alert.clone());
        message.over.get_or_insert_with(|| ids.filter(is_over).collect());
    }

    fn send(&mut self, message: Message) {
        let mut alerts: Vec<Alert> = Vec::new();
        for of in &message.of {
            let is_over = message.over.as_ref().is_some_and(|over| over.contains(&of.alert));
            let state = if is_over { detect::State::Resolved } else { detect::State::Open };
            match self.outbox.alert(&of.alert) {
                Some(alert) if alerts.iter().all(|other| other.id != alert.id) => {
                    alerts.push(Alert { state, ..alert.clone() });
                }
                Some(_) => {}
                None => tracing::error!(alert = of.alert, "an alert is gone that is to be told of"),
            }
        }
        let says = match &message.of[..] {
            [one] => Says::One(one.what),
            _ => Says::Gathered,
        };
        let note = Note { name: message.name.clone(), alerts, says };
        let senders = self.parts.senders.clone();
        let due_ms = message.due_ms;
        self.busy.insert(message.to.clone());
        self.sending.spawn(async move {
            // What breaks once breaks again, and others would wait behind it for ever.
            let to = message.to.clone();
            let (note, outcome) = match note.alerts.is_empty() {
                true => (note, Err("the alert is gone".to_owned())),
                false => {
                    let of = note.clone();
                    let sent = async move { senders.send(&of, &to, due_ms).await };
                    let sent = AbortOnDropHandle::new(tokio::spawn(sent)).await;
                    (note, sent.unwrap_or_else(|error| Err(format!("it broke off: {error}"))))
                }
            };
            Sent { message, note, outcome }
        });
    }

    /// Writes down what was sent; whether anything was.
    async fn settle(&mut self) -> Result<bool, Error> {
        let mut settled = Vec::new();
        while let Some(sent) = self.sending.try_join_next() {
            let Ok(Sent { mut message, note, outcome }) = sent else { continue };
            self.busy.remove(&message.to);
            tell(&self.parts, &message, &note, &outcome);
            message.state = match outcome {
                Ok(()) => State::Sent,
                Err(why) => State::Failed { why },
            };
            settled.push(message);
        }
        let is_any = !settled.is_empty();
        self.keep(settled).await?;
        Ok(is_any)
    }
}

fn take(outbox: &mut Outbox, batch: &News) {
    for record in &batch.records {
        match &*batch.partition.topic {
            ALERTS_TOPIC => outbox.take_alert(record),
            ACTS_TOPIC => outbox.take_act(record),
            _ => outbox.take_message(record),
        }
    }
}

/// Now, in ms since 1970.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// Tells of each alert of a message how its sending ended.
fn tell(parts: &Parts, message: &Message, note: &Note, outcome: &Result<(), String>) {
    let channel = parts.senders.channel(&message.to);
    match outcome {
        Ok(()) => tracing::info!(message = message.name, channel, "an alert was sent"),
        Err(why) => {
            tracing::error!(message = message.name, channel, why, "an alert could not be sent");
        }
    }
    let recipient = match &message.to {
        Target::Email(address) => address,
        Target::Webhook(name) => name,
    };
    for alert in &note.alerts {
        let is_sent = if outcome.is_ok() { Outcome::Success } else { Outcome::UpstreamError };
        let mut event = parts.emitter.event(Kind::Alert, is_sent);
        event.alert_id = Some(alert.id.clone().into());
        event.alert_state = outcome.is_ok().then(|| note.says.state().into());
        event.alert_channel = Some(channel.into());
        event.alert_recipient = Some(recipient.clone().into());
        event.messaging_message_id = Some(message.name.clone().into());
        event.detection_name = Some(alert.detection.clone().into());
        event.detection_subject_kind = Some(alert.subject_kind.clone().into());
        event.detection_subject = Some(alert.subject.clone().into());
        event.detection_window_start_time = Some(alert.from);
        event.detection_window_end_time = Some(alert.until);
        event.detection_evidence = Some(alert.query.clone().into());
        event.fault_message = outcome.as_ref().err().map(|why| why.clone().into());
        if let Err(error) = parts.emitter.emit(event) {
            tracing::error!(%error, "the event of an alert could not be kept");
        }
    }
}
