//! What is asked: parameters, bodies, examples.

use axum::extract::Query;
use http::{Method, Uri};
use serde_json::{Map, Value, json};

use super::{Operation, Writer};
use crate::api::{
    doc::{Example, Field, Given, Shape},
    idempotency,
};

const MSGPACK: &str = "application/msgpack";
const JSON: &str = "application/json";

/// Parameters of the path, the query and the header.
pub(super) fn parameters(operation: &Operation) -> Vec<Value> {
    let doc = &operation.doc;
    let of = |place: &str, field: &Field, value: &dyn Fn(&Example) -> Option<Value>| {
        let mut parameter = json!({
            "name": field.name,
            "in": place,
            "required": place == "path" || field.required,
            "description": field.description(),
            "schema": field.shape.schema(),
        });
        let examples: Map<String, Value> = doc
            .examples
            .iter()
            .filter(|example| example.status == 200)
            .filter_map(|example| Some((example.name.to_owned(), value(example)?)))
            .map(|(name, value)| (name, json!({ "value": value })))
            .collect();
        if !examples.is_empty() {
            parameter["examples"] = json!(examples);
        }
        if place == "query" {
            parameter["allowEmptyValue"] = json!(true);
        }
        parameter
    };
    let given = |pairs: &[(&str, &str)], name: &str| {
        pairs.iter().find(|(given, _)| *given == name).map(|(_, value)| typed(value))
    };
    let path = doc
        .path
        .iter()
        .map(|field| of("path", field, &|example: &Example| given(&example.call.path, field.name)));
    let query = doc.query.iter().map(|field| {
        of("query", field, &|example: &Example| query_value(example.call.query, field))
    });
    let key = operation.told.repeatable.then_some(&idempotency::KEY);
    let headers = doc.headers.iter().chain(key).map(|field| {
        of("header", field, &|example: &Example| given(&example.call.headers, field.name))
    });
    path.chain(query).chain(headers).collect()
}

/// A number as a number: examples are held against their schema.
fn typed(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
}

/// What a query gives a parameter: all of it where that may be given several times.
fn query_value(query: &str, field: &Field) -> Option<Value> {
    let uri: Uri = format!("/?{query}").parse().ok()?;
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()?;
    let mut values = pairs.into_iter().filter(|(given, _)| given == field.name);
    match field.shape {
        Shape::List(..) => {
            let all: Vec<String> = values.map(|(_, value)| value).collect();
            (!all.is_empty()).then(|| json!(all))
        }
        _ => values.next().map(|(_, value)| typed(&value)),
    }
}

pub(super) fn request_body(writer: &mut Writer, operation: &Operation) -> Option<Value> {
    let body = operation.told.body.as_ref()?;
    writer.requests.entry(body.name).or_insert_with(|| body.shape.schema());
    let schema = json!({ "$ref": format!("#/components/schemas/{}", body.name) });
    let examples: Map<String, Value> = operation
        .doc
        .examples
        .iter()
        .filter(|example| example.status == 200)
        .filter_map(|example| {
            let value: Value = serde_json::from_str(example.call.body?).ok()?;
            Some((example.name.to_owned(), json!({ "summary": example.about, "value": value })))
        })
        .collect();
    let mut as_json = json!({ "schema": schema });
    if !examples.is_empty() {
        as_json["examples"] = json!(examples);
    }
    Some(json!({
        "required": !body.optional,
        "description": format!("At most {} bytes.", body.bytes_max),
        "content": { JSON: as_json, MSGPACK: { "schema": schema } },
    }))
}

/// Everything that is needed to execute them.
pub(super) fn examples(writer: &Writer, operation: &Operation) -> Vec<Value> {
    let pairs = |pairs: &[(&str, &str)]| -> Map<String, Value> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    };
    let given = |given: &Given| {
        json!({
            "by": given.by.word(),
            "method": given.method.as_str(),
            "path": given.path,
            "body": given.body,
            "keep": pairs(&given.keep),
        })
    };
    let of = |example: &Example| {
        let mut made = json!({
            "name": example.name,
            "summary": example.about,
            "given": example.given.iter().map(given).collect::<Vec<_>>(),
            "by": example.by.word(),
            "path": pairs(&example.call.path),
            "query": example.call.query,
            "headers": pairs(&example.call.headers),
            "body": example.call.body,
            "status": example.status,
        });
        let answer = &writer.recorded[&operation.id][example.name];
        if !answer.is_null() {
            made["answer"] = answer.clone();
        }
        made
    };
    operation.doc.examples.iter().map(of).collect()
}

/// The examples as lines for a shell.
pub(super) fn samples(base: &str, operation: &Operation) -> Vec<Value> {
    let of = |example: &Example| {
        let mut path = operation.path.to_owned();
        for (name, value) in &example.call.path {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        let query = match example.call.query {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let mut line = "curl -sS".to_owned();
        let has_body = example.call.body.is_some();
        if operation.method != Method::GET && !(operation.method == Method::POST && has_body) {
            line += &format!(" -X {}", operation.method);
        }
        line += &format!(" '{base}{path}{query}'");
        if let Some(credentials) = example.by.credentials() {
            line += &format!(" \\\n  -H \"Authorization: {credentials}\"");
        }
        for (name, value) in &example.call.headers {
            line += &format!(" \\\n  -H '{name}: {value}'");
        }
        if let Some(body) = example.call.body {
            let body = body.replace('\'', r"'\''");
            line += &format!(" \\\n  -H 'Content-Type: application/json' -d '{body}'");
        }
        json!({ "lang": "Shell", "label": example.about, "source": line })
    };
    operation.doc.examples.iter().map(of).collect()
}
