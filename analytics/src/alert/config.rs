use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingest::directory::not_to_be_had;
use ingest::registry::Fault;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use reqwest::Url;
use serde::Deserialize;

use super::transport::Transport;

/// How long a step of SMTP may take.
const STEP: Duration = Duration::from_secs(10);
const RECIPIENTS_MAX: usize = 20;

/// How alerts are sent by email.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// The SMTP server; or else [`Self::directory`].
    #[serde(default)]
    pub host: String,
    /// A directory to which emails are written as files, each by the alert's id, rather than
    /// sent.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Its port; if it is left out, 465 with `tls`, 587 with `starttls`, else 25.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is kept secret.
    #[serde(default)]
    pub security: Security,
    /// A file of certificates in PEM that are trusted besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Who logs in; nobody if it is left out.
    #[serde(default)]
    pub username: Option<String>,
    /// The file of the password, which nobody but its owner may read.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The address that emails are from.
    pub from: String,
    /// Who is written to, where neither a route nor a detection names anybody.
    pub recipients: Vec<String>,
    /// Where the console is, as its readers reach it: emails lead there; no link if it is
    /// left out.
    #[serde(default)]
    pub console_url: Option<String>,
}

/// How the connection to the SMTP server is kept secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// By TLS from the first byte.
    Tls,
    /// By TLS that begins with `STARTTLS`; without it nothing is sent.
    #[default]
    Starttls,
    /// Not at all: only to a server on this machine.
    None,
}

impl Mail {
    /// Emails as files of a directory.
    pub fn to_files(directory: PathBuf) -> Self {
        Self {
            host: String::new(),
            directory: Some(directory),
            port: None,
            security: Security::None,
            ca_file: None,
            username: None,
            password_file: None,
            from: "Weir <weir@example.org>".to_owned(),
            recipients: vec!["security@example.org".to_owned()],
            console_url: None,
        }
    }

    /// Says everything that is wrong with it, but for what only the server knows.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut add = |path: &str, what: String, mend: &str| {
            faults.push(Fault::new(format!("mail.{path}"), what, mend));
        };
        if let Err(error) = self.from.parse::<Mailbox>() {
            add(
                "from",
                format!("{:?} is no address: {error}", self.from),
                "write weir@example.org",
            );
        }
        if self.recipients.is_empty() || self.recipients.len() > RECIPIENTS_MAX {
            add("recipients", format!("{} addresses", self.recipients.len()), "give 1 to 20");
        }
        for recipient in &self.recipients {
            if let Err(error) = recipient.parse::<Mailbox>() {
                add(
                    "recipients",
                    format!("{recipient:?} is no address: {error}"),
                    "write ops@example.org",
                );
            }
        }
        if let Some(url) = &self.console_url
            && !url.parse::<Url>().is_ok_and(|url| {
                let is_plain = url.username().is_empty() && url.password().is_none();
                matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain
            })
        {
            let mend = "give it as https://weir.example.org";
            add("console_url", "is no address of a page".to_owned(), mend);
        }
        let sends = !self.host.is_empty();
        if sends == self.directory.is_some() {
            let what = if sends { "both are given" } else { "neither host nor directory is given" };
            let mend = "give host, a mail server, or directory, to which emails are written";
            add("host", what.to_owned(), mend);
        }
        if let Some(directory) = &self.directory
            && let Some(why) = not_to_be_had(directory)
        {
            add("directory", why, "name one in which this user may write");
        }
        let local = !sends || matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "::1");
        if self.security == Security::None && !local {
            let what = "emails would cross the network in clear".to_owned();
            add("security", what, "use starttls or tls, or a server on this machine");
        }
        if self.username.is_some() != self.password_file.is_some() {
            let what = "username and password_file belong together".to_owned();
            add("username", what, "give both, or neither");
        }
        if let Some(file) = &self.password_file
            && let Err(why) = secret(file)
        {
            add("password_file", why, "name a file with mode 0600 that holds the password");
        }
        if let Err(why) = self.certificate() {
            add("ca_file", why, "name a file of certificates in PEM");
        }
        faults
    }

    /// What sends by it.
    ///
    /// # Errors
    /// What is wrong with its files.
    pub(super) fn transport(&self) -> Result<Transport, String> {
        if let Some(directory) = &self.directory {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| format!("{}: {error}", directory.display()))?;
            return Ok(Transport::Files(directory.clone()));
        }
        let tls = || {
            let mut parameters = TlsParameters::builder(self.host.clone());
            if let Some(certificate) = self.certificate()? {
                parameters = parameters.add_root_certificate(certificate);
            }
            parameters.build_rustls().map_err(|error| error.to_string())
        };
        let (tls, usual) = match self.security {
            Security::Tls => (Tls::Wrapper(tls()?), 465),
            Security::Starttls => (Tls::Required(tls()?), 587),
            Security::None => (Tls::None, 25),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port.unwrap_or(usual))
            .tls(tls)
            .timeout(Some(STEP));
        if let (Some(username), Some(file)) = (&self.username, &self.password_file) {
            builder = builder.credentials(Credentials::new(username.clone(), secret(file)?));
        }
        Ok(Transport::Server(builder.build()))
    }

    fn certificate(&self) -> Result<Option<Certificate>, String> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        let pem = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let read = Certificate::from_pem(&pem);
        read.map(Some).map_err(|error| format!("{}: {error}", file.display()))
    }
}

/// What is in a file that nobody but its owner may read.
pub(super) fn secret(file: &Path) -> Result<String, String> {
    use std::os::unix::fs::PermissionsExt as _;
    let told = |error: std::io::Error| format!("{}: {error}", file.display());
    let mode = std::fs::metadata(file).map_err(told)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("{} can be read by others (mode {:o})", file.display(), mode & 0o777));
    }
    Ok(std::fs::read_to_string(file).map_err(told)?.trim_end().to_owned())
}
