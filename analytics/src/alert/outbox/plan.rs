use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::route::Route;
use super::super::{Mail, Webhook};
use super::message::{Message, State, Target, Told, What};
use super::{Case, DIGEST_ALERTS_MAX, Outbox};
use crate::query::Severity;

/// Who can be told, and by which routes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes {
    routes: Vec<Route>,
    /// Who is written to where neither a route nor a detection says.
    recipients: Vec<String>,
    has_mail: bool,
    webhooks: Vec<Webhook>,
}

impl Routes {
    /// By the settings; without routes, one that fits all.
    pub(crate) fn new(routes: &[Route], mail: Option<&Mail>, webhooks: &[Webhook]) -> Self {
        let routes = match routes {
            [] => vec![Route::default()],
            routes => routes.to_vec(),
        };
        let recipients = mail.map(|mail| mail.recipients.clone()).unwrap_or_default();
        Self { routes, recipients, has_mail: mail.is_some(), webhooks: webhooks.to_vec() }
    }

    /// Whom a route tells of an alert first.
    fn first(&self, route: &Route, case: &Case) -> Vec<Target> {
        let alert = &case.alert;
        let emails = match &route.emails {
            Some(emails) => emails,
            None if alert.recipients.is_empty() => &self.recipients,
            None => &alert.recipients,
        };
        let names = self.webhooks.iter().map(|webhook| &webhook.name);
        let names: Vec<&String> = match &route.webhooks {
            Some(webhooks) => webhooks.iter().collect(),
            None => names.collect(),
        };
        self.targets(emails, names, case)
    }

    fn targets<'a>(
        &self,
        emails: &[String],
        webhooks: impl IntoIterator<Item = &'a String>,
        case: &Case,
    ) -> Vec<Target> {
        let wants = |name: &&String| {
            let mut of = self.webhooks.iter();
            of.any(|of| of.name == **name && case.alert.severity >= of.severity)
        };
        let emails = emails.iter().filter(|_| self.has_mail).cloned().map(Target::Email);
        let webhooks = webhooks.into_iter().filter(wants).cloned().map(Target::Webhook);
        emails.chain(webhooks).collect()
    }
}

impl Outbox {
    /// The messages that are to be made, or have got more alerts, at a time in ms since 1970.
    /// They are to be written, and then [`Outbox::put`].
    pub(crate) fn plan(&mut self, routes: &Routes, now_ms: i64) -> Vec<Message> {
        let next = self.next;
        let (made, of_alert) = (BTreeMap::new(), HashMap::new());
        let mut plan = Plan { outbox: self, now_ms, made, of_alert, next };
        for id in self.to_plan.values() {
            if let Some(case) = self.cases.get(id)
                && let Some(route) = routes.routes.iter().find(|route| route.fits(&case.alert))
            {
                plan.open(routes, route, case);
                plan.escalate(routes, route, case);
                plan.resolve(route, case);
            }
        }
        let mut made: Vec<Message> = plan.made.into_values().collect();
        let cases = &self.cases;
        self.to_plan.retain(|_, id| cases.get(id).is_some_and(Case::is_open));
        made.sort_by_key(|message| message.number);
        made
    }
}

struct Plan<'a> {
    outbox: &'a Outbox,
    now_ms: i64,
    /// By their keys.
    made: BTreeMap<String, Message>,
    /// The keys of those that are made of an alert.
    of_alert: HashMap<String, Vec<String>>,
    next: u64,
}

