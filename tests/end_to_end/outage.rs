//! The log away for a minute under traffic, and the gateway killed in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rig::Kafka;

use crate::replay::until;
use crate::weir::Weir;

/// How long the one broker is away in all, and how long of it under traffic.
const AWAY: Duration = Duration::from_secs(60);
const UNDER_TRAFFIC: Duration = Duration::from_secs(45);
const CLIENTS: usize = 3;

/// Clients that ask one request after another, until it is over: how many were answered.
struct Traffic {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    fn start(weir: &Weir, name: &str) -> Self {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let client = |number: usize| {
            let (is_over, answered): (_, Arc<AtomicUsize>) =
                (is_over.clone(), Arc::clone(&answered));
            let (http, url) = (reqwest::Client::new(), weir.gateway("/site/a"));
            let id = format!("{name}-{number}");
            tokio::spawn(async move {
                for request in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let asked =
                        http.get(&url).header("x-correlation-id", format!("{id}-{request}"));
                    if asked.send().await.is_ok_and(|answer| answer.status() == 200) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { is_over, answered, clients }
    }

    async fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_away_for_a_minute_costs_no_event() {
    let mut kafka = tokio::task::block_in_place(|| Kafka::start(1)).unwrap();
    let mut weir = Weir::new();
    weir.set("WEIR_LOG__KAFKA__BOOTSTRAP", kafka.bootstrap());
    tokio::task::block_in_place(|| weir.start(&[]));
    let traffic = Traffic::start(&weir, "before");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = traffic.answered.load(Ordering::Relaxed);
    assert!(before > 50, "{before} requests are no traffic");

    tokio::task::block_in_place(|| kafka.kill(1)).unwrap();
    let away = Instant::now();
    tokio::time::sleep(UNDER_TRAFFIC).await;
    let in_outage = traffic.answered.load(Ordering::Relaxed) - before;
    assert!(in_outage > 500, "{in_outage} requests are answered while the log is away");
    // Under traffic, with a spool that nobody has taken to the log.
    weir.kill();
    let answered = traffic.end().await;
    tokio::time::sleep(AWAY.saturating_sub(away.elapsed())).await;
    tokio::task::block_in_place(|| kafka.restart(1)).unwrap();
    tokio::task::block_in_place(|| weir.start(&[]));
    let traffic = Traffic::start(&weir, "after");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = traffic.end().await;
    assert!(after > 50, "{after} requests are no traffic");

    // What was answered has its event; what was under way at the kill may have one.
    let counts =
        "SELECT count(DISTINCT correlation_id) FILTER (WHERE kind = 'request') AS requests,
        count(*) FILTER (WHERE kind = 'request') AS events,
        count(*) FILTER (WHERE kind = 'loss') AS losses FROM events
        WHERE kind = 'loss' OR (kind = 'request' AND http_response_status_code = 200
            AND http_route LIKE '/site%')";
    let all = (answered + after) as u64;
    let found = until(&weir, counts, |found| found["requests"].as_u64() >= Some(all)).await;
    let requests = found["requests"].as_u64().unwrap();
    assert!(requests <= all + CLIENTS as u64, "{answered} and {after} were answered: {found}");
    assert_eq!((&found["events"], &found["losses"]), (&requests.into(), &0.into()), "{found}");
    let status = weir.analytics_status().await;
    let of = |name: &str| status[name].as_u64().unwrap();
    assert_eq!((of("gaps"), of("unreadable")), (0, 0), "{status}");
    weir.stop();
}
