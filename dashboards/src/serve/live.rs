//! Pages that follow: what is the same on several is drawn once for all of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::sse::Event;
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use serde_json::{Map, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::fill::{fill, look};
use crate::board::Board;
use crate::page;
use crate::source::Source;
use crate::view::Asked;

/// How often a board is drawn, at most; and how many times as long as it takes to draw it
/// lies between two, so that pages that follow a long history leave the node to others.
const EVERY: Duration = Duration::from_secs(3);
const PAUSE_FACTOR: u32 = 9;
const PAGES_MAX: usize = 256;
const FEEDS_MAX: usize = 64;

/// A board as it was drawn last.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    range: String,
    made: String,
    /// The body of each panel, as HTML.
    panels: Vec<String>,
}

type Key = (String, Asked);
type Receiver = watch::Receiver<Arc<Drawn>>;

/// The boards that are followed.
#[derive(Debug, Clone)]
pub(super) struct Feeds {
    feeds: Arc<Mutex<HashMap<Key, Receiver>>>,
    pages: Arc<Semaphore>,
}

/// A board that a page follows.
pub(super) struct Followed {
    drawn: Receiver,
    /// Its place among the pages that follow.
    _page: OwnedSemaphorePermit,
}

impl Default for Feeds {
    fn default() -> Self {
        Self { feeds: Arc::default(), pages: Arc::new(Semaphore::new(PAGES_MAX)) }
    }
}

impl Feeds {
    /// Follows a board; none if too many are followed.
    pub(super) fn follow(
        &self,
        source: &Arc<Source>,
        board: &Board,
        asked: Asked,
        stopped: watch::Receiver<bool>,
    ) -> Option<Followed> {
        let mut feeds = self.feeds.lock();
        let page = self.pages.clone().try_acquire_owned().ok()?;
        let key = (board.name.clone(), asked);
        if let Some(feed) = feeds.get(&key) {
            return Some(Followed { drawn: feed.clone(), _page: page });
        }
        if feeds.len() >= FEEDS_MAX {
            return None;
        }
        let (drawn, followed) = watch::channel(Arc::default());
        feeds.insert(key.clone(), followed.clone());
        let draw = Draw { source: source.clone(), board: board.clone(), key, feeds: self.clone() };
        tokio::spawn(draw.run(drawn, stopped));
        Some(Followed { drawn: followed, _page: page })
    }
}

struct Draw {
    source: Arc<Source>,
    board: Board,
    key: Key,
    feeds: Feeds,
}

impl Draw {
    /// Draws until nobody follows.
    async fn run(self, into: watch::Sender<Arc<Drawn>>, mut stopped: watch::Receiver<bool>) {
        loop {
            let began = Instant::now();
            let filled =
                fill(&self.source, &self.board, look(&self.source, &self.key.1).await).await;
            let panels = self.board.panels.iter().zip(&filled.contents);
            let panels = panels.map(|(of, content)| page::body(of, content).into_string());
            let (range, panels) = (filled.view.words(), panels.collect());
            into.send_replace(Arc::new(Drawn { range, made: filled.made, panels }));
            let pause = EVERY.max(began.elapsed() * PAUSE_FACTOR);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            let mut feeds = self.feeds.feeds.lock();
            // The one that is kept there is the last.
            if into.receiver_count() <= 1 {
                feeds.remove(&self.key);
                return;
            }
        }
        self.feeds.feeds.lock().remove(&self.key);
    }
}

/// What a page is told: the panels that are not as it has them.
pub(super) fn events(followed: Followed) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((followed, Arc::<Drawn>::default()), |(mut followed, before)| async move {
        loop {
            let now = followed.drawn.borrow_and_update().clone();
            if !now.panels.is_empty() {
                let changed = now.panels.iter().enumerate();
                let changed = changed.filter(|(at, html)| before.panels.get(*at) != Some(html));
                let panels: Map<_, _> = changed
                    .map(|(at, html)| (format!("panel-{at}"), html.as_str().into()))
                    .collect();
                let made = now.made.split(' ').nth(1).unwrap_or_default();
                let data = json!({"range": now.range, "made": made, "panels": panels});
                if !Arc::ptr_eq(&now, &before) {
                    let event = Event::default().event("panels").data(data.to_string());
                    return Some((Ok(event), (followed, now)));
                }
            }
            followed.drawn.changed().await.ok()?;
        }
    })
}
