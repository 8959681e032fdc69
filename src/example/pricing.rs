//! A SOAP 1.1 service, as old companies have them.

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use mediator::message::xml::{self, Element};

const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const PRICING: &str = "urn:example:pricing";
/// What the articles cost, in cents.
const ARTICLES: [(&str, u64); 3] = [("bolt", 12), ("nut", 7), ("washer", 3)];

/// Answers `GetQuote`: what a number of pieces of one article cost.
pub(super) async fn quote(headers: HeaderMap, body: Bytes) -> Response {
    let is_xml =
        headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/xml"));
    if !is_xml {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    match answer(&body) {
        Ok(text) => envelope(StatusCode::OK, &text),
        Err(reason) => {
            let fault = format!(
                "<s:Fault><faultcode>s:Client</faultcode><faultstring>{reason}</faultstring></s:Fault>"
            );
            envelope(StatusCode::INTERNAL_SERVER_ERROR, &fault)
        }
    }
}

fn answer(body: &[u8]) -> Result<String, &'static str> {
    let document = xml::parse(body).map_err(|_| "the message is no XML")?;
    let body = document.child(ENVELOPE, "Body").ok_or("the message is no SOAP 1.1 envelope")?;
    let asked = body.child(PRICING, "GetQuote").ok_or("only GetQuote is answered here")?;
    let text = |name| asked.child(PRICING, name).map(|child: &Element| child.text.trim());
    let article = text("article").ok_or("the article is missing")?;
    let known = ARTICLES.iter().find(|(name, _)| *name == article);
    let (article, cents) = known.ok_or("there is no such article; try bolt, nut or washer")?;
    let pieces: u64 = text("pieces")
        .and_then(|pieces| pieces.parse().ok())
        .filter(|pieces| (1..=1_000_000).contains(pieces))
        .ok_or("the pieces are no number from 1 to 1,000,000")?;
    let total = cents * pieces;
    Ok(format!(
        "<p:GetQuoteResponse xmlns:p=\"{PRICING}\"><p:article>{article}</p:article>\
         <p:pieces>{pieces}</p:pieces><p:price>{}.{:02}</p:price>\
         <p:currency>EUR</p:currency></p:GetQuoteResponse>",
        total / 100,
        total % 100
    ))
}

fn envelope(status: StatusCode, content: &str) -> Response {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <s:Envelope xmlns:s=\"{ENVELOPE}\"><s:Body>{content}</s:Body></s:Envelope>"
    );
    (status, [(CONTENT_TYPE, "text/xml; charset=utf-8")], text).into_response()
}
