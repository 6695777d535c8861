//! Whose part a trace is: the header `traceparent` (W3C Trace Context), and the same beside changes on the bus.

use http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use protocol::envelope::SPAN_BYTES;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Length of a `traceparent` of version 00: `00-{32 digits}-{16 digits}-{2 digits}`, in bytes.
const LENGTH: usize = 55;

/// The span that caused a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent(SpanContext);

impl Parent {
    /// As a caller says it; none where it says nothing, or what no version allows, in which case the standard asks for
    /// a new trace.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let (text, None) = (all.next()?.to_str().ok()?, all.next()) else { return None };
        Self::parse(text).map(Self)
    }

    fn parse(text: &str) -> Option<SpanContext> {
        let mut parts = text.splitn(5, '-');
        let mut part = |length: usize| {
            parts.next().filter(|part| {
                part.len() == length
                    && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == "ff" || version == "00" && text.len() != LENGTH {
            return None;
        }
        let trace = TraceId::from_hex(trace).ok()?;
        let span = SpanId::from_hex(span).ok()?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let context = SpanContext::new(
            trace,
            span,
            TraceFlags::new(flags) & TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        context.is_valid().then_some(context)
    }

    pub(super) fn context(&self) -> SpanContext {
        self.0.clone()
    }

    /// The trace's id, for log lines: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }
}

/// A recorded span as it goes from node to node. It has no flags: what is not recorded is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried([u8; SPAN_BYTES]);

impl Carried {
    pub(super) fn of(context: &SpanContext) -> Self {
        let mut bytes = [0; SPAN_BYTES];
        bytes[..16].copy_from_slice(&context.trace_id().to_bytes());
        bytes[16..].copy_from_slice(&context.span_id().to_bytes());
        Self(bytes)
    }

    /// For another node.
    #[must_use]
    pub const fn into_bytes(self) -> [u8; SPAN_BYTES] {
        self.0
    }

    pub(super) fn context(self) -> Option<SpanContext> {
        let (trace, span) = (self.0[..16].try_into().ok()?, self.0[16..].try_into().ok()?);
        let (trace, span) = (TraceId::from_bytes(trace), SpanId::from_bytes(span));
        let context =
            SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
        context.is_valid().then_some(context)
    }
}

impl From<[u8; SPAN_BYTES]> for Carried {
    fn from(bytes: [u8; SPAN_BYTES]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(values: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        Parent::of(&headers)
    }

    #[test]
    fn a_parent_is_read_as_the_standard_says() {
        let parent = of(&[GOOD]).unwrap();
        assert_eq!(parent.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert!(parent.0.is_sampled() && parent.0.is_remote());
        let later = format!("cc-{}-what-comes-later", &GOOD[3..]);
        assert!(of(&[&later]).unwrap().0.is_sampled(), "a later version may have more");
        assert!(!of(&[&format!("{}00", &GOOD[..53])]).unwrap().0.is_sampled());
        assert!(!of(&[&format!("{}fe", &GOOD[..53])]).unwrap().0.is_sampled(), "another flag");
        let zeros = |from: usize, to: usize| {
            format!("{}{}{}", &GOOD[..from], "0".repeat(to - from), &GOOD[to..])
        };
        let wrong = [
            String::new(),
            format!("ff{}", &GOOD[2..]),
            format!("{GOOD}-x"),
            GOOD.to_uppercase(),
            GOOD[..54].to_owned(),
            zeros(3, 35),
            zeros(36, 52),
            GOOD.replace('-', "_"),
        ];
        for text in &wrong {
            assert_eq!(of(&[text]), None, "{text}");
        }
        assert_eq!(of(&[GOOD, GOOD]), None, "twice");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn what_is_carried_arrives() {
        let context = of(&[GOOD]).unwrap().0;
        let carried = Carried::from(Carried::of(&context).into_bytes());
        assert_eq!(carried.context().unwrap(), context);
        assert_eq!(Carried([0; SPAN_BYTES]).context(), None);
    }
}
