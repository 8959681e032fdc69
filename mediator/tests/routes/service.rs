//! Services that routes call, on sockets of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use mediator::endpoint::soap::Version;
use mediator::message::xml;

const ORDERS: &str = "urn:orders";

pub(crate) struct Service {
    pub(crate) url: String,
    pub(crate) requests: Arc<AtomicUsize>,
}

async fn serve(router: Router<Arc<AtomicUsize>>) -> Service {
    let requests = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = router.with_state(requests.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Service { url, requests }
}

/// Says what it got: method, path and query, a header, and the body.
pub(crate) async fn echo() -> Service {
    serve(
        Router::new().fallback(
            |State(requests): State<Arc<AtomicUsize>>,
             uri: Uri,
             headers: HeaderMap,
             body: Bytes| async move {
                requests.fetch_add(1, Ordering::SeqCst);
                let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                if uri.path().ends_with("/teapot") {
                    return (StatusCode::IM_A_TEAPOT, "short and stout").into_response();
                }
                let said = serde_json::json!({
                    "target": uri.to_string(),
                    "mark": text("x-mark"),
                    "removed": text("x-removed"),
                    "correlation": text("x-correlation-id"),
                    "traceparent": text("traceparent"),
                    "content_type": text("content-type"),
                    "body": String::from_utf8_lossy(&body),
                });
                let headers = [("content-type", "application/json"), ("x-answer", "1")];
                (headers, said.to_string()).into_response()
            },
        ),
    )
    .await
}

/// Takes connections and requests, and never answers.
pub(crate) async fn silent() -> Service {
    serve(Router::new().fallback(|State(requests): State<Arc<AtomicUsize>>| async move {
        requests.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<StatusCode>().await
    }))
    .await
}

/// A strict service of orders. What is not as its contract says gets 400.
pub(crate) async fn soap(version: Version) -> Service {
    serve(Router::new().fallback(
        move |State(requests): State<Arc<AtomicUsize>>, headers: HeaderMap, body: Bytes| async move {
            requests.fetch_add(1, Ordering::SeqCst);
            answer(version, &headers, &body).unwrap_or_else(|what| (StatusCode::BAD_REQUEST, what).into_response())
        },
    ))
    .await
}

fn answer(version: Version, headers: &HeaderMap, body: &[u8]) -> Result<Response, String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let content_type = text("content-type");
    match version {
        Version::V1_1 if content_type != "text/xml; charset=utf-8" => return Err("type".into()),
        Version::V1_1 if text("soapaction") != "\"urn:orders:get\"" => return Err("action".into()),
        Version::V1_2
            if content_type != "application/soap+xml; charset=utf-8; action=\"urn:orders:get\"" =>
        {
            return Err("type".into());
        }
        _ => {}
    }
    if headers.contains_key("authorization") {
        return Err("a credential of the caller's".into());
    }
    let root = xml::parse(body)?;
    let envelope = version.namespace();
    let order = Some(&root)
        .filter(|root| root.namespace == envelope && root.name == "Envelope")
        .and_then(|root| root.child(envelope, "Body"))
        .and_then(|body| body.child(ORDERS, "GetOrder"))
        .ok_or("namespaces")?;
    let id = &order.child(ORDERS, "Id").ok_or("id")?.text;
    let (status, content) = match id.as_str() {
        "missing" => (StatusCode::INTERNAL_SERVER_ERROR, fault(version)),
        id => {
            let id = id.replace('&', "&amp;").replace('<', "&lt;");
            let lines = "<Line><Sku>a</Sku></Line><Line><Sku>b</Sku></Line>";
            let order = format!(
                "<GetOrderResponse xmlns=\"{ORDERS}\"><Id>{id}</Id>{lines}</GetOrderResponse>"
            );
            (StatusCode::OK, order)
        }
    };
    let envelope =
        format!("<e:Envelope xmlns:e=\"{envelope}\"><e:Body>{content}</e:Body></e:Envelope>");
    Ok((status, [("content-type", "text/xml")], envelope).into_response())
}

fn fault(version: Version) -> String {
    match version {
        Version::V1_1 => "<e:Fault><faultcode>e:Client</faultcode>\
                          <faultstring>no order for account 4929123456781234</faultstring></e:Fault>",
        Version::V1_2 => "<e:Fault><e:Code><e:Value>e:Sender</e:Value></e:Code><e:Reason>\
                          <e:Text xml:lang=\"en\">no order for account 4929123456781234</e:Text></e:Reason></e:Fault>",
    }
    .to_owned()
}
