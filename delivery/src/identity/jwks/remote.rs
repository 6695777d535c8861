//! The keys of an issuer that is elsewhere.
//!
//! Fetched when they are first needed, kept for [`KEYS_LIFETIME`], and fetched again, behind the back
//! of those who ask, when that is over. A token with a name that is not known has them fetched at once,
//! though not more often than every [`COOL_DOWN`]: whoever makes up names must not have this node
//! hammer the issuer. While the issuer cannot be reached, the keys that were known last count on, for
//! [`KEYS_STALE_MAX`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::{
    super::jws::{BadJws, Jws},
    set::{KeySet, KeySetError},
};
use crate::outbound::{Answer, Call, Outbound, OutboundError, OutboundUrl, Purpose, UrlProblem};

/// How long fetched keys are taken as they are: a key that its issuer withdraws counts for no longer,
/// as long as the issuer can be reached.
pub const KEYS_LIFETIME: Duration = Duration::from_secs(300);

/// Shortest time between two fetches, whatever is asked.
pub const COOL_DOWN: Duration = Duration::from_secs(10);

/// How long keys count whose issuer cannot be reached. A day: longer than an outage that nobody
/// mends, and the longest that whoever holds the issuer off the network can keep a withdrawn key alive.
pub const KEYS_STALE_MAX: Duration = Duration::from_secs(86_400);

/// Where an issuer says of itself where its keys are (OpenID Connect Discovery 1.0 §4).
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The issuer cannot be called.
    #[error("the issuer cannot be called")]
    Call(#[from] OutboundError),
    /// The issuer answers with an error.
    #[error("the issuer answers with status {0}")]
    Status(u16),
    /// What came is no set of keys.
    #[error("what the issuer answers cannot be used")]
    Set(#[from] KeySetError),
    /// The issuer says that it is another one (OpenID Connect Discovery 1.0 §4.3).
    #[error("the issuer says that it is another one than it is called")]
    OtherIssuer,
    /// The address of the keys may not be called.
    #[error("the issuer's jwks_uri {0}")]
    Url(UrlProblem),
    /// They were fetched a moment ago, without avail.
    #[error("the issuer's keys could not be fetched a moment ago")]
    CoolingDown,
}

/// Why a token of an issuer was not believed.
#[derive(Debug, thiserror::Error)]
pub enum TokenProblem {
    /// It is forged, or not a token.
    #[error(transparent)]
    Bad(#[from] BadJws),
    /// It cannot be checked: no key of the issuer is known.
    #[error("the token cannot be checked now")]
    NoKeys(#[source] KeysError),
}

enum Place {
    Keys(OutboundUrl),
    Discovery { issuer: String, url: OutboundUrl },
}

/// Where keys are fetched, and by what.
struct Remote {
    place: Place,
    outbound: Outbound,
}

struct Fetched {
    set: KeySet,
    at: Instant,
}

/// The keys of an issuer. One for each issuer, and for as long as the process runs.
pub struct IssuerKeys {
    /// None for keys that were given once and for all.
    remote: Option<Remote>,
    known: ArcSwapOption<Fetched>,
    /// When they were fetched last, with or without avail; held while they are.
    tried: Mutex<Option<Instant>>,
    /// Goes up when a key that was known is known no more.
    withdrawn: AtomicU64,
    times: Times,
}

#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) lifetime: Duration,
    pub(super) cool_down: Duration,
    pub(super) stale_max: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { lifetime: KEYS_LIFETIME, cool_down: COOL_DOWN, stale_max: KEYS_STALE_MAX }
    }
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerKeys").finish_non_exhaustive()
    }
}

impl IssuerKeys {
    fn new(remote: Option<Remote>, set: Option<KeySet>) -> Self {
        let known = set.map(|set| Arc::new(Fetched { set, at: Instant::now() }));
        Self {
            remote,
            known: ArcSwapOption::new(known),
            tried: Mutex::default(),
            withdrawn: AtomicU64::default(),
            times: Times::default(),
        }
    }

    /// Keys that were given once and for all.
    #[must_use]
    pub fn fixed(set: KeySet) -> Self {
        Self::new(None, Some(set))
    }

    /// Keys that are at a URL.
    #[must_use]
    pub fn at(url: OutboundUrl, outbound: Outbound) -> Self {
        Self::new(Some(Remote { place: Place::Keys(url), outbound }), None)
    }

    /// Keys of an issuer that says where they are: `url` is the issuer's own, `issuer` what it must say
    /// of itself, which is the same text wherever the network has one view of it.
    #[must_use]
    pub fn discovered(issuer: String, url: OutboundUrl, outbound: Outbound) -> Self {
        Self::new(Some(Remote { place: Place::Discovery { issuer, url }, outbound }), None)
    }

    #[cfg(test)]
    pub(super) fn with_times(self, times: Times) -> Self {
        Self { times, ..self }
    }

    /// How often a key that was known was withdrawn.
    pub(in crate::identity) fn withdrawn(&self) -> u64 {
        self.withdrawn.load(Ordering::Acquire)
    }

    fn current(&self) -> Option<Arc<Fetched>> {
        self.known
            .load_full()
            .filter(|known| self.remote.is_none() || known.at.elapsed() < self.times.stale_max)
    }

