use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, anyhow};
use clap::Args;
use ingest::scram::{ITERATIONS, Verifier};

use crate::cli::Failure;

/// How long a password of a user is, in characters.
const PASSWORD_MIN: usize = 12;
const PASSWORD_MAX: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Read a password of a user from the first line of standard input instead, and print
    /// what the registry keeps of it
    #[arg(long)]
    password: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes a secret of a client, or a key of a user: shown once, here; the registry keeps its
/// hash. Or what it keeps of a password.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if options.password {
        return password(options.json);
    }
    let (secret, sha256) = gateway::keys::new_secret();
    if options.json {
        println!("{}", serde_json::json!({ "secret": secret, "sha256": sha256 }));
    } else {
        println!("secret  {secret}\nsha256  {sha256}\n");
        println!(
            "Give the secret to the client; write the hash into its application's secrets, or \
             its user's keys."
        );
    }
    Ok(())
}

fn password(json: bool) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() {
        eprintln!("The password; it is shown while it is typed:");
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("read the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    let usage = |what: String| Err(Failure::Usage(anyhow!("the password {what}")));
    let length = password.chars().count();
    if !(PASSWORD_MIN..=PASSWORD_MAX).contains(&length) {
        let range = format!("{PASSWORD_MIN} to {PASSWORD_MAX}");
        return usage(format!("has {length} characters; give {range} on one line"));
    }
    if !password.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return usage("has characters that not all clients send alike; use ASCII".to_owned());
    }
    if password.starts_with("weirs_") {
        return usage("begins as keys do; write the hash of a key into the user's keys".to_owned());
    }
    let kept = Verifier::of(password, ITERATIONS).to_string();
    if json {
        println!("{}", serde_json::json!({ "password": kept }));
    } else {
        println!("password  {kept}\n");
        println!("Write it into the user's password, in quotes.");
    }
    Ok(())
}
