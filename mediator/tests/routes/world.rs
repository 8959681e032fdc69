//! A mediator that runs on a log in memory, and the services that it calls.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{StatusCode, Uri};
use ingest::emit;
use ingest::event::{Event, Producer, SystemClock, cloudevents};
use ingest::log::embedded::EmbeddedLog;
use ingest::log::{EventLog, Partition, ReadLimit, TopicSpec};
use ingest::registry::files::{self, Missing};
use ingest::registry::{Proposer, Topics, View, run_applier};
use mediator::deliver::Queues;
use mediator::endpoint::http::Caller;
use mediator::message::xml;
use mediator::{Config, Mediator, Parts};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct World {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) client: reqwest::Client,
    mediator: Mediator,
    proposer: Proposer,
    view: View,
    applier: JoinHandle<()>,
    events: JoinHandle<()>,
    stop: watch::Sender<bool>,
    dir: tempfile::TempDir,
}

impl World {
    /// A mediator with the routes of these files.
    pub(crate) async fn start(files: &[(&str, String)]) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(EmbeddedLog::in_memory());
        log.create_topic(&TopicSpec::kept(emit::TOPIC, 1)).await.unwrap();
        let topics = Topics::default();
        let applier = run_applier(log.clone(), topics.clone(), mediator::deep_check);
        let applier = tokio::spawn(applier);
        let view = View::open(log.clone(), topics.clone()).await.unwrap();
        let proposer = Proposer::new(log.clone(), topics, Duration::from_secs(10));
        let dir = tempfile::tempdir().unwrap();
        let producer = Producer::new("mediator").unwrap();
        let spool = dir.path().join("spool");
        let settings = emit::Config::new(producer, spool, NonZeroU32::MIN);
        let clock = Arc::new(SystemClock);
        let (emitter, service) = emit::open(settings, log.clone(), clock.clone()).unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let events = tokio::spawn(async move {
            let until = async move {
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            service.run(until).await.unwrap();
        });
        let queues = Queues::new(log.clone(), view.clone(), emitter.clone(), clock);
        let caller = Caller::new();
        let config = Config { address: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        let parts = Parts { view: view.clone(), emitter, caller, queues };
        let mediator = Mediator::start(config, parts).await.unwrap();
        let client = reqwest::Client::new();
        let world = Self { log, client, mediator, proposer, view, applier, events, stop, dir };
        world.apply("first", files).await;
        world
    }

    /// Brings the registry to these files, and waits until they are shown.
    pub(crate) async fn apply(&self, id: &str, files: &[(&str, String)]) {
        let dir = self.dir.path().join(id);
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let wanted = load(&dir);
        let plan = files::plan(&wanted, &self.view.snapshot(), Missing::Keep);
        let set = plan.change_set(id.parse().unwrap(), "test".to_owned(), "test".to_owned());
        let verdict = self.proposer.propose(&set).await.unwrap();
        assert!(verdict.is_accepted(), "{verdict:?}");
        let ingest::registry::Outcome::Accepted { revision, .. } = verdict.outcome else {
            panic!("it was accepted");
        };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while self.mediator.revision() < revision {
            assert!(tokio::time::Instant::now() < deadline, "the mediator does not follow");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.mediator.address())
    }

    /// Posts JSON; answers status, headers and body.
    pub(crate) async fn post(&self, path: &str, body: &str) -> (u16, HeaderMap, Value) {
        let request = self.client.post(self.url(path)).header(CONTENT_TYPE, "application/json");
        let response = request.body(body.to_owned()).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        (status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Stops everything; answers all events, in order.
    pub(crate) async fn stop(self) -> Vec<Box<Event>> {
        self.mediator.shutdown().await;
        self.stop.send_replace(true);
        self.events.await.unwrap();
        self.applier.abort();
        let mut reader = self.log.reader(vec![(Partition::new(emit::TOPIC, 0), 0)]).await.unwrap();
        let limit = ReadLimit { wait: Duration::from_millis(1), ..ReadLimit::default() };
        let mut events = Vec::new();
        while let Some(batch) = reader.next(limit).await.unwrap() {
            for record in &batch.records {
                let value = record.value.as_deref().unwrap();
                events.push(Box::new(cloudevents::read(record.headers.iter(), value).unwrap()));
            }
        }
        events
    }
}

fn load(dir: &Path) -> files::Wanted {
    files::load(dir, mediator::deep_check).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What a service was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A service of the test, on a real socket.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    /// A strict SOAP 1.1 service: whatever is not as the note says is refused.
    pub(crate) async fn soap() -> Self {
        Self::start(answer_soap).await
    }

    /// A service that never answers.
    pub(crate) async fn silent() -> Self {
        Self::start(|_| Err(Silence)).await
    }

    async fn start(answer: fn(&Asked) -> Result<Response, Silence>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let service = Self { address, asked };
        let handler = move |State(service): State<Self>,
                            uri: Uri,
                            headers: HeaderMap,
                            body: Bytes| async move {
            let body = String::from_utf8(body.to_vec()).unwrap();
            let asked = Asked { path: uri.to_string(), headers, body };
            service.asked.lock().unwrap().push(asked.clone());
            match answer(&asked) {
                Ok(response) => response,
                Err(Silence) => std::future::pending().await,
            }
        };
        let router = Router::new().fallback(handler).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        service
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

struct Silence;

const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";

fn answer_soap(asked: &Asked) -> Result<Response, Silence> {
    let header = |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok());
    let is_soap = header("content-type") == Some("text/xml; charset=utf-8")
        && header("soapaction") == Some("\"urn:stock/Get\"");
    let parsed = xml::parse(asked.body.as_bytes()).ok().filter(|root| root.namespace == ENVELOPE);
    let body = parsed.as_ref().and_then(|root| root.child(ENVELOPE, "Body"));
    let article = body
        .and_then(|body| body.child("urn:stock", "Get")?.child("urn:stock", "article"))
        .filter(|_| is_soap);
    let (status, content) = match article.map(|article| article.text.as_str()) {
        Some("bolt & nut") => (
            StatusCode::OK,
            "<s:GetResponse xmlns:s=\"urn:stock\"><s:pieces>12</s:pieces><s:place>A</s:place>\
             <s:place>B</s:place></s:GetResponse>"
                .to_owned(),
        ),
        Some(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "<e:Fault><faultcode>e:Client</faultcode><faultstring>no such article</faultstring>\
             </e:Fault>"
                .to_owned(),
        ),
        None => return Ok(StatusCode::BAD_REQUEST.into_response()),
    };
    let envelope =
        format!("<e:Envelope xmlns:e=\"{ENVELOPE}\"><e:Body>{content}</e:Body></e:Envelope>");
    Ok((status, [(CONTENT_TYPE, "text/xml; charset=utf-8")], envelope).into_response())
}
