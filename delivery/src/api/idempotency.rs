//! `Idempotency-Key`: whoever did not hear the answer to a send may send it again (contract §5).
//!
//! The answer is stored in the same commit as the messages, so that there is no moment at which one
//! is durable and the other is not. What stands between two requests of one key that run at the same
//! time is in memory, and between two nodes it is the store, which takes one of them: the other is answered
//! what that one was. A request with a key goes on when its client hangs up: the store finishes what
//! it was asked, so the key must not be free before it has.

use std::{collections::HashSet, panic::resume_unwind, sync::Arc};

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use protocol::TenantId;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    ApiState,
    answer::Answer,
    digest::Digest,
    error::ApiError,
    metrics::{KeyMetrics, KeyResult},
    shape::{Field, Form, formed, may},
};
use crate::{
    StoreError,
    identity::Caller,
    spans,
    store::{SenderKey, StoredAnswer},
};

const HEADER: &str = "idempotency-key";

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, in bytes (contract §5).
pub const KEY_BYTES_MAX: usize = 255;

/// The header, for the description.
pub(super) const KEY: Field = may(
    "Idempotency-Key",
    formed(Form::Pattern("^[ -~]+$"), 1, KEY_BYTES_MAX),
    "A request with a key that was answered before is answered the same again for 24 hours, and does \
     nothing. The same key for another request is refused.",
);

/// Most requests with keys that run at a time. Each waits for one commit and costs some 100 bytes
/// here; more than this is a store that stands still, and is answered like one (503).
pub const KEYS_RUNNING_MAX: usize = 65_536;

/// A key as a request carries it.
#[derive(Clone, Debug)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let wrong = |problem: String| Err(ApiError::field("Idempotency-Key", problem));
        let mut given = headers.get_all(HEADER).iter();
        let Some(key) = given.next() else { return Ok(None) };
        if given.next().is_some() {
            return wrong("must be given once".to_owned());
        }
        if key.len() > KEY_BYTES_MAX {
            return wrong(format!("must have at most {KEY_BYTES_MAX} bytes, has {}", key.len()));
        }
        match key.to_str() {
            Ok(key) if !key.is_empty() && !key.contains('\t') => Ok(Some(Self(key.to_owned()))),
            Ok("") => wrong("must not be empty".to_owned()),
            Ok(_) | Err(_) => {
                wrong("must consist of visible ASCII characters and spaces".to_owned())
            }
        }
    }

    /// With what the request says besides.
    pub(super) fn with(self, method: &Method, path: &str, body: Digest) -> Keyed {
        let mut hasher = Sha256::new();
        for part in [method.as_str().as_bytes(), b" ", path.as_bytes(), b"\n", &body.0] {
            hasher.update(part);
        }
        Keyed { key: self.0, fingerprint: hasher.finalize().into() }
    }
}

/// A key, and what it must be used for again.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    key: String,
    fingerprint: [u8; 32],
}

/// Keys whose requests run now.
pub(crate) struct Running {
    slots: Mutex<HashSet<[u8; 32]>>,
    metrics: KeyMetrics,
}

/// Keeps a key running while it lives.
struct Claim {
    running: Arc<Running>,
    slot: [u8; 32],
}

impl Running {
    pub(super) fn new(metrics: KeyMetrics) -> Arc<Self> {
        Arc::new(Self { slots: Mutex::default(), metrics })
    }

    fn claim(self: &Arc<Self>, slot: [u8; 32]) -> Result<Claim, ApiError> {
        let mut slots = self.slots.lock();
        if slots.contains(&slot) {
            self.metrics.count(KeyResult::InProgress);
            return Err(ApiError::KeyRunning);
        }
        if slots.len() >= KEYS_RUNNING_MAX {
            self.metrics.count(KeyResult::Full);
            return Err(StoreError::Busy("too many requests with idempotency keys run").into());
        }
        slots.insert(slot);
        self.metrics.running(slots.len());
        Ok(Claim { running: Arc::clone(self), slot })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut slots = self.running.slots.lock();
        slots.remove(&self.slot);
        self.running.metrics.running(slots.len());
    }
}

