//! How entries hold together.
//!
//! The hash of an entry is SHA-256 of the hash of the entry before it, as 64 hexadecimal digits, a line feed,
//! and this JSON array without white space, in UTF-8:
//! `[seq, id, at, tenant_id, actor_kind, actor_id, actor_name, address, request_id, action, target, status,
//! detail]`, `at` in milliseconds since 1970, `detail` a text with JSON in it, null where there is none. The hash
//! before the first entry is 64 zeros. So anybody can compute it without this program.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::entry::Row;

/// The hash before the first entry.
pub const FIRST: Hash = Hash([0; 32]);

/// A hash of the chain; written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Hash(pub(super) [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 64 hexadecimal digits")]
pub struct NoHash;

impl FromStr for Hash {
    type Err = NoHash;
    fn from_str(text: &str) -> Result<Self, NoHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(NoHash);
        }
        let mut hash = [0; 32];
        for (byte, index) in hash.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[index..index + 2], 16).map_err(|_| NoHash)?;
        }
        Ok(Self(hash))
    }
}

/// The hash of an entry that comes after one of this hash.
pub(super) fn hash(previous: Hash, row: &Row<'_>) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(previous.to_string());
    hasher.update(b"\n");
    hasher.update(serde_json::to_vec(row).expect("texts and numbers"));
    Hash(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `printf '%064d\n%s' 0 '[…]' | sha256sum`.
    #[test]
    fn the_hash_is_what_the_description_says() {
        let row = Row(
            1,
            "id-1",
            1_700_000_000_000,
            Some("acme"),
            "admin",
            "adm-1",
            "小美",
            "10.0.0.1",
            "req-1",
            "services_update",
            "services/orders",
            200,
            Some(r#"{"before":{"name":"a"},"after":{"name":"b"}}"#),
        );
        let text = r#"[1,"id-1",1700000000000,"acme","admin","adm-1","小美","10.0.0.1","req-1","services_update","services/orders",200,"{\"before\":{\"name\":\"a\"},\"after\":{\"name\":\"b\"}}"]"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), text);
        let expected = Sha256::digest(format!("{}\n{text}", "0".repeat(64)));
        assert_eq!(hash(FIRST, &row), Hash(expected.into()));
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let hash = Hash(Sha256::digest(b"x").into());
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in ["", "0", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(wrong.parse::<Hash>(), Err(NoHash), "{wrong}");
        }
    }
}
