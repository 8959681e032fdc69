//! Topics, as Kafka's settings say them.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::KafkaLog;
use super::error::{refused, unknown_outcome};
use crate::log::{Cleanup, Error, Result, TopicSpec};

/// A topic with three copies takes an append only if two have it.
const MIN_IN_SYNC_OF_THREE: &str = "2";
/// Kafka compacts no file that is still written to, and who takes a partition over reads all
/// of it: at Kafka's own 1 GiB that would be minutes.
const COMPACTED_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// The largest record with what Kafka puts around it.
const MESSAGE_BYTES_MAX: &str = "1100000";
/// How often to look whether a new topic is there for everybody.
const APPEARS_WAIT: Duration = Duration::from_millis(20);
/// In how many attempts the settings of a topic are asked for.
const DESCRIBE_ATTEMPTS: u32 = 3;
/// For how long the settings of a topic that was just made may be those of no topic.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn create(log: &KafkaLog, spec: &TopicSpec) -> Result<()> {
    let settings = settings(log, spec);
    let replication = log.config.replication_factor.map_or(-1, |copies| copies.get() as i32);
    let mut topic =
        NewTopic::new(&spec.name, spec.partitions as i32, TopicReplication::Fixed(replication));
    for (name, value) in &settings {
        topic = topic.set(name, value);
    }
    let created = log.admin.create_topics([&topic], &log.admin_options()).await;
    let results = created.map_err(|e| unknown_outcome("create topic", &e))?;
    match results.into_iter().next() {
        // Also where another node may have made it a moment ago.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
            wait_until_there(log, spec).await
        }
        Some(Err((name, code))) => {
            let reason = format!("kafka did not make it: {code}");
            Err(Error::InvalidTopic { name, reason })
        }
        None => Err(Error::InvalidTopic {
            name: spec.name.clone(),
            reason: "kafka did not answer for it".to_owned(),
        }),
    }
}

/// The answer comes before every broker knows the topic, and one that knows it may not
/// know its settings yet and tell its own. So what is wrong is looked at again for a while.
async fn wait_until_there(log: &KafkaLog, spec: &TopicSpec) -> Result<()> {
    let began = tokio::time::Instant::now();
    loop {
        // Not by what is remembered: it is remembered once it is right.
        let found = describe(log, &spec.name).await;
        let failed = match found.and_then(|found| found.check_same(spec)) {
            Ok(()) => {
                log.topics.lock().insert(spec.name.clone(), spec.clone());
                return Ok(());
            }
            Err(failed) => failed,
        };
        let patience = match failed {
            Error::UnknownTopic(_) => log.config.timeout,
            _ if failed.is_retryable() => log.config.timeout,
            _ => SETTLES_WITHIN,
        };
        if began.elapsed() > patience {
            return Err(failed);
        }
        tokio::time::sleep(APPEARS_WAIT).await;
    }
}

fn settings(log: &KafkaLog, spec: &TopicSpec) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_owned()),
    ];
    if log.config.replication_factor.is_some_and(|copies| copies.get() >= 3) {
        settings.push(("min.insync.replicas", MIN_IN_SYNC_OF_THREE.to_owned()));
        settings.push(("unclean.leader.election.enable", "false".to_owned()));
    }
    let is_compacted = matches!(spec.cleanup, Cleanup::Compact { .. });
    let segment_bytes =
        log.config.segment_bytes.or(is_compacted.then_some(COMPACTED_SEGMENT_BYTES));
    if let Some(bytes) = segment_bytes {
        settings.push(("segment.bytes", bytes.to_string()));
    }
    match &spec.cleanup {
        Cleanup::Retain { age, bytes } => {
            let age_ms = age.map(|age| age.as_millis());
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", or_unlimited(age_ms)));
            settings.push(("retention.bytes", or_unlimited(*bytes)));
            // Kafka removes whole files: with ten of them in the time that is
            // kept, at most a tenth more than asked for stays.
            let roll_ms = age_ms.map(|age_ms| (age_ms / 10).max(1_000));
            if let Some(roll_ms) = roll_ms {
                settings.push(("segment.ms", roll_ms.to_string()));
            }
        }
        Cleanup::Compact { tombstone_age } => {
            settings.push(("cleanup.policy", "compact".to_owned()));
            settings.push(("delete.retention.ms", tombstone_age.as_millis().to_string()));
        }
    }
    settings
}

