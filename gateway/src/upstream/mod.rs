//! The services behind.

mod group;

pub(crate) use group::Group;
