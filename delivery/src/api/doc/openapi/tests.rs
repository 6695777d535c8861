use std::collections::BTreeSet;

use super::*;
use crate::api::{
    admin_endpoints,
    doc::{Others, Shape},
    documents::{self, Which},
    user_endpoints,
};

fn operations() -> Vec<Operation> {
    let endpoints = user_endpoints().into_iter().chain(admin_endpoints());
    let mut operations: Vec<_> = endpoints.map(|endpoint| endpoint.operation).collect();
    operations.extend(documents::operations(Which::User));
    operations
}

fn whole() -> Value {
    let operations = operations();
    let port = Port { title: "t", about: "a", base: "http://127.0.0.1:8080" };
    document(&port, &operations.iter().collect::<Vec<_>>())
}

/// The names in `{}`.
fn named(path: &str) -> Vec<&str> {
    path.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect()
}

#[test]
fn every_endpoint_says_all_there_is_to_say() {
    let mut ids = BTreeSet::new();
    for Operation { id, path, doc, told, .. } in operations() {
        assert!(ids.insert(id.clone()), "{id} is there twice");
        assert!(!doc.summary.is_empty() && !doc.summary.ends_with('.'), "{id}: a title");
        assert!(!doc.answer.about.is_empty(), "{id}");
        let fields: Vec<_> = doc.path.iter().map(|field| field.name).collect();
        assert_eq!(fields, named(path), "{id}: the parts of its path");
        let owned = matches!(doc.others, Others::Refused);
        assert!(!owned || !fields.is_empty(), "{id}: names nothing that could be another's");
        for field in doc.path.iter().chain(doc.query).chain(&doc.headers) {
            assert!(field.about.ends_with('.'), "{id}: {}: a sentence", field.name);
        }
        // What the handler's arguments enforce is what is said.
        let kinds = doc.who.kinds();
        let users = kinds.iter().any(|kind| kind.is_user());
        let services = kinds.iter().any(|kind| kind.is_service());
        if let (Some(may_users), Some(may_services)) = (told.users, told.services) {
            assert_eq!((users, services), (may_users, may_services), "{id}: who may call");
        } else {
            assert!(matches!(doc.who, Who::Public), "{id}: nobody is asked who they are");
        }
        let mut names = BTreeSet::new();
        let first = doc.examples.first().unwrap_or_else(|| panic!("{id} has no example"));
        assert_eq!(first.status, doc.answer.status, "{id}: the first example is a success");
        for example in &doc.examples {
            assert!(names.insert(example.name), "{id}: {} is there twice", example.name);
            let values: Vec<_> = example.call.path.iter().map(|(name, _)| *name).collect();
            assert_eq!(values, fields, "{id}: {}: the parts of the path", example.name);
        }
    }
}

#[test]
fn every_field_is_described() {
    fn check(shape: &Shape, path: &str) {
        match shape {
            Shape::Object(fields) | Shape::OneOf(_, fields) => {
                for field in *fields {
                    let path = format!("{path}.{}", field.name);
                    assert!(field.about.ends_with('.'), "{path}: a sentence");
                    check(&field.shape, &path);
                }
            }
            Shape::List(item, ..) | Shape::Named(item, _) | Shape::Lenient(item) => {
                check(item, path)
            }
            _ => {}
        }
    }
    for operation in operations() {
        if let Some(body) = operation.told.body {
            check(&body.shape, body.name);
        }
    }
}

#[test]
fn examples_fit_the_schemas_of_requests() {
    let document = whole();
    for operation in operations() {
        let Some(body) = &operation.told.body else { continue };
        let schema = jsonschema::draft202012::new(&body.shape.schema()).unwrap();
        for example in operation.doc.examples.iter().filter(|example| example.status == 200) {
            let Some(text) = example.call.body else { continue };
            let value: Value = serde_json::from_str(text).unwrap();
            let found: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
            assert!(found.is_empty(), "{}: {}: {found:?}", operation.id, example.name);
        }
    }
    assert!(document["paths"]["/api/v3/messages/send"]["post"]["requestBody"].is_object());
}

#[test]
fn every_reference_leads_somewhere_and_names_are_meant() {
    fn walk(value: &Value, whole: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(target)) = object.get("$ref") {
                    let pointer = target.strip_prefix('#').expect("inside the document");
                    assert!(whole.pointer(pointer).is_some(), "{target}");
                }
                object.values().for_each(|value| walk(value, whole));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, whole)),
            _ => {}
        }
    }
    let whole = whole();
    walk(&whole, &whole);
    for name in whole["components"]["schemas"].as_object().unwrap().keys() {
        // Two types of one name: one of them needs #[schemars(rename = "…")].
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "{name}");
    }
}

#[test]
fn samples_are_lines_for_a_shell() {
    let whole = whole();
    let samples = &whole["paths"]["/api/v3/messages/templates/{id}"]["delete"]["x-codeSamples"];
    assert_eq!(
        samples[0]["source"],
        "curl -sS -X DELETE 'http://127.0.0.1:8080/api/v3/messages/templates/order' \\\n  \
         -H \"Authorization: Service $KEY\""
    );
}
