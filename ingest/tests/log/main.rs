//! The log's contract, on every implementation, and the embedded log under kill -9.
//!
//! One process, so that one Kafka serves all cases. `WEIR_KILLS` sets how often
//! the writer is killed (25 if it is not set).

mod cluster;
mod contract;
mod kill;
mod subject;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use subject::Subject;

fn main() -> ExitCode {
    if kill::is_victim() {
        return kill::run_victim();
    }
    let arguments = Arguments::from_args();
    let subjects = [Subject::memory(), Subject::embedded(), Subject::kafka()].map(Arc::new);
    let mut trials = Vec::new();
    for subject in subjects {
        let mut cases = contract::cases();
        if subject.is_durable() {
            cases.extend(contract::durable_cases());
        }
        for (name, case) in cases {
            let subject = subject.clone();
            trials.push(Trial::test(format!("{}::{name}", subject.name()), move || {
                subject.run(name, case).map_err(|error| Failed::from(format!("{error:#}")))
            }));
        }
    }
    trials.push(Trial::test("embedded::what_was_acknowledged_survives_kill_9", || {
        kill::what_was_acknowledged_survives().map_err(|error| Failed::from(format!("{error:#}")))
    }));
    trials.push(Trial::test("kafka::three_brokers_are_as_good_as_one", || {
        cluster::run().map_err(|error| Failed::from(format!("{error:#}")))
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}
