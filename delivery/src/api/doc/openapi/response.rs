//! What is answered.

use std::collections::BTreeMap;

use protocol::{ErrorType, FieldProblem};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{Operation, Writer};
use crate::api::doc::{Body, Reply, SchemaOf};

/// What can happen to any request, before it reaches its handler.
const ANYWHERE: [ErrorType; 3] =
    [ErrorType::MalformedRequest, ErrorType::UriTooLong, ErrorType::HeadersTooLarge];

/// The same, behind the API's own layer.
const OBSERVED: [ErrorType; 2] = [ErrorType::RateLimited, ErrorType::Internal];

/// The refusals that are the same everywhere.
pub(super) struct Refusals {
    /// What each type means, in the words of its own doc comment.
    about: BTreeMap<&'static str, String>,
    field_problem: Value,
}

impl Refusals {
    pub(super) fn new(generator: &mut SchemaGenerator) -> Self {
        let schema = ErrorType::json_schema(generator);
        let words = schema.as_value()["oneOf"].as_array().cloned().unwrap_or_default();
        let about = |kind: &ErrorType| {
            let word = words.iter().find(|word| word["const"] == kind.slug());
            let about = word.and_then(|word| word["description"].as_str()).unwrap_or_default();
            (kind.slug(), about.to_owned())
        };
        Self {
            about: ErrorType::ALL.iter().map(about).collect(),
            field_problem: generator.subschema_for::<FieldProblem>().into(),
        }
    }

    /// One for each type, which operations point at.
    pub(super) fn components(&self) -> Map<String, Value> {
        let of = |kind: &ErrorType| {
            let entry = Entry { kind: *kind, about: None, data: None };
            (kind.slug().to_owned(), self.response(&[entry]))
        };
        ErrorType::ALL.iter().map(of).collect()
    }

    fn response(&self, entries: &[Entry]) -> Value {
        let status = entries[0].kind.status();
        let mut sentences: Vec<String> = Vec::new();
        for entry in entries {
            let about = entry.about.unwrap_or(&self.about[entry.kind.slug()]);
            sentences.push(format!("`{}`: {about}", entry.kind.slug()));
        }
        let mut kinds: Vec<_> = entries.iter().map(|entry| entry.kind.slug()).collect();
        kinds.dedup();
        let mut data: Vec<Value> = entries.iter().filter_map(|entry| entry.data.clone()).collect();
        if data.len() < entries.len() {
            data.push(json!({ "type": "null" }));
        }
        let data = if data.len() == 1 { data.remove(0) } else { json!({ "anyOf": data }) };
        let schema = json!({
            "type": "object",
            "required": ["code", "message", "data", "error"],
            "properties": {
                "code": { "const": status },
                "message": { "type": "string", "minLength": 1, "description": "One sentence." },
                "data": data,
                "error": {
                    "type": "object",
                    "required": ["type", "fields", "request_id"],
                    "properties": {
                        "type": { "enum": kinds },
                        "fields": { "type": "array", "items": self.field_problem,
                            "description": "The fields at fault." },
                        "request_id": { "type": "string",
                            "description": "Also in `X-Request-Id` and in the log." },
                    },
                },
            },
        });
        let mut names = vec!["X-Request-Id"];
        match status {
            401 => names.push("WWW-Authenticate"),
            429 => names.extend(["Retry-After", "RateLimit", "RateLimit-Policy"]),
            503 => names.push("Retry-After"),
            _ => {}
        }
        json!({
            "description": sentences.join("\n\n"),
            "headers": headers(&names),
            "content": both(&schema, None),
        })
    }
}

#[derive(Clone)]
struct Entry {
    kind: ErrorType,
    about: Option<&'static str>,
    data: Option<Value>,
}

