//! What lists ask of messages' metadata: which values, and which bodies have them. The same for every
//! store, so that all of them find the same.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest key that can be asked for, in bytes: like an id, it is a name, not a text. Longer ones are in no
/// index.
pub const METADATA_KEY_BYTES_MAX: usize = 128;

/// Longest value that can be asked for, in bytes: an id of the sender's own, such as an order's number, fits.
pub const METADATA_VALUE_BYTES_MAX: usize = 128;

/// Most values that one list may ask for: each is a look into the index.
pub const METADATA_ASKED_MAX: usize = 4;

/// A value cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// There is no colon, or nothing in front of it.
    #[error("must be key:value")]
    Form,
    /// The key is longer than [`METADATA_KEY_BYTES_MAX`].
    #[error("must have a key of at most {METADATA_KEY_BYTES_MAX} bytes, has {0}")]
    Key(usize),
    /// The value is longer than [`METADATA_VALUE_BYTES_MAX`].
    #[error("must have a value of at most {METADATA_VALUE_BYTES_MAX} bytes, has {0}")]
    Value(usize),
    /// It has a NUL in it, which PostgreSQL's `jsonb` cannot hold.
    #[error("must have no character U+0000")]
    Nul,
}

/// One member that the metadata of a message must have: a text as it is, a number, `true`, `false` and `null`
/// by their JSON. Objects and lists are never equal to anything, nor is a text with U+0000 in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataIs {
    key: String,
    value: String,
}

impl MetadataIs {
    /// Reads `key:value`. The key ends at the first colon: one that has a colon cannot be asked for.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let (key, value) = text.split_once(':').ok_or(MetadataError::Form)?;
        if key.is_empty() {
            return Err(MetadataError::Form);
        }
        if key.len() > METADATA_KEY_BYTES_MAX {
            return Err(MetadataError::Key(key.len()));
        }
        if value.len() > METADATA_VALUE_BYTES_MAX {
            return Err(MetadataError::Value(value.len()));
        }
        if text.contains('\0') {
            return Err(MetadataError::Nul);
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }

    /// The member's name.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// What it must be.
    pub(crate) fn value(&self) -> &str {
        &self.value
    }
}

/// Metadata of a stored body, unread: most of it is never looked at.
#[derive(Debug, Deserialize)]
struct Unread<'a> {
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The members of a body's metadata. A body that cannot be read has none: whoever lists it reports it.
fn members(json: &str) -> Members<'_> {
    let unread = serde_json::from_str::<Unread<'_>>(json).ok();
    match unread.and_then(|body| body.metadata) {
        Some(metadata) if metadata.get() != "{}" => {
            serde_json::from_str(metadata.get()).unwrap_or_default()
        }
        _ => Members::new(),
    }
}

/// What a member is compared by.
fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'{' | b'[' => None,
        b'"' => serde_json::from_str::<String>(json).ok().map(Cow::Owned),
        _ => Some(Cow::Borrowed(json)),
    }
}

/// Whether a stored body has all that is asked for.
pub(crate) fn has_all(json: &str, asked: &[MetadataIs]) -> bool {
    let members = members(json);
    asked.iter().all(|asked| {
        members.get(asked.key()).and_then(|value| text_of(value)).as_deref() == Some(asked.value())
    })
}

/// All that could be asked for of a stored body, as a JSON object of texts; none where that is nothing. What
/// is too long to be asked for is left out: it would only make an index large.
pub(crate) fn askable(json: &str) -> Option<String> {
    let mut texts = BTreeMap::new();
    for (key, value) in members(json) {
        if key.is_empty() || key.len() > METADATA_KEY_BYTES_MAX || key.contains([':', '\0']) {
            continue;
        }
        let text = text_of(value).filter(|text| text.len() <= METADATA_VALUE_BYTES_MAX);
        if let Some(text) = text.filter(|text| !text.contains('\0')) {
            texts.insert(key, text);
        }
    }
    let json = || serde_json::to_string(&texts).expect("an object of texts can be written");
    (!texts.is_empty()).then(json)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body(metadata: &Value) -> String {
        json!({"id": "m", "title": "\"metadata\":{\"a\":\"b\"}", "metadata": metadata, "actions": []})
            .to_string()
    }

    #[test]
    fn a_value_is_asked_for_by_key_and_colon() {
        let asked = |text: &str| {
            MetadataIs::parse(text).map(|asked| (asked.key().to_owned(), asked.value().to_owned()))
        };
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(asked("a:b"), pair("a", "b"));
        assert_eq!(asked("url:http://x:1"), pair("url", "http://x:1"));
        assert_eq!(asked("a:"), pair("a", ""));
        for wrong in ["", "a", ":b", ":"] {
            assert_eq!(asked(wrong), Err(MetadataError::Form), "{wrong}");
        }
        let long = "值".repeat(43);
        assert!(asked(&format!("{}:{}", "k".repeat(128), "v".repeat(128))).is_ok());
        assert_eq!(asked(&format!("{long}:v")), Err(MetadataError::Key(129)));
        assert_eq!(asked(&format!("k:{long}")), Err(MetadataError::Value(129)));
        assert_eq!(asked("a:b\0"), Err(MetadataError::Nul));
    }

    #[test]
    fn what_has_a_value_and_what_can_be_asked_for_are_one() {
        let metadata = json!({
            "text": "x y", "": "e", "number": 42, "half": 2.5, "one": 1.0, "large": 1e30, "yes": true,
            "none": null, "object": {"a": "b"}, "list": ["a"], "a:b": "c", "nul": "a\u{0}", "引\"号\\": "\n",
            "long": "v".repeat(129), "k".repeat(129): "v", "empty": "",
        });
        let json = body(&metadata);
        let askable: BTreeMap<String, String> =
            serde_json::from_str(&askable(&json).unwrap()).unwrap();
        let expected = [
            ("empty", ""),
            ("half", "2.5"),
            ("large", "1e+30"),
            ("none", "null"),
            ("number", "42"),
            ("one", "1.0"),
            ("text", "x y"),
            ("yes", "true"),
            ("引\"号\\", "\n"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(askable, expected.into());
        for (key, value) in &askable {
            let asked = MetadataIs::parse(&format!("{key}:{value}")).unwrap();
            assert!(has_all(&json, &[asked]), "{key}");
        }
        for other in ["text:x", "number:42.0", "one:1", "yes:TRUE", "object:[object Object]", "a:b"]
        {
            assert!(!has_all(&json, &[MetadataIs::parse(other).unwrap()]), "{other}");
        }
        let both = ["number:42", "yes:false"].map(|text| MetadataIs::parse(text).unwrap());
        assert!(has_all(&json, &both[..1]) && !has_all(&json, &both));
    }

    #[test]
    fn nothing_is_asked_for_of_what_has_none() {
        for json in [body(&json!({})), body(&json!({"a": {}})), "{}".to_owned(), "x".to_owned()] {
            assert_eq!(askable(&json), None, "{json}");
            assert!(!has_all(&json, &[MetadataIs::parse("a:b").unwrap()]), "{json}");
        }
    }
}
