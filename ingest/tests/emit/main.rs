//! The emitter under kill -9. `WEIR_KILLS` sets how often (10 if it is not set).

mod kill;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if kill::is_victim() {
        return kill::run_victim();
    }
    let trial = Trial::test("what_was_emitted_reaches_the_log_once", || {
        kill::what_was_emitted_reaches_the_log_once()
            .map_err(|error| Failed::from(format!("{error:#}")))
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
