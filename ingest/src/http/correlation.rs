//! What joins the events of one journey: the correlation id and W3C trace context.
//!
//! A caller may bring both. An id that it brings is taken as it is, if it is one;
//! so a request that is sent again can keep its id. Otherwise the trace id, brought
//! or made here, is the correlation id too.

use std::sync::Arc;

use crate::event::{Event, Text};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header of the correlation id, in requests and in answers.
pub const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-correlation-id");
/// The header of W3C trace context (section 3.2).
pub const TRACE_HEADER: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it (W3C trace context, section 3.3).
pub const TRACE_STATE_HEADER: HeaderName = HeaderName::from_static("tracestate");

/// The longest correlation id, in bytes.
const ID_BYTES_MAX: usize = 128;

/// Where a request stands in its journey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correlation {
    /// Id of the journey: 1 to 128 visible ASCII characters.
    pub id: Arc<str>,
    /// W3C trace id.
    pub trace: u128,
    /// The caller's span; none if it began no trace.
    pub parent: Option<u64>,
    /// The span of this request, made here.
    pub span: u64,
    /// Whether the caller recorded its span (W3C trace context, section 3.2.2.5).
    pub sampled: bool,
}

impl Correlation {
    /// Reads what a caller brought, and makes what it did not. `random` gives 64
    /// random bits.
    pub fn of(headers: &HeaderMap, mut random: impl FnMut() -> u64) -> Self {
        let brought = read_one(headers, &TRACE_HEADER).and_then(parse_trace_parent);
        let (trace, parent, sampled) = match brought {
            Some((trace, parent, sampled)) => (trace, Some(parent), sampled),
            None => {
                let trace = u128::from(random()) << 64 | u128::from(random());
                (trace.max(1), None, true)
            }
        };
        let span = random().max(1);
        let id = read_one(headers, &CORRELATION_HEADER).filter(|id| is_id(id));
        let id = id.map_or_else(|| Hex::of_trace(trace).text().into(), Into::into);
        Self { id, trace, parent, span, sampled }
    }

    /// Removes what vendors say of a trace that did not come with it: `tracestate`
    /// without a good `traceparent` is of no trace (W3C trace context, section 3.3).
    pub fn drop_stray_state(&self, headers: &mut HeaderMap) {
        if self.parent.is_none() {
            headers.remove(TRACE_STATE_HEADER);
        }
    }

    /// The place of a call that is made under this span: a span of its own.
    /// `random` gives 64 random bits.
    pub fn child(&self, random: impl FnOnce() -> u64) -> Self {
        Self { parent: Some(self.span), span: random().max(1), ..self.clone() }
    }

    /// Writes where an event stands in the journey; each text is one allocation at most.
    pub fn note(&self, event: &mut Event) {
        let shared = |digits: &str| Text::from(Arc::<str>::from(digits));
        let trace = Hex::of_trace(self.trace);
        let is_id = *self.id == *trace.text();
        event.correlation_id = Some(self.id.clone().into());
        event.trace_id = Some(if is_id { self.id.clone().into() } else { shared(trace.text()) });
        event.span_id = Some(shared(Hex::of_span(self.span).text()));
        event.parent_span_id = self.parent.map(|parent| shared(Hex::of_span(parent).text()));
    }

    /// The correlation id as a header's value.
    pub fn id_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.id).expect("visible ASCII is a header's value")
    }

    /// `traceparent` for those who are called next, as children of this span.
    pub fn trace_header(&self) -> HeaderValue {
        let mut text = [0; 55];
        text[..3].copy_from_slice(b"00-");
        text[3..35].copy_from_slice(&Hex::of_trace(self.trace).0);
        text[35] = b'-';
        text[36..52].copy_from_slice(&Hex::of_span(self.span).0);
        text[52..].copy_from_slice(if self.sampled { b"-01" } else { b"-00" });
        HeaderValue::from_bytes(&text).expect("hexadecimal digits are a header's value")
    }
}

/// The hexadecimal digits of each byte.
const DIGITS: [[u8; 2]; 256] = {
    let (mut digits, mut byte, one) = ([[0; 2]; 256], 0, b"0123456789abcdef");
    while byte < 256 {
        digits[byte] = [one[byte >> 4], one[byte & 15]];
        byte += 1;
    }
    digits
};

