//! ActiveMQ from Debian, as a broker of one node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::Guarded;
use crate::ports;

const HOME: &str = "/usr/share/activemq";
/// Where Debian's jars of it are, below its home.
const JARS: [&str; 3] = ["lib", "lib/optional", "bin"];

/// A broker on a free loopback port, whose data lie in a given folder.
#[derive(Debug)]
pub struct ActiveMq {
    _server: Guarded,
    address: SocketAddr,
}

impl ActiveMq {
    /// Starts it with Debian's configuration and options of Java, but for where it listens and
    /// what it speaks there: STOMP. Its data are in `dir`.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub fn start(dir: &Path) -> Result<Self> {
        let port = ports::free(1)?[0];
        let settings = dir.join("broker.xml");
        std::fs::write(&settings, settings_of(dir, port))
            .with_context(|| format!("write {}", settings.display()))?;
        let mut command = Command::new("java");
        command
            .args(["-Xms512M", "-Xmx512M", "-Dorg.apache.activemq.UseDedicatedTaskRunner=true"])
            .arg(format!("-Dactivemq.home={HOME}"))
            .arg(format!("-Dactivemq.base={}", dir.display()))
            .arg("-cp")
            .arg(class_path()?)
            .args(["org.apache.activemq.console.Main", "start"])
            .arg(format!("xbean:file:{}", settings.display()));
        let mut server = Guarded::start(&command, &dir.join("server.log"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        server.listens("ActiveMQ", address)?;
        Ok(Self { _server: server, address })
    }

    /// Where it speaks STOMP 1.2.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn settings_of(dir: &Path, port: u16) -> String {
    let data = dir.join("data").display().to_string();
    format!(
        r#"<beans xmlns="http://www.springframework.org/schema/beans"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="
      http://www.springframework.org/schema/beans
      http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
      http://activemq.apache.org/schema/core
      http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" useJmx="false" brokerName="localhost"
          dataDirectory="{data}">
    <persistenceAdapter><kahaDB directory="{data}/kahadb"/></persistenceAdapter>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://127.0.0.1:{port}"/>
    </transportConnectors>
  </broker>
</beans>
"#
    )
}

fn class_path() -> Result<String> {
    let mut jars: Vec<PathBuf> = Vec::new();
    for folder in JARS.map(|folder| Path::new(HOME).join(folder)) {
        let entries = std::fs::read_dir(&folder).with_context(|| {
            format!("read {}; `tests/rig/install bench` installs ActiveMQ", folder.display())
        })?;
        for entry in entries {
            let path = entry?.path();
            jars.extend(path.extension().is_some_and(|of| of == "jar").then_some(path));
        }
    }
    jars.sort();
    let jars: Vec<String> = jars.iter().map(|jar| jar.display().to_string()).collect();
    Ok(jars.join(":"))
}
