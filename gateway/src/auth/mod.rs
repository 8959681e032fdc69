//! Who calls, and what a caller may do.

mod caller;
mod deny;
mod networks;
mod subscriptions;

pub use caller::{Caller, Denied, challenge};
pub use deny::{DenyRules, Facts, Rule};
pub use networks::Networks;
pub use subscriptions::{Held, Subscriptions};
