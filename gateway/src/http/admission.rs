//! Whether a request may pass: whether its address is blocked, then deny rules and allow lists,
//! then who calls, then whether that one may call this, then how much.
//!
//! The order is the cost's and the secrecy's: an address that is not served learns
//! nothing of tokens, and a caller learns of limits only where it may call at all.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use ingest::event::{Event, Text};
use ingest::http::{Code, Problem};
use tokio::time::Instant;

use crate::auth::{Caller, Denied, Facts, Verifier, challenge};
use crate::decisions::{Enforced, EnforcedReader, Stopped, Who};
use crate::publish::{Access, Matched, Subscribed, Table, Way};
use crate::throttle::{Limit, POLICY_HEADER, RATE_LIMIT_HEADER, Values, Verdict, take_all};

/// Named in every challenge.
const REALM: &str = "weir";

/// What is known of a request when it is decided on.
pub(crate) struct Asked<'a> {
    /// The configuration that the request sees.
    pub(crate) table: &'a Table,
    /// The API and the resource.
    pub(crate) matched: &'a Matched,
    /// Method, address and headers, as they came.
    pub(crate) parts: &'a Parts,
    /// Who calls: the address that trusted proxies name, else the peer's.
    pub(crate) client: IpAddr,
    /// The time, in milliseconds since 1970.
    pub(crate) now_ms: u64,
    /// Whether it is of a replay: decisions are of those who call now.
    pub(crate) is_replayed: bool,
}

/// Why a request may not pass, with headers for the answer, such as
/// `WWW-Authenticate` and `Retry-After`.
pub(crate) struct Refusal {
    pub(crate) problem: Problem,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self { problem: code.into(), headers: Vec::new() }
    }
}

/// What a thread needs for its decisions.
#[derive(Debug)]
pub(crate) struct Admission {
    verifier: Verifier,
    decisions: EnforcedReader,
}

/// A caller that may call this.
struct Admitted<'a> {
    application: &'a [Limit],
    subscription: &'a [Limit],
}

/// Why a caller may not call this.
enum Stop {
    Denied(Denied),
    Decided(Stopped),
}

impl From<Denied> for Stop {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Stopped> for Stop {
    fn from(stopped: Stopped) -> Self {
        Self::Decided(stopped)
    }
}

/// Nothing of who decided, nor why, is the caller's to know.
impl From<Stopped> for Refusal {
    fn from(Stopped { code, wait_s }: Stopped) -> Self {
        Self { problem: code.into(), headers: vec![(RETRY_AFTER, wait_s.into())] }
    }
}

impl Admission {
    pub(crate) fn new(verifier: Verifier, decisions: EnforcedReader) -> Self {
        Self { verifier, decisions }
    }

    /// Refuses an address that a decision is against, whatever it asks for.
    pub(crate) fn judge(
        &mut self,
        client: IpAddr,
        now_ms: u64,
        event: &mut Event,
    ) -> Result<(), Refusal> {
        let enforced = self.decisions.load();
        if enforced.is_empty() {
            return Ok(());
        }
        enforced.judge(Who::Address(client), now_ms, event).map_err(|stopped| {
            denied(stopped.code, event);
            stopped.into()
        })
    }

    /// Decides, and notes on the event what it found. Answers what the caller is
    /// told of its limits.
    pub(crate) fn authorize(
        &mut self,
        asked: &Asked<'_>,
        event: &mut Event,
    ) -> Result<Option<Values>, Refusal> {
        let began = Instant::now();
        let Self { verifier, decisions } = self;
        let enforced = Some(decisions.load()).filter(|of| !of.is_empty() && !asked.is_replayed);
        let admitted = authenticate(verifier, asked, enforced, event);
        let authenticated = Instant::now();
        event.latency_auth_us = micros(authenticated - began);
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(Stop::Denied(Denied { code, .. })) => {
                denied(code, event);
                let scopes = &asked.matched.resource.spec.scopes;
                let challenge = challenge(REALM, code, scopes);
                let headers = challenge.map(|value| (WWW_AUTHENTICATE, value));
                return Err(Refusal { headers: headers.into_iter().collect(), ..code.into() });
            }
            Err(Stop::Decided(stopped)) => {
                denied(stopped.code, event);
                return Err(stopped.into());
            }
        };
        event.auth_outcome = Some(Text::from("allowed"));
        let told = throttle(asked, admitted.as_ref(), event);
        event.latency_throttle_us = micros(authenticated.elapsed());
        told
    }
}

fn denied(code: Code, event: &mut Event) {
    if code != Code::Throttled {
        event.auth_outcome = Some(Text::from("denied"));
        event.auth_reason = Some(Text::from(code.text()));
    }
}