    /// Checks a token's signature with the keys that are known, without waiting. None where its key
    /// is not known, which may be because it is new.
    pub(in crate::identity) fn verify_known(&self, jws: &Jws<'_>) -> Option<Result<(), BadJws>> {
        let known = self.current()?;
        known.set.choose(jws).map(|key| jws.verify(key))
    }

    /// Whether it is time to fetch them again although nothing is missing. Those that were never needed
    /// are not fetched at all.
    fn is_old(&self) -> bool {
        let old = |known: &Arc<Fetched>| known.at.elapsed() > self.times.lifetime;
        self.remote.is_some() && self.known.load().as_ref().is_some_and(old)
    }

    fn is_cooling_down(&self, tried: Option<Instant>) -> bool {
        tried.is_some_and(|at| at.elapsed() < self.times.cool_down)
    }

    /// Checks a token's signature and reads its claims, fetching keys where that may help. Which issuer
    /// the token names, for whom it is and how long it lives must be checked by whoever asks: only
    /// signature and header are, here.
    ///
    /// # Errors
    /// [`TokenProblem`].
    pub async fn claims<C: DeserializeOwned>(
        self: &Arc<Self>,
        token: &str,
    ) -> Result<C, TokenProblem> {
        let jws = Jws::read(token)?;
        self.verify(&jws).await?;
        Ok(jws.claims()?)
    }

    async fn verify(self: &Arc<Self>, jws: &Jws<'_>) -> Result<(), TokenProblem> {
        if let Some(verified) = self.verify_known(jws) {
            self.refresh_aside();
            return Ok(verified?);
        }
        let fetched = self.fetch_for(jws).await;
        match (self.verify_known(jws), fetched) {
            (Some(verified), _) => Ok(verified?),
            // Keys are known, and the token's is none of them.
            (None, _) if self.is_known() => Err(BadJws.into()),
            (None, Err(error)) => Err(TokenProblem::NoKeys(error)),
            (None, Ok(())) => Err(BadJws.into()),
        }
    }

    /// Whether any of its keys is known.
    pub(in crate::identity) fn is_known(&self) -> bool {
        self.current().is_some()
    }

    /// Fetches the keys where the one of this token is not known.
    pub(in crate::identity) async fn fetch_for(&self, jws: &Jws<'_>) -> Result<(), KeysError> {
        self.refresh(|known| known.set.choose(jws).is_some()).await
    }

    /// Fetches the keys where none is known.
    pub(in crate::identity) async fn make_known(&self) -> Result<(), KeysError> {
        self.refresh(|_| true).await
    }

    /// Fetches the keys in the background where they are old; one task at a time.
    pub(in crate::identity) fn refresh_aside(self: &Arc<Self>) {
        let may = || self.tried.try_lock().is_ok_and(|tried| !self.is_cooling_down(*tried));
        if !self.is_old() || !may() {
            return;
        }
        // Where there is no runtime nobody waits for a new key either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let keys = Arc::clone(self);
        runtime.spawn(async move {
            if let Err(error) = keys.refresh(|known| known.at.elapsed() <= keys.times.lifetime).await
                && !matches!(error, KeysError::CoolingDown)
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the keys of an issuer could not be fetched; those that were known last count on"
                );
            }
        });
    }

    /// Fetches the keys, unless somebody else did meanwhile.
    async fn refresh(&self, good: impl Fn(&Fetched) -> bool) -> Result<(), KeysError> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let mut tried = self.tried.lock().await;
        if self.current().is_some_and(|known| good(&known)) {
            return Ok(());
        }
        if self.is_cooling_down(*tried) {
            return Err(KeysError::CoolingDown);
        }
        let fetched = remote.fetch().await;
        // Also after a failure, and at its end: an issuer that takes its time is not asked all the time.
        *tried = Some(Instant::now());
        let set = fetched?;
        if self.known.load().as_ref().is_some_and(|known| !known.set.is_within(&set)) {
            self.withdrawn.fetch_add(1, Ordering::AcqRel);
        }
        self.known.store(Some(Arc::new(Fetched { set, at: Instant::now() })));
        Ok(())
    }
}

impl Remote {
    async fn fetch(&self) -> Result<KeySet, KeysError> {
        let outbound = &self.outbound;
        let keys = match &self.place {
            Place::Keys(url) => url.clone(),
            Place::Discovery { issuer, url } => {
                #[derive(Deserialize)]
                struct Document {
                    issuer: String,
                    jwks_uri: String,
                }
                let document = url.at(DISCOVERY_PATH).map_err(KeysError::Url)?;
                let call = Call::get(Purpose::Discovery, &document);
                let said: Document = good(outbound.call(call).await?)?.json()?;
                if said.issuer != *issuer {
                    return Err(KeysError::OtherIssuer);
                }
                url.found(&said.jwks_uri).map_err(KeysError::Url)?
            }
        };
        let answer = good(outbound.call(Call::get(Purpose::Keys, &keys)).await?)?;
        Ok(KeySet::of_json(&answer.body)?)
    }
}

fn good(answer: Answer) -> Result<Answer, KeysError> {
    if answer.status.is_success() {
        Ok(answer)
    } else {
        Err(KeysError::Status(answer.status.as_u16()))
    }
}
