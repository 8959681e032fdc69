use std::iter;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Notify, watch};

use super::Error;
use super::index::{Finder, Hits, Index};
use crate::lake::{History, Since};

/// How often rows are added without anybody who searches.
const EVERY: Duration = Duration::from_secs(10);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The search over a history. Cheap to clone.
#[derive(Clone)]
pub struct Search(Arc<Inner>);

struct Inner {
    finder: Finder,
    /// Told when somebody waits.
    wanted: Notify,
    /// Per partition, what can be found already.
    reached: watch::Receiver<Vec<u64>>,
}

/// Adds rows to the index while it runs. Made by [`open`].
pub struct Service {
    /// None while a step is under way on its own thread, or after one that panicked.
    index: Option<Index>,
    history: Arc<History>,
    search: Search,
    reached: watch::Sender<Vec<u64>>,
}

/// Opens the index of a history in a directory of this node, or begins it.
///
/// # Errors
/// [`Error::Directory`], [`Error::InUse`], [`Error::Index`].
pub async fn open(dir: &Path, history: Arc<History>) -> Result<(Search, Service), Error> {
    let (dir, lake) = (dir.to_owned(), history.identity().await);
    let partitions = history.partitions().await;
    let index = run(move || Index::open(&dir, &lake, partitions)).await?;
    let (sender, reached) = watch::channel(index.reached().to_vec());
    let inner = Inner { finder: index.finder(), wanted: Notify::new(), reached };
    let search = Search(Arc::new(inner));
    let service = Service { index: Some(index), history, search: search.clone(), reached: sender };
    Ok((search, service))
}

impl Search {
    /// The rows before these offsets that fit a text, all of them: it waits until the
    /// index has come there.
    ///
    /// # Errors
    /// [`Error::Text`], [`Error::Index`].
    pub(super) async fn find(&self, text: &str, before: &[u64]) -> Result<Hits, Error> {
        let mut reached = self.0.reached.clone();
        let is_there = |reached: &Vec<u64>| {
            iter::zip(reached, before).all(|(reached, asked)| reached >= asked)
        };
        if !is_there(&reached.borrow()) {
            self.0.wanted.notify_one();
            let over = reached.wait_for(is_there).await;
            over.map_err(|_| Error::Broken("the node stops".to_owned()))?;
        }
        let (finder, text, before) = (self.0.finder.clone(), text.to_owned(), before.to_vec());
        run(move || finder.find(&text, &before)).await
    }
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a search that has come to {:?}", self.0.reached.borrow())
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the service of {:?}", self.search)
    }
}

impl Service {
    /// Adds rows as they come, until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let wait = match self.step().await {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::error!(%error, "the index of the search does not follow");
                    RETRY
                }
            };
            // After a failure not even for who waits.
            let wanted = async {
                match wait == EVERY {
                    true => self.search.0.wanted.notified().await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = wanted => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    #[cfg(test)]
    pub(super) fn reached(&self) -> Vec<u64> {
        self.reached.borrow().clone()
    }

    /// Adds all rows that there are now.
    pub(super) async fn step(&mut self) -> Result<(), Error> {
        let mut index = match self.index.take() {
            Some(index) => index,
            None => return Err(Error::Broken("a thread of it panicked".to_owned())),
        };
        let Since { at_rest, tail, reached, .. } =
            match self.history.since(index.reached(), None).await {
                Ok(since) => since,
                Err(error) => {
                    self.index = Some(index);
                    return Err(error.into());
                }
            };
        // A history that begins anew reads again what the index has already.
        let further = iter::zip(index.reached(), reached).map(|(index, read)| read.max(*index));
        let reached = further.collect();
        let runtime = tokio::runtime::Handle::current();
        let (index, outcome) = run(move || {
            let add = || -> Result<(), Error> {
                if let Some(mut rows) = at_rest {
                    while let Some(rows) = runtime.block_on(rows.next()) {
                        index.add(&rows?)?;
                    }
                }
                tail.iter().try_for_each(|rows| index.add(rows))?;
                index.commit(reached)
            };
            let mut outcome = add();
            if outcome.is_err()
                && let Err(error) = index.roll_back()
            {
                tracing::error!(%error, dir = %index.dir().display(), "the index is not as it was");
                outcome = Err(error);
            }
            Ok((index, outcome))
        })
        .await?;
        self.reached.send_replace(index.reached().to_vec());
        self.index = Some(index);
        outcome
    }
}

/// Does what blocks, on a thread for that.
async fn run<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(what).await;
    done.map_err(|error| Error::Broken(error.to_string()))?
}
