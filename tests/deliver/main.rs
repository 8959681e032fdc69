//! Reliable delivery through a real target, on both logs, and under kill -9.
//!
//! One process, so that one Kafka serves all cases. `WEIR_KILLS` sets how often
//! the delivering process is killed (25 if it is not set).

mod account;
mod cases;
mod checker;
mod control;
mod dead;
mod history;
mod kill;
mod parked;
mod poison;
mod receiver;
mod restart;
mod schedule;
mod target;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use world::Subject;

type Alone = (&'static str, fn() -> anyhow::Result<()>);

/// Those that are of no one log.
fn cases() -> Vec<Alone> {
    vec![
        ("checker::what_is_broken_is_found", checker::broken::is_found),
        (
            "three_brokers::what_was_accepted_is_delivered_or_dead_after_kill_9",
            kill::on_three_brokers,
        ),
    ]
}

fn main() -> ExitCode {
    if kill::is_victim() {
        return kill::run_victim();
    }
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for subject in [Subject::Embedded, Subject::kafka()].map(Arc::new) {
        let cases = [
            cases::cases(),
            control::cases(),
            dead::cases(),
            history::cases(),
            parked::cases(),
            restart::cases(),
            schedule::cases(),
            target::cases(),
        ]
        .concat();
        for (name, case) in cases {
            let subject = subject.clone();
            trials.push(Trial::test(format!("{}::{name}", subject.name()), move || {
                subject.run(name, case).map_err(|error| Failed::from(format!("{error:#}")))
            }));
        }
        for (name, case) in [kill::cases(&subject), poison::cases(&subject)].concat() {
            let subject = subject.clone();
            trials.push(Trial::test(format!("{}::{name}", subject.name()), move || {
                case(&subject).map_err(|error| Failed::from(format!("{error:#}")))
            }));
        }
    }
    for (name, case) in cases() {
        trials.push(Trial::test(name, move || {
            case().map_err(|error| Failed::from(format!("{error:#}")))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
