//! Which key signs now, which ones check, and how one follows another.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::error::Unspecified;
use parking_lot::Mutex;
use protocol::Time;
use serde::Serialize;

use super::{
    super::jwks::{KeySet, PublicJwk, SigningAlgorithm, VerifyingKey},
    mark::KeyMark,
    pair::Pair,
    seal::SealingKey,
};
use crate::control::{Control, ControlError, SIGNING_KEYS_MAX, SigningKeyRow};

/// How long a new key is published before it signs, unless it is said otherwise: as long as others may
/// keep what was published.
pub const KEY_LEAD: Duration = super::super::jwks::KEYS_LIFETIME;

/// How long it is waited after a rotation by age that failed.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Why a key cannot be made, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The control data cannot be used.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// There is no randomness.
    #[error("no key can be made")]
    Make(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Tokens are signed with `JWT_SECRET`.
    #[error(
        "tokens are signed with JWT_SECRET (JWT_SIGNING_ALGORITHM=HS256), which has no keys to rotate"
    )]
    SharedSecret,
    /// [`SIGNING_KEYS_MAX`] is reached.
    #[error("there are {SIGNING_KEYS_MAX} keys already, which is the most; retire one")]
    TooMany,
    /// No such key, or its end has come.
    #[error("no such key")]
    NotFound,
    /// Nothing else could sign.
    #[error("it is the only key that can sign; rotate --now first")]
    LastOne,
}

impl From<Unspecified> for SigningError {
    fn from(error: Unspecified) -> Self {
        Self::Make(Box::new(error))
    }
}

/// A key, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SigningKey {
    /// Its name: the thumbprint of its public half (RFC 7638).
    pub kid: String,
    /// `RS256`, `ES256` or `EdDSA`.
    pub algorithm: String,
    /// Whether it signs now.
    pub signs: bool,
    /// When it was made.
    pub created_at: Time,
    /// When it begins to sign.
    pub signs_from: Time,
    /// When tokens that it signed are refused; none while it is not replaced.
    pub ends_at: Option<Time>,
}

#[derive(Default)]
struct Known {
    rows: Vec<SigningKeyRow>,
    /// Those that sign now or later; opened once.
    pairs: Vec<(SigningKeyRow, Arc<Pair>)>,
    /// By which tokens are checked.
    set: Option<KeySet>,
    /// What is published.
    public: Vec<PublicJwk>,
    /// Those of `set`.
    marks: Vec<KeyMark>,
}

/// After how long a key is replaced by itself.
struct Ageing {
    age: Duration,
    overlap: Duration,
    /// Not before, after one that failed.
    not_before: AtomicI64,
}

/// The keys that tokens are signed with beside `JWT_SECRET`, in the control data, so that all nodes
/// have the same. Each node looks once a second.
pub struct SigningKeys {
    control: Arc<Control>,
    sealing: SealingKey,
    /// None for HS256. Keys of before check on until they end.
    algorithm: Option<SigningAlgorithm>,
    known: ArcSwap<Known>,
    /// Held from reading rows until they are known, so that older ones never replace newer ones.
    turn: Mutex<()>,
    /// Goes up when a key that checked tokens does so no more.
    withdrawn: AtomicU64,
    /// Hears of it.
    heard: OnceLock<Box<dyn Fn() + Send + Sync>>,
    ageing: OnceLock<Ageing>,
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeys").finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Reads the keys, and makes one where tokens are to be signed with one and there is none; others,
    /// for another algorithm or sealed with another secret, then check for `overlap` longer. Waits for
    /// the database.
    ///
    /// # Errors
    /// [`SigningError::Control`], [`SigningError::Make`].
    pub fn open(
        control: Arc<Control>,
        sealing: SealingKey,
        algorithm: Option<SigningAlgorithm>,
        overlap: Duration,
    ) -> Result<Arc<Self>, SigningError> {
        let known = ArcSwap::default();
        let keys = Self {
            control,
            sealing,
            algorithm,
            known,
            turn: Mutex::default(),
            withdrawn: AtomicU64::default(),
            heard: OnceLock::new(),
            ageing: OnceLock::new(),
        };
        keys.take(keys.control.signing_keys()?);
        let now = keys.control.clock().now();
        if algorithm.is_some() && keys.signer(now).is_none() {
            // Another node may be faster: then there are two keys, and the younger signs.
            keys.rotate(Duration::ZERO, overlap)?;
        }
        let keys = Arc::new(keys);
        let weak = Arc::downgrade(&keys);
        keys.control.after_looks(move || weak.upgrade().is_some_and(|keys| keys.follow()));
        Ok(keys)
    }

    /// Calls `heard` whenever a key that checked tokens does so no more, on the thread that learns of it. The
    /// first one is kept.
    pub(in crate::identity) fn on_withdrawn(&self, heard: impl Fn() + Send + Sync + 'static) {
        let _ = self.heard.set(Box::new(heard));
    }

