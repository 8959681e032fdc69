use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingest::emit::{self, WhenFull};
use ingest::event::{Kind, Outcome, cloudevents};
use ingest::log::Partition;
use ingest::registry::Name;

use super::{World, message};
use crate::deliver::{Config, Delivery, Parts};
use crate::endpoint::http::Caller;

/// A target that takes everything, and counts.
pub(super) async fn target() -> (String, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let counted = count.clone();
    let app = axum::Router::new().fallback(move || {
        let counted = counted.clone();
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, count)
}

pub(super) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is().await {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} did not come about");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_spool_holds_an_attempt_back_and_loses_nothing() {
    let mut world = World::new(|config| {
        config.segment_bytes = 64 * 1024;
        config.reserve_bytes = 64 * 1024;
        config.spool_bytes_max = 3 * 64 * 1024;
        config.when_full = WhenFull::Refuse;
    })
    .await;
    let (url, taken) = target().await;
    world.put("upstream/shop", &format!(r#"{{"targets": [{{"url": "{url}"}}]}}"#)).await;
    let queue = r#"{"partitions": 1, "deliver": {"upstream": "shop", "path": "/"}}"#;
    world.put("queue/orders", queue).await;
    let orders = Name::new("orders").unwrap();
    world.queues().accept(&orders, message("m", Some("k"), "")).await.unwrap();
    loop {
        let filled = world.emitter.emit(world.emitter.event(Kind::Error, Outcome::Fault));
        if matches!(filled, Err(emit::Error::Full { .. })) {
            break;
        }
        assert!(filled.is_ok(), "{filled:?}");
    }

    let (log, view, emitter) = (world.log.clone(), world.view.clone(), world.emitter.clone());
    let (caller, clock) = (Caller::new(), world.clock.clone());
    let queues = world.queues();
    let parts = Parts { log, view, caller, emitter, clock, queues };
    let delivery = Delivery::start(Config::default(), parts);
    until("an attempt", async || taken.load(Ordering::SeqCst) == 1).await;
    let status = async || delivery.status().await[0].partitions.get(&0).copied();
    // It is written down that it was started; its end waits.
    let is_under_way = async || status().await.is_some_and(|p| p.under_way == 1);
    until("the attempt is written down", is_under_way).await;
    let committed = async || {
        let messages = Partition::new("weir.queue.orders", 0);
        world.log.committed("weir.queue.orders", &messages).await.unwrap()
    };
    assert_eq!(committed().await, Some(0), "no end is committed before it is told");

    let service = world.service.take().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = tokio::spawn(Box::pin(service.run(async move {
        let _ = stopped.await;
    })));
    until("the end is committed", async || committed().await == Some(1)).await;
    assert_eq!(taken.load(Ordering::SeqCst), 1, "it was not attempted again");
    delivery.shutdown().await;
    until("the spool is drained", async || world.emitter.metrics().lag_bytes == 0).await;
    drop(stop);
    service.await.unwrap().unwrap();
    let records = world.records(emit::TOPIC, 0).await;
    let read = |r: &ingest::log::Record| {
        cloudevents::read(r.headers.iter(), r.value.as_ref().unwrap()).unwrap().delivery_outcome
    };
    let told: Vec<_> = records.iter().filter_map(read).collect();
    assert_eq!(told, ["delivered"], "the attempt is told of once");
}
