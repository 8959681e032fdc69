//! TLS on both sides, and what is wrong with it before anything serves.

use std::path::PathBuf;
use std::sync::Arc;

use gateway::{Gateway, Listener, StartError, Tls};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, get, said, told};

/// A certificate for `localhost` and its key, as files of the world.
fn certificate(world: &World) -> (Tls, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| -> PathBuf {
        let path = world.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate_file = file("certificate.pem", made.cert.pem());
    let key_file = file("key.pem", made.signing_key.serialize_pem());
    (Tls { certificate_file, key_file }, made.cert.der().clone())
}

fn listener(tls: &Tls) -> Vec<Listener> {
    vec![Listener { address: "127.0.0.1:0".parse().unwrap(), tls: Some(tls.clone()) }]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_speaks_tls_and_its_event_says_how() {
    let world = World::new().await;
    let (tls, certificate) = certificate(&world);
    let gateway = world.start_with(|config| config.listeners = listener(&tls)).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    for (version, expected) in [(&rustls::version::TLS12, "1.2"), (&rustls::version::TLS13, "1.3")]
    {
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let stream = TcpStream::connect(gateway.addresses()[0]).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "{expected}");
        let request = "GET /shop/1/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(said(&answer), "200");
    }
    assert_eq!(world.origin.seen()[0].header("x-forwarded-proto"), Some("https"));
    let events = world.stop(gateway).await;
    let versions: Vec<_> =
        events.iter().filter_map(|event| event.tls_protocol_version.as_deref()).collect();
    assert_eq!(versions.len(), 2);
    assert!(versions.contains(&"1.2") && versions.contains(&"1.3"), "{versions:?}");
    for event in &events {
        assert!(event.tls_cipher.as_deref().unwrap().starts_with("TLS_"), "{:?}", event.tls_cipher);
        assert_eq!(event.url_scheme.as_deref(), Some("https"));
    }
}

/// The origin that speaks TLS is another gateway.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_trusted_by_its_certificate_alone() {
    let behind = World::new().await;
    let (tls, _) = certificate(&behind);
    let origin = behind.start_with(|config| config.listeners = listener(&tls)).await;
    let port = origin.addresses()[0].port();
    let world = World::empty().await;
    let upstream =
        format!(r#"upstream/u {{"targets": [{{"url": "https://localhost:{port}/shop/1"}}]}}"#);
    let shop = crate::world::shop("", crate::world::ANY);
    world.put("first", &[&upstream, &shop]).await;
    let trusting = |config: &mut gateway::Config| {
        config.upstream_ca_file = Some(tls.certificate_file.clone());
    };
    for (trusts, expected) in [(false, "502 upstream_tls_failed"), (true, "200")] {
        let gateway = world
            .start_with(|config| {
                if trusts {
                    trusting(config)
                }
            })
            .await;
        let answer = get(gateway.addresses()[0], "/shop/1/x").await;
        assert_eq!(said(&answer), expected, "{answer}");
        world.stop(gateway).await;
    }
    assert_eq!(behind.origin.seen()[0].line, "GET /x HTTP/1.1");
    let told: Vec<String> = behind.stop(origin).await.iter().map(|event| told(event)).collect();
    // Who did not trust it is told of too.
    assert_eq!(told, ["client_error tls_failed", "success"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_said_before_anything_is() {
    let world = World::new().await;
    let (tls, _) = certificate(&world);
    let none = Tls { certificate_file: world.dir.path().join("none.pem"), ..tls.clone() };
    let no_key = Tls { key_file: tls.certificate_file.clone(), ..tls.clone() };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = async |listeners: Vec<Listener>| {
        let config = gateway::Config { listeners, ..world.config() };
        match Box::pin(Gateway::start(config, world.parts())).await {
            Ok(_) => panic!("it started"),
            Err(error) => error,
        }
    };
    let with = |tls: &Tls| Listener { address: free, tls: Some(tls.clone()) };
    let error = start(vec![with(&none)]).await;
    assert!(matches!(error, StartError::Tls { .. }), "{error}");
    assert!(error.to_string().contains("none.pem: No such file"), "{error}");
    let error = start(vec![with(&no_key)]).await;
    assert!(error.to_string().contains("certificate.pem: holds no private key"), "{error}");
    let plain = |address| Listener { address, tls: None };
    let error = start(vec![plain(free), plain(taken.local_addr().unwrap())]).await;
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    let error = start(Vec::new()).await;
    assert_eq!(error.to_string(), "gateway: listeners: 0 is out of range; use 1 to 16");
    // Nothing is left behind: port and spools are free.
    let gateway = world.start_with(|config| config.listeners = vec![plain(free)]).await;
    assert_eq!(said(&get(free, "/shop/1/x").await), "200");
    let again = world.config();
    let config =
        gateway::Config { listeners: vec![plain(free)], node: "other".to_owned(), ..again };
    let error = Box::pin(Gateway::start(config, world.parts())).await.unwrap_err();
    assert!(error.to_string().contains("free the port"), "{error}");
    world.stop(gateway).await;
}
