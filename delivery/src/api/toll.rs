//! What a request was counted by, from its first look to its answer's headers.
//!
//! The address pays before anything else is done, unless a service key is shown: whether that is
//! valid is not known yet, and a busy backend's requests must not be its address's. A key that turns
//! out to be none is paid for when the handler has answered.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use http::{HeaderMap, StatusCode, header, request::Parts};
use parking_lot::Mutex;

use super::error::ApiError;
use crate::{
    identity::{AuthError, Caller},
    limit::{Charge, Client, Limited, Limiter, Reading},
};

/// Of one request; its clones share what they know.
#[derive(Clone)]
pub(crate) struct Toll(Arc<Known>);

struct Known {
    limiter: Arc<Limiter>,
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The address has paid, or need not, since a service was recognised.
    settled: bool,
    /// A token or key that is not ours was shown.
    bad_credential: bool,
    reading: Option<Reading>,
}

/// Requests reach handlers through [`super::observe`], which puts it there.
impl<S: Sync> FromRequestParts<S> for Toll {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts).clone())
    }
}

impl Toll {
    pub(crate) fn new(limiter: &Arc<Limiter>, request: &Request) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(peer)| peer.ip());
        let client = limiter.client(peer, request.headers());
        Self(Arc::new(Known { limiter: Arc::clone(limiter), client, state: Mutex::default() }))
    }

    /// The one of a request.
    pub(crate) fn of(parts: &Parts) -> &Self {
        parts.extensions.get::<Self>().expect("observe is a layer of every router")
    }

    /// Before the handler.
    pub(crate) fn enter(&self, headers: &HeaderMap) -> Result<(), Limited> {
        if shows_service_key(headers) { Ok(()) } else { self.pay_by_address() }
    }

    /// When the caller is known, or is not.
    pub(crate) fn recognised<T>(&self, result: Result<T, AuthError>) -> Result<T, AuthError> {
        if let Err(error) = &result
            && error.is_guess()
        {
            self.guessed();
        }
        result
    }

    /// What was shown is not ours.
    pub(crate) fn guessed(&self) {
        self.0.state.lock().bad_credential = true;
    }

    /// Where the client is, as far as proxies are believed.
    pub(crate) fn address(&self) -> IpAddr {
        self.0.client.address
    }

    /// Whether somebody on this very machine asks for himself.
    pub(crate) fn is_local(&self) -> bool {
        self.0.client.is_local
    }

    /// Counts the caller.
    pub(crate) fn pay(&self, caller: &Caller) -> Result<(), Limited> {
        if let Caller::Service(_) = caller {
            self.0.state.lock().settled = true;
        }
        self.note(self.0.limiter.caller(caller))
    }

    /// Counts the rest of a batch.
    pub(crate) fn pay_batch(&self, caller: &Caller, messages: usize) -> Result<(), ApiError> {
        if let Some(most) = self.0.limiter.largest_batch(caller)
            && messages > usize::try_from(most).unwrap_or(usize::MAX)
        {
            let problem = format!(
                "must have at most {most} entries, the burst of your rate limit; has {messages}"
            );
            return Err(ApiError::field("messages", problem));
        }
        Ok(self.note(self.0.limiter.batch(caller, messages))?)
    }

    /// After the handler: what is still to be paid. A refusal takes the answer's place. A node that
    /// could not look at a service's key (it goes down, say) must not take it for a bad one: the
    /// backend would wait instead of trying another node.
    pub(crate) fn leave(&self, answered: StatusCode) -> Result<(), Limited> {
        let settled = self.0.state.lock().settled || answered == StatusCode::SERVICE_UNAVAILABLE;
        let paid = if settled { Ok(()) } else { self.pay_by_address() };
        if paid.is_ok() && self.0.state.lock().bad_credential {
            self.0.limiter.bad_request_credential(self.0.client);
        }
        paid
    }

    /// Tells the client how its limit stands, where it has one.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let Some(reading) = &self.0.state.lock().reading {
            reading.write(headers);
        }
    }

    fn pay_by_address(&self) -> Result<(), Limited> {
        self.0.state.lock().settled = true;
        self.note(self.0.limiter.request(self.0.client))
    }

    fn note(&self, charge: Charge) -> Result<(), Limited> {
        let (reading, result) = match charge {
            Ok(None) => return Ok(()),
            Ok(Some(reading)) => (reading, Ok(())),
            Err(limited) => (limited.reading.clone(), Err(limited)),
        };
        let mut state = self.0.state.lock();
        state.reading = Some(match state.reading.take() {
            Some(before) => before.tighter(reading),
            None => reading,
        });
        result
    }
}

fn shows_service_key(headers: &HeaderMap) -> bool {
    let scheme = headers.get(header::AUTHORIZATION).and_then(|value| {
        let value = value.as_bytes().trim_ascii_start();
        value.split(|byte| *byte == b' ').next()
    });
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"service"))
}
