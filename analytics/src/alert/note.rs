use super::outbox::What;
use crate::detect::Alert;

/// What a message says, as of when it is sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Note {
    /// The same each time it is sent.
    pub(super) name: String,
    /// The alerts, each once, as they are now.
    pub(super) alerts: Vec<Alert>,
    /// What is said of them.
    pub(super) says: Says,
}

/// What is said of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// Of the one alert that there is.
    One(What),
    /// That these were gathered.
    Gathered,
}

impl Note {
    /// What an email's Message-ID is, at a domain.
    pub(super) fn message_id(&self, domain: &str) -> String {
        format!("<{}@{domain}>", self.name)
    }

    /// The Message-ID of the first email about the same alert, if this is a later one.
    pub(super) fn first_id(&self, domain: &str) -> Option<String> {
        let [alert] = &self.alerts[..] else { return None };
        let first = What::Opened.name(&alert.id);
        (first != self.name).then(|| format!("<{first}@{domain}>"))
    }

    /// What a webhook's event is called.
    pub(super) fn kind(&self) -> &'static str {
        match self.says {
            Says::One(What::Opened) => "alert.opened",
            Says::One(What::Raised(_)) => "alert.raised",
            Says::One(What::Escalated(_)) => "alert.escalated",
            Says::One(What::Resolved) => "alert.resolved",
            Says::Gathered => "alerts.gathered",
        }
    }
}

impl Says {
    /// What an alert has come into by being told of, as events have it.
    pub(super) fn state(self) -> &'static str {
        match self {
            Self::One(What::Escalated(_)) => "escalated",
            Self::One(What::Resolved) => "resolved",
            Self::One(What::Opened | What::Raised(_)) | Self::Gathered => "notified",
        }
    }
}
