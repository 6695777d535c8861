//! Keys, and what is encrypted with them.
//!
//! A key encrypts no message itself: each process derives one from it (HKDF-SHA256, RFC 5869) with a random salt
//! that goes with every text, and another one after [`PER_SUBKEY`] texts. So the limit of AES-GCM with random
//! nonces, 2³² texts for a key (NIST SP 800-38D §8.3), is never near, however many messages there are.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    rand,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use parking_lot::RwLock;
use protocol::{Body, MessageFields, MessageId, TenantId, Time};
use rustc_hash::FxHashMap;

/// The word in place of a first key by which new content is not encrypted, while what is can be read.
pub const PLAIN: &str = "plain";

/// Most keys: one that writes, and some whose content is still being rewritten.
pub const KEYS_MAX: usize = 16;

/// Longest name of a key, in bytes: it goes with every message.
const ID_BYTES_MAX: usize = 32;

/// Bytes of a key: those of AES-256.
const KEY_BYTES: usize = 32;

/// Bytes of a salt: two processes never draw the same.
const SALT_BYTES: usize = 16;

/// Texts that are encrypted with one derived key: a quarter of what random nonces allow.
const PER_SUBKEY: u64 = 1 << 30;

/// Derived keys that are remembered: a start makes one. Deriving one takes two microseconds, so beyond all are
/// forgotten.
const SUBKEYS_MAX: usize = 4_096;

/// What derived keys and texts are for, so that the same key used for anything else gives nothing away.
const PURPOSE: &[u8] = b"pushhub content 1";

/// Keys cannot be read. Says nothing of what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "up to {KEYS_MAX} keys as id:base64 of 32 bytes, with commas or lines between, each id once (letters, digits, - and _, at most {ID_BYTES_MAX}); the first one writes; `{PLAIN}` in its place writes without"
)]
pub struct KeysError;

/// Content cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Its key is not there.
    #[error(
        "the content of message {message} is encrypted with the key {key:?}, which DATA_ENCRYPTION_KEYS does not have"
    )]
    Missing {
        /// Which key.
        key: String,
        /// Which message.
        message: MessageId,
    },
    /// It is not what was encrypted.
    #[error(
        "the content of message {message} cannot be opened with the key {key:?}: it is another key of that name, or the content was changed"
    )]
    Refused {
        /// Which key.
        key: String,
        /// Which message.
        message: MessageId,
    },
    /// It is no message, so there is nothing to be encrypted.
    #[error("the body of message {message} cannot be read")]
    NoMessage {
        /// Which message.
        message: MessageId,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl From<Unspecified> for ContentError {
    fn from(_: Unspecified) -> Self {
        Self::Random
    }
}

/// What content is encrypted with: the first writes, all read.
#[derive(Default)]
pub struct ContentKeys {
    keys: Vec<Key>,
    /// The derived key that writes, of the first one; none where new content is not encrypted.
    writing: Option<ArcSwap<Writing>>,
    subkeys: RwLock<Subkeys>,
}

/// Derived keys, by the place of theirs and the salt.
type Subkeys = FxHashMap<(usize, [u8; SALT_BYTES]), Arc<LessSafeKey>>;

struct Key {
    id: Box<str>,
    bytes: [u8; KEY_BYTES],
}

struct Writing {
    salt: [u8; SALT_BYTES],
    key: LessSafeKey,
    used: AtomicU64,
}

impl fmt::Debug for ContentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentKeys").field("ids", &self.ids().collect::<Vec<_>>()).finish()
    }
}

impl Key {
    fn derive(&self, salt: &[u8; SALT_BYTES]) -> Result<LessSafeKey, Unspecified> {
        let derived = Salt::new(HKDF_SHA256, salt).extract(&self.bytes);
        let bytes = derived.expand(&[PURPOSE], &AES_256_GCM)?;
        Ok(LessSafeKey::new(UnboundKey::from(bytes)))
    }

    fn writing(&self) -> Result<Writing, Unspecified> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt)?;
        Ok(Writing { salt, key: self.derive(&salt)?, used: AtomicU64::new(0) })
    }
}

/// What a text is bound to: as another message's, or another tenant's, it is refused.
fn bound_to(tenant: &TenantId, message: &MessageId) -> Vec<u8> {
    let (tenant, message) = (tenant.as_str(), message.as_str());
    let mut bytes = Vec::with_capacity(PURPOSE.len() + 8 + tenant.len() + message.len());
    bytes.extend_from_slice(PURPOSE);
    bytes.extend_from_slice(&(tenant.len() as u64).to_le_bytes());
    bytes.extend_from_slice(tenant.as_bytes());
    bytes.extend_from_slice(message.as_bytes());
    bytes
}

/// The half of a message that stays readable.
fn outer(fields: MessageFields) -> MessageFields {
    let mut actions = fields.actions;
    for action in &mut actions {
        action.text.clear();
        action.url.clear();
    }
    MessageFields {
        title: String::new(),
        content: String::new(),
        metadata: serde_json::Map::new(),
        attachments: Vec::new(),
        actions,
        ..fields
    }
}

