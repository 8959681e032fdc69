//! A node of Weir as its clients see it: a route that stores, and a queue to a target.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::StatusCode;
use bytes::Bytes;
use ingest::registry::Name;
use mediator::Mediator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Client, KEYS, Taken};
use crate::node::{BODY_BYTES, CALLERS, Node};

pub(super) struct Weir {
    node: Node,
}

impl Weir {
    pub(super) async fn start(dir: &Path) -> Result<Self> {
        Ok(Self { node: Node::start(dir).await? })
    }

    /// A queue of this name, its target, and what posts to it.
    pub(super) async fn clients(&self, name: &Name, taken: &Arc<Taken>) -> Result<Vec<Poster>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        self.node.upstream(name.as_str(), listener.local_addr()?).await?;
        let taken = taken.clone();
        let take = move |_: Bytes| {
            taken.one();
            std::future::ready(StatusCode::NO_CONTENT)
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(take)).await });
        self.node.queue(name, name.as_str()).await?;
        let mediator = Arc::new(self.node.serve(name).await?);
        posters(mediator.address(), name, Some(&mediator)).await
    }

    /// What posts the same to a server that reads it, keeps nothing, and answers 202.
    pub(super) async fn clients_of_nothing(
        &self,
        name: &Name,
        taken: &Arc<Taken>,
    ) -> Result<Vec<Poster>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?;
        let taken = taken.clone();
        let take = move |_: Bytes| {
            taken.one();
            std::future::ready((StatusCode::ACCEPTED, "{\"id\":\"\"}"))
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(take)).await });
        posters(at, name, None).await
    }

    pub(super) async fn stop(self) {
        self.node.delivery.shutdown().await;
    }
}

async fn posters(
    at: SocketAddr,
    name: &Name,
    mediator: Option<&Arc<Mediator>>,
) -> Result<Vec<Poster>> {
    let mut clients = Vec::with_capacity(CALLERS);
    for _ in 0..CALLERS {
        clients.push(Poster::connect(at, name, mediator.cloned()).await?);
    }
    Ok(clients)
}

/// Posts over one connection.
pub(super) struct Poster {
    /// Serves for as long as anybody posts.
    _mediator: Option<Arc<Mediator>>,
    stream: TcpStream,
    name: Name,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Poster {
    async fn connect(at: SocketAddr, name: &Name, mediator: Option<Arc<Mediator>>) -> Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let (name, request, answer) = (name.clone(), Vec::new(), vec![0; 4_096]);
        Ok(Self { _mediator: mediator, stream, name, request, answer })
    }

    /// Reads one answer, whose length its head says.
    async fn read(&mut self) -> Result<()> {
        let mut read = 0;
        loop {
            let more = self.stream.read(&mut self.answer[read..]).await?;
            ensure!(more > 0, "the connection ended");
            read += more;
            let text = std::str::from_utf8(&self.answer[..read])?;
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            ensure!(head.starts_with("HTTP/1.1 202"), "{text}");
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let length: usize = length.context("an answer has a length")?;
            if body.len() >= length {
                return Ok(());
            }
        }
    }
}

impl Client for Poster {
    async fn send(&mut self, number: usize) -> Result<()> {
        let (name, key) = (&self.name, number % KEYS);
        self.request.clear();
        self.request.extend_from_slice(
            format!(
                "POST /{name} HTTP/1.1\r\nhost: weir.example\r\nidempotency-key: {name}-{number}\r\n\
                 key: k{key}\r\ncontent-type: application/octet-stream\r\n\
                 content-length: {BODY_BYTES}\r\n\r\n"
            )
            .as_bytes(),
        );
        self.request.resize(self.request.len() + BODY_BYTES, b'x');
        self.stream.write_all(&self.request).await?;
        self.read().await
    }
}