fn or_unlimited<T: ToString>(limit: Option<T>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

pub(super) async fn describe(log: &KafkaLog, name: &str) -> Result<TopicSpec> {
    let topic = name.to_owned();
    let count = move |asker: &BaseConsumer, within: Duration| {
        let metadata = asker.fetch_metadata(Some(&topic), within)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(found.filter(|found| found.error().is_none()).map(|found| found.partitions().len()))
    };
    let partitions = match log.ask(&log.asker, "describe topic", name, count).await? {
        Some(partitions) if partitions > 0 => partitions,
        _ => return Err(Error::UnknownTopic(name.to_owned())),
    };
    let resource = [ResourceSpecifier::Topic(name)];
    // In attempts, since a request that was lost is not sent again by itself.
    let options = AdminOptions::new().request_timeout(Some(log.config.timeout / DESCRIBE_ATTEMPTS));
    let mut attempt = 1;
    let results = loop {
        match log.admin.describe_configs(&resource, &options).await {
            Ok(results) => break results,
            Err(error) => {
                let error = refused("describe topic", &error);
                if !error.is_retryable() || attempt == DESCRIBE_ATTEMPTS {
                    return Err(error);
                }
                attempt += 1;
            }
        }
    };
    let Some(Ok(resource)) = results.into_iter().next() else {
        return Err(Error::UnknownTopic(name.to_owned()));
    };
    let settings: HashMap<&str, &str> = resource
        .entries
        .iter()
        .filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
        .collect();
    let cleanup = cleanup(&settings)
        .map_err(|reason| Error::InvalidTopic { name: name.to_owned(), reason })?;
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    Ok(TopicSpec { name: name.to_owned(), partitions, cleanup })
}

fn cleanup(settings: &HashMap<&str, &str>) -> Result<Cleanup, String> {
    let setting = |name: &str| settings.get(name).copied().unwrap_or_default();
    if setting("message.timestamp.type") != "LogAppendTime" {
        return Err("its message.timestamp.type has to be LogAppendTime, since times that \
                    writers choose would decide what retention removes"
            .to_owned());
    }
    let limit = |name: &str| setting(name).parse::<u64>().ok();
    match setting("cleanup.policy") {
        "delete" => Ok(Cleanup::Retain {
            age: limit("retention.ms").map(Duration::from_millis),
            bytes: limit("retention.bytes"),
        }),
        "compact" => Ok(Cleanup::Compact {
            tombstone_age: Duration::from_millis(limit("delete.retention.ms").unwrap_or(0)),
        }),
        other => Err(format!("its cleanup.policy is {other:?}, it has to be delete or compact")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_others_are_understood_or_refused() {
        let check = |settings: &[(&'static str, &'static str)], expected: Option<Cleanup>| {
            let settings = settings.iter().copied().collect();
            assert_eq!(cleanup(&settings).ok(), expected, "{settings:?}");
        };
        let time = ("message.timestamp.type", "LogAppendTime");
        let minute = Duration::from_secs(60);
        check(
            &[time, ("cleanup.policy", "delete"), ("retention.ms", "60000")],
            Some(Cleanup::Retain { age: Some(minute), bytes: None }),
        );
        check(
            &[time, ("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "9")],
            Some(Cleanup::Retain { age: None, bytes: Some(9) }),
        );
        check(
            &[time, ("cleanup.policy", "compact"), ("delete.retention.ms", "60000")],
            Some(Cleanup::Compact { tombstone_age: minute }),
        );
        check(&[time, ("cleanup.policy", "compact,delete")], None);
        check(&[("message.timestamp.type", "CreateTime"), ("cleanup.policy", "delete")], None);
    }
}
