use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::replayed::{self, Counts};
use super::warehouse::Warehouse;
use super::{pricing, warehouse};

/// The services behind the example, on one port.
pub(crate) struct Origin {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Origin {
    pub(crate) async fn start(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("the example's services cannot listen on {address}; free the port, or set example.address")
        })?;
        let address = listener.local_addr().context("ask for the example's address")?;
        let counts = Counts::default();
        let router = Router::new()
            .route("/pricing", post(pricing::quote))
            .route("/warehouse/orders", post(warehouse::take).get(warehouse::list))
            .with_state(Warehouse::default())
            .route("/replays/{id}", get(replayed::count).with_state(counts.clone()))
            .fallback(|| async { Html(PAGE) })
            .layer(middleware::from_fn_with_state(counts, replayed::answer));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the example's services stopped");
            }
        });
        Ok(Self { address, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const PAGE: &str = "<!doctype html>
<html lang=\"en\"><title>The example's web site</title>
<h1>It works</h1>
<p>This page came through the gateway, from the web site of the example.
</html>
";
