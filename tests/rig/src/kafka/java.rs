//! Kafka's programs, as Java runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::installed;

const VERSION: &str = include_str!("../../kafka/version");
const LOGGING: &str = include_str!("../../kafka/log4j2.properties");

/// The jars of an installed Kafka and how to run what is in them.
#[derive(Clone, Debug)]
pub(super) struct Java {
    class_path: String,
    classes: PathBuf,
    logging: PathBuf,
}

impl Java {
    /// Finds the installed Kafka. `folder` is where its logging is described.
    pub(super) fn find(folder: &Path) -> Result<Self> {
        let version = VERSION.trim();
        let kafka = installed::folder(&format!("kafka-{version}"), &format!("Kafka {version}"))?;
        let logging = folder.join("log4j2.properties");
        fs::write(&logging, LOGGING).context("cannot write Kafka's logging settings")?;
        let libs = kafka.join("libs");
        let mut jars: Vec<PathBuf> = fs::read_dir(&libs)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .with_context(|| format!("cannot list {}; run tests/rig/install", libs.display()))?;
        Ok(Self { class_path: class_path(&mut jars), classes: kafka.join("classes.jsa"), logging })
    }

    /// The command that runs the class `main`. Java passes over an archive of
    /// classes that is missing or made by another Java, and starts slower.
    pub(super) fn command(&self, main: &str) -> Command {
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-XX:SharedArchiveFile={}", self.classes.display()))
            .arg(format!("-Dlog4j2.configurationFile={}", self.logging.display()))
            .arg("-cp")
            .arg(&self.class_path)
            .arg(main);
        command
    }
}

/// The jars in the order of their names, which is the order `tests/rig/install`
/// made the archive of classes with.
fn class_path(jars: &mut [PathBuf]) -> String {
    jars.sort_unstable();
    let jars: Vec<String> = jars.iter().map(|jar| jar.display().to_string()).collect();
    jars.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jars_are_in_byte_order() {
        let mut jars = ["b.jar", "a.jar", "B.jar"].map(PathBuf::from);
        assert_eq!(class_path(&mut jars), "B.jar:a.jar:b.jar");
    }
}
