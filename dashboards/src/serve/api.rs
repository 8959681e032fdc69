use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use ingest::http::{Code, Correlation, Failure};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::access::Access;
use super::fill::{NotFound, fill, find, look, rows};
use super::live::{Feeds, events};
use super::{alerts, decisions, login, queries, queues, search};
use crate::board::{Board, Library};
use crate::manager::Manager;
use crate::page::Nav;
use crate::source::Source;
use crate::view::{Asked, Span, Timeline};
use crate::{export, page, picture};
use charts::theme::{self, Theme};

const POLICY: &str = "default-src 'self'; img-src 'self' data:; base-uri 'none'; \
                      form-action 'self'; frame-ancestors 'none'";
const SCRIPT: &str = include_str!("../../assets/console.js");

/// The largest body, which is a token; a form of a queue may be larger.
const BODY_BYTES_MAX: usize = 16 * 1024;

pub(super) struct Shared {
    pub(super) library: Library,
    pub(super) access: Access,
    pub(super) feeds: Feeds,
    pub(super) source: Arc<Source>,
    /// Who decides of queues and callers, if one is named.
    pub(super) manager: Option<Manager>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Shared {
    /// The pages that there are, seen from one of them.
    pub(super) fn nav<'a>(&'a self, current: &'a str) -> Nav<'a> {
        Nav { boards: self.library.boards(), has_queues: self.manager.is_some(), current }
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(first))
        .route("/boards/{name}", get(board))
        .route("/boards/{name}/live", get(live))
        .route("/boards/{name}/{export}", get(exported))
        .layer(from_fn_with_state(shared.clone(), login::admit))
        .merge(queues::router(shared.clone()))
        .merge(alerts::router(shared.clone()))
        .merge(queries::router(shared.clone()))
        .merge(decisions::router(shared.clone()))
        .merge(search::router(shared.clone()))
        .route("/login", get(login::ask).post(login::log_in))
        .route("/assets/{name}", get(asset))
        .fallback(async || said(StatusCode::NOT_FOUND, "Nothing is here", "There is no such page."))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// A page with a sentence on it, in place of what was asked for.
#[derive(Debug)]
pub(super) struct Said {
    status: StatusCode,
    title: &'static str,
    what: String,
}

pub(super) fn said(status: StatusCode, title: &'static str, what: impl Into<String>) -> Said {
    Said { status, title, what: what.into() }
}

impl IntoResponse for Said {
    fn into_response(self) -> Response {
        (self.status, Html(page::said(self.title, &self.what).into_string())).into_response()
    }
}

/// What holds of every answer.
async fn guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let correlation = Correlation::of(request.headers(), || fastrand::u64(..));
    request.extensions_mut().insert(correlation.clone());
    let mut answer = match shared.access.is_called(request.headers()) {
        true => next.run(request).await,
        false => said(
            StatusCode::MISDIRECTED_REQUEST,
            "Another name",
            "The console is not called so. Use its address, or add the name to console.hosts.",
        )
        .into_response(),
    };
    Failure::complete(&mut answer, &correlation);
    let headers = answer.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    answer.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

async fn first(State(shared): State<Arc<Shared>>) -> Redirect {
    let first = shared.library.boards().first().map_or("", |board| board.name.as_str());
    Redirect::to(&format!("/boards/{first}"))
}

#[derive(Deserialize)]
struct Choice {
    timeline: Option<String>,
    span: Option<String>,
    /// Of a picture.
    #[serde(default)]
    theme: Theme,
}

impl Choice {
    fn asked(self) -> Result<Asked, Said> {
        let timeline = self.timeline.filter(|timeline| !timeline.is_empty());
        let timeline = timeline.map(|timeline| match timeline.as_str() {
            "live" => Timeline::Live,
            _ => Timeline::Replay(timeline),
        });
        let span = self.span.filter(|span| !span.is_empty());
        let span = match span.map(|span| Span::parse(&span).ok_or(span)) {
            None => None,
            Some(Ok(span)) => Some(span),
            Some(Err(span)) => {
                let known: Vec<&str> = Span::CHOICES.iter().map(|(name, ..)| *name).collect();
                let what =
                    format!("The span {span} is not known. Use one of {}.", known.join(", "));
                return Err(said(StatusCode::BAD_REQUEST, "Not a span", what));
            }
        };
        Ok(Asked { timeline, span })
    }
}

fn named<'a>(shared: &'a Shared, name: &str) -> Result<&'a Board, Said> {
    shared.library.board(name).ok_or_else(|| {
        let boards: Vec<&str> = shared.library.boards().iter().map(|of| of.name.as_str()).collect();
        let what = format!("There is no board {name}. There are: {}.", boards.join(", "));
        said(StatusCode::NOT_FOUND, "No such board", what)
    })
}

