//! Where `tests/rig/install` puts what it downloads.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// The folder of one installed server, such as `kafka-4.4.0`. `title` is its name
/// in the error that asks to install it.
pub(crate) fn folder(name: &str, title: &str) -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let rig = variable("WEIR_RIG_DIR").or_else(|| {
        variable("XDG_CACHE_HOME")
            .or_else(|| Some(variable("HOME")?.join(".cache")))
            .map(|cache| cache.join("weir-rig"))
    });
    let Some(rig) = rig else {
        bail!("cannot tell where {title} is installed; set HOME or WEIR_RIG_DIR");
    };
    let folder = rig.join(name);
    if !folder.is_dir() {
        bail!("{title} is not installed in {}; run tests/rig/install", folder.display());
    }
    Ok(folder)
}
