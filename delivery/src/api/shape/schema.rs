//! Shapes as JSON Schema.

use serde_json::{Map, Value, json};

use super::{Field, Form, Shape, Text};

/// No control characters (U+0000–U+001F, U+007F–U+009F).
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// Links as most people write them. Others are taken too, such as `mailto:`; what this says is taken
/// for sure.
const LINK: &str = r"^(https?://[^/?#\s\u0000-\u001f\u007f-\u009f][^\s\u0000-\u001f\u007f-\u009f]*|/([^/\\\s\u0000-\u001f\u007f-\u009f][^\s\u0000-\u001f\u007f-\u009f]*)?)$";

impl Shape {
    /// What a reader of JSON Schema sees.
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Text(text) => text.schema(),
            Self::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Self::Time => json!({ "type": "string", "format": "date-time" }),
            Self::Word(words) => json!({ "type": "string", "enum": words }),
            Self::NoOrWord(words) => {
                let words: Vec<_> = std::iter::once(&"").chain(*words).collect();
                json!({ "type": "string", "enum": words })
            }
            Self::Flag => json!({ "type": "boolean" }),
            // Not among an object's properties.
            Self::Fixed => json!(false),
            Self::Any => json!({}),
            Self::Map(most, _) => {
                let mut schema = json!({ "type": "object" });
                if *most < usize::MAX {
                    schema["maxProperties"] = json!(most);
                }
                schema
            }
            Self::Named(item, most) => json!({
                "type": "object", "additionalProperties": item.schema(), "maxProperties": most,
            }),
            Self::List(item, min, max) => {
                let mut schema =
                    json!({ "type": "array", "items": item.schema(), "maxItems": max });
                if *min > 0 {
                    schema["minItems"] = json!(min);
                }
                schema
            }
            Self::Object(fields) => object(fields),
            Self::OneOf(names, fields) => {
                let mut schema = object(fields);
                let given = |name: &&str| {
                    json!({ "required": [name],
                        "properties": { *name: { "not": { "type": "null" } } } })
                };
                schema["oneOf"] = names.iter().map(given).collect();
                schema
            }
            Self::Lenient(shape) => json!({ "anyOf": [shape.schema(), {}] }),
        }
    }
}

impl Text {
    fn schema(self) -> Value {
        // JSON Schema counts characters. A text has at least as many bytes, so that this says
        // nothing wrong, and the sentence says the rest.
        let mut schema = json!({ "type": "string" });
        if self.max < usize::MAX {
            schema["maxLength"] = json!(self.max);
        }
        if self.min > 0 {
            schema["minLength"] = json!(1);
        }
        let pattern = match self.form {
            Form::Any => return schema,
            Form::Line => LINE,
            Form::Link if self.min == 0 => {
                schema["anyOf"] = json!([{ "maxLength": 0 }, { "pattern": LINK }]);
                return schema;
            }
            Form::Link => LINK,
            Form::Pattern(pattern) => pattern,
        };
        schema["pattern"] = json!(pattern);
        schema
    }
}

impl Field {
    /// The field's schema with its description; null is allowed where it may be left out.
    pub(crate) fn schema(&self) -> Value {
        let mut schema = self.shape.schema();
        schema["description"] = json!(self.description());
        if !self.required {
            allow_null(&mut schema);
        }
        schema
    }

    /// What it is, and its limit in bytes, which JSON Schema has no word for.
    pub(crate) fn description(&self) -> String {
        match self.shape {
            Shape::Text(text) if text.max < usize::MAX => {
                format!("{} At most {} bytes.", self.about, text.max)
            }
            Shape::Map(_, bytes) if bytes < usize::MAX => {
                format!("{} At most {bytes} bytes as JSON.", self.about)
            }
            Shape::Text(_)
            | Shape::Whole(..)
            | Shape::Time
            | Shape::Word(_)
            | Shape::NoOrWord(_)
            | Shape::Flag
            | Shape::Fixed
            | Shape::Any
            | Shape::Map(..)
            | Shape::Named(..)
            | Shape::List(..)
            | Shape::Object(_)
            | Shape::OneOf(..)
            | Shape::Lenient(_) => self.about.to_owned(),
        }
    }
}

fn allow_null(schema: &mut Value) {
    if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
}

fn object(fields: &[Field]) -> Value {
    let properties: Map<_, _> = fields
        .iter()
        .filter(|field| !matches!(field.shape, Shape::Fixed))
        .map(|field| (field.name.to_owned(), field.schema()))
        .collect();
    let required: Vec<_> =
        fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema =
        json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::super::{ID, NO_OR_LINK, may, must, text};
    use super::*;
    use crate::api::shape::problems;

    const SHAPE: Shape = Shape::Object(&[
        must("id", ID, "Which."),
        may("link", NO_OR_LINK, "Where."),
        may("words", Shape::List(&Shape::Word(&["a", "b"]), 1, 2), "Which of them."),
        may("kind", Shape::NoOrWord(&["a"]), "Which kind."),
        may("any", Shape::Lenient(&text(3)), "Perhaps a text."),
        may("count", Shape::Whole(1, 10), "How many."),
    ]);

    #[test]
    fn a_schema_says_what_the_shape_says() {
        let schema = jsonschema::draft202012::new(&SHAPE.schema()).unwrap();
        for good in [
            json!({"id": "a"}),
            json!({"id": "张", "link": null, "kind": "", "any": [1], "count": 10}),
            json!({"id": "a", "link": "", "words": ["a", "b"], "kind": "a"}),
            json!({"id": "a", "link": "/", "kind": null}),
            json!({"id": "a", "link": "https://example.com/a?b#c"}),
        ] {
            assert!(schema.is_valid(&good), "{good}");
            assert!(problems(&good, &SHAPE).is_empty(), "{good}");
        }
        for bad in [
            json!({}),
            json!({"id": null}),
            json!({"id": ""}),
            json!({"id": "a\u{1f}"}),
            json!({"id": "x".repeat(129)}),
            json!({"id": "a", "link": "//host"}),
            json!({"id": "a", "link": "javascript:x"}),
            json!({"id": "a", "words": []}),
            json!({"id": "a", "words": ["c"]}),
            json!({"id": "a", "kind": "b"}),
            json!({"id": "a", "count": 11}),
            json!({"id": "a", "other": 1}),
        ] {
            assert!(!schema.is_valid(&bad), "{bad}");
        }
        assert!(
            SHAPE.schema()["properties"]["id"]["description"].as_str().unwrap().contains("128")
        );
    }
}