async fn board(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(choice): Query<Choice>,
) -> Result<Html<String>, Said> {
    let board = named(&shared, &name)?;
    let found = look(&shared.source, &choice.asked()?).await;
    let filled = fill(&shared.source, board, found).await;
    let current = format!("/boards/{name}");
    Ok(Html(page::board(&shared.nav(&current), board, &filled).into_string()))
}

async fn live(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(choice): Query<Choice>,
) -> Result<Response, Said> {
    let board = named(&shared, &name)?;
    let (asked, stopped) = (choice.asked()?, shared.stopped.clone());
    let followed = shared.feeds.follow(&shared.source, board, asked, stopped).ok_or_else(|| {
        said(StatusCode::SERVICE_UNAVAILABLE, "Too many", "Too many pages follow already.")
    })?;
    Ok(Sse::new(events(followed)).keep_alive(KeepAlive::default()).into_response())
}

async fn exported(
    State(shared): State<Arc<Shared>>,
    Path((name, export)): Path<(String, String)>,
    Query(choice): Query<Choice>,
) -> Result<Response, Failure> {
    // Programs ask for it.
    export_of(&shared, &name, &export, choice).await.map_err(|Said { status, what, .. }| {
        let code = match status {
            StatusCode::BAD_REQUEST => Code::RequestMalformed,
            StatusCode::NOT_FOUND => Code::ResourceNotFound,
            StatusCode::BAD_GATEWAY => Code::LakeUnavailable,
            _ => Code::InternalError,
        };
        Failure::new(code, what)
    })
}

async fn export_of(
    shared: &Shared,
    name: &str,
    export: &str,
    choice: Choice,
) -> Result<Response, Said> {
    let board = named(shared, name)?;
    let theme = choice.theme;
    let found = find(&shared.source, &choice.asked()?).await.map_err(not_found)?;
    let (kind, body) = match export {
        "export.html" => {
            let filled = fill(&shared.source, board, found).await;
            ("text/html; charset=utf-8", page::alone(board, &filled).into_string().into_bytes())
        }
        "export.png" => {
            let filled = fill(&shared.source, board, found).await;
            let board = board.clone();
            // It takes a core for some tenths of a second.
            let drawn =
                tokio::task::spawn_blocking(move || picture::png(&board, &filled, theme)).await;
            match drawn {
                Ok(Ok(png)) => ("image/png", png),
                Ok(Err(error)) => return Err(failed(&error.to_string())),
                Err(error) => return Err(failed(&error.to_string())),
            }
        }
        "export.csv" => {
            let rows = rows(&shared.source, board, &found.view).await;
            let about = format!("{}, {}", page::where_of(&found.view), found.view.words());
            ("text/csv; charset=utf-8", export::csv(board, &about, &rows).into_bytes())
        }
        _ => {
            let what = "A board is exported as export.html, export.png or export.csv.";
            return Err(said(StatusCode::NOT_FOUND, "No such export", what));
        }
    };
    let ending = export.rsplit('.').next().unwrap_or_default();
    let file = format!("attachment; filename=\"{name}.{ending}\"");
    let headers = [(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, file)];
    Ok((headers, body).into_response())
}

fn not_found(why: NotFound) -> Said {
    match why {
        NotFound::Unknown(why) => said(StatusCode::BAD_GATEWAY, "No answer", why),
        NotFound::Replay { asked, known } => {
            let what = format!("There is no timeline {asked}. There are: {}.", known.join(", "));
            said(StatusCode::NOT_FOUND, "No such timeline", what)
        }
    }
}

fn failed(why: &str) -> Said {
    tracing::error!(why, "an export failed");
    said(StatusCode::INTERNAL_SERVER_ERROR, "No export", "The board could not be exported.")
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let (kind, body) = match name.as_str() {
        "console.css" => {
            let font = "@font-face{font-family:Inter;src:url(/assets/inter.otf)}\n";
            let css = [font, &page::colours(), page::CSS, theme::CHART_CSS].concat();
            ("text/css; charset=utf-8", css.into_bytes())
        }
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT.as_bytes().to_vec()),
        "inter.otf" => ("font/otf", charts::raster::FONT.to_vec()),
        _ => {
            let what = "There is no such file.";
            return said(StatusCode::NOT_FOUND, "Nothing is here", what).into_response();
        }
    };
    let hash = Sha256::digest(&body);
    let tag: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let caching = [(ETAG, tag.clone()), (CACHE_CONTROL, "no-cache".to_owned())];
    let has_it = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    if has_it {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    ([(CONTENT_TYPE, kind)], caching, body).into_response()
}
