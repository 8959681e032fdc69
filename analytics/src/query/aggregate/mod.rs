//! Aggregates of our own, whose answer does not depend on how rows were batched, merged or
//! ordered: their state is of whole numbers, and merging it adds them.

mod percentile;
mod spread;

use datafusion::prelude::SessionContext;

pub(super) use self::percentile::{NAME as APPROX_PERCENTILE, is_share};
pub(super) use self::spread::NAMES as SPREADS;

/// Makes them known to a session.
pub(super) fn register(session: &SessionContext) {
    for function in spread::all() {
        session.register_udaf(function);
    }
    session.register_udaf(percentile::approx_percentile());
}
