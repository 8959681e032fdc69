//! Nothing by itself: its dependencies have the features that the tests' dependencies
//! switch on in crates that `weir` has too. Built beside it, as `./dev run` does, the two
//! commands share one build of those crates and of all that stands on them. That the
//! lists are the same is checked in `tests/house`.
