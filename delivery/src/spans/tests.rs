use std::time::Instant;

use super::*;

/// One that exports nowhere.
fn recording(sampling: Sampling) -> Spans {
    let config = SpansConfig {
        url: crate::outbound::OutboundUrl::configured("http://127.0.0.1:1/v1/traces").unwrap(),
        headers: Headers::default(),
        sampling,
        service_name: "pushhub".to_owned(),
        version: "1".to_owned(),
        node: "n".to_owned(),
    };
    Spans::start(Some(config), &metrics::NoopRecorder).unwrap()
}

fn parent(flags: &str) -> Parent {
    let mut headers = http::HeaderMap::new();
    let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    headers.insert("traceparent", text.parse().unwrap());
    Parent::of(&headers).unwrap()
}

fn begin(spans: &Spans, parent: Option<&Parent>) -> Option<Span> {
    spans.server(parent, || "GET /".to_owned(), Vec::new)
}

#[test]
fn nothing_is_made_where_it_is_off() {
    let spans = Spans::default();
    let never = || panic!("nobody asks for it");
    assert!(spans.server(Some(&parent("01")), never, || panic!("nor for that")).is_none());
    assert!(current().is_none());
}

#[tokio::test]
async fn what_is_sampled_is_recorded_in_the_callers_trace() {
    let sampling = |name| Sampling::new(name, 0.0).unwrap();
    let on = recording(sampling("parentbased_always_on"));
    assert_eq!(begin(&on, Some(&parent("01"))).unwrap().trace_id(), parent("01").trace_id());
    assert!(begin(&on, None).is_some());
    assert!(begin(&on, Some(&parent("00"))).is_none(), "the caller records nothing of it");
    let ratio = recording(sampling("parentbased_traceidratio"));
    assert!(begin(&ratio, Some(&parent("01"))).is_some());
    assert!(begin(&ratio, None).is_none());
    let off = recording(sampling("always_off"));
    assert!(begin(&off, Some(&parent("01"))).is_none());
    assert!(begin(&recording(sampling("always_on")), Some(&parent("00"))).is_some());
}

#[tokio::test]
async fn a_trace_goes_with_the_task_and_makes_so_many_spans_of_deliveries() {
    let spans = recording(Sampling::new("always_on", 1.0).unwrap());
    let mut span = begin(&spans, None).unwrap();
    let traced = Arc::clone(span.traced());
    let inner = scope(Arc::clone(&traced), async {
        note_tenant(TenantId::default);
        within("store append", Vec::new, async { Ok::<_, ()>(current().unwrap()) }).await.unwrap()
    });
    let inner = inner.await;
    assert_eq!(inner.context.trace_id(), traced.context.trace_id());
    assert_ne!(inner.context.span_id(), traced.context.span_id(), "a span of its own");
    assert!(traced.tenant.get().is_some());
    span.answered(200);
    let deliver =
        || inner.delivery("socket write", SpanKind::Producer, Instant::now(), Vec::new).is_some();
    let made = (0..DELIVERY_SPANS_MAX + 10).filter(|_| deliver()).count();
    assert_eq!(made, DELIVERY_SPANS_MAX as usize);
    let there = spans.carried(&inner.carried()).unwrap();
    assert_eq!(there.context.span_id(), inner.context.span_id());
    assert!(Spans::default().carried(&inner.carried()).is_none());
}
