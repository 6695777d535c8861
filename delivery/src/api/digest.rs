//! What a body says, as a hash: the same in JSON and MessagePack, whatever the spaces in it and the
//! order of its names. A client that encodes the same request anew repeats it, and must not be told
//! that it said something else.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use sha2::{Digest as _, Sha256};

/// SHA-256 over the value. Made while reading, without a tree of it: a list costs no memory, an
/// object that of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut hasher = Sha256::new();
        Feed(&mut hasher).deserialize(deserializer)?;
        Ok(Self(hasher.finalize().into()))
    }
}

/// Feeds one value to a hash, in a form of which none is the beginning of another.
struct Feed<'a>(&'a mut Sha256);

impl Feed<'_> {
    fn sized(self, tag: u8, bytes: &[u8]) {
        self.0.update([tag]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

impl<'de> DeserializeSeed<'de> for Feed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Feed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.update(b"n");
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.update(if value { b"t" } else { b"f" });
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.update(b"+");
        self.0.update(value.to_be_bytes());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        // MessagePack writes small positive numbers either way.
        if let Ok(value) = u64::try_from(value) {
            return self.visit_u64(value);
        }
        self.0.update(b"-");
        self.0.update(value.to_be_bytes());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.update(b".");
        self.0.update(value.to_bits().to_be_bytes());
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.sized(b's', value.as_bytes());
        Ok(())
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<(), E> {
        self.sized(b'b', value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.update(b"[");
        while items.next_element_seed(Item(&mut *self.0))?.is_some() {}
        self.0.update(b"]");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut named: Vec<(String, Digest)> = Vec::new();
        while let Some(field) = fields.next_entry()? {
            named.push(field);
        }
        named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.0.update(b"{");
        self.0.update((named.len() as u64).to_be_bytes());
        for (name, value) in named {
            Feed(&mut *self.0).sized(b':', name.as_bytes());
            self.0.update(value.0);
        }
        Ok(())
    }
}

/// An item of a list, told apart from the list's end.
struct Item<'a>(&'a mut Sha256);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.update(b",");
        Feed(self.0).deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Digest {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn spaces_order_and_codec_do_not_count() {
        let one = r#"{"a":[1,-2,2.5,null,true,"x"],"b":{"c":"é","d":{}}}"#;
        let same = " {\"b\": {\"d\": { }, \"c\": \"\\u00e9\"},\n\"a\": [1, -2, 25e-1, null, true, \"x\"]} ";
        assert_eq!(of(one), of(same));
        let tree: serde_json::Value = serde_json::from_str(one).unwrap();
        let packed = rmp_serde::to_vec_named(&tree).unwrap();
        assert_eq!(rmp_serde::from_slice::<Digest>(&packed).unwrap(), of(one));
    }

    #[test]
    fn everything_else_counts() {
        let all = [
            "null",
            "true",
            "false",
            "0",
            "1",
            "-1",
            "1.0",
            "\"\"",
            "\"1\"",
            "[]",
            "[[]]",
            "[[],[]]",
            "[[[]]]",
            "[1,2]",
            "[2,1]",
            "[[1],2]",
            "[[1,2]]",
            "{}",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"b":1}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"ab":1}"#,
            r#"["a","b"]"#,
            r#"["ab"]"#,
            "[null]",
            "[{}]",
        ];
        for (index, a) in all.iter().enumerate() {
            for b in &all[index + 1..] {
                assert_ne!(of(a), of(b), "{a} {b}");
            }
        }
    }
}
