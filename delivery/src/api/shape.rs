//! What requests look like, for telling what is wrong with one, and for describing them.
//!
//! Good requests never come here: serde reads them straight into structs. Only when that fails is the
//! body read again as a tree and held against its shape, to name every field at fault. The same
//! shapes are what `/api/v3/openapi.json` says of bodies and parameters ([`Shape::schema`]): the limits
//! in them are the constants that the code behind enforces, and tests made from the description hold
//! the two together.

mod schema;

use protocol::{FieldProblem, Time, limits::ID_BYTES_MAX};
use serde_json::Value;

use crate::nearest::{NAME_CHARS_MAX, nearest};
use crate::send::limits::URL_BYTES_MAX;

/// Most problems that are told at once.
const PROBLEMS_MAX: usize = 50;

/// The shape of a value.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A text.
    Text(Text),
    /// A whole number from one to the other.
    Whole(u64, u64),
    /// RFC 3339.
    Time,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or an empty text for none.
    NoOrWord(&'static [&'static str]),
    /// True or false.
    Flag,
    /// Known, but what it says stands since the message was sent.
    Fixed,
    /// Anything.
    Any,
    /// An object with any fields: at most so many, and at most so many bytes as JSON; `usize::MAX`
    /// where only the body's size is limited.
    Map(usize, usize),
    /// An object with any names and these values, at most so many.
    Named(&'static Shape, usize),
    /// So many of these, from one to the other.
    List(&'static Shape, usize, usize),
    /// An object with these fields and no others.
    Object(&'static [Field]),
    /// The same, and of these fields exactly one is given.
    OneOf(&'static [&'static str], &'static [Field]),
    /// What ought to look like this; what does not is refused by itself, and its neighbours are not.
    Lenient(&'static Shape),
}

/// A text and its limits.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Fewest bytes of UTF-8.
    pub min: usize,
    /// Most bytes of UTF-8; `usize::MAX` where nothing is said, as of headers, which are limited
    /// all together.
    pub max: usize,
    /// What it is made of.
    pub form: Form,
}

/// What a text is made of.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Anything.
    Any,
    /// No control characters.
    Line,
    /// An absolute URL, or a path that begins with one `/`.
    Link,
    /// What a regular expression of ECMA 262 says, from `^` to `$`.
    Pattern(&'static str),
}

/// A text of at most so many bytes.
#[must_use]
pub const fn text(max: usize) -> Shape {
    formed(Form::Any, 0, max)
}

/// A text of 1 to so many bytes.
#[must_use]
pub const fn some_text(max: usize) -> Shape {
    formed(Form::Any, 1, max)
}

/// A text of a form, with its fewest and most bytes.
#[must_use]
pub const fn formed(form: Form, min: usize, max: usize) -> Shape {
    Shape::Text(Text { min, max, form })
}

/// A name for people, as a regular expression: no control characters, and not only spaces.
pub(crate) const NAME_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";

/// An id (contract §11).
pub const ID: Shape = formed(Form::Line, 1, ID_BYTES_MAX);

/// An id, or an empty text for none: a Go program that fills in a struct sends those.
pub const NO_OR_ID: Shape = formed(Form::Line, 0, ID_BYTES_MAX);

/// A link.
pub const LINK: Shape = formed(Form::Link, 1, URL_BYTES_MAX);

/// A link, or an empty text for none.
pub const NO_OR_LINK: Shape = formed(Form::Link, 0, URL_BYTES_MAX);

/// A position in an inbox, or any other number that counts up.
pub const POSITION: Shape = Shape::Whole(0, u64::MAX);

/// A field of an object, or a parameter.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it looks like.
    pub shape: Shape,
    /// Whether it must be there. One that need not be may be null.
    pub required: bool,
    /// What it is, for people.
    pub about: &'static str,
}

/// A field that may be missing or null.
#[must_use]
pub const fn may(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: false, about }
}

/// A field that must be there.
#[must_use]
pub const fn must(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: true, about }
}