impl Plan<'_> {
    /// The messages about an alert.
    fn of(&self, case: &Case) -> Vec<&Message> {
        let id = &case.alert.id;
        let keys = self.outbox.of_alert.get(id).into_iter().flatten();
        let before = keys.filter(|key| !self.made.contains_key(*key));
        let before = before.filter_map(|key| self.outbox.messages.get(key));
        let made = self.of_alert.get(id).into_iter().flatten();
        before.chain(made.filter_map(|key| self.made.get(key))).collect()
    }

    /// Whether a target was told, or will be.
    fn has(&self, case: &Case, what: What, to: &Target) -> bool {
        self.of(case).iter().any(|message| message.to == *to && message.says(&case.alert.id, what))
    }

    /// How bad an alert is by what a target was told, or will be; nothing if it is told nothing.
    fn told_as(&self, case: &Case, to: &Target) -> Option<Severity> {
        let of = self.of(case).into_iter().filter(|message| message.to == *to);
        let news = of.flat_map(|message| &message.of).filter(|told| told.is_news_of(case));
        news.map(|told| told.severity).max()
    }

    fn is_silenced(&self, case: &Case, at_ms: i64) -> bool {
        self.outbox.silences.values().any(|silence| silence.holds(&case.alert, at_ms))
    }

    fn open(&mut self, routes: &Routes, route: &Route, case: &Case) {
        // One that is over already was silenced if it was at its end.
        let at_ms = if case.is_open() { self.now_ms } else { case.changed_ms };
        if case.is_old(self.now_ms) || self.is_silenced(case, at_ms) {
            return;
        }
        let severity = case.alert.severity;
        for to in routes.first(route, case) {
            match self.told_as(case, &to) {
                None => self.tell(route, case, What::Opened, to),
                Some(told) if told < severity && case.is_open() => {
                    self.tell(route, case, What::Raised(severity), to);
                }
                Some(_) => {}
            }
        }
    }

    fn escalate(&mut self, routes: &Routes, route: &Route, case: &Case) {
        let id = &case.alert.id;
        let is_left = !case.is_open()
            || case.alert.replay_id.is_some()
            || self.outbox.acknowledged.contains_key(id)
            || self.is_silenced(case, self.now_ms);
        if is_left || route.escalate.is_empty() {
            return;
        }
        let news = self.of(case).into_iter();
        let news = news.filter(|message| message.of.iter().any(|told| told.is_news_of(case)));
        // Each step is so long after the one before it, however late that was.
        let Some(mut before_ms) = news.map(|message| message.due_ms).max() else { return };
        let mut before_after = 0;
        for (step, number) in route.escalate.iter().zip(1..) {
            let wait_ms = i64::try_from(step.after_ms - before_after).unwrap_or(i64::MAX);
            let what = What::Escalated(number);
            let due_ms = before_ms.saturating_add(wait_ms);
            let is_made = |message: &&Message| message.says(id, what);
            match self.of(case).into_iter().filter(is_made).map(|message| message.due_ms).max() {
                Some(made_ms) => before_ms = made_ms,
                None if self.now_ms < due_ms => return,
                None => before_ms = self.now_ms,
            }
            for to in routes.targets(&step.emails, &step.webhooks, case) {
                if !self.has(case, what, &to) {
                    self.make(case, what, to, self.now_ms, false);
                }
            }
            before_after = step.after_ms;
        }
    }

    fn resolve(&mut self, route: &Route, case: &Case) {
        let id = &case.alert.id;
        let is_told = route.resolved.unwrap_or(true) && case.alert.replay_id.is_none();
        if case.is_open() || !is_told {
            return;
        }
        // Who is still to be told that it opened is told both at once.
        let of = self.of(case);
        let tells = |message: &&&Message| message.state == State::Sent || message.over.is_some();
        let told: BTreeSet<Target> = of.iter().filter(tells).map(|of| of.to.clone()).collect();
        let has_end = |message: &&Message| match (&message.over, &message.state) {
            (None, State::Waiting) => true,
            (Some(over), State::Waiting | State::Sent) if over.contains(id) => true,
            _ => message.says(id, What::Resolved),
        };
        let ends: Vec<Target> =
            of.into_iter().filter(has_end).map(|message| message.to.clone()).collect();
        for to in told.into_iter().filter(|to| !ends.contains(to)) {
            self.tell(route, case, What::Resolved, to);
        }
    }

    /// Makes a message of its own, or has it gathered.
    fn tell(&mut self, route: &Route, case: &Case, what: What, to: Target) {
        let digest_ms = route.digest_ms.map(|digest| i64::try_from(digest).unwrap_or(i64::MAX));
        let quiet = route.quiet.as_ref().filter(|quiet| case.alert.severity < quiet.but);
        let due_ms = self.now_ms.saturating_add(digest_ms.unwrap_or(0));
        let end_ms = quiet.and_then(|quiet| quiet.end(due_ms));
        let due_ms = end_ms.unwrap_or(due_ms);
        self.make(case, what, to, due_ms, digest_ms.is_some() || end_ms.is_some());
    }

    fn make(&mut self, case: &Case, what: What, to: Target, due_ms: i64, is_digest: bool) {
        let (alert, severity) = (case.alert.id.clone(), case.alert.severity);
        let told = Told { alert: alert.clone(), what, severity };
        if is_digest && let Some(gathered) = self.gathering(&to, due_ms) {
            gathered.of.push(told);
            let key = gathered.key();
            self.note(alert, key);
            return;
        }
        let name = what.name(&case.alert.id);
        let name = if is_digest { format!("{name}.digest") } else { name };
        let number = self.next;
        self.next += 1;
        let of = vec![told];
        let (over, state) = (None, State::Waiting);
        let message = Message { name, to, of, is_digest, number, due_ms, over, state };
        let key = message.key();
        self.made.insert(key.clone(), message);
        self.note(alert, key);
    }

    /// Notes that a message that was made is of an alert.
    fn note(&mut self, alert: String, key: String) {
        let keys = self.of_alert.entry(alert).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// The digest for a target that still gathers, and is sent until a time.
    fn gathering(&mut self, to: &Target, until_ms: i64) -> Option<&mut Message> {
        let gathers = |message: &&Message| {
            message.is_digest
                && message.is_waiting()
                && message.to == *to
                && (self.now_ms + 1..=until_ms).contains(&message.due_ms)
                && message.of.len() < DIGEST_ALERTS_MAX
        };
        let key = match self.made.values().find(gathers) {
            Some(message) => message.key(),
            None => {
                let waiting = self.outbox.waiting.get(to).into_iter().flat_map(BTreeMap::values);
                let messages = waiting.map(|key| &self.outbox.messages[key]);
                let before = messages
                    .filter(|message| !self.made.contains_key(&message.key()))
                    .find(gathers)?
                    .clone();
                let key = before.key();
                for of in &before.of {
                    self.note(of.alert.clone(), key.clone());
                }
                self.made.insert(key.clone(), before);
                key
            }
        };
        self.made.get_mut(&key)
    }
}

impl Message {
    fn says(&self, alert: &str, what: What) -> bool {
        self.of.iter().any(|of| of.alert == alert && of.what == what)
    }
}

impl Told {
    /// Whether it says of an alert that it opened, or became worse.
    fn is_news_of(&self, case: &Case) -> bool {
        self.alert == case.alert.id && matches!(self.what, What::Opened | What::Raised(_))
    }
}