    /// From here on replaces a key of this age by itself, as [`Self::rotate`] does. All nodes may: one of them
    /// is first. The first call counts.
    pub fn rotate_by_age(&self, age: Duration, overlap: Duration) {
        let _ = self.ageing.set(Ageing { age, overlap, not_before: AtomicI64::new(i64::MIN) });
    }

    /// Whether a key checks tokens now.
    pub(in crate::identity) fn is_checking(&self, mark: KeyMark) -> bool {
        self.known.load().marks.contains(&mark)
    }

    /// How often a key that checked tokens ended.
    pub(in crate::identity) fn withdrawn(&self) -> u64 {
        self.withdrawn.load(Ordering::Acquire)
    }

    /// Looks what others have changed, and what has ended by itself. Where the database cannot be
    /// read, what is known stays in force.
    fn follow(&self) -> bool {
        let turn = self.turn.lock();
        let rows = self.control.signing_keys();
        let is_read = rows.is_ok();
        self.take(rows.unwrap_or_else(|_| self.known.load().rows.clone()));
        drop(turn);
        if is_read {
            self.age();
        }
        true
    }

    /// Replaces the key that signs where it is old enough.
    fn age(&self) {
        let now = self.control.clock().now();
        let (Some(ageing), Some(algorithm)) = (self.ageing.get(), self.algorithm) else { return };
        if now.millis() < ageing.not_before.load(Ordering::Relaxed)
            || !is_due(&self.known.load().rows, algorithm, ageing.age, now)
        {
            return;
        }
        match self.make(KEY_LEAD, ageing.overlap, Some(ageing.age)) {
            Ok(Some(kid)) => {
                tracing::info!(target: "security", event = "signing_key_rotated", kid);
            }
            // Another node was faster.
            Ok(None) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the signing key is due and cannot be replaced");
                let again = later(now, TRY_AGAIN_AFTER).millis();
                ageing.not_before.store(again, Ordering::Relaxed);
            }
        }
    }

    fn take(&self, rows: Vec<SigningKeyRow>) {
        let (before, now) = (self.known.load(), self.control.clock().now());
        let alive: Vec<_> = rows.into_iter().filter(|row| row.is_alive(now)).collect();
        if alive == before.rows {
            return;
        }
        let mut known = Known::default();
        let mut checking = Vec::new();
        for row in &alive {
            let Ok(jwk) = serde_json::from_str::<PublicJwk>(&row.public) else { continue };
            let Ok(key) = VerifyingKey::of_jwk(&jwk) else { continue };
            checking.push(key);
            known.marks.push(KeyMark::of(&row.kid));
            known.public.push(jwk);
            let opened = before.pairs.iter().find(|(known, _)| known.sealed == row.sealed);
            match opened.map(|(_, pair)| Arc::clone(pair)).or_else(|| self.opened(row)) {
                Some(pair) => known.pairs.push((row.clone(), pair)),
                None => tracing::warn!(
                    kid = row.kid,
                    "a signing key was sealed with another JWT_SECRET: it still checks tokens, and \
                     signs none"
                ),
            }
        }
        let still = |row: &SigningKeyRow| alive.iter().any(|known| known.kid == row.kid);
        let withdrawn = !before.rows.iter().all(still);
        known.set = (!checking.is_empty()).then(|| KeySet::of_keys(checking));
        known.rows = alive;
        self.known.store(Arc::new(known));
        if withdrawn {
            self.withdrawn.fetch_add(1, Ordering::AcqRel);
            if let Some(heard) = self.heard.get() {
                heard();
            }
        }
    }

    fn opened(&self, row: &SigningKeyRow) -> Option<Arc<Pair>> {
        let private = self.sealing.open(&row.kid, &row.sealed)?;
        Pair::read(row.algorithm.parse().ok()?, &private).ok().map(Arc::new)
    }

    /// The key that signs now; none for `JWT_SECRET`.
    pub(in crate::identity) fn signer(&self, now: Time) -> Option<Arc<Pair>> {
        let algorithm = self.algorithm?.as_str();
        let known = self.known.load();
        let able = known.pairs.iter().filter(|(row, _)| row.algorithm == algorithm);
        // Where none has begun, the next one: its public half is published, and HS256 was not asked for.
        let begun = able.clone().filter(|(row, _)| row.signs_from <= now);
        let latest = begun.max_by_key(|(row, _)| (row.signs_from, &row.kid));
        let first = || able.clone().min_by_key(|(row, _)| (row.signs_from, &row.kid));
        latest.or_else(first).map(|(_, pair)| Arc::clone(pair))
    }

    /// The keys that check tokens; none where there is none.
    pub(in crate::identity) fn with_set<T>(&self, ask: impl FnOnce(&KeySet) -> T) -> Option<T> {
        self.known.load().set.as_ref().map(ask)
    }

    /// The public halves of all keys that check tokens, as they are published.
    #[must_use]
    pub fn published(&self) -> Vec<PublicJwk> {
        self.known.load().public.clone()
    }

    /// All keys that check tokens, the one that signs from the earliest time first.
    ///
    /// # Errors
    /// [`SigningError::Control`].
    pub fn list(&self) -> Result<Vec<SigningKey>, SigningError> {
        let turn = self.turn.lock();
        self.take(self.control.signing_keys()?);
        drop(turn);
        let signer = self.signer(self.control.clock().now());
        let signs = |kid: &str| signer.as_ref().is_some_and(|pair| pair.kid() == kid);
        let shown = |row: &SigningKeyRow| SigningKey {
            kid: row.kid.clone(),
            algorithm: row.algorithm.clone(),
            signs: signs(&row.kid),
            created_at: row.created_at,
            signs_from: row.signs_from,
            ends_at: row.ends_at,
        };
        Ok(self.known.load().rows.iter().map(shown).collect())
    }

    /// Makes a key that signs after `lead`; the others check for `overlap` longer, for which the
    /// tokens that they signed should have ended.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn rotate(&self, lead: Duration, overlap: Duration) -> Result<String, SigningError> {
        Ok(self.make(lead, overlap, None)?.expect("nothing is asked of its age"))
    }

    /// Makes a key; none where one is there that has not this age yet.
    fn make(
        &self,
        lead: Duration,
        overlap: Duration,
        age: Option<Duration>,
    ) -> Result<Option<String>, SigningError> {
        let algorithm = self.algorithm.ok_or(SigningError::SharedSecret)?;
        let private = Pair::make(algorithm)?;
        let pair =
            Pair::read(algorithm, &private).map_err(|error| SigningError::Make(error.into()))?;
        let now = self.control.clock().now();
        let signs_from = later(now, lead);
        let mut new = SigningKeyRow {
            kid: pair.kid().to_owned(),
            algorithm: algorithm.as_str().to_owned(),
            public: serde_json::to_string(pair.jwk()).expect("texts"),
            sealed: self.sealing.seal(pair.kid(), &private)?,
            created_at: now,
            signs_from,
            ends_at: None,
        };
        let _turn = self.turn.lock();
        let mut is_made = true;
        let rows = self.control.change_signing_keys(|rows| {
            if age.is_some_and(|age| !is_due(rows, algorithm, age, now)) {
                is_made = false;
                return Ok(());
            }
            rows.retain(|row| row.is_alive(now));
            if rows.len() >= SIGNING_KEYS_MAX {
                return Err(SigningError::TooMany);
            }
            // Of two that were made in the same millisecond the younger signs.
            let begun = rows.iter().map(|row| row.signs_from).filter(|at| *at <= now);
            if let Some(latest) = begun.max() {
                new.signs_from = new.signs_from.max(later(latest, Duration::from_millis(1)));
            }
            for row in rows.iter_mut().filter(|row| row.ends_at.is_none()) {
                row.ends_at = Some(later(signs_from, overlap));
            }
            rows.push(new);
            Ok(())
        })?;
        self.take(rows);
        Ok(is_made.then(|| pair.kid().to_owned()))
    }

    /// Ends a key at once: what it signed is refused, on every node within two seconds, and its private
    /// half is gone.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn retire(&self, kid: &str) -> Result<(), SigningError> {
        let (now, algorithm) = (self.control.clock().now(), self.algorithm);
        let _turn = self.turn.lock();
        let rows = self.control.change_signing_keys(|rows| {
            let is_it = |row: &SigningKeyRow| row.kid == kid && row.is_alive(now);
            if !rows.iter().any(is_it) {
                return Err(SigningError::NotFound);
            }
            let signs_too = |row: &SigningKeyRow| {
                algorithm.is_some_and(|algorithm| row.algorithm == algorithm.as_str())
                    && row.is_alive(now)
                    && row.kid != kid
            };
            if algorithm.is_some() && !rows.iter().any(signs_too) {
                return Err(SigningError::LastOne);
            }
            rows.retain(|row| row.kid != kid && row.is_alive(now));
            Ok(())
        })?;
        self.take(rows);
        Ok(())
    }
}

/// Whether every key that could sign for good has this age.
fn is_due(rows: &[SigningKeyRow], algorithm: SigningAlgorithm, age: Duration, now: Time) -> bool {
    let mut lasting =
        rows.iter().filter(|row| row.ends_at.is_none() && row.algorithm == algorithm.as_str());
    lasting.all(|row| later(row.created_at, age) <= now)
}

fn later(time: Time, by: Duration) -> Time {
    Time::from_millis(
        time.millis().saturating_add_unsigned(by.as_millis().try_into().unwrap_or(u64::MAX)),
    )
}
