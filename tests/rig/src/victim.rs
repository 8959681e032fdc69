//! A test's own program, started again to be killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::Signal;

/// The environment variable that tells a victim where it dies: a failpoint, a space, and
/// with which of its passes.
const DIES_AT: &str = "WEIR_DIES_AT";
/// How often is looked whether a victim has died.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// When a victim dies.
#[derive(Debug, Clone, Copy)]
pub enum Death {
    /// After a while, wherever it is.
    After(Duration),
    /// At a failpoint, the time that it passes there for the `pass`th time, from 1; after a
    /// while, if it has not come there.
    At {
        /// The failpoint's name.
        place: &'static str,
        /// With which pass.
        pass: u64,
        /// The while.
        within: Duration,
    },
}

/// A victim's end.
#[derive(Debug)]
pub struct Died {
    /// The whole lines that it had written to its standard output. A last line without an
    /// end was cut off by the kill, and was not said.
    pub said: Vec<String>,
    /// Whether it died at the failpoint.
    pub at_place: bool,
}

/// Starts this program once more, with the environment variable `name` set to `value` to
/// tell it so, and sees it die by SIGKILL, its own or this process's.
///
/// # Errors
/// When the program cannot be started, ends before, or writes what is not text.
pub fn kill(name: &str, value: impl AsRef<OsStr>, death: Death) -> Result<Died> {
    die_as(&mut Command::new(std::env::current_exe()?), name, value, death)
}

/// The same, where this program is a harness of tests: of them it runs the one of the name
/// `test` alone, whose lines are among those of the harness.
///
/// # Errors
/// As [`kill`].
pub fn kill_in_test(
    test: &str,
    name: &str,
    value: impl AsRef<OsStr>,
    death: Death,
) -> Result<Died> {
    let mut command = Command::new(std::env::current_exe()?);
    die_as(command.args(["--exact", test, "--nocapture"]), name, value, death)
}

fn die_as(
    command: &mut Command,
    name: &str,
    value: impl AsRef<OsStr>,
    death: Death,
) -> Result<Died> {
    command.env(name, value).stdout(Stdio::piped());
    let within = match death {
        Death::After(time) => time,
        Death::At { place, pass, within } => {
            command.env(DIES_AT, format!("{place} {pass}"));
            within
        }
    };
    let mut victim = command.spawn().context("start the victim")?;
    let output = victim.stdout.take().context("its output is a pipe")?;
    let reader = std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 && line.pop() == Some(b'\n') {
            lines.push(String::from_utf8(std::mem::take(&mut line))?);
        }
        Ok(lines)
    });
    let ended = ends_within(&mut victim, within)?;
    victim.kill()?;
    victim.wait()?;
    let said: Result<Vec<String>> =
        reader.join().map_err(|_| anyhow!("the thread that reads the victim panicked"))?;
    let said = said?;
    match (ended, death) {
        (None, _) => Ok(Died { said, at_place: false }),
        (Some(status), of) if status.signal() == Some(Signal::KILL.as_raw()) => {
            Ok(Died { said, at_place: matches!(of, Death::At { .. }) })
        }
        (Some(status), _) => bail!("the victim ended by itself: {status}; it said {said:?}"),
    }
}

/// As [`kill`], after a while, or as it dies by itself: what the victim said.
///
/// # Errors
/// As [`kill`].
pub fn kill_after(name: &str, value: impl AsRef<OsStr>, time: Duration) -> Result<Vec<String>> {
    Ok(kill(name, value, Death::After(time))?.said)
}

fn ends_within(victim: &mut Child, within: Duration) -> Result<Option<ExitStatus>> {
    let began = Instant::now();
    while began.elapsed() < within {
        if let Some(status) = victim.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(None)
}

/// For a victim, before it begins: makes it die where it was told to.
///
/// # Panics
/// When what it was told cannot be understood.
pub fn prepare() {
    let Ok(told) = std::env::var(DIES_AT) else { return };
    let (place, pass) = told.split_once(' ').expect("a place and a pass");
    let pass: u64 = pass.parse().expect("a number");
    let passed = AtomicU64::new(0);
    fail::cfg_callback(place, move || {
        if passed.fetch_add(1, Ordering::Relaxed) + 1 == pass {
            die();
        }
    })
    .expect("a failpoint can be set");
}

/// Ends this process by SIGKILL: nothing is unwound, flushed or dropped.
pub fn die() -> ! {
    let killed = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    unreachable!("the process was killed: {killed:?}")
}

/// How often to kill: what `WEIR_KILLS` says, or `default`.
///
/// # Errors
/// When `WEIR_KILLS` is not a number.
pub fn kills(default: usize) -> Result<usize> {
    match std::env::var("WEIR_KILLS") {
        Ok(text) => text.parse().context("WEIR_KILLS is a number"),
        Err(_) => Ok(default),
    }
}
