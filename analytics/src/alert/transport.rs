use std::path::PathBuf;

use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

/// Where emails go.
#[derive(Debug)]
pub(super) enum Transport {
    /// To a mail server.
    Server(AsyncSmtpTransport<Tokio1Executor>),
    /// To files in a directory.
    Files(PathBuf),
}

/// An email that did not go.
#[derive(Debug)]
pub(super) struct Failed {
    /// The error with its causes.
    pub(super) why: String,
    /// Whether it is of no use to try again.
    pub(super) is_permanent: bool,
}

impl Transport {
    /// What it is called in events.
    pub(super) fn channel(&self) -> &'static str {
        match self {
            Self::Server(_) => "email",
            Self::Files(_) => "file",
        }
    }

    /// Sends an email, or writes it: to the file `NAME.eml`, anew if it is there.
    pub(super) async fn send(&self, message: &Message, name: &str) -> Result<(), Failed> {
        match self {
            Self::Server(server) => {
                let sent = server.send(message.clone()).await;
                sent.map(drop).map_err(|error| Failed {
                    why: told(&error),
                    is_permanent: error.is_permanent() && !is_of_login(&error),
                })
            }
            Self::Files(directory) => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._@".contains(c);
                let name: String =
                    name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
                let (draft, file) = (format!("{name}.draft"), format!("{name}.eml"));
                let (draft, file) = (directory.join(draft), directory.join(file));
                let written = match tokio::fs::write(&draft, message.formatted()).await {
                    Ok(()) => tokio::fs::rename(&draft, &file).await,
                    failed => failed,
                };
                written.map_err(|error| Failed {
                    why: format!("{}: {error}", file.display()),
                    is_permanent: false,
                })
            }
        }
    }
}

/// Whether the server does not let us in (RFC 4954, section 6): somebody will mend that, and
/// it says nothing of the email.
fn is_of_login(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538))
}

/// An error with its causes.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(of) = cause {
        let of_text = of.to_string();
        if !text.contains(&of_text) {
            text = format!("{text}: {of_text}");
        }
        cause = of.source();
    }
    text
}
