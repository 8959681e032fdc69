//! A cluster of Apache Kafka in KRaft mode, each node broker and controller.
//!
//! From the call to a cluster that serves, storage formatted, on two cores with
//! Kafka 4.4.0 and Java 17:
//!
//! | brokers | with the archive of classes | without |
//! | --- | --- | --- |
//! | 1 | 1.0 s | 2.1 to 3.7 s |
//! | 3 | 3.4 to 3.8 s | 5.2 to 7.3 s |
//!
//! A broker stopped and started takes 1 to 2 s. A killed one takes 3.4 to 4.3 s to
//! come back: the controller lets it register again when its old session has
//! ended, 3 s after its last sign of life. A broker holds 175 MB of memory.
//!
//! What a test should know:
//! - time stamps are the broker's (`LogAppendTime`): a record's own is replaced, so
//!   retention counts from when it was written;
//! - the least number of written copies is a default of the whole cluster, which
//!   the first controller takes from its settings, so Kafka shows it as dynamic;
//! - a test process that dies without dropping the cluster leaves its data in the
//!   temporary folder, but no server.

mod java;
mod metadata;
mod node;
mod settings;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::guarded::{Guarded, LOOK_EVERY};
use crate::ports;
use java::Java;
use node::Node;
use settings::Ports;

/// A machine short of processors needs most of it; a server that ends early ends
/// the wait.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Starts to try, each on other ports, when another process takes one meanwhile.
const STARTS_MAX: usize = 3;

/// What Java says of a port that is taken.
const PORT_TAKEN: &str = "Address already in use";

/// A running cluster. Its nodes are numbered from 1. Dropping it kills them and
/// removes their data.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    java: Java,
    /// Last, so that the servers are gone when their folders are.
    _folder: TempDir,
}

impl Kafka {
    /// Starts a cluster of so many brokers and waits until all of them serve.
    ///
    /// Topics have as many copies as there are brokers, at most three; of three
    /// copies, two must be written for a write to be acknowledged.
    ///
    /// # Errors
    /// When Kafka is not installed, or a broker does not start; the error then
    /// carries the end of its log.
    pub fn start(brokers: usize) -> Result<Self> {
        ensure!(brokers > 0, "a Kafka cluster has at least one broker");
        for _ in 1..STARTS_MAX {
            match Self::start_once(brokers) {
                Err(error) if error.to_string().contains(PORT_TAKEN) => {}
                result => return result,
            }
        }
        Self::start_once(brokers)
    }

    /// The addresses of all brokers, as a client's `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(Node::address).collect();
        addresses.join(",")
    }

    /// Kills the node without warning, as by SIGKILL or a lost machine. Its data
    /// stays. The rest of the cluster notices after three seconds.
    ///
    /// # Errors
    /// When there is no such node, or it is not running.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        self.take_server(node)?.kill();
        Ok(())
    }

    /// Stops the node in good order: its partitions are led elsewhere first.
    ///
    /// # Errors
    /// When there is no such node, it is not running, or it does not stop.
    pub fn stop(&mut self, node: usize) -> Result<()> {
        self.take_server(node)?.stop().with_context(|| format!("cannot stop Kafka node {node}"))
    }

    /// Starts the node again on its port and its data, after stopping it if it
    /// runs, and waits until all running nodes see each other.
    ///
    /// # Errors
    /// When there is no such node or it does not start; with too few nodes running
    /// to elect a controller, none does.
    pub fn restart(&mut self, node: usize) -> Result<()> {
        if self.node(node)?.is_running() {
            self.stop(node)?;
        }
        let java = self.java.clone();
        self.node(node)?.start(&java)?;
        self.await_ready()
    }

    fn start_once(brokers: usize) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("weir-rig-kafka-")
            .tempdir()
            .context("cannot make a folder for Kafka's data")?;
        let java = Java::find(folder.path())?;
        let ports: Vec<Ports> = ports::free(brokers * 2)?
            .chunks_exact(2)
            .map(|pair| Ports { clients: pair[0], controller: pair[1] })
            .collect();
        let nodes = (1..=brokers)
            .map(|id| Node::prepare(id, &ports, folder.path()))
            .collect::<Result<_>>()?;
        let mut kafka = Self { nodes, java, _folder: folder };

        kafka.format()?;
        for node in &mut kafka.nodes {
            node.start(&kafka.java)?;
        }
        kafka.await_ready()?;
        Ok(kafka)
    }

    /// Formats the storage of all nodes, at the same time.
    fn format(&mut self) -> Result<()> {
        let cluster_id = cluster_id();
        for node in &mut self.nodes {
            node.format(&self.java, &cluster_id)?;
        }
        let begun = Instant::now();
        for node in &mut self.nodes {
            while !node.formatted()? {
                give_up_after(begun, || format!("Kafka node {} is not formatted", node.id()))?;
            }
        }
        Ok(())
    }

    /// Waits until every running node knows every running node to be alive.
    fn await_ready(&mut self) -> Result<()> {
        let running: Vec<usize> =
            self.nodes.iter().filter(|node| node.is_running()).map(Node::id).collect();
        let begun = Instant::now();
        for node in self.nodes.iter_mut().filter(|node| node.is_running()) {
            loop {
                let alive = node.alive_brokers()?;
                if running.iter().all(|id| alive.contains(id)) {
                    break;
                }
                give_up_after(begun, || {
                    let (id, tail) = (node.id(), node.log_tail());
                    format!("Kafka node {id} knows brokers {alive:?} of {running:?}\n{tail}")
                })?;
            }
        }
        Ok(())
    }

    fn take_server(&mut self, id: usize) -> Result<Guarded> {
        let server = self.node(id)?.take_server();
        server.with_context(|| format!("Kafka node {id} is not running"))
    }

    fn node(&mut self, id: usize) -> Result<&mut Node> {
        let brokers = self.nodes.len();
        let node = self.nodes.iter_mut().find(|node| node.id() == id);
        node.with_context(|| format!("there is no Kafka node {id}, only 1 to {brokers}"))
    }
}

/// Sleeps until it is time to look again, or fails with `state` when the time
/// since `begun` is up.
fn give_up_after(begun: Instant, state: impl FnOnce() -> String) -> Result<()> {
    if begun.elapsed() > READY_WITHIN {
        bail!("{} after {READY_WITHIN:?}", state());
    }
    thread::sleep(LOOK_EVERY);
    Ok(())
}

/// A random id, so that a node never joins another test's cluster. It has the
/// form of Kafka's ids: 16 bytes in base 64, whose last letter holds two bits.
fn cluster_id() -> String {
    (0..21).map(|_| fastrand::alphanumeric()).chain(['A']).collect()
}
