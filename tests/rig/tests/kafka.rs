//! The rig's Kafka is a real one: it keeps its data, and its nodes form a quorum.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests as well

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rig::Kafka;

const CREATE_TOPICS: [u8; 4] = [0, 19, 0, 2];
const METADATA: [u8; 4] = [0, 3, 0, 1];

/// Sends one request (key and version, then its body) and gives the answer's body.
fn ask(address: &str, api: [u8; 4], body: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = (body.len() as u32 + 10).to_be_bytes().to_vec();
    request.extend(api);
    request.extend(b"\0\0\0\0\xff\xff");
    request.extend(body);
    stream.write_all(&request)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4))
}

/// Creates a topic of one partition and gives Kafka's error code. Any broker
/// takes the request and forwards it to the controller.
fn create_topic(address: &str, name: &str, copies: u8) -> i16 {
    let mut body = b"\0\0\0\x01\0".to_vec();
    body.push(name.len() as u8);
    body.extend(name.as_bytes());
    body.extend([0, 0, 0, 1, 0, copies]);
    body.extend(b"\0\0\0\0\0\0\0\0\0\0\x27\x10\0");
    let answer = ask(address, CREATE_TOPICS, &body).unwrap();
    let error = &answer[4 + 4 + 2 + name.len()..];
    i16::from_be_bytes([error[0], error[1]])
}

fn knows_topic(address: &str, name: &str) -> bool {
    let every_topic = (-1_i32).to_be_bytes();
    let answer = ask(address, METADATA, &every_topic).unwrap();
    answer.windows(name.len()).any(|part| part == name.as_bytes())
}

fn await_topic(address: &str, name: &str) {
    let begun = Instant::now();
    while !knows_topic(address, name) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{address} does not learn of {name}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(brokers: usize) -> Kafka {
    let begun = Instant::now();
    let kafka = Kafka::start(brokers).unwrap();
    println!("{brokers} brokers ready after {:?}", begun.elapsed());
    kafka
}

fn restart(kafka: &mut Kafka, node: usize) {
    let begun = Instant::now();
    kafka.restart(node).unwrap();
    println!("node {node} back after {:?}", begun.elapsed());
}

#[test]
fn a_killed_broker_comes_back_with_its_data() {
    let mut kafka = start(1);
    let address = kafka.bootstrap();
    assert_eq!(create_topic(&address, "orders", 1), 0);
    await_topic(&address, "orders");

    kafka.kill(1).unwrap();
    assert!(TcpStream::connect(&address).is_err(), "nothing listens after a kill");
    restart(&mut kafka, 1);
    assert_eq!(kafka.bootstrap(), address);
    await_topic(&address, "orders");

    // A restart of a running node stops it in good order first.
    restart(&mut kafka, 1);
    await_topic(&address, "orders");
}

#[test]
fn three_brokers_form_a_quorum_that_bears_the_loss_of_one() {
    let mut kafka = start(3);
    let bootstrap = kafka.bootstrap();
    let addresses: Vec<&str> = bootstrap.split(',').collect();
    assert_eq!(create_topic(addresses[0], "orders", 3), 0);
    for address in &addresses {
        await_topic(address, "orders");
    }

    kafka.kill(1).unwrap();
    assert_eq!(create_topic(addresses[1], "parcels", 2), 0);
    await_topic(addresses[2], "parcels");
    restart(&mut kafka, 1);
    await_topic(addresses[0], "parcels");

    let begun = Instant::now();
    kafka.stop(3).unwrap();
    println!("node 3 stopped after {:?}", begun.elapsed());
    restart(&mut kafka, 3);
    await_topic(addresses[2], "orders");
}

/// What the rig looks for at a start, to try again on other ports.
#[test]
fn a_taken_port_shows_in_the_error() {
    let mut kafka = start(1);
    kafka.kill(1).unwrap();
    let _taken = TcpListener::bind(kafka.bootstrap()).unwrap();
    let error = kafka.restart(1).unwrap_err();
    assert!(error.to_string().contains("Address already in use"), "{error}");
}

#[test]
fn an_absent_node_is_named() {
    let mut kafka = start(1);
    let error = kafka.kill(2).unwrap_err();
    assert_eq!(error.to_string(), "there is no Kafka node 2, only 1 to 1");
    kafka.kill(1).unwrap();
    let error = kafka.stop(1).unwrap_err();
    assert_eq!(error.to_string(), "Kafka node 1 is not running");
}
