//! A node's `server.properties`.

use std::fmt::Write as _;
use std::path::Path;

/// What every node is set to, whatever the cluster.
const EVERY_NODE: &str = include_str!("../../kafka/broker.properties");

/// The two ports of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) clients: u16,
    pub(super) controller: u16,
}

/// The settings of the node `id`, one of the nodes 1, 2 and so on that `ports`
/// lists. Three copies of a topic are the most, of which two must be written.
pub(super) fn properties(id: usize, ports: &[Ports], data: &Path) -> String {
    let copies = ports.len().min(3);
    let written = if copies == 3 { 2 } else { 1 };
    let own = ports[id - 1];
    let voters: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(at, ports)| format!("{}@127.0.0.1:{}", at + 1, ports.controller))
        .collect();

    let mut text = EVERY_NODE.to_owned();
    let mut set = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{name}={value}").expect("a string takes all that is written");
    };
    set("node.id", &id);
    set(
        "listeners",
        &format!("PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}", own.clients, own.controller),
    );
    set("controller.quorum.voters", &voters.join(","));
    set("log.dirs", &data.display());
    set("default.replication.factor", &copies);
    set("min.insync.replicas", &written);
    for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.replication.factor"), &copies);
    }
    for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.min.isr"), &written);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(brokers: u16, lines: &[&str]) {
        let ports: Vec<Ports> =
            (1..=brokers).map(|id| Ports { clients: 100 + id, controller: 200 + id }).collect();
        let text = properties(1, &ports, Path::new("data"));
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn copies_follow_from_the_number_of_brokers() {
        check(
            1,
            &[
                "node.id=1",
                "listeners=PLAINTEXT://127.0.0.1:101,CONTROLLER://127.0.0.1:201",
                "controller.quorum.voters=1@127.0.0.1:201",
                "log.dirs=data",
                "offsets.topic.replication.factor=1",
                "min.insync.replicas=1",
            ],
        );
        check(
            2,
            &["transaction.state.log.replication.factor=2", "transaction.state.log.min.isr=1"],
        );
        check(
            3,
            &[
                "controller.quorum.voters=1@127.0.0.1:201,2@127.0.0.1:202,3@127.0.0.1:203",
                "offsets.topic.replication.factor=3",
                "transaction.state.log.min.isr=2",
                "min.insync.replicas=2",
            ],
        );
        check(5, &["default.replication.factor=3", "min.insync.replicas=2"]);
    }
}
