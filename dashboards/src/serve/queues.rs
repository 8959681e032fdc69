//! Queues: what is in them, and what is decided of them. Each request is made of the manager
//! node with the admin token of who asks.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Form, Path, Query, State};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use maud::Markup;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::api::{Shared, said};
use super::login;
use crate::manager::{Asking, Decision, LISTED_MAX, Letter, Refused, Which};
use crate::page::queues::{self as page, Notice};

/// The largest form: a message's body, of which a browser may write a byte with three.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of how many queues dead letters are counted at once.
const AT_ONCE: usize = 4;
const CURRENT: &str = "/queues";

type Answer<T = Html<String>> = Result<T, Response>;

pub(super) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new()
        .route("/queues", get(all))
        .route("/queues/{queue}", get(one))
        .route("/queues/{queue}/decide", post(decide))
        .route("/queues/{queue}/pause", post(pause))
        .route("/queues/{queue}/resume", post(resume))
        .route("/queues/{queue}/letter", get(letter).post(mend))
        .layer(from_fn_with_state(shared, login::admit_asking))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

impl Shared {
    fn shown(&self, page: &Markup) -> Html<String> {
        Html(page.0.clone())
    }

    fn refused(&self, refused: &Refused) -> Response {
        // A token that was changed since.
        if refused.status == StatusCode::UNAUTHORIZED {
            return login::ask_admin(CURRENT);
        }
        let page = page::refused(&self.nav(CURRENT), refused.status, &refused.why);
        (refused.status, Html(page.into_string())).into_response()
    }
}

async fn all(State(shared): State<Arc<Shared>>, Extension(asking): Extension<Asking>) -> Answer {
    let queues = asking.queues().await.map_err(|refused| shared.refused(&refused))?;
    let names: Vec<String> = queues.iter().map(|of| of.queue.clone()).collect();
    let counts = stream::iter(names).map(|queue| {
        let asking = asking.clone();
        // That one cannot be counted hides no other.
        async move { asking.dead(&queue, 1).await.ok().map(|dead| dead.total) }
    });
    let counts: Vec<Option<u64>> = counts.buffered(AT_ONCE).collect().await;
    let counted: Vec<_> = queues.into_iter().zip(counts).collect();
    Ok(shared.shown(&page::all(&shared.nav(CURRENT), &counted)))
}

/// What was done before.
#[derive(Deserialize)]
struct Done {
    did: Option<String>,
    #[serde(default)]
    count: u64,
}

impl Done {
    fn notice(&self) -> Option<Notice> {
        Some(Notice::of(Decision::parse(self.did.as_deref()?)?, self.count))
    }
}

async fn one(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(asking): Extension<Asking>,
    Query(done): Query<Done>,
) -> Answer {
    show(&shared, &asking, &queue, done.notice()).await
}

async fn show(shared: &Shared, asking: &Asking, queue: &str, notice: Option<Notice>) -> Answer {
    let asked = futures_util::try_join!(
        asking.queue(queue),
        asking.dead(queue, LISTED_MAX),
        asking.waiting(queue),
    );
    let (overview, dead, waiting) = asked.map_err(|refused| shared.refused(&refused))?;
    let queue = page::Queue { overview, dead, waiting };
    Ok(shared.shown(&page::one(&shared.nav(CURRENT), &queue, notice.as_ref())))
}

/// A form's fields, of which some may come more than once.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

