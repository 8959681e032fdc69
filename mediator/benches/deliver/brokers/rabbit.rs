//! RabbitMQ, by AMQP 0-9-1.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt as _;
use ingest::registry::Name;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use rig::RabbitMq;

use super::{Client, Taken};
use crate::node::{BODY_BYTES, CALLERS};

/// How many messages a consumer has that it did not acknowledge.
const AHEAD: u16 = 64;
/// Survives a restart (AMQP 0-9-1, "delivery-mode").
const PERSISTENT: u8 = 2;

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Durable,
    Quorum,
}

pub(super) struct Rabbit {
    _server: RabbitMq,
    url: String,
}

impl Rabbit {
    pub(super) async fn start(dir: &Path) -> Result<Self> {
        let dir = dir.join("rabbitmq");
        std::fs::create_dir_all(&dir)?;
        let server = tokio::task::spawn_blocking(move || RabbitMq::start(&dir)).await??;
        let url = format!("amqp://guest:guest@{}/%2f", server.address());
        Ok(Self { _server: server, url })
    }

    /// A queue of this name and kind, its consumer, and what publishes to it.
    pub(super) async fn clients(
        &self,
        name: &Name,
        kind: Kind,
        taken: &Arc<Taken>,
    ) -> Result<Vec<Publisher>> {
        let (queue, arguments) = match kind {
            Kind::Durable => (format!("{name}-durable"), FieldTable::default()),
            Kind::Quorum => {
                let mut arguments = FieldTable::default();
                let quorum = AMQPValue::LongString("quorum".into());
                arguments.insert("x-queue-type".into(), quorum);
                (format!("{name}-quorum"), arguments)
            }
        };
        let (connection, channel) = self.channel().await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.as_str().into(), options, arguments).await?;
        channel.basic_qos(AHEAD, BasicQosOptions::default()).await?;
        let consumer = channel.basic_consume(
            queue.as_str().into(),
            "bench".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut consumer = consumer.await?;
        let taken = taken.clone();
        tokio::spawn(async move {
            let _connection = connection;
            while let Some(delivery) = consumer.next().await {
                let delivery = delivery?;
                taken.one();
                delivery.ack(BasicAckOptions::default()).await?;
            }
            anyhow::Ok(())
        });
        let mut clients = Vec::with_capacity(CALLERS);
        for _ in 0..CALLERS {
            let (connection, channel) = self.channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            clients.push(Publisher { channel, queue: queue.clone(), _connection: connection });
        }
        Ok(clients)
    }

    async fn channel(&self) -> Result<(Connection, Channel)> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await;
        let connection = connection.context("connect to RabbitMQ")?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }
}

/// Publishes over one connection.
pub(super) struct Publisher {
    channel: Channel,
    queue: String,
    _connection: Connection,
}

impl Client for Publisher {
    async fn send(&mut self, _: usize) -> Result<()> {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let published = self.channel.basic_publish(
            "".into(),
            self.queue.as_str().into(),
            BasicPublishOptions::default(),
            &[b'x'; BODY_BYTES],
            properties,
        );
        let confirmed = published.await?.await?;
        ensure!(matches!(confirmed, Confirmation::Ack(_)), "{confirmed:?}");
        Ok(())
    }
}
