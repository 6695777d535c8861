//! A collector of OpenTelemetry: takes spans by OTLP and shows them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;

use super::{
    SOON, eventually_within,
    hooks::{Answers, HookReceiver},
    server::Builder,
};

pub(crate) struct Collector(HookReceiver);

/// A span, and of which node it is.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) node: String,
    pub(crate) span: Span,
}

fn text(value: Option<&KeyValue>) -> String {
    match value.and_then(|pair| pair.value.as_ref()?.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(other) => panic!("{other:?}"),
        None => String::new(),
    }
}

impl Seen {
    pub(crate) fn attribute(&self, name: &str) -> String {
        text(self.span.attributes.iter().find(|pair| pair.key == name))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self(HookReceiver::start().await)
    }

    /// A server that tells it all spans.
    pub(crate) fn told_by(&self, builder: Builder) -> Builder {
        builder.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.0.address))
    }

    pub(crate) fn answers(&self, answers: Answers) {
        self.0.answers(answers);
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.0.hooks().len()
    }

    /// Everything that was told so far.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        let mut all = Vec::new();
        for hook in self.0.hooks() {
            assert_eq!(hook.path, "/v1/traces");
            assert_eq!(hook.headers["content-type"], "application/x-protobuf");
            let request = ExportTraceServiceRequest::decode(hook.body).expect("OTLP");
            for of_resource in request.resource_spans {
                let resource = of_resource.resource.expect("a resource").attributes;
                let of = |name: &str| text(resource.iter().find(|pair| pair.key == name));
                assert_eq!(of("service.name"), "pushhub");
                let node = of("service.instance.id");
                let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                all.extend(spans.map(|span| Seen { node: node.clone(), span }));
            }
        }
        all
    }

    /// A value of a header of each call.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let value = |headers: &http::HeaderMap| headers[name].to_str().unwrap().to_owned();
        self.0.hooks().iter().map(|hook| value(&hook.headers)).collect()
    }

    /// All bodies, as somebody may look for something in them.
    pub(crate) fn raw(&self) -> String {
        let bodies = self.0.hooks();
        bodies.iter().map(|hook| String::from_utf8_lossy(&hook.body).into_owned()).collect()
    }

    /// The spans of a trace by name, once there are so many of each.
    pub(crate) async fn trace(
        &self,
        id: &str,
        names: &[(&str, usize)],
    ) -> BTreeMap<String, Vec<Seen>> {
        let what = format!("the spans {names:?} of {id}");
        eventually_within(&what, SOON, || async {
            let mut found: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
            for seen in self.spans() {
                if hex(&seen.span.trace_id) == id {
                    found.entry(seen.span.name.clone()).or_default().push(seen);
                }
            }
            let has = |(name, count): &(&str, usize)| {
                found.get(*name).is_some_and(|spans| spans.len() >= *count)
            };
            names.iter().all(has).then_some(found)
        })
        .await
    }
}
