//! The load: an origin that answers 1 KiB, and clients that ask again as soon as
//! they are answered, over kept connections. Both run on one thread of this process, on
//! the core that the proxies do not have, and that thread never sleeps: else a proxy
//! would pay for waking it, the more the faster it is.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local, yield_now};

/// The size of an answer's body.
pub(crate) const BODY_BYTES: usize = 1024;

/// The origin and the clients. It does something only while it asks.
pub(crate) struct Load {
    runtime: Runtime,
    tasks: LocalSet,
    origin: SocketAddr,
}

impl Load {
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = LocalSet::new();
        let origin = tasks.block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let origin = listener.local_addr()?;
            spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    spawn_local(answer(stream));
                }
            });
            anyhow::Ok(origin)
        })?;
        Ok(Self { runtime, tasks, origin })
    }

    /// Where the origin listens.
    pub(crate) fn origin(&self) -> SocketAddr {
        self.origin
    }

    /// Asks over `connections` connections for a time; answers how many were answered.
    pub(crate) fn ask(
        &self,
        address: SocketAddr,
        heads: &[String],
        connections: usize,
        time: Duration,
    ) -> Result<u64> {
        let heads: Vec<Rc<str>> = heads.iter().map(|head| head.as_str().into()).collect();
        let until = Instant::now() + time;
        self.tasks.block_on(&self.runtime, async move {
            let awake = spawn_local(async {
                loop {
                    yield_now().await;
                }
            });
            let clients: Vec<_> = (0..connections)
                .map(|i| spawn_local(client(address, heads.clone(), i, until)))
                .collect();
            let mut answered = 0;
            for client in clients {
                answered += client.await.context("a client ended")??;
            }
            awake.abort();
            Ok(answered)
        })
    }
}

/// Answers every head that it reads: the clients send no bodies.
async fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let body = "x".repeat(BODY_BYTES);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY_BYTES}\r\n\r\n{body}"
    );
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while let Some(end) = find(&buffer, b"\r\n\r\n") {
            buffer.drain(..end + 4);
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn client(
    address: SocketAddr,
    heads: Vec<Rc<str>>,
    first: usize,
    until: Instant,
) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await.context("connect to the proxy")?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut answered = 0;
    while Instant::now() < until {
        let head = &heads[(first + answered as usize) % heads.len()];
        stream.write_all(head.as_bytes()).await?;
        let end = loop {
            if let Some(end) = find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            read(&mut stream, &mut buffer).await?;
        };
        if !buffer.starts_with(b"HTTP/1.1 200") {
            bail!("answered {}", String::from_utf8_lossy(&buffer));
        }
        while buffer.len() < end + BODY_BYTES {
            read(&mut stream, &mut buffer).await?;
        }
        if buffer.len() > end + BODY_BYTES {
            bail!("an answer of more than {BODY_BYTES} bytes");
        }
        buffer.clear();
        answered += 1;
    }
    Ok(answered)
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    if stream.read_buf(buffer).await? == 0 {
        bail!("the proxy closed a connection");
    }
    Ok(())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
