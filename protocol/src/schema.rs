//! How Rust types are written as JSON Schema for others to read.

use schemars::{
    Schema,
    transform::{Transform, transform_subschemas},
};
use serde_json::Value;

/// Takes out what is for Rust only: the links of doc comments become their words, and formats such
/// as `uint64`, which JSON Schema does not know, go.
#[derive(Clone, Debug)]
pub struct Readable;

impl Transform for Readable {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = plain(text);
        }
        if schema.get("format").is_some_and(|format| format != "date-time") {
            schema.remove("format");
        }
        transform_subschemas(self, schema);
    }
}

/// A doc comment without its links to Rust items, in one line for each of its paragraphs.
fn plain(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    let text = paragraphs.collect::<Vec<_>>().join("\n\n");
    text.replace("[`", "`").replace("`]", "`")
}

/// Refuses, in this schema and all below it, every property that is not described. For tests: what is
/// served leaves room for fields to be added.
pub fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let open = object.get("properties").is_some_and(Value::is_object)
                && !object.contains_key("additionalProperties");
            object.values_mut().for_each(close);
            if open {
                object.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
