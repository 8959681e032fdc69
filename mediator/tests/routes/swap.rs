//! A change of a route under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ingest::event::Kind;

use crate::service::echo;
use crate::world::{PATIENCE, World};

const CALLERS: usize = 8;
const CHANGES: usize = 10;

fn yaml(url: &str, version: usize) -> String {
    format!(
        "kind: upstream\nname: orders\nspec: {{targets: [{{url: {url}}}]}}\n---\n\
         kind: route\nname: orders\nspec:\n  from: {{http: {{methods: [GET], path: /in}}}}\n  steps:\n    \
         - call: {{upstream: orders, method: GET, path: /v{version}}}\n    \
         - transform: '{{called: .target, by: \"/v{version}\"}}'\n"
    )
}

/// Each answer is of one plan, none is lost, and load, origin and log agree on how
/// many there were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_loses_nothing() {
    let service = echo().await;
    let mut world = World::new(&yaml(&service.url, 0)).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (http, url) = (world.http.clone(), world.url("/in"));
            let (stop, sent) = (stop.clone(), sent.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    sent.fetch_add(1, Ordering::SeqCst);
                    let answer = http.get(&url).send().await.unwrap();
                    assert_eq!(answer.status(), 200);
                    let said: serde_json::Value =
                        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                    assert_eq!(said["called"], said["by"], "one plan from beginning to end");
                }
            })
        })
        .collect();
    for version in 1..=CHANGES {
        world.put(&yaml(&service.url, version)).await;
        // Until this node runs by it, which a request of ours tells.
        let wanted = format!("/v{version}");
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            assert!(std::time::Instant::now() < deadline, "the plan was not swapped");
            sent.fetch_add(1, Ordering::SeqCst);
            let answer = world.http.get(world.url("/in")).send().await.unwrap();
            let said: serde_json::Value =
                serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            if said["by"] == wanted {
                break;
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    let sent = sent.load(Ordering::SeqCst);
    assert_eq!(service.requests.load(Ordering::SeqCst), sent);
    let events = world.events(Kind::Route, sent).await;
    let count = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((count(Kind::Route), count(Kind::Step)), (sent, 2 * sent));
}
