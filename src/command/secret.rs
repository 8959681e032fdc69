use clap::Args;

use crate::cli::Failure;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes a client secret: shown once, here; an application keeps its hash.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let (secret, sha256) = gateway::keys::new_secret();
    if options.json {
        println!("{}", serde_json::json!({ "secret": secret, "sha256": sha256 }));
    } else {
        println!("secret  {secret}\nsha256  {sha256}\n");
        println!("Give the secret to the client; write the hash into its application's secrets.");
    }
    Ok(())
}
