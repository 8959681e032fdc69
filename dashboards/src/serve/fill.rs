use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use futures_util::{StreamExt as _, stream};
use ingest::event::Timestamp;

use crate::board::{Board, bind};
use crate::content::Content;
use crate::page::Filled;
use crate::source::Source;
use crate::view::{Asked, Known, Timeline, View};

/// How many panels of a board are asked for at once.
const AT_ONCE: usize = 2;

/// What is looked at, and what there is.
pub(super) struct Found {
    pub(super) view: View,
    known: Vec<Known>,
    made: String,
}

/// Why there is nothing to look at.
#[derive(Debug)]
pub(super) enum NotFound {
    /// The node did not say what there is.
    Unknown(String),
    /// No request of such a replay is in the history.
    Replay { asked: String, known: Vec<String> },
}

/// Finds what is asked for, and makes sure that it is there.
pub(super) async fn find(source: &Source, asked: &Asked) -> Result<Found, NotFound> {
    let known = source.timelines().await.map_err(NotFound::Unknown)?;
    if let Some(Timeline::Replay(id)) = &asked.timeline
        && !known.iter().any(|of| of.timeline.text() == id)
    {
        let known = known.iter().map(|of| of.timeline.text().to_owned()).collect();
        return Err(NotFound::Replay { asked: id.clone(), known });
    }
    Ok(found(asked, known))
}

/// What is asked for, by what was there a few seconds ago. Where the node does not
/// answer, it is what would be there.
pub(super) async fn look(source: &Source, asked: &Asked) -> Found {
    found(asked, source.recent_timelines().await.unwrap_or_default())
}

fn found(asked: &Asked, known: Vec<Known>) -> Found {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let second = Timestamp::from_micros(now).to_string();
    let made = format!("{} UTC", second[..19].replace('T', " "));
    Found { view: View::of(asked, &known, now), known, made }
}

/// The rows of each panel: all of them of the same events, those up to now.
pub(super) async fn rows(
    source: &Source,
    board: &Board,
    view: &View,
) -> Vec<Result<Vec<RecordBatch>, String>> {
    let position = source.position().await;
    let bound = board.panels.iter().map(|panel| {
        bind(&panel.sql, |name| view.parameter(name)).map_err(|error| error.to_string())
    });
    let bound: Vec<Result<String, String>> = bound.collect();
    let asked = bound.into_iter().map(|sql| {
        let (source, position) = (source.clone(), position.clone());
        async move { source.rows(sql?, position?).await }
    });
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

/// A board with what it shows.
pub(super) async fn fill(source: &Source, board: &Board, found: Found) -> Filled {
    let Found { view, known, made } = found;
    let contents = rows(source, board, &view).await.into_iter().zip(&board.panels);
    let contents = contents.map(|(rows, panel)| match rows {
        Ok(rows) => Content::of(panel, &view, &rows),
        Err(why) => Content::Failed(why),
    });
    Filled { contents: contents.collect(), view, known, made }
}
