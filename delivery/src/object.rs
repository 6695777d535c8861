//! Structs that are objects and nothing else, and words that are texts and nothing else.
//!
//! What `derive(Deserialize)` makes also reads a list, field by field: `["c1", "title", …]` would be
//! a message, and a request of the wrong shape would be taken instead of refused.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, value::MapAccessDeserializer},
};

/// A `T` that was written as an object.
#[derive(Clone, Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

/// For `#[serde(deserialize_with)]`: an object.
pub(crate) fn one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Object::deserialize(deserializer)?.0)
}

/// For `#[serde(deserialize_with)]`: an object or null.
pub(crate) fn maybe<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

/// For `#[serde(deserialize_with)]`: an object, or null, which means the same as leaving it out.
pub(crate) fn maybe_one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(maybe(deserializer)?.unwrap_or_default())
}

/// For `#[serde(deserialize_with)]`: a list of objects or null.
pub(crate) fn maybe_list<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Option::<Vec<Object<T>>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().map(|object| object.0).collect()))
}

/// For `#[serde(deserialize_with)]`: an object of objects, or null.
pub(crate) fn maybe_map<'de, D, T>(deserializer: D) -> Result<Option<BTreeMap<String, T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let map = Option::<BTreeMap<String, Object<T>>>::deserialize(deserializer)?;
    Ok(map.map(|map| map.into_iter().map(|(name, object)| (name, object.0)).collect()))
}

/// For `#[serde(deserialize_with)]`: null means the same as leaving it out.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads one of these words. What `derive(Deserialize)` makes of an enum also takes the number of a
/// variant, in MessagePack.
pub(crate) fn word<'de, D, T>(deserializer: D, words: &[(&str, T)]) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Copy,
{
    let text = String::deserialize(deserializer)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        D::Error::custom(format_args!("must be one of {}", words.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Inner {
        a: u8,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Outer {
        #[serde(deserialize_with = "maybe")]
        one: Option<Inner>,
        #[serde(deserialize_with = "maybe_list")]
        many: Option<Vec<Inner>>,
    }

    #[test]
    fn numbers_are_no_words() {
        #[derive(Debug)]
        struct Word(u8);
        impl<'de> Deserialize<'de> for Word {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                word(deserializer, &[("a", 1), ("b", 2)]).map(Self)
            }
        }
        let read = |value: &serde_json::Value| {
            rmp_serde::from_slice::<Word>(&rmp_serde::to_vec(value).unwrap())
        };
        assert_eq!(read(&serde_json::json!("b")).unwrap().0, 2);
        let refused = read(&serde_json::json!("c")).unwrap_err().to_string();
        assert!(refused.contains("a, b"), "{refused}");
        assert!(read(&serde_json::json!(0)).is_err());
    }

    #[test]
    fn lists_are_no_objects() {
        let read = |json: &str| serde_json::from_str::<Object<Outer>>(json);
        let Object(good) = read(r#"{"one": {"a": 1}, "many": [{"a": 2}]}"#).unwrap();
        assert_eq!((good.one.unwrap().a, good.many.unwrap()[0].a), (1, 2));
        assert!(read(r#"{"one": null, "many": null}"#).is_ok() && read("{}").is_ok());
        for bad in ["[]", r#"[{"a": 1}, []]"#, r#"{"one": [1]}"#, r#"{"many": [[1]]}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