/// Who calls, if that is asked, and whether it may call this.
fn authenticate<'a>(
    verifier: &mut Verifier,
    asked: &Asked<'a>,
    enforced: Option<&Enforced>,
    event: &mut Event,
) -> Result<Option<Admitted<'a>>, Stop> {
    let (api, resource) = (&asked.matched.api, &asked.matched.resource);
    let access = asked.table.access();
    let mut facts = Facts {
        address: Some(asked.client),
        api: Some(&api.name),
        user_agent: asked.parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()),
        ..Facts::default()
    };
    check_deny(access, &facts, event)?;
    if api.access.allow.as_ref().is_some_and(|allow| !allow.contains(asked.client)) {
        let reason = "the address is not on the list";
        return Err(Denied { code: Code::AddressNotAllowed, reason }.into());
    }
    match resource.access.way {
        Way::Open => {
            event.auth_method = Some(Text::from("none"));
            return Ok(None);
        }
        Way::Unknown => {
            let reason = "this release knows no such way to authenticate";
            return Err(Denied { code: Code::NotImplemented, reason }.into());
        }
        Way::Token => event.auth_method = Some(Text::from("jwt")),
    }
    let caller = verify(verifier, asked)?;
    event.auth_subject = Some(caller.subject.clone().into());
    event.auth_scopes = Some(caller.scope.clone().into());
    event.auth_token_id = Some(caller.token_id.clone().into());
    event.app_id = Some(caller.client_id.clone().into());
    event.app_name = Some(caller.client_id.clone().into());
    event.app_environment = Some(Text::from(caller.environment.text()));
    let unknown = Denied { code: Code::ApplicationUnknown, reason: "there is no such application" };
    let application = access.application(&caller.client_id).ok_or(unknown)?;
    event.app_owner = Some(application.owner.clone().into());
    facts.application = Some(&caller.client_id);
    facts.user = Some(&caller.subject);
    check_deny(access, &facts, event)?;
    if let Some(enforced) = enforced {
        enforced.judge(Who::Application(&caller.client_id), asked.now_ms, event)?;
        enforced.judge(Who::User(&caller.subject), asked.now_ms, event)?;
    }
    let subscription = access.subscription(&api.name, &caller.client_id)?;
    let Subscribed { name, tier, limits } = &**subscription;
    event.subscription_id = Some(name.clone().into());
    event.subscription_tier = Some(tier.clone().into());
    caller.check_scopes(&resource.spec.scopes)?;
    let (application, subscription) = (&application.limits[..], &limits[..]);
    Ok(Some(Admitted { application, subscription }))
}

fn verify(verifier: &mut Verifier, asked: &Asked<'_>) -> Result<Arc<Caller>, Denied> {
    let mut values = asked.parts.headers.get_all(AUTHORIZATION).iter();
    let value = values.next();
    if values.next().is_some() {
        // Which of them the upstream would believe is not known.
        let reason = "there are several authorization headers";
        return Err(Denied { code: Code::TokenMalformed, reason });
    }
    let now_s = i64::try_from(asked.now_ms / 1_000).unwrap_or(i64::MAX);
    verifier.verify(value, now_s)
}

fn check_deny(access: &Access, facts: &Facts<'_>, event: &mut Event) -> Result<(), Denied> {
    match access.deny.find(facts) {
        None => Ok(()),
        Some(rule) => {
            event.threat_rule = Some(rule.name.shared().into());
            Err(Denied { code: Code::DeniedByRule, reason: "a deny rule fits" })
        }
    }
}

/// Takes the request from every limit that it counts against.
fn throttle(
    asked: &Asked<'_>,
    admitted: Option<&Admitted<'_>>,
    event: &mut Event,
) -> Result<Option<Values>, Refusal> {
    let (subscription, application) =
        admitted.map_or((&[][..], &[][..]), |a| (a.subscription, a.application));
    let (api, resource) = (&asked.matched.api.access, &asked.matched.resource.access);
    let limits = [subscription, application, &api.limits, &resource.limits];
    let verdict = take_all(limits.into_iter().flatten(), asked.now_ms);
    note(&verdict, event);
    let values = verdict.headers();
    if verdict.allowed {
        return Ok(values);
    }
    let headers = values.into_iter().flat_map(headers_of).collect();
    Err(Refusal { headers, ..Code::Throttled.into() })
}

/// What a caller is told of its limits, as headers.
pub(crate) fn headers_of(values: Values) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let Values { policy, rate_limit, retry_after } = values;
    let always = [(POLICY_HEADER, policy), (RATE_LIMIT_HEADER, rate_limit)];
    always.into_iter().chain(retry_after.map(|value| (RETRY_AFTER, value)))
}

fn note(verdict: &Verdict<'_>, event: &mut Event) {
    let Some((limit, taken)) = verdict.nearest else { return };
    let number = |number: u64| i64::try_from(number).ok();
    event.throttle_level = Some(Text::from(limit.level.text()));
    event.throttle_policy = Some(limit.policy.shared().into());
    event.throttle_limit = number(taken.limit);
    event.throttle_remaining = number(taken.remaining);
    event.throttle_reset_us = number(taken.reset_ms.saturating_mul(1_000));
}

fn micros(duration: std::time::Duration) -> Option<i64> {
    i64::try_from(duration.as_micros()).ok()
}
