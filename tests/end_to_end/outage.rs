//! The log away for a minute under traffic, and gateways killed in it: one that is alone
//! in its process comes back at once, one with the other roles when the log does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rig::Kafka;

use crate::replay::until;
use crate::weir::{PATIENCE, Weir};

/// How long the one broker is away.
const AWAY: Duration = Duration::from_secs(60);
/// When the first gateway is killed, and when the second.
const KILLED_AFTER: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(45)];
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
    let (mut weir, mut edge) = (Weir::new(), Weir::new());
    for node in [&mut weir, &mut edge] {
        node.set("WEIR_LOG__KAFKA__BOOTSTRAP", kafka.bootstrap());
    }
    edge.set("WEIR_NODE", "edge");
    tokio::task::block_in_place(|| {
        weir.start(&[]);
        edge.start_gateway();
    });
    let both = [Traffic::start(&weir, "whole"), Traffic::start(&edge, "edge")];
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = both.each_ref().map(|traffic| traffic.answered.load(Ordering::Relaxed));
    assert!(before.iter().all(|&before| before > 50), "{before:?} requests are no traffic");

    tokio::task::block_in_place(|| kafka.kill(1)).unwrap();
    let away = Instant::now();
    let until_away = |of: Duration| tokio::time::sleep(of.saturating_sub(away.elapsed()));
    // Alone, with a spool that nobody has taken to the log; it starts from what it kept.
    until_away(KILLED_AFTER[0]).await;
    edge.kill();
    let [whole, at_edge] = both;
    let mut answered = at_edge.end().await;
    tokio::task::block_in_place(|| edge.start_gateway());
    let at_edge = Traffic::start(&edge, "edge-again");
    until_away(KILLED_AFTER[1]).await;
    let in_outage = whole.answered.load(Ordering::Relaxed) - before[0];
    assert!(in_outage > 500, "{in_outage} requests are answered while the log is away");
    let after_start = at_edge.answered.load(Ordering::Relaxed);
    assert!(after_start > 200, "{after_start} requests are answered after a start without a log");
    weir.kill();
    answered += whole.end().await;

    until_away(AWAY).await;
    tokio::task::block_in_place(|| kafka.restart(1)).unwrap();
    tokio::task::block_in_place(|| weir.start(&[]));
    let whole = Traffic::start(&weir, "whole-again");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = whole.end().await;
    assert!(after > 50, "{after} requests are no traffic");
    answered += after + at_edge.end().await;

    // What was answered has its event; what was under way at a kill may have one.
    let counts =
        "SELECT count(DISTINCT correlation_id) FILTER (WHERE kind = 'request') AS requests,
        count(*) FILTER (WHERE kind = 'request') AS events,
        count(*) FILTER (WHERE kind = 'loss') AS losses FROM events
        WHERE kind = 'loss' OR (kind = 'request' AND http_response_status_code = 200
            AND http_route LIKE '/site%')";
    let all = answered as u64;
    let found = until(&weir, counts, |found| found["requests"].as_u64() >= Some(all)).await;
    let requests = found["requests"].as_u64().unwrap();
    assert!(requests <= all + 2 * CLIENTS as u64, "{answered} were answered: {found}");
    assert_eq!((&found["events"], &found["losses"]), (&requests.into(), &0.into()), "{found}");
    let status = weir.analytics_status().await;
    let of = |name: &str| status[name].as_u64().unwrap();
    assert_eq!((of("gaps"), of("unreadable")), (0, 0), "{status}");

    // The gateway that started without a log follows it again.
    let api = "kind: api\nname: late\nspec: {context: /late, version: '1', default_version: true, \
               lifecycle: published, upstream: site, authentication: [none], \
               resources: [{methods: [GET], path: '/*'}]}\n";
    let (code, said) = weir.run(&["apply", &weir.write("more", &[("late.yaml", api)])]);
    assert_eq!(code, 0, "{said}");
    let began = Instant::now();
    while weir.client.get(edge.gateway("/late/a")).send().await.unwrap().status() != 200 {
        assert!(began.elapsed() < PATIENCE, "the gateway does not follow the log: {}", edge.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    edge.stop();
    weir.stop();
}