/// Hexadecimal digits, two for each byte.
struct Hex<const COUNT: usize>([u8; COUNT]);

impl Hex<32> {
    fn of_trace(trace: u128) -> Self {
        Self::of(&trace.to_be_bytes())
    }
}

impl Hex<16> {
    fn of_span(span: u64) -> Self {
        Self::of(&span.to_be_bytes())
    }
}

impl<const COUNT: usize> Hex<COUNT> {
    fn of(bytes: &[u8]) -> Self {
        let mut digits = [0; COUNT];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = DIGITS[usize::from(*byte)];
        }
        Self(digits)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

/// The value of a header that came once.
fn read_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Trace id, parent span and whether it is sampled (W3C trace context, sections
/// 3.2 and 4.3: a later version may have more behind another hyphen).
fn parse_trace_parent(text: &str) -> Option<(u128, u64, bool)> {
    let (version, rest) = (text.get(..2)?, text.get(2..)?);
    let later = is_lower_hex(version) && version != "00" && version != "ff";
    match rest.len() {
        53 if version == "00" || later => {}
        54.. if later && rest.as_bytes()[53] == b'-' => {}
        _ => return None,
    }
    let bytes = rest.as_bytes();
    if [bytes[0], bytes[33], bytes[50]] != *b"---" {
        return None;
    }
    let hex = |from: usize, to: usize| rest.get(from..to).filter(|part| is_lower_hex(part));
    let trace = u128::from_str_radix(hex(1, 33)?, 16).ok()?;
    let parent = u64::from_str_radix(hex(34, 50)?, 16).ok()?;
    let flags = u8::from_str_radix(hex(51, 53)?, 16).ok()?;
    (trace != 0 && parent != 0).then_some((trace, parent, flags & 1 == 1))
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn trace_parents_are_read_as_the_recommendation_says() {
        let check = |text: &str, expected: bool| {
            assert_eq!(parse_trace_parent(text).is_some(), expected, "{text}");
        };
        check(&format!("00-{TRACE}-00f067aa0ba902b7-01"), true);
        check(&format!("00-{TRACE}-00f067aa0ba902b7-00"), true);
        check(&format!("cc-{TRACE}-00f067aa0ba902b7-01"), true);
        check(&format!("cc-{TRACE}-00f067aa0ba902b7-01-what-more"), true);
        check(&format!("cc-{TRACE}-00f067aa0ba902b7-01.what"), false);
        check(&format!("00-{TRACE}-00f067aa0ba902b7-01-more"), false);
        check(&format!("ff-{TRACE}-00f067aa0ba902b7-01"), false);
        check(&format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false);
        check(&format!("00-{TRACE}-0000000000000000-01"), false);
        check(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false);
        check(&format!("00_{TRACE}-00f067aa0ba902b7-01"), false);
        check(&format!("00-+{}-00f067aa0ba902b7-01", &TRACE[1..]), false);
        check("", false);
        check("00-é", false);
    }

    #[test]
    fn what_a_caller_brings_is_kept_and_what_it_does_not_is_made() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            let mut next = 0;
            Correlation::of(&headers, || {
                next += 1;
                next
            })
        };
        let made = of(&[]);
        assert_eq!(&*made.id, "00000000000000010000000000000002");
        assert_eq!((made.parent, made.span), (None, 3));
        assert_eq!(made.trace_header(), "00-00000000000000010000000000000002-0000000000000003-01");

        let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
        let brought = of(&[("traceparent", &parent), ("x-correlation-id", "order 1")]);
        assert_eq!(&*brought.id, TRACE, "an id with a space is none");
        assert_eq!(brought.parent, Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(brought.trace_header(), format!("00-{TRACE}-0000000000000001-00").as_str());

        let child = brought.child(|| 9);
        assert_eq!((child.parent, child.span, child.trace), (Some(1), 9, brought.trace));
        assert_eq!(&*of(&[("x-correlation-id", "order-1")]).id, "order-1");
        let long = "x".repeat(ID_BYTES_MAX + 1);
        assert_ne!(&*of(&[("x-correlation-id", &long)]).id, long);
        let twice = of(&[("x-correlation-id", "a"), ("x-correlation-id", "b")]);
        assert_eq!(twice.id, made.id, "two ids are none");
    }
}
