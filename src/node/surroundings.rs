//! What a node finds where it is to start: the files and directories that its settings name,
//! looked at before anything is opened or made.

use std::path::Path;

use ingest::directory::not_to_be_had;
use ingest::registry::Fault;

use super::{Role, Token, analysis, passphrase};
use crate::cli::Failure;
use crate::config::{self, Config};

/// Looks at what some roles need, or all of them.
///
/// # Errors
/// Everything that is wrong, each by its setting.
pub(crate) fn check(config: &Config, wanted: Option<&[Role]>) -> Result<(), Failure> {
    let is_wanted = |role| wanted.is_none_or(|wanted| wanted.contains(&role));
    let mut faults: Vec<Fault> = directory("data_dir", &config.data_dir).into_iter().collect();
    faults.extend(own_token(&config.data_dir.join(config::TOKEN_FILE)));
    if config.gateway.replay_token_file.is_none() {
        faults.extend(own_token(&config.replay_token_file()));
    }
    if is_wanted(Role::Keys) {
        faults.extend(passphrase::fault(config));
    }
    faults.extend(analysis::faults_around(config, is_wanted));
    if !faults.is_empty() {
        return Err(Failure::Usage(config.placed(faults).into()));
    }
    analysis::check_library(config, is_wanted)
}

/// A directory that is made if it is not there.
pub(super) fn directory(setting: &str, directory: &Path) -> Option<Fault> {
    let why = not_to_be_had(directory)?;
    let what = format!("{}: {why}", directory.display());
    Some(Fault::new(setting, what, "name one in which this user may write"))
}

/// A token of the data directory, if it is there.
pub(super) fn own_token(file: &Path) -> Option<Fault> {
    let wrong = file.exists().then(|| Token::read(file).err()).flatten()?;
    let mend = "bring back what it held, or remove it, and a new one is made";
    Some(Fault::new("data_dir", format!("{wrong:#}"), mend))
}
