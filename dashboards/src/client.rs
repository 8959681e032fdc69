//! The HTTP client by which other nodes are asked.

use std::time::Duration;

use reqwest::redirect::Policy;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A board over a long time takes its while, and so does a decision about many letters.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A client that asks a node itself: by no proxy, and without following it elsewhere, since
/// a token goes along. It waits 3 s for a connection and 30 s for an answer.
///
/// # Errors
/// If the machine lacks what it needs.
pub(crate) fn of_nodes() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN)
        .build()
}
