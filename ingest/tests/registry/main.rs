//! The registry on the logs that people run: the embedded one in files, and a
//! real Kafka.
//!
//! One process, so that one Kafka serves all cases. Each case has topics of its own.

mod cases;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use world::Subject;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for subject in [Subject::Embedded, Subject::kafka()].map(Arc::new) {
        for (name, case) in cases::cases() {
            let subject = subject.clone();
            trials.push(Trial::test(format!("{}::{name}", subject.name()), move || {
                subject.run(name, case).map_err(|error| Failed::from(format!("{error:#}")))
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
