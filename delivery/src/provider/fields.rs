//! What stands in a provider's answer, and what becomes of it here.

use serde_json::{Map, Value};

use super::{ProviderError, Vouched, error::Named};
use crate::account::ProviderIdentity;

/// Longest id of a person at a provider, in bytes (OpenID Connect Core §2 has 255 characters).
const SUBJECT_BYTES_MAX: usize = 255;

/// Longest name that is taken over, in bytes: what is longer is cut.
const NAME_BYTES_MAX: usize = 128;

/// Longest address of mail or of a picture that is taken over, in bytes: what is longer is left out,
/// because half of it would be another.
const ADDRESS_BYTES_MAX: usize = 1_024;

/// An object of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    /// Of an object; tests have no other way to one.
    #[cfg(test)]
    pub(crate) fn of(value: Value) -> Self {
        match value {
            Value::Object(object) => Self(object),
            _ => panic!("an object"),
        }
    }

    /// What stands at a path such as `data.emails.0.value`. A name with a dot in it is found as well: claims
    /// are often called by URLs.
    pub(crate) fn at(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(path) {
            return Some(value);
        }
        let mut steps = path.split('.');
        let first = self.0.get(steps.next()?)?;
        steps.try_fold(first, |value, step| match value {
            Value::Object(object) => object.get(step),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// A text, or a number as one; never an empty one.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        match self.at(path)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The first of these that is there: some providers write the same name in two ways.
    pub(super) fn any_text(&self, paths: &[&str]) -> Option<String> {
        paths.iter().find_map(|path| self.text(path))
    }

    /// True, also as a text: some providers quote it.
    pub(super) fn flag(&self, path: &str) -> bool {
        match self.at(path) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }

    pub(super) fn number(&self, path: &str) -> Option<i64> {
        self.at(path)?.as_i64()
    }
}

/// Somebody at a provider, on the way to being somebody here.
pub(super) struct Person {
    pub(super) subject: String,
    pub(super) username: String,
    pub(super) name: String,
    /// Empty unless it was checked.
    pub(super) email: String,
    pub(super) avatar: String,
    /// What else this provider calls them.
    pub(super) more: Vec<(&'static str, Option<String>)>,
}

impl Person {
    /// Takes over what can be used. Whatever a provider says goes into a database, tokens and pages.
    pub(super) fn known_as(self, named: &Named) -> Result<Vouched, ProviderError> {
        let is_id = (1..=SUBJECT_BYTES_MAX).contains(&self.subject.len())
            && !self.subject.chars().any(char::is_control);
        if !is_id {
            return Err(named.nonsense("no id of a person"));
        }
        let address = |text: String| {
            let legal = text.len() <= ADDRESS_BYTES_MAX && !text.chars().any(char::is_control);
            if legal { text } else { String::new() }
        };
        let avatar = address(self.avatar);
        let is_web = ["https://", "http://"].iter().any(|scheme| avatar.starts_with(scheme));
        let name = tidy(&self.name);
        let username = tidy(&self.username);
        let attributes = self.more.into_iter().filter_map(|(key, text)| {
            let text = tidy(&text?);
            (!text.is_empty()).then(|| (key.to_owned(), Value::String(text)))
        });
        let identity = ProviderIdentity {
            provider: named.0.clone(),
            subject: self.subject,
            name: if name.is_empty() { username.clone() } else { name },
            username,
            email: address(self.email),
            avatar: if is_web { avatar } else { String::new() },
            attributes: attributes.collect(),
        };
        Ok(Vouched { identity, claims: Fields::default() })
    }
}

/// A name in one line, as long as names may be.
fn tidy(text: &str) -> String {
    let mut made = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if made.len() + c.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        made.push(c);
    }
    made
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_through_objects_and_lists() {
        let fields = Fields::of(json!({
            "data": {"id": 7, "emails": [{"value": "a@b.c"}], "ok": "true"},
            "https://example.com/name": "claim", "empty": "",
        }));
        assert_eq!(fields.text("data.id").as_deref(), Some("7"));
        assert_eq!(fields.text("data.emails.0.value").as_deref(), Some("a@b.c"));
        assert_eq!(fields.text("https://example.com/name").as_deref(), Some("claim"));
        assert!(fields.flag("data.ok"));
        for nothing in ["", "data", "data.emails.1.value", "data.id.x", "empty", "none.at.all", "."]
        {
            assert_eq!(fields.text(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_taken_over_is_tidy() {
        let named = Named("github".to_owned());
        let person = |subject: &str| Person {
            subject: subject.to_owned(),
            username: format!(" oc\u{7}to\n{} ", "张".repeat(60)),
            name: String::new(),
            email: format!("{}@example.com", "x".repeat(2_000)),
            avatar: "javascript:alert(1)".to_owned(),
            more: vec![("login", Some("octo".to_owned())), ("none", None)],
        };
        let identity = person("583231").known_as(&named).unwrap().identity;
        assert!(identity.username.starts_with("octo张") && identity.username.len() <= 128);
        assert_eq!(identity.name, identity.username, "a name for people is needed");
        assert_eq!((identity.email.as_str(), identity.avatar.as_str()), ("", ""));
        assert_eq!(identity.attributes, json!({"login": "octo"}).as_object().unwrap().clone());
        for bad in ["", "a\0b", &"x".repeat(256)] {
            assert!(person(bad).known_as(&named).is_err());
        }
    }
}