/// Decides of the messages that are chosen, or of all; asks before if they are many, or if
/// they are delivered no more.
async fn decide(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(asking): Extension<Asking>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Answer<Response> {
    let fields = Fields(fields);
    let wish = fields.get("do").unwrap_or_default();
    let (name, which) = match wish.strip_suffix("-all") {
        Some(name) => (name, Which::All),
        None => (wish, Which::Ids(fields.all("id").map(str::to_owned).collect())),
    };
    let Some(decision) = Decision::parse(name) else {
        let what = "The form does not say what is to be done.";
        return Err(said(StatusCode::BAD_REQUEST, "Not understood", what).into_response());
    };
    if which == Which::Ids(Vec::new()) {
        let notice = Notice::Failed("Choose at least one message first.".to_owned());
        return show(&shared, &asking, &queue, Some(notice)).await.map(Html::into_response);
    }
    let ends = matches!(decision, Decision::Drop | Decision::GiveUp);
    if (ends || which == Which::All) && fields.get("sure").is_none() {
        let page = page::sure(&shared.nav(CURRENT), &queue, &which, decision);
        return Ok(shared.shown(&page).into_response());
    }
    match asking.decide(&queue, &which, decision).await {
        Ok(count) => Ok(done(&queue, decision, count)),
        Err(refused) if refused.status == StatusCode::UNAUTHORIZED => Err(shared.refused(&refused)),
        Err(refused) => {
            let notice = Some(Notice::Failed(refused.why));
            let page = show(&shared, &asking, &queue, notice).await?;
            Ok((refused.status, page).into_response())
        }
    }
}

/// To the queue, which says what was done: reloaded, it does it no second time.
fn done(queue: &str, decision: Decision, count: u64) -> Response {
    let queue = utf8_percent_encode(queue, NON_ALPHANUMERIC);
    Redirect::to(&format!("/queues/{queue}?did={}&count={count}", decision.name())).into_response()
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

async fn pause(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(asking): Extension<Asking>,
    Form(Reason { reason }): Form<Reason>,
) -> Answer<Redirect> {
    set_pause(&shared, &asking, &queue, Some(&reason)).await
}

async fn resume(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(asking): Extension<Asking>,
) -> Answer<Redirect> {
    set_pause(&shared, &asking, &queue, None).await
}

async fn set_pause(
    shared: &Shared,
    asking: &Asking,
    queue: &str,
    reason: Option<&str>,
) -> Answer<Redirect> {
    let set = asking.pause(queue, reason).await;
    set.map_err(|refused| shared.refused(&refused))?;
    Ok(Redirect::to(&format!("/queues/{}", utf8_percent_encode(queue, NON_ALPHANUMERIC))))
}

#[derive(Deserialize)]
struct Asked {
    id: String,
}

async fn letters(shared: &Shared, asking: &Asking, queue: &str, id: &str) -> Answer<Vec<Letter>> {
    let found = asking.letters_of(queue, id).await;
    found.map_err(|refused| shared.refused(&refused))
}

async fn letter(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(asking): Extension<Asking>,
    Query(Asked { id }): Query<Asked>,
) -> Answer {
    let found = letters(&shared, &asking, &queue, &id).await?;
    Ok(shared.shown(&page::letter(&shared.nav(CURRENT), &queue, &found, None)))
}

#[derive(Deserialize)]
struct Mended {
    r#do: String,
    body: Option<String>,
    content_type: Option<String>,
}

/// Puts one letter back, with the body that the form has if it is another, or drops it.
async fn mend(
    State(shared): State<Arc<Shared>>,
    Path(queue): Path<String>,
    Extension(asking): Extension<Asking>,
    Query(Asked { id }): Query<Asked>,
    Form(form): Form<Mended>,
) -> Answer<Response> {
    let which = Which::Ids(vec![id.clone()]);
    if form.r#do == Decision::Drop.name() {
        let page = page::sure(&shared.nav(CURRENT), &queue, &which, Decision::Drop);
        return Ok(shared.shown(&page).into_response());
    }
    let found = letters(&shared, &asking, &queue, &id).await?;
    let other = changed(&found, &form);
    let replayed = match &other {
        Some((body, content_type)) => {
            let content_type = (!content_type.is_empty()).then_some(content_type.as_str());
            asking.replay_with(&queue, &id, (body, content_type)).await
        }
        None => asking.decide(&queue, &which, Decision::Replay).await,
    };
    match replayed {
        Ok(count) => Ok(done(&queue, Decision::Replay, count)),
        Err(refused) if refused.status == StatusCode::UNAUTHORIZED => Err(shared.refused(&refused)),
        Err(refused) => {
            // What was written is not lost.
            let mut kept = found;
            if let (Some((body, content_type)), [letter]) = (other, &mut kept[..]) {
                (letter.body, letter.content_type) = (Some(body), Some(content_type));
            }
            let notice = Notice::Failed(refused.why);
            let page = page::letter(&shared.nav(CURRENT), &queue, &kept, Some(&notice));
            Ok((refused.status, shared.shown(&page)).into_response())
        }
    }
}

/// The body and its type that a form gives, if they are not as they were.
fn changed(found: &[Letter], form: &Mended) -> Option<(String, String)> {
    let ([letter], Some(body)) = (found, &form.body) else { return None };
    let before = letter.body.as_deref()?;
    let body = page::edited(body, before);
    let content_type = form.content_type.as_deref().unwrap_or_default().trim();
    let is_same =
        body == before && content_type == letter.content_type.as_deref().unwrap_or_default();
    (!is_same).then(|| (body, content_type.to_owned()))
}
