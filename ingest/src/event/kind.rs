//! What an event tells of, and how it ended: two closed sets.
//!
//! Each has one stable text. They may gain members, never lose or rename one. A text
//! that is not known is an error that names it, since a reader that guessed would
//! count wrongly.

use std::fmt;
use std::str::FromStr;

use super::Error;
use super::error::quoted;

/// Declares a closed set: the enum, its texts and its reading.
macro_rules! closed {
    (
        $(#[doc = $about:literal])+
        $set:ident, $what:literal { $( $(#[doc = $doc:literal])+ $member:ident = $text:literal, )+ }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $set { $( $(#[doc = $doc])+ $member, )+ }

        impl $set {
            /// Every member, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$member),+];
            /// The texts of [`Self::ALL`].
            pub const TEXTS: &'static [&'static str] = &[$($text),+];
            /// What each of [`Self::ALL`] means, in one sentence.
            pub const MEANINGS: &'static [&'static str] = &[$(concat!($($doc),+).trim_ascii()),+];

            /// The stable text.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$member => $text),+ }
            }
        }

        impl FromStr for $set {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                match text {
                    $($text => Ok(Self::$member),)+
                    _ => Err(Error::Text {
                        what: $what,
                        reason: format!(concat!("unknown ", $what, " {}"), quoted(text)),
                    }),
                }
            }
        }

        impl fmt::Display for $set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}

closed! {
    /// What an event tells of.
    Kind, "kind" {
        /// A request that the gateway answered or refused.
        Request = "request",
        /// A request that another part than a gateway refused before it was anything else.
        Refusal = "refusal",
        /// A run of a mediation route, from its message in to its end.
        Route = "route",
        /// A step of a run of a route.
        Step = "step",
        /// A message that a queue took, after the log had acknowledged it.
        Accept = "accept",
        /// An attempt to deliver a message of a queue to its target.
        Delivery = "delivery",
        /// A message that left its queue for the dead letters.
        DeadLetter = "dead_letter",
        /// How many messages of a queue's partition wait, told by who delivers them.
        Queue = "queue",
        /// A failure that belongs to no request, step or delivery.
        Error = "error",
        /// A decision on who somebody is, outside a request to an API: a login, a client
        /// at the token endpoint.
        Authentication = "authentication",
        /// A token issued, refreshed, exchanged, introspected or revoked.
        Token = "token",
        /// An administrative act.
        Admin = "admin",
        /// A configuration that a node took into force, or refused.
        Configuration = "configuration",
        /// An upstream that changed its state of health.
        Upstream = "upstream",
        /// A detection that fired.
        Finding = "finding",
        /// An alert that changed its state, or a notice of it that was sent.
        Alert = "alert",
        /// A decision to block, slow, revoke or limit, made, prolonged, held back or lifted.
        Decision = "decision",
        /// An event of another system, taken in by the collector.
        External = "external",
        /// Events that a producer had to drop, counted.
        Loss = "loss",
        /// A source that is alive and has nothing older to send.
        Heartbeat = "heartbeat",
        /// A source that counts for the watermark from here on.
        SourceJoined = "source_joined",
        /// A source that said it would send nothing more.
        SourceLeft = "source_left",
        /// A source that fell silent and counts no longer; what it still sends is late.
        SourceRetired = "source_retired",
        /// The end of a replay, which closes the windows of its timeline.
        ReplayEnded = "replay_ended",
    }
}

closed! {
    /// How what the event tells of ended, and by whose doing.
    Outcome, "outcome" {
        /// It did what was asked.
        Success = "success",
        /// Some of its parts failed, and the rest was used.
        Partial = "partial",
        /// The caller asked for what does not exist or cannot be.
        ClientError = "client_error",
        /// The caller could not prove who it is, or may not do this.
        Denied = "denied",
        /// A limit of rate, bandwidth or quota was reached.
        Throttled = "throttled",
        /// A protection or validation rule refused the content.
        Refused = "refused",
        /// The caller went away before the end.
        ClientClosed = "client_closed",
        /// The upstream or target answered with an error, or broke off.
        UpstreamError = "upstream_error",
        /// The upstream or target did not answer in time.
        UpstreamTimeout = "upstream_timeout",
        /// Nobody could be asked: no healthy upstream, an open circuit, a full queue.
        Unavailable = "unavailable",
        /// A route failed by its own definition or by the data that it met.
        Fault = "fault",
        /// Weir itself failed.
        InternalError = "internal_error",
        /// Nobody can tell, as when the log did not answer in time.
        Unknown = "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.text().parse(), Ok(*kind));
        }
        for outcome in Outcome::ALL {
            assert_eq!(outcome.to_string().parse(), Ok(*outcome));
        }
    }

    #[test]
    fn texts_are_snake_case_and_unique() {
        for texts in [Kind::TEXTS, Outcome::TEXTS] {
            for (at, text) in texts.iter().enumerate() {
                assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{text}");
                assert!(!texts[..at].contains(text), "{text}");
            }
        }
    }

    fn check_unknown(text: &str, expected: &str) {
        assert_eq!(
            text.parse::<Kind>().map_err(|error| error.to_string()),
            Err(expected.to_owned())
        );
    }

    #[test]
    fn an_unknown_text_is_named() {
        check_unknown("reqest", r#"kind: unknown kind "reqest""#);
        check_unknown("Request", r#"kind: unknown kind "Request""#);
        check_unknown("", r#"kind: unknown kind """#);
        check_unknown("a\n\"", r#"kind: unknown kind "a\n\"""#);
        check_unknown(&"x".repeat(1000), &format!("kind: unknown kind \"{}…\"", "x".repeat(40)));
    }
}
