//! One node of the cluster: a broker that is a controller too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::java::Java;
use super::metadata;
use super::settings::{self, Ports};
use crate::guarded::{Guarded, tail};

/// A node, running or not. Its folder holds its settings, its log and its data.
#[derive(Debug)]
pub(super) struct Node {
    id: usize,
    port: u16,
    settings: PathBuf,
    log: PathBuf,
    server: Option<Guarded>,
}

impl Node {
    /// Writes the settings of the node `id` in a folder of its own.
    pub(super) fn prepare(id: usize, ports: &[Ports], cluster: &Path) -> Result<Self> {
        let folder = cluster.join(format!("node-{id}"));
        fs::create_dir(&folder)
            .with_context(|| format!("cannot make the folder of Kafka node {id}"))?;
        let settings = folder.join("server.properties");
        fs::write(&settings, settings::properties(id, ports, &folder.join("data")))
            .with_context(|| format!("cannot write the settings of Kafka node {id}"))?;
        Ok(Self {
            id,
            port: ports[id - 1].clients,
            settings,
            log: folder.join(format!("kafka-{id}.log")),
            server: None,
        })
    }

    /// Begins to format the node's storage for the cluster; [`Node::formatted`]
    /// sees the end of it.
    pub(super) fn format(&mut self, java: &Java, cluster_id: &str) -> Result<()> {
        let mut command = java.command("kafka.tools.StorageTool");
        command.args(["format", "--cluster-id", cluster_id, "--config"]).arg(&self.settings);
        self.server = Some(Guarded::start(&command, &self.log)?);
        Ok(())
    }

    /// Whether the storage is formatted.
    pub(super) fn formatted(&mut self) -> Result<bool> {
        let Some(format) = &mut self.server else {
            return Ok(true);
        };
        match format.exited()? {
            None => Ok(false),
            Some(status) if status.success() => {
                self.server = None;
                Ok(true)
            }
            Some(status) => {
                bail!(
                    "cannot format the storage of Kafka node {}: {status}\n{}",
                    self.id,
                    self.log_tail()
                )
            }
        }
    }

    /// Starts the server; [`Node::alive_brokers`] tells when it serves.
    pub(super) fn start(&mut self, java: &Java) -> Result<()> {
        let mut command = java.command("kafka.Kafka");
        command.arg(&self.settings);
        self.server = Some(Guarded::start(&command, &self.log)?);
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        self.server.is_some()
    }

    /// The server as long as the node runs, for it to be stopped.
    pub(super) fn take_server(&mut self) -> Option<Guarded> {
        self.server.take()
    }

    /// The node's id in Kafka.
    pub(super) fn id(&self) -> usize {
        self.id
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The brokers this node knows to be alive; none while it does not answer.
    ///
    /// # Errors
    /// When the server has ended, with the end of its log.
    pub(super) fn alive_brokers(&mut self) -> Result<Vec<usize>> {
        if let Some(server) = &mut self.server
            && let Some(status) = server.exited()?
        {
            bail!("Kafka node {} has ended: {status}\n{}", self.id, self.log_tail());
        }
        let alive = metadata::alive_brokers(self.port).unwrap_or_default();
        Ok(alive.into_iter().filter_map(|id| usize::try_from(id).ok()).collect())
    }

    pub(super) fn log_tail(&self) -> String {
        tail(&self.log)
    }
}
