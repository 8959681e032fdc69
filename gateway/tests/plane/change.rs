//! No request is lost: under a change of the configuration, a stop, and load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::origin::Origin;
use crate::world::{ANY, PATIENCE, World, ask, get, said, shop, told};

/// A client that keeps its connection as long as it may.
struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    /// Whether a request was answered 200; false if no connection is taken any more,
    /// or a new one was reset without a word, as in the instant in which a port closes.
    async fn call(&mut self) -> bool {
        let is_new = self.stream.is_none();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => match TcpStream::connect(self.address).await {
                Ok(stream) => self.stream.insert(stream),
                Err(_) => return false,
            },
        };
        let request = b"GET /shop/1/x HTTP/1.1\r\nhost: a\r\n\r\n";
        match stream.write_all(request).await {
            Err(_) if is_new => return false,
            written => written.unwrap(),
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nhello") {
            let read = match stream.read_buf(&mut answer).await {
                Err(_) if is_new && answer.is_empty() => return false,
                read => read.unwrap(),
            };
            assert!(read > 0, "broken off: {:?}", String::from_utf8_lossy(&answer));
        }
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(said(&answer), "200");
        if answer.contains("connection: close") {
            self.stream = None;
        }
        true
    }
}

/// Clients that call, half of them with pauses, until `done` or nobody listens; how often they did.
fn load(address: SocketAddr, done: &Arc<AtomicBool>, count: &Arc<AtomicUsize>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for i in 0..16 {
        let (done, count) = (done.clone(), count.clone());
        clients.spawn(async move {
            let mut client = Client { address, stream: None };
            while !done.load(Ordering::Relaxed) && client.call().await {
                count.fetch_add(1, Ordering::Relaxed);
                if i % 2 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    clients
}

async fn reach(count: &AtomicUsize, wanted: usize) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while count.load(Ordering::Relaxed) < wanted {
        assert!(std::time::Instant::now() < deadline, "no more requests");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_under_load_loses_no_request_and_each_sees_one_configuration() {
    let world = World::new().await;
    let other = Origin::start().await;
    let gateway = world.start().await;
    let (done, count) = (Arc::default(), Arc::<AtomicUsize>::default());
    let clients = load(gateway.addresses()[0], &done, &count);
    let addresses = [other.address, world.origin.address];
    for (i, id) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        reach(&count, count.load(Ordering::Relaxed) + 100).await;
        let address = addresses[i % 2];
        world
            .replace(
                id,
                "upstream/u",
                &format!(r#"{{"targets": [{{"url": "http://{address}"}}]}}"#),
            )
            .await;
    }
    reach(&count, count.load(Ordering::Relaxed) + 200).await;
    done.store(true, Ordering::Relaxed);
    clients.join_all().await;
    let count = count.load(Ordering::Relaxed);
    assert_eq!(world.origin.count() + other.count(), count, "one at the origins for each");
    assert!(world.origin.count() > 0 && other.count() > 0);
    let events = world.stop(gateway).await;
    assert_eq!(events.len(), count, "one event for each");
    let mut seen = std::collections::BTreeSet::new();
    for event in &events {
        assert_eq!(told(event), "success");
        let hash = event.config_hash.as_deref().unwrap().to_owned();
        seen.insert((hash, event.upstream_address.as_deref().unwrap().to_owned()));
    }
    let hashes: std::collections::BTreeSet<_> = seen.iter().map(|(hash, _)| hash).collect();
    assert_eq!(hashes.len(), seen.len(), "one configuration, one target: {seen:?}");
    assert_eq!(hashes.len(), 2, "the configuration goes back and forth between two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_no_request() {
    let world = World::new().await;
    let gateway = world.start().await;
    let address = gateway.addresses()[0];
    let (done, count) = (Arc::default(), Arc::<AtomicUsize>::default());
    let clients = load(address, &done, &count);
    let slow = tokio::spawn(async move { get(address, "/shop/1/slow-700").await });
    reach(&count, 500).await;
    let idle = TcpStream::connect(address).await.unwrap();
    let events = world.stop(gateway).await;
    assert_eq!(said(&slow.await.unwrap()), "200", "what is under way is finished");
    clients.join_all().await;
    let count = count.load(Ordering::Relaxed) + 1;
    assert_eq!(world.origin.count(), count, "what was reset was not read");
    assert_eq!(events.len(), count, "all events are in the log before the stop ends");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_serves_the_connections_that_wait_to_be_accepted() {
    let world = World::new().await;
    // Also those for which there is no place while others are served.
    let gateway = world.start_with(|config| config.limits.connections_max = 10).await;
    let address = gateway.addresses()[0];
    let request = b"GET /shop/1/x HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut streams = Vec::new();
    for _ in 0..300 {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, request).unwrap();
        streams.push(stream);
    }
    let events = world.stop(gateway).await;
    for mut stream in streams {
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert_eq!(said(&answer), "200");
    }
    assert_eq!((events.len(), world.origin.count()), (300, 300));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_cuts_off_what_does_not_end_in_time() {
    let world = World::new().await;
    let gateway = world.start_with(|config| config.timeouts.drain_ms = 200).await;
    let address = gateway.addresses()[0];
    let slow = tokio::spawn(async move { get(address, "/shop/1/slow-20000").await });
    reach_origin(&world, 1).await;
    let begun = std::time::Instant::now();
    let events = world.stop(gateway).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(slow.await.unwrap(), "");
    let told: Vec<String> = events.iter().map(|event| told(event)).collect();
    assert_eq!(told, ["unavailable stopped"], "also what was cut off has its event");
}

async fn reach_origin(world: &World, wanted: usize) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.origin.count() < wanted {
        assert!(std::time::Instant::now() < deadline, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_has_all_it_can_hold_says_so() {
    let world = World::empty().await;
    let upstream = world.upstream("");
    world.put("first", &[&upstream, &shop("", ANY)]).await;
    let gateway = world
        .start_with(|config| {
            config.threads = 1;
            config.limits.requests_max = 1;
        })
        .await;
    let address = gateway.addresses()[0];
    let slow = tokio::spawn(async move { get(address, "/shop/1/slow-700").await });
    reach_origin(&world, 1).await;
    let refused =
        ask(address, "GET /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(said(&refused), "503 overloaded");
    assert_eq!(said(&slow.await.unwrap()), "200");
    let told: Vec<String> = world.stop(gateway).await.iter().map(|event| told(event)).collect();
    assert_eq!(told, ["unavailable overloaded", "success"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_to_which_nobody_comes_keep_no_place() {
    let world = World::new().await;
    let gateway = world
        .start_with(|config| {
            config.threads = 1;
            config.limits.connections_max = 1;
            config.listeners = vec![config.listeners[0].clone(); 3];
        })
        .await;
    for address in gateway.addresses() {
        assert_eq!(said(&get(*address, "/shop/1/x").await), "200");
    }
    assert_eq!(world.stop(gateway).await.len(), 3);
}
