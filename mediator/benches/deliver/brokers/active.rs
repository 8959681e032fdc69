//! ActiveMQ, by STOMP 1.2.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ingest::registry::Name;
use rig::ActiveMq;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Client, Taken};
use crate::node::{BODY_BYTES, CALLERS};

/// How many messages a consumer has that it did not acknowledge.
const AHEAD: u16 = 64;

pub(super) struct Active {
    server: ActiveMq,
}

impl Active {
    pub(super) async fn start(dir: &Path) -> Result<Self> {
        let dir = dir.join("activemq");
        std::fs::create_dir_all(&dir)?;
        Ok(Self { server: tokio::task::spawn_blocking(move || ActiveMq::start(&dir)).await?? })
    }

    /// A queue of this name, its consumer, and what sends to it.
    pub(super) async fn clients(&self, name: &Name, taken: &Arc<Taken>) -> Result<Vec<Sender>> {
        let mut consumer = self.connect().await?;
        consumer
            .write(&format!(
                "SUBSCRIBE\nid:0\ndestination:/queue/{name}\nack:client-individual\n\
                 activemq.prefetchSize:{AHEAD}\n\n"
            ))
            .await?;
        let taken = taken.clone();
        tokio::spawn(async move {
            loop {
                let id = consumer.header("MESSAGE", "ack").await?;
                taken.one();
                consumer.write(&format!("ACK\nid:{id}\n\n")).await?;
            }
            #[expect(unreachable_code, reason = "it says what the loop fails with")]
            anyhow::Ok(())
        });
        let mut clients = Vec::with_capacity(CALLERS);
        for _ in 0..CALLERS {
            clients.push(Sender { connection: self.connect().await?, queue: name.clone() });
        }
        Ok(clients)
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.server.address()).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream: BufReader::new(stream), frame: Vec::new() };
        connection.write("CONNECT\naccept-version:1.2\nhost:localhost\n\n").await?;
        connection.header("CONNECTED", "version").await?;
        Ok(connection)
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
    frame: Vec<u8>,
}

impl Connection {
    /// Sends a frame (STOMP 1.2, "Frames"), none of whose bodies has a zero in it.
    async fn write(&mut self, frame: &str) -> Result<()> {
        let mut bytes = frame.as_bytes().to_vec();
        bytes.push(0);
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// Reads a frame of this command: the value of a header of it.
    async fn header(&mut self, command: &str, name: &str) -> Result<String> {
        self.frame.clear();
        self.stream.read_until(0, &mut self.frame).await?;
        let text = std::str::from_utf8(&self.frame)?.trim_start();
        ensure!(text.starts_with(command), "ActiveMQ said {text:?}");
        let head = text.split("\n\n").next().unwrap_or_default();
        let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("no {name} in {head:?}"))?.to_owned())
    }
}

/// Sends over one connection.
pub(super) struct Sender {
    connection: Connection,
    queue: Name,
}

impl Client for Sender {
    async fn send(&mut self, number: usize) -> Result<()> {
        let (queue, body) = (&self.queue, "x".repeat(BODY_BYTES));
        self.connection
            .write(&format!(
                "SEND\ndestination:/queue/{queue}\npersistent:true\nreceipt:{number}\n\n{body}"
            ))
            .await?;
        let receipt = self.connection.header("RECEIPT", "receipt-id").await?;
        ensure!(receipt == number.to_string(), "receipt {receipt} for {number}");
        Ok(())
    }
}