/// Where a sender's key stands in memory. Each part with its length: parts come from outside, and
/// two senders must not meet.
fn slot(tenant: &TenantId, sender: &SenderKey, key: &str) -> [u8; 32] {
    let (kind, id) = match sender {
        SenderKey::Service(id) => ("service", id.as_str()),
        SenderKey::User(id) => ("user", id.as_str()),
        SenderKey::Admin => ("admin", ""),
    };
    let mut hasher = Sha256::new();
    for part in [tenant.as_str(), kind, id, key] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// What a request is to leave behind in the store.
pub(super) struct Keep(Option<StoredAnswer>);

impl Keep {
    /// The answer whose `data` this is; none for a request without a key.
    pub(super) fn answer(self, data: &impl Serialize) -> Option<StoredAnswer> {
        let data = || serde_json::to_string(data).expect("answers have string keys");
        self.0.map(|answer| StoredAnswer { data: data(), ..answer })
    }
}

/// Runs a request, unless its key says that it was answered already: then it is answered the same.
/// `run` stores what [`Keep::answer`] gives together with what it does, and what it refuses it does
/// not store.
pub(super) async fn once<F>(
    state: &ApiState,
    caller: &Caller,
    keyed: Option<Keyed>,
    answer: Answer,
    run: impl FnOnce(Keep) -> F,
) -> Result<Response, ApiError>
where
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let Some(Keyed { key, fingerprint }) = keyed else { return run(Keep(None)).await };
    let (tenant, sender) = (caller.tenant(), caller.sender_key());
    let running = &state.0.running;
    // Before the look into the store: an answer that comes in between is seen, or its key is.
    let claim = running.claim(slot(&tenant, &sender, &key))?;
    if let Some(stored) = state.0.store.answer(&tenant, &sender, &key).await? {
        return replay(running, answer, &stored, fingerprint);
    }
    running.metrics.count(KeyResult::First);
    let asked = (tenant.clone(), sender.clone(), key.clone());
    let (data, at) = (String::new(), state.0.control.clock().now());
    let work = run(Keep(Some(StoredAnswer { tenant, sender, key, fingerprint, data, at })));
    let work = async move {
        let answered = work.await;
        drop(claim);
        answered
    };
    let work = match spans::current() {
        None => tokio::spawn(work),
        // Another task, the same trace.
        Some(traced) => tokio::spawn(spans::scope(traced, work)),
    };
    match work.await {
        Ok(Err(error)) if error.is_key_taken() => {
            let (tenant, sender, key) = asked;
            let stored = state.0.store.answer(&tenant, &sender, &key).await?;
            replay(running, answer, &stored.ok_or(error)?, fingerprint)
        }
        Ok(answered) => answered,
        // `observe` counts it.
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Err(ApiError::Draining),
    }
}

/// Answers as it was answered.
fn replay(
    running: &Running,
    answer: Answer,
    stored: &StoredAnswer,
    fingerprint: [u8; 32],
) -> Result<Response, ApiError> {
    if stored.fingerprint != fingerprint {
        running.metrics.count(KeyResult::Mismatch);
        return Err(ApiError::KeyReused);
    }
    running.metrics.count(KeyResult::Replayed);
    let mut response = answer.stored(&stored.data)?;
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Arc<Running> {
        Running::new(KeyMetrics::new(&metrics::NoopRecorder))
    }

    fn key(values: &[&[u8]]) -> Result<Option<String>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        Key::of(&headers).map(|key| key.map(|key| key.0))
    }

    #[test]
    fn keys_are_short_and_visible() {
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(key(&[b"a b~\"!"]).unwrap().as_deref(), Some("a b~\"!"));
        assert!(key(&[&[b'k'; KEY_BYTES_MAX]]).is_ok());
        let long: &[u8] = &[b'k'; KEY_BYTES_MAX + 1];
        for bad in [&[long][..], &[b""], &["é".as_bytes()], &[b"a\tb"], &[b"a", b"a"]] {
            assert!(matches!(key(bad), Err(ApiError::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_key_runs_once_at_a_time_and_so_many_do() {
        let running = running();
        let slot_of = |n: u64| {
            let mut slot = [0; 32];
            slot[..8].copy_from_slice(&n.to_be_bytes());
            slot
        };
        let mut claims: Vec<Claim> =
            (0..KEYS_RUNNING_MAX as u64).map(|n| running.claim(slot_of(n)).unwrap()).collect();
        assert!(matches!(running.claim(slot_of(7)), Err(ApiError::KeyRunning)));
        let one_more = slot_of(KEYS_RUNNING_MAX as u64);
        let full = running.claim(one_more);
        assert!(matches!(full, Err(ApiError::Store(StoreError::Busy(_)))));
        claims.remove(7);
        running.claim(one_more).unwrap();
        let again = running.claim(slot_of(7)).unwrap();
        drop((again, claims));
        assert!(running.slots.lock().is_empty());
    }

    #[test]
    fn senders_do_not_meet() {
        let tenant = |id: &str| TenantId::new(id).unwrap();
        let user = |id: &str| SenderKey::User(protocol::UserId::new(id).unwrap());
        let service = |id: &str| SenderKey::Service(protocol::ServiceId::new(id).unwrap());
        let slots = [
            slot(&tenant("a"), &user("b"), "c"),
            slot(&tenant("a"), &service("b"), "c"),
            slot(&tenant("a"), &SenderKey::Admin, "c"),
            slot(&tenant("a"), &user("bc"), "c"),
            slot(&tenant("a"), &user("b"), "cc"),
            slot(&tenant("ab"), &user("b"), "c"),
            slot(&tenant("a"), &user("userb"), "c"),
        ];
        let distinct: HashSet<_> = slots.into_iter().collect();
        assert_eq!(distinct.len(), 7);
    }

    #[test]
    fn a_fingerprint_is_of_all_that_is_asked() {
        let of = |method: Method, path: &str, body: u8| {
            Key("k".to_owned()).with(&method, path, Digest([body; 32])).fingerprint
        };
        let all = [
            of(Method::POST, "/a", 1),
            of(Method::POST, "/a", 2),
            of(Method::POST, "/b", 1),
            of(Method::PUT, "/a", 1),
        ];
        let distinct: HashSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
