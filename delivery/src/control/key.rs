//! API keys: `phk_<id>_<secret><checksum>`.
//!
//! The checksum tells a key of ours from a typo or a fake without a look-up, and a scanner of leaked
//! secrets a key from a text that looks like one, without asking anybody. It is no secret and opens nothing.

use std::{fmt, time::Duration};

use protocol::{FieldProblem, ServiceId, Time};
use rand::RngExt;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::TEXT_BYTES_MAX;
use crate::{
    networks::{NETWORKS_MAX, Networks},
    object,
};

/// What every key begins with, so that secret scanners find one that leaked.
pub const PREFIX: &str = "phk_";

/// Characters of a key's id: 71 bits, so that two never meet.
const ID_LENGTH: usize = 12;

/// Characters of the secret: 62^43 is just over 2^256.
const SECRET_LENGTH: usize = 43;

/// Characters of the checksum: 62^6 is more than 2^32. Keys that were made before there was one have
/// none, and stay good.
const CHECKSUM_LENGTH: usize = 6;

/// How long a key that is replaced goes on, unless asked otherwise.
pub const KEY_OVERLAP: Duration = Duration::from_secs(86_400);

/// How long it may go on at most.
pub const KEY_OVERLAP_MAX: Duration = Duration::from_secs(30 * 86_400);

/// No `_` among them: it separates the parts.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// SHA-256 of a secret. A slow hash would buy nothing: the secret is random, not chosen.
#[derive(Clone, Copy)]
pub(super) struct SecretHash(pub(super) [u8; 32]);

impl SecretHash {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// In constant time, so that the answer's delay tells nothing about the hash.
    pub(super) fn matches(&self, secret: &str) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }
}

/// What is known of a key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApiKey {
    /// The part between the first and the second `_`.
    pub id: String,
    /// Whose.
    pub service_id: ServiceId,
    /// What people call it; may be empty.
    pub name: String,
    /// From where it may be used, beside what the service allows; empty for everywhere.
    pub allowed_networks: Networks,
    /// When it was made.
    pub created_at: Time,
    /// When it ends; none for a key that lives until it is revoked.
    pub expires_at: Option<Time>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Time>,
    /// The address it was used from then.
    pub last_used_from: Option<String>,
    /// The id of the key that was made in its place.
    pub replaced_by: Option<String>,
}

impl ApiKey {
    /// Whether its time is over.
    pub(super) fn has_expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// A key to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewKey {
    /// What people call it, at most [`TEXT_BYTES_MAX`] bytes.
    #[serde(deserialize_with = "object::or_default")]
    pub name: String,
    /// When it ends; never unless said.
    pub expires_at: Option<Time>,
    /// From where it may be used, at most [`NETWORKS_MAX`]; everywhere unless said.
    #[serde(deserialize_with = "object::or_default")]
    pub allowed_networks: Vec<String>,
}

/// What may be changed of a key; what is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyChanges {
    /// What people call it.
    pub name: Option<String>,
    /// From where it may be used.
    pub allowed_networks: Option<Vec<String>>,
}

/// How a key is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// How long the old one goes on, unless it ends before that; cut to [`KEY_OVERLAP_MAX`].
    pub overlap: Duration,
    /// When the new one ends. Unless said it lives as long as the old one was made for.
    pub expires_at: Option<Time>,
}

/// The networks of a list, or what is wrong with it.
pub(super) fn networks(list: &[String], mut say: impl FnMut(&str, String)) -> Networks {
    const NAME: &str = "allowed_networks";
    match Networks::of(list) {
        Ok(networks) => return networks,
        Err(bad) if bad.is_empty() => {
            say(NAME, format!("must have at most {NETWORKS_MAX} entries"));
        }
        Err(bad) => {
            for at in bad {
                let problem = "must be an address or a network such as 10.0.0.0/8 or fd00::/8";
                say(&format!("{NAME}[{at}]"), problem.to_owned());
            }
        }
    }
    Networks::default()
}

/// A name for people that may be empty.
pub(super) fn check_name(name: &str, mut say: impl FnMut(&str, String)) {
    if name.len() > TEXT_BYTES_MAX {
        say("name", format!("must have at most {TEXT_BYTES_MAX} bytes"));
    }
    if name.chars().any(char::is_control) {
        say("name", "must not contain control characters".to_owned());
    }
}

