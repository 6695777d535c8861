//! What request bodies look like, for telling what is wrong with one.
//!
//! Good requests never come here: serde reads them straight into structs. Only when that fails is the
//! body read again as a tree and held against its shape, to name every field at fault.

use protocol::{FieldProblem, Time};
use serde_json::Value;

use crate::nearest::{NAME_CHARS_MAX, nearest};

/// Most problems that are told at once.
const PROBLEMS_MAX: usize = 50;

/// The shape of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Text,
    Whole,
    Time,
    /// One of these words.
    Word(&'static [&'static str]),
    /// True or false.
    Flag,
    /// Known, but what it says stands since the message was sent.
    Fixed,
    Any,
    /// An object with any fields.
    Map,
    /// An object with any names and these values.
    Named(&'static Shape),
    List(&'static Shape),
    Object(&'static [Field]),
}

/// A field of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    shape: Shape,
    required: bool,
}

/// A field that may be missing or null.
pub(crate) const fn may(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: false }
}

/// A field that must be there.
pub(crate) const fn must(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: true }
}

/// Everything in which `value` differs from `shape`.
pub(crate) fn problems(value: &Value, shape: &Shape) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    compare(value, shape, "", &mut found);
    found
}

fn compare(value: &Value, shape: &Shape, path: &str, found: &mut Vec<FieldProblem>) {
    if found.len() >= PROBLEMS_MAX {
        return;
    }
    let mut say = |path: &str, problem: String| {
        let path = if path.is_empty() { "body" } else { path };
        found.push(FieldProblem { path: path.to_owned(), problem });
    };
    match (shape, value) {
        (Shape::Any, _) | (Shape::Text, Value::String(_)) | (Shape::Map, Value::Object(_)) => {}
        (Shape::Whole, Value::Number(number)) if number.is_i64() || number.is_u64() => {
            if number.as_i64().is_none_or(|number| number < 0) {
                say(path, "is out of range".to_owned());
            }
        }
        (Shape::Time, Value::String(text)) => {
            if let Err(error) = Time::parse(text) {
                say(path, error.to_string());
            }
        }
        (Shape::Word(words), Value::String(text)) => {
            if !words.contains(&text.as_str()) {
                say(path, format!("must be one of {}", words.join(", ")));
            }
        }
        (Shape::Flag, Value::Bool(_)) => {}
        (Shape::Named(item), Value::Object(object)) => {
            for (name, value) in object {
                let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
                let path = if path.is_empty() { shown } else { format!("{path}.{shown}") };
                compare(value, item, &path, found);
            }
        }
        (Shape::List(item), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                compare(value, item, &format!("{path}[{index}]"), found);
            }
        }
        (Shape::Object(fields), Value::Object(object)) => {
            let below = |name: &str| {
                if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
            };
            for (name, value) in object {
                match fields.iter().find(|field| field.name == name) {
                    Some(field) if value.is_null() && !field.required => {}
                    Some(field) => compare(value, &field.shape, &below(name), found),
                    None => {
                        let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
                        let problem = unknown(name, fields.iter().map(|field| field.name));
                        found.push(FieldProblem { path: below(&shown), problem });
                    }
                }
            }
            for field in *fields {
                if field.required && !object.contains_key(field.name) {
                    let problem = "is missing".to_owned();
                    found.push(FieldProblem { path: below(field.name), problem });
                }
            }
        }
        (Shape::Fixed, _) => {
            say(path, "cannot be changed any more; recall the message and send another".to_owned());
        }
        (Shape::Text | Shape::Word(_), _) => say(path, "must be a text".to_owned()),
        (Shape::Whole, _) => say(path, "must be a whole number".to_owned()),
        (Shape::Time, _) => {
            say(path, "must be an RFC 3339 time such as 2025-01-15T10:30:00Z".to_owned());
        }
        (Shape::Flag, _) => say(path, "must be true or false".to_owned()),
        (Shape::Map | Shape::Named(_) | Shape::Object(_), _) => {
            say(path, "must be an object".to_owned())
        }
        (Shape::List(_), _) => say(path, "must be a list".to_owned()),
    }
}

/// The sentence for a name that is not known: it names the nearest one that is.
pub(crate) fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    match nearest(name, known) {
        Some(nearest) => format!("is not known; the nearest known name is {nearest}"),
        None => "is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ADDRESS: Shape =
        Shape::Object(&[must("street", Shape::Text), may("number", Shape::Whole)]);
    const PERSON: Shape = Shape::Object(&[
        must("name", Shape::Text),
        may("born", Shape::Time),
        may("addresses", Shape::List(&ADDRESS)),
        may("kind", Shape::Word(&["a", "b"])),
        may("more", Shape::Map),
    ]);

    fn paths(value: &Value) -> Vec<String> {
        problems(value, &PERSON).into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn every_problem_is_found_at_its_path() {
        assert_eq!(paths(&json!({"name": "a", "born": null, "more": {"x": [1]}})), [""; 0]);
        assert_eq!(paths(&json!([])), ["body"]);
        assert_eq!(
            paths(&json!({"nam": 1, "born": "x", "addresses": [{"street": 1, "number": 1.5}, 3],
                "kind": "c", "more": []})),
            [
                "addresses[0].number",
                "addresses[0].street",
                "addresses[1]",
                "born",
                "kind",
                "more",
                "nam",
                "name"
            ]
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let said = problems(&json!({"name": "a", "adresses": []}), &PERSON);
        assert_eq!(said[0].problem, "is not known; the nearest known name is addresses");
    }
}