impl ContentKeys {
    /// Reads `id:base64` of 32 bytes, with commas or lines between.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        let (mut keys, mut writes) = (Vec::<Key>::new(), true);
        for (place, part) in parts.enumerate() {
            if part == PLAIN && place == 0 {
                writes = false;
                continue;
            }
            let (id, base64) = part.split_once(':').ok_or(KeysError)?;
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            let (fits, known) =
                (1..=ID_BYTES_MAX, keys.iter().any(|key| *key.id == *id) || id == PLAIN);
            if !fits.contains(&id.len()) || !id.bytes().all(legal) || known {
                return Err(KeysError);
            }
            let engines = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
            let bytes = engines.iter().find_map(|engine| engine.decode(base64).ok());
            let bytes = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(KeysError)?;
            keys.push(Key { id: id.into(), bytes });
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(KeysError);
        }
        let writing = match writes {
            true => Some(keys[0].writing().map_err(|_| KeysError)?),
            false => None,
        };
        let writing = writing.map(ArcSwap::from_pointee);
        Ok(Self { keys, writing, subkeys: RwLock::default() })
    }

    /// Whether new content is encrypted.
    #[must_use]
    pub const fn seal_anything(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether there is no key at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The names of all keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &*key.id)
    }

    /// The name of the key that writes; [`PLAIN`] for none.
    #[must_use]
    pub fn writing_id(&self) -> &str {
        match (&self.writing, self.keys.first()) {
            (Some(_), Some(key)) => &key.id,
            _ => PLAIN,
        }
    }

    /// The name of the key that a body is sealed with; [`PLAIN`] for none.
    #[must_use]
    pub fn id_of(body: &Body) -> &str {
        match body.sealed() {
            None => PLAIN,
            Some(sealed) => sealed.split_once('.').map_or("", |(id, _)| id),
        }
    }

    /// The form of a message that a store is given: sealed where there is a key that writes, else as it is.
    ///
    /// # Errors
    /// [`ContentError::Random`], [`ContentError::NoMessage`].
    pub fn seal(&self, tenant: &TenantId, body: &Arc<Body>) -> Result<Arc<Body>, ContentError> {
        let (Some(writing), Some(key)) = (&self.writing, self.keys.first()) else {
            return Ok(Arc::clone(body));
        };
        let no_message = |_| ContentError::NoMessage { message: body.id().clone() };
        let fields = body.fields().map_err(no_message)?;
        let mut current = writing.load();
        if current.used.fetch_add(1, Ordering::Relaxed) >= PER_SUBKEY {
            writing.store(Arc::new(key.writing()?));
            current = writing.load();
        }
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let mut bytes = body.json();
        let tag = current.key.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound_to(tenant, body.id())),
            &mut bytes,
        )?;
        let whole = [&current.salt[..], &nonce, &bytes, tag.as_ref()].concat();
        let mut sealed = String::with_capacity(key.id.len() + 1 + whole.len() * 4 / 3 + 4);
        sealed.push_str(&key.id);
        sealed.push('.');
        URL_SAFE_NO_PAD.encode_string(&whole, &mut sealed);
        Ok(Arc::new(Body::new_sealed(&sealed, &outer(fields), Arc::clone(body))))
    }

    /// The message of what a store has.
    ///
    /// # Errors
    /// [`ContentError::Missing`], [`ContentError::Refused`].
    pub fn open(&self, tenant: &TenantId, body: &Arc<Body>) -> Result<Arc<Body>, ContentError> {
        let Some(sealed) = body.sealed() else { return Ok(Arc::clone(body)) };
        if let Some(readable) = body.readable() {
            return Ok(Arc::clone(readable));
        }
        let mut parts = sealed.splitn(3, '.');
        let (id, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let message = body.id();
        let place = self.keys.iter().position(|key| *key.id == *id);
        let place = place.ok_or_else(|| ContentError::Missing {
            key: id.to_owned(),
            message: message.clone(),
        })?;
        let json = self.decrypt(place, text, &bound_to(tenant, message));
        let json = json.filter(|json| json.starts_with(b"{")).ok_or_else(|| {
            ContentError::Refused { key: id.to_owned(), message: message.clone() }
        })?;
        let readable = Body::from_stored(message.clone(), body.expire_at(), &json);
        // One that waited says when it was sent.
        match parts.next().and_then(|millis| millis.parse().ok()).map(Time::from_millis) {
            None => Ok(Arc::new(readable)),
            Some(at) => {
                let no_message = |_| ContentError::NoMessage { message: message.clone() };
                Ok(Arc::new(readable.sent_at(at).map_err(no_message)?))
            }
        }
    }

    /// What was encrypted, where this key and what it is bound to are those.
    fn decrypt(&self, place: usize, text: &str, bound: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (salt, rest) = bytes.split_first_chunk_mut::<SALT_BYTES>()?;
        let salt = *salt;
        let (nonce, sealed) = rest.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = self.subkey(place, salt)?;
        Some(key.open_in_place(nonce, Aad::from(bound), sealed).ok()?.to_vec())
    }

    fn subkey(&self, place: usize, salt: [u8; SALT_BYTES]) -> Option<Arc<LessSafeKey>> {
        if let Some(key) = self.subkeys.read().get(&(place, salt)) {
            return Some(Arc::clone(key));
        }
        let key = Arc::new(self.keys.get(place)?.derive(&salt).ok()?);
        let mut subkeys = self.subkeys.write();
        if subkeys.len() >= SUBKEYS_MAX {
            subkeys.clear();
        }
        subkeys.insert((place, salt), Arc::clone(&key));
        Some(key)
    }
}

#[cfg(test)]
#[path = "tests/keys.rs"]
mod tests;
