//! OpenAPI 3.1 of a port, made from its endpoints.

mod request;
mod response;

use std::collections::BTreeMap;

use protocol::schema::Readable;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{Kind, Operation, Tag, Who};
use crate::{admin::Role, api::caller::needed};
use request::{examples, parameters, request_body, samples};
use response::{Refusals, responses};

/// What the answers to the examples look like, by operation and example, as a test recorded them
/// (`UPDATE_EXAMPLES=1`, see the README). Volatile parts, such as times, are written as a fixed text.
const RECORDED: &str = include_str!("openapi/answers.json");

/// What is said of a port as a whole.
pub(crate) struct Port {
    /// The document's title.
    pub(crate) title: &'static str,
    /// Its introduction, as Markdown.
    pub(crate) about: &'static str,
    /// Where its examples reach it, as shipped.
    pub(crate) base: &'static str,
}

/// What the parts of a document share while it is made.
struct Writer {
    generator: SchemaGenerator,
    /// Schemas of requests, by name.
    requests: Map<String, Value>,
    recorded: Value,
    base: &'static str,
}

/// The document.
pub(crate) fn document(port: &Port, operations: &[&Operation]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.transforms.push(Box::new(Readable));
    });
    let mut writer = Writer {
        generator: settings.for_serialize().into_generator(),
        requests: Map::new(),
        recorded: serde_json::from_str(RECORDED).expect("a test writes it"),
        base: port.base,
    };
    let refusals = Refusals::new(&mut writer.generator);
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut tags: Vec<&Tag> = Vec::new();
    for operation in operations {
        let method = operation.method.as_str().to_ascii_lowercase();
        let described = described(&mut writer, &refusals, operation);
        paths.entry(operation.path).or_default().insert(method, described);
        if !tags.iter().any(|tag| tag.name == operation.doc.tag.name) {
            tags.push(operation.doc.tag);
        }
    }
    let mut schemas: Map<String, Value> = writer.generator.take_definitions(true);
    schemas.extend(writer.requests);
    let tags: Vec<_> =
        tags.iter().map(|tag| json!({ "name": tag.name, "description": tag.about })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": port.title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": port.about,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "Where this document was served." }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals.components(),
            "headers": headers(),
            "securitySchemes": schemes(),
        },
    })
}

fn described(writer: &mut Writer, refusals: &Refusals, operation: &Operation) -> Value {
    let doc = &operation.doc;
    let mut about = format!("{}\n\n**Who may call:** {}", doc.about, doc.who.sentence());
    let mut kinds: Vec<_> = doc.who.kinds().iter().map(|kind| kind.word()).collect();
    if operation.told.admins {
        // Not said by each description: the one place that enforces it says it.
        let needed = needed(&operation.method, operation.path);
        let may = Kind::BY_ROLE.iter().filter(|(role, _)| role.may(needed));
        kinds.extend(may.map(|(_, kind)| kind.word()));
        about.push_str(&format!(" Admins who have logged in: of role `{needed}`"));
        about.push_str(if needed == Role::Admin { "." } else { " and above." });
    }
    let mut described = json!({
        "operationId": operation.id,
        "tags": [doc.tag.name],
        "summary": doc.summary,
        "description": about.trim(),
        "security": security(operation),
        "responses": responses(writer, refusals, operation),
        "x-who": if matches!(doc.who, Who::Public) { json!("public") } else { json!(kinds) },
        "x-others": doc.others.word(),
        "x-examples": examples(writer, operation),
        "x-codeSamples": samples(writer.base, operation),
    });
    let parameters = parameters(operation);
    if !parameters.is_empty() {
        described["parameters"] = json!(parameters);
    }
    if let Some(body) = request_body(writer, operation) {
        described["requestBody"] = body;
    }
    described
}

fn security(operation: &Operation) -> Value {
    let kinds = operation.doc.who.kinds();
    let mut any_of = Vec::new();
    for (name, needed) in [
        ("adminToken", kinds.contains(&Kind::Admin) || operation.told.admins),
        ("userToken", kinds.iter().any(|kind| kind.is_user())),
        ("serviceKey", kinds.iter().any(|kind| kind.is_service())),
    ] {
        if needed {
            any_of.push(json!({ name: [] }));
        }
    }
    json!(any_of)
}

fn schemes() -> Value {
    json!({
        "userToken": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "A user: `Authorization: Bearer <token>`." },
        "serviceKey": { "type": "apiKey", "in": "header", "name": "Authorization",
            "description": "A service: `Authorization: Service <key>`." },
        "adminToken": { "type": "http", "scheme": "bearer",
            "description": "An admin: `Authorization: Bearer <ADMIN_TOKEN>`, or the token of an admin's session." },
    })
}

fn headers() -> Value {
    let text = |about: &str| json!({ "description": about, "schema": { "type": "string" } });
    let seconds = json!({ "type": "integer", "minimum": 0 });
    json!({
        "X-Request-Id": text("The request's `X-Request-Id`, if it had a good one, else a new one; also in the log."),
        "Retry-After": { "description": "Seconds to wait.", "schema": seconds },
        "RateLimit": text("What is left of the limit that runs out first (draft-ietf-httpapi-ratelimit-headers-10)."),
        "RateLimit-Policy": text("That limit."),
        "Idempotency-Replayed": text("`true` where the answer is that of an earlier request with the same `Idempotency-Key`."),
        "WWW-Authenticate": text("The schemes that are known."),
        "ETag": text("Changes with the document; `If-None-Match` takes it."),
    })
}

#[cfg(test)]
mod tests;