pub(super) fn responses(writer: &mut Writer, refusals: &Refusals, operation: &Operation) -> Value {
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    let mut refused: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
    for reply in std::iter::once(&operation.doc.answer).chain(&operation.doc.more) {
        if let Body::Refusal(kind, data) = &reply.body {
            let data = data.map(|of| schema(writer, of));
            let entry = Entry { kind: *kind, about: Some(reply.about), data };
            refused.entry(reply.status).or_default().push(entry);
        } else {
            all.insert(reply.status.to_string(), success(writer, operation, reply));
        }
    }
    let observed = operation.observed.then_some(OBSERVED).into_iter().flatten();
    for kind in ANYWHERE.into_iter().chain(observed).chain(operation.told.refusals.iter().copied())
    {
        let entries = refused.entry(kind.status()).or_default();
        if !entries.iter().any(|entry| entry.kind == kind) {
            entries.push(Entry { kind, about: None, data: None });
        }
    }
    for (status, entries) in refused {
        // Health says the same with two statuses; that is no refusal.
        if all.contains_key(&status.to_string()) {
            continue;
        }
        let response = match &*entries {
            [Entry { kind, about: None, data: None }] => {
                json!({ "$ref": format!("#/components/responses/{}", kind.slug()) })
            }
            _ => refusals.response(&entries),
        };
        all.insert(status.to_string(), response);
    }
    json!(all)
}

fn schema(writer: &mut Writer, of: SchemaOf) -> Value {
    let mut schema = of(&mut writer.generator);
    for transform in writer.generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    schema.into()
}

fn success(writer: &mut Writer, operation: &Operation, reply: &Reply) -> Value {
    let mut names = Vec::new();
    if operation.observed {
        names.push("X-Request-Id");
    }
    if operation.told.repeatable {
        names.push("Idempotency-Replayed");
    }
    let mut response = json!({
        "description": reply.about,
        "headers": headers(&names),
    });
    let recorded = &writer.recorded[&operation.id];
    let examples: Map<String, Value> = operation
        .doc
        .examples
        .iter()
        .filter(|example| example.status == reply.status && !recorded[example.name].is_null())
        .map(|example| {
            let value = json!({ "summary": example.about, "value": recorded[example.name] });
            (example.name.to_owned(), value)
        })
        .collect();
    let envelope = |data: Value, meta: Option<Value>| {
        let mut schema = json!({
            "type": "object",
            "required": ["code", "message", "data"],
            "properties": {
                "code": { "const": 200 }, "message": { "const": "success" }, "data": data,
            },
        });
        if let Some(meta) = meta {
            schema["properties"]["meta"] = meta;
            schema["required"] = json!(["code", "message", "data", "meta"]);
        }
        schema
    };
    response["content"] = match &reply.body {
        Body::Data(of) => both(&envelope(schema(writer, *of), None), Some(examples)),
        Body::Page(of, meta) => {
            let data = schema(writer, *of);
            let meta = schema(writer, *meta);
            both(&envelope(data, Some(meta)), Some(examples))
        }
        Body::Json(of) => {
            let mut content = both(&schema(writer, *of), Some(examples));
            content.as_object_mut().expect("an object").remove(MSGPACK);
            content
        }
        Body::Media(media) => match *media {
            "application/json" => json!({ *media: { "schema": { "type": "object" } } }),
            // Readers take a schema for that of one event; frames are described for the socket.
            "text/event-stream" => json!({ *media: {} }),
            _ => json!({ *media: { "schema": { "type": "string" } } }),
        },
        Body::Empty | Body::Refusal(..) => return response,
    };
    response
}

const MSGPACK: &str = "application/msgpack";

/// In either codec.
fn both(schema: &Value, examples: Option<Map<String, Value>>) -> Value {
    let mut json = json!({ "schema": schema });
    if let Some(examples) = examples.filter(|examples| !examples.is_empty()) {
        json["examples"] = json!(examples);
    }
    json!({ "application/json": json, MSGPACK: { "schema": schema } })
}

fn headers(names: &[&str]) -> Map<String, Value> {
    let of = |name: &&str| {
        ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))
    };
    names.iter().map(of).collect()
}
