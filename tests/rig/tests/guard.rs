//! A guarded server ends with its holder, however the holder ends.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests as well

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rig::Guarded;
use tempfile::TempDir;

/// Names the log of the server that [`hold`] holds, in the process that is to die.
const HOLD: &str = "RIG_TEST_HOLD";

/// A server with a child: it prints the child's process id, and waits for it.
fn parent_and_child() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 600 & echo $!; wait"]);
    command
}

fn log() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("server.log");
    (folder, log)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "still waiting until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn first_number(log: &Path) -> u32 {
    until("the server prints its child's id", || {
        fs::read_to_string(log).ok()?.strip_suffix('\n')?.parse().ok()
    })
}

/// A process that nobody has waited for yet is gone as well.
fn is_gone(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.map_or(true, |stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

fn await_gone(pid: u32) {
    until(&format!("process {pid} is gone"), || is_gone(pid).then_some(()));
}

/// Not a test by itself: the holder that the next test kills.
#[test]
fn hold() {
    let Some(log) = env::var_os(HOLD) else { return };
    let server = Guarded::start(&parent_and_child(), Path::new(&log)).unwrap();
    println!("\nserver {}", server.pid());
    thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_holder_takes_its_server_along() {
    let (_folder, log) = log();
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--exact", "hold", "--nocapture"])
        .env(HOLD, &log)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let server: u32 = lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("server ").map(|pid| pid.parse().unwrap()))
        .unwrap();
    let child = first_number(&log);
    assert!(!is_gone(server) && !is_gone(child));

    holder.kill().unwrap();
    holder.wait().unwrap();
    await_gone(server);
    await_gone(child);
}

#[test]
fn dropping_kills_the_server_and_its_children() {
    let (_folder, log) = log();
    let server = Guarded::start(&parent_and_child(), &log).unwrap();
    let (pid, child) = (server.pid(), first_number(&log));
    drop(server);
    assert!(is_gone(pid), "the server is gone when the drop is done");
    await_gone(child);
}

#[test]
fn a_server_that_ends_leaves_no_children() {
    let (_folder, log) = log();
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 600 & echo $!"]);
    let mut server = Guarded::start(&command, &log).unwrap();
    until("it has ended", || server.exited().unwrap());
    await_gone(first_number(&log));
}

#[test]
fn a_stopped_server_may_finish_its_work() {
    let (_folder, log) = log();
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap 'echo finished; exit' TERM; echo ready; while :; do sleep 0.01; done"]);
    let server = Guarded::start(&command, &log).unwrap();
    until("it is ready", || fs::read_to_string(&log).ok()?.contains("ready").then_some(()));
    server.stop().unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), "ready\nfinished\n");
}

#[test]
fn a_server_that_ends_shows_its_status_and_its_log() {
    let (_folder, log) = log();
    let mut command = Command::new("sh");
    command.args(["-c", "echo $WORD >&2; exit 7"]).env("WORD", "sorry");
    let mut server = Guarded::start(&command, &log).unwrap();
    let status = until("it has ended", || server.exited().unwrap());
    assert_eq!(status.code(), Some(7));
    assert_eq!(server.log_tail(), "--- end of server.log\nsorry");
}

#[test]
fn a_command_that_does_not_exist_is_named_in_the_log() {
    let (_folder, log) = log();
    let mut server = Guarded::start(&Command::new("no-such-server"), &log).unwrap();
    until("it has ended", || server.exited().unwrap());
    assert!(server.log_tail().contains("no-such-server"), "{}", server.log_tail());
}
