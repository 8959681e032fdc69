//! In the place of `analysis.rs`, in a program without the feature `analytics`.

use std::net::SocketAddr;

use anyhow::Result;
use ingest::registry::{EntityKey, Fault, Spec};

use super::{Ground, Role, Token};
use crate::cli::Failure;
use crate::config::Config;

/// No roles.
#[derive(Default)]
pub(super) struct Analysis;

impl Analysis {
    pub(super) async fn start_lake(
        &mut self,
        _: &Config,
        _: &Ground,
        _: &Token,
        _: &[Role],
    ) -> Result<()> {
        Ok(())
    }

    pub(super) async fn start_console(
        &mut self,
        _: &Config,
        _: &Ground,
        _: &Token,
        _: Option<SocketAddr>,
        _: &[Role],
    ) -> Result<()> {
        Ok(())
    }

    pub(super) fn addresses(&self) -> [(&'static str, Option<SocketAddr>); 0] {
        []
    }

    pub(super) fn postgres_address(&self) -> Option<SocketAddr> {
        None
    }

    pub(super) fn flight_address(&self) -> Option<SocketAddr> {
        None
    }

    pub(super) fn console_token(&self) -> Option<&Token> {
        None
    }

    pub(super) async fn stop_console(&mut self) {}

    pub(super) async fn stop_lake(&mut self) {}
}

pub(crate) fn faults(_: &Config) -> Vec<(&'static str, Vec<Fault>)> {
    Vec::new()
}

pub(crate) fn faults_around(_: &Config, _: impl Fn(Role) -> bool) -> Vec<Fault> {
    Vec::new()
}

pub(crate) fn deep_check(_: &EntityKey, _: &Spec) -> Result<(), Vec<Fault>> {
    Ok(())
}

pub(crate) fn check_library(_: &Config, _: impl Fn(Role) -> bool) -> Result<(), Failure> {
    Ok(())
}

pub(crate) fn ports(_: &Config, _: &[Role]) -> Vec<(&'static str, SocketAddr)> {
    Vec::new()
}
