use anyhow::Context;

use crate::cli::{Failure, Settings};
use crate::config;
use crate::example::{self, Origin, Places};
use crate::node::stop_asked;

/// Runs the services behind the bundled example, beside nodes that run elsewhere, and
/// writes its configuration, to be applied.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    let config = config::load(settings).map_err(|error| Failure::Usage(error.into()))?;
    super::start_logging().map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async {
        let origin = Origin::start(config.example.address).await?;
        let (secret, secret_sha256) = gateway::keys::new_secret();
        let mediator = config.mediator.address;
        let places = Places { origin: origin.address(), mediator, secret_sha256 };
        let dir = config.data_dir.join("example");
        let is_new = !dir.exists();
        let dir = example::write(&config.data_dir, &places)?;
        println!("The example's services are at http://{}.", origin.address());
        println!("Its configuration is in {}; weir apply takes it over.", dir.display());
        if is_new {
            println!(
                "The secret of its application {}, which is shown only now, is\n  {secret}",
                example::APPLICATION
            );
        }
        stop_asked().await
    });
    ended.map_err(Failure::Usage)
}