impl NewKey {
    /// Checks what is said; its networks.
    pub(super) fn check(&self) -> Result<Networks, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |path: &str, problem: String| {
            problems.push(FieldProblem { path: path.to_owned(), problem });
        };
        check_name(&self.name, &mut say);
        let networks = networks(&self.allowed_networks, &mut say);
        if problems.is_empty() { Ok(networks) } else { Err(problems) }
    }
}

impl KeyChanges {
    /// Changes a key.
    pub(super) fn apply(self, key: &mut ApiKey) -> Result<(), Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let mut say = |path: &str, problem: String| {
            problems.push(FieldProblem { path: path.to_owned(), problem });
        };
        if let Some(name) = self.name {
            check_name(&name, &mut say);
            key.name = name;
        }
        if let Some(list) = self.allowed_networks {
            key.allowed_networks = networks(&list, &mut say);
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// A key as it is shown once, to whoever made it.
#[derive(Clone)]
pub struct ApiKeyOnce {
    /// What is kept.
    pub key: ApiKey,
    /// The whole key. Not kept.
    pub secret: SecretString,
}

impl fmt::Debug for ApiKeyOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyOnce").field("key", &self.key).field("secret", &"***").finish()
    }
}

impl ApiKeyOnce {
    /// A key of this service that nothing else is said of.
    pub(super) fn generate(service_id: ServiceId, created_at: Time) -> (Self, SecretHash) {
        let id = random_text(ID_LENGTH);
        let mut whole = format!("{PREFIX}{id}_{}", random_text(SECRET_LENGTH));
        whole.push_str(&checksum(&whole));
        let hash = SecretHash::of(&whole[PREFIX.len() + ID_LENGTH + 1..]);
        let key = ApiKey {
            id,
            service_id,
            name: String::new(),
            allowed_networks: Networks::default(),
            created_at,
            expires_at: None,
            last_used_at: None,
            last_used_from: None,
            replaced_by: None,
        };
        (Self { key, secret: SecretString::from(whole) }, hash)
    }

    /// The whole key, to be shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// Splits a key into id and secret, which includes the checksum; none for what cannot be one of ours.
pub(super) fn parse(key: &str) -> Option<(&str, &str)> {
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if id.len() != ID_LENGTH || !plain(id) || !plain(secret) {
        return None;
    }
    let good = match secret.len().checked_sub(SECRET_LENGTH)? {
        0 => true,
        CHECKSUM_LENGTH => {
            let (random, sum) = key.split_at(key.len() - CHECKSUM_LENGTH);
            checksum(random) == sum
        }
        _ => false,
    };
    good.then_some((id, secret))
}

/// The first 32 bits of SHA-256 of all that stands before, as six digits of [`ALPHABET`]. Not CRC-32, for
/// which each reader would need code of its own.
fn checksum(before: &str) -> String {
    let digest = Sha256::digest(before.as_bytes());
    let mut rest = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) as usize;
    let mut digits = [0; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    digits.map(char::from).iter().collect()
}

fn random_text(length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> ApiKeyOnce {
        ApiKeyOnce::generate(ServiceId::new("a").unwrap(), Time::from_millis(0)).0
    }

    #[test]
    fn a_checksum_is_what_others_compute_from_the_readme() {
        // By Python's hashlib.
        let before = "phk_Ab3dEf6hIj9k_0123456789012345678901234567890123456789012";
        assert_eq!(checksum(before), "AOsVzn");
        assert!(parse(&format!("{before}AOsVzn")).is_some());
    }

    #[test]
    fn a_typo_is_told_from_a_key() {
        let key = made();
        let whole = key.expose();
        assert_eq!(parse(whole).unwrap().0, key.key.id);
        for at in PREFIX.len()..whole.len() {
            let mut typo = whole.to_owned();
            typo.replace_range(at..=at, if &whole[at..=at] == "a" { "b" } else { "a" });
            assert!(parse(&typo).is_none(), "{typo}");
        }
        assert!(parse(&whole[..whole.len() - 1]).is_none());
        // One of before: nothing can be said of it.
        assert!(parse(&whole[..whole.len() - CHECKSUM_LENGTH]).is_some());
    }
}