/// Writes whole numbers as such where they came with a fraction of nothing, as `230.0`: to JSON and
/// to JSON Schema the two are the same number, to serde they are not. Says whether there were any.
pub(crate) fn settle(value: &mut Value, shape: &Shape) -> bool {
    match (shape, value) {
        (Shape::Whole(..), Value::Number(number)) if number.is_f64() => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && *float >= 0.0);
            // 2^64 and above have no u64.
            match whole.filter(|float| *float < 18_446_744_073_709_551_616.0) {
                Some(float) => {
                    *number = (float as u64).into();
                    true
                }
                None => false,
            }
        }
        (Shape::Named(item, _), Value::Object(object)) => {
            object.values_mut().fold(false, |any, value| settle(value, item) | any)
        }
        (Shape::List(item, ..), Value::Array(items)) => {
            items.iter_mut().fold(false, |any, value| settle(value, item) | any)
        }
        (Shape::Object(fields) | Shape::OneOf(_, fields), Value::Object(object)) => {
            fields.iter().fold(false, |any, field| {
                let value = object.get_mut(field.name);
                value.is_some_and(|value| settle(value, &field.shape)) | any
            })
        }
        _ => false,
    }
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
        (Shape::Any | Shape::Lenient(_), _)
        | (Shape::Text(_), Value::String(_))
        | (Shape::Map(..), Value::Object(_))
        | (Shape::Flag, Value::Bool(_)) => {}
        (Shape::Whole(min, max), Value::Number(number)) if number.is_i64() || number.is_u64() => {
            if number.as_u64().is_none_or(|number| !(*min..=*max).contains(&number)) {
                say(path, format!("must be {min} to {max}"));
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
        (Shape::NoOrWord(words), Value::String(text)) => {
            if !text.is_empty() && !words.contains(&text.as_str()) {
                say(path, format!("must be one of {}", words.join(", ")));
            }
        }
        (Shape::Named(item, _), Value::Object(object)) => {
            for (name, value) in object {
                let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
                let path = if path.is_empty() { shown } else { format!("{path}.{shown}") };
                compare(value, item, &path, found);
            }
        }
        (Shape::List(item, ..), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                compare(value, item, &format!("{path}[{index}]"), found);
            }
        }
        (Shape::Object(fields) | Shape::OneOf(_, fields), Value::Object(object)) => {
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
        (Shape::Text(_) | Shape::Word(_) | Shape::NoOrWord(_), _) => {
            say(path, "must be a text".to_owned())
        }
        (Shape::Whole(..), _) => say(path, "must be a whole number".to_owned()),
        (Shape::Time, _) => {
            say(path, "must be an RFC 3339 time such as 2025-01-15T10:30:00Z".to_owned());
        }
        (Shape::Flag, _) => say(path, "must be true or false".to_owned()),
        (Shape::Map(..) | Shape::Named(..) | Shape::Object(_) | Shape::OneOf(..), _) => {
            say(path, "must be an object".to_owned())
        }
        (Shape::List(..), _) => say(path, "must be a list".to_owned()),
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

    const ADDRESS: Shape = Shape::Object(&[
        must("street", text(10), "Where."),
        may("number", Shape::Whole(1, 99), "Which house."),
    ]);
    const PERSON: Shape = Shape::Object(&[
        must("name", text(10), "Who."),
        may("born", Shape::Time, "When."),
        may("addresses", Shape::List(&ADDRESS, 0, 2), "Where to write."),
        may("kind", Shape::Word(&["a", "b"]), "Of two."),
        may("more", Shape::Map(9, 99), "Anything."),
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
    fn whole_numbers_may_be_written_with_a_fraction_of_nothing() {
        let mut good = json!({"name": "a", "addresses": [{"street": "b", "number": 7.0}]});
        assert!(settle(&mut good, &PERSON));
        assert_eq!(good["addresses"][0]["number"], json!(7));
        for number in [json!(7.5), json!(-1.0), json!(1e300), json!("7.0"), json!(7)] {
            let mut other = json!({"addresses": [{"number": number}]});
            assert!(!settle(&mut other, &PERSON), "{number}");
            assert_eq!(other["addresses"][0]["number"], number);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let said = problems(&json!({"name": "a", "adresses": []}), &PERSON);
        assert_eq!(said[0].problem, "is not known; the nearest known name is addresses");
    }
}
