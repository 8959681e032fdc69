//! The program from outside: its commands, its ports, its files.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod alerts;
mod analytics;
mod browser;
mod cluster;
mod collector;
mod commands;
mod console;
mod decisions;
mod deliveries;
mod disk;
mod documents;
mod doors;
mod example;
mod kill;
mod outage;
mod postgres;
mod queries;
mod queues;
mod redaction;
mod replay;
mod search;
mod users;
mod weir;
