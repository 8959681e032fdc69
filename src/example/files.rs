use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The application that the example lets call.
pub(crate) const APPLICATION: &str = "web-shop";

/// The example's files, with marks where a start fills in what is its own.
const FILES: [(&str, &str); 6] = [
    ("README.md", include_str!("files/README.md")),
    ("site.yaml", include_str!("files/site.yaml")),
    ("shop.yaml", include_str!("files/shop.yaml")),
    ("shop.openapi.yaml", include_str!("files/shop.openapi.yaml")),
    ("quote.yaml", include_str!("files/quote.yaml")),
    ("order.yaml", include_str!("files/order.yaml")),
];

/// What the files are filled in with.
pub(crate) struct Places {
    pub(crate) origin: SocketAddr,
    pub(crate) mediator: SocketAddr,
    /// Of the application's secret.
    pub(crate) secret_sha256: String,
}

/// Writes the files into a folder of the data directory; answers which. Those that
/// are there are somebody's by now, and stay.
pub(crate) fn write(data_dir: &Path, places: &Places) -> Result<PathBuf> {
    let dir = data_dir.join("example");
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    for (name, text) in FILES {
        let file = dir.join(name);
        if file.exists() {
            continue;
        }
        let text = text
            .replace("@ORIGIN@", &places.origin.to_string())
            .replace("@MEDIATOR@", &places.mediator.to_string())
            .replace("@SECRET_SHA256@", &places.secret_sha256);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use ingest::registry::Snapshot;
    use ingest::registry::files::{Missing, load, plan};

    use super::*;

    #[test]
    fn the_example_is_a_right_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            origin: ([127, 0, 0, 1], 1).into(),
            mediator: ([127, 0, 0, 1], 2).into(),
            secret_sha256: "0".repeat(64),
        };
        let written = write(dir.path(), &places).unwrap();
        let wanted = load(&written, crate::node::deep_check).unwrap_or_else(|e| panic!("{e}"));
        let nothing = Snapshot::default();
        assert_eq!(plan(&wanted, &nothing, Missing::Keep).refusals(&nothing), []);
    }
}
