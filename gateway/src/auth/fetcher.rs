use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::config::{Config, Issuer};
use super::key_sets::{KeySets, PublicKeys, read};

/// The largest JWKS.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a fetch may take in all.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client could not be made.
    #[error("the client for keys cannot be made: {0}")]
    Client(reqwest::Error),
    /// The issuer could not be reached, or broke off.
    #[error("the keys cannot be fetched: {0}")]
    Http(#[from] reqwest::Error),
    /// The issuer answered otherwise.
    #[error("the keys cannot be fetched: the issuer answers {0}")]
    Status(StatusCode),
    /// The issuer sent what is no JWKS of these limits.
    #[error("the JWKS {0}")]
    Body(&'static str),
}

/// Keeps the keys of all issuers up to date, one task for each.
#[derive(Debug)]
pub struct KeyFetcher {
    client: Client,
    issuers: Vec<Issuer>,
    sets: KeySets,
    refresh: Duration,
    min_interval: Duration,
}

impl KeyFetcher {
    /// A fetcher for the issuers of a configuration, which `sets` was made of too.
    ///
    /// # Errors
    /// [`Error::Client`] if there are no roots of trust.
    pub fn new(config: &Config, sets: KeySets) -> Result<Self, Error> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // Keys come from where the configuration says, and from nowhere else.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(Error::Client)?;
        Ok(Self {
            client,
            issuers: config.issuers.clone(),
            sets,
            refresh: Duration::from_secs(config.jwks_refresh_s),
            min_interval: Duration::from_secs(config.jwks_min_interval_s),
        })
    }

    /// Fetches the keys of every issuer once, so that the first callers find them.
    /// Issuers that do not answer `within` are waited for by [`Self::run`].
    pub async fn fetch_first(&self, within: Duration) {
        let mut tasks = JoinSet::new();
        for follower in self.followers() {
            tasks.spawn(async move { follower.fetch_and_publish().await });
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!(?within, "an issuer has not given its keys yet");
        }
    }

    fn followers(&self) -> impl Iterator<Item = Follower> {
        self.issuers.iter().enumerate().map(|(index, issuer)| Follower {
            client: self.client.clone(),
            index,
            issuer: issuer.clone(),
            sets: self.sets.clone(),
            refresh: self.refresh,
            min_interval: self.min_interval,
        })
    }

    /// Fetches until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        for follower in self.followers() {
            tasks.spawn(follower.run());
        }
        // The tasks end only by this; dropping them ends what they wait for.
        shutdown.cancelled().await;
        tasks.shutdown().await;
    }
}

struct Follower {
    client: Client,
    index: usize,
    issuer: Issuer,
    sets: KeySets,
    refresh: Duration,
    min_interval: Duration,
}

impl Follower {
    async fn run(self) {
        loop {
            let started = Instant::now();
            let again = match self.fetch_and_publish().await {
                true => self.refresh,
                false => self.min_interval,
            };
            sleep_until(started + self.min_interval).await;
            tokio::select! {
                () = sleep_until(started + again.max(self.min_interval)) => {}
                () = self.sets.wanted(self.index) => {}
            }
        }
    }

    /// Whether the keys came.
    async fn fetch_and_publish(&self) -> bool {
        let issuer = &self.issuer.issuer;
        match self.fetch().await {
            Ok(keys) => {
                let count = keys.len();
                if self.sets.publish(self.index, keys) {
                    tracing::info!(issuer, count, "keys of an issuer");
                }
                true
            }
            Err(error) => {
                tracing::warn!(issuer, %error, "the last good keys of the issuer stay");
                false
            }
        }
    }

    async fn fetch(&self) -> Result<PublicKeys, Error> {
        let mut answer = self.client.get(&self.issuer.jwks_url).send().await?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Error::Body("is larger than 1 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        read(&body, &self.issuer).map_err(Error::Body)
    }
}
