//! Rate limits (contract §5, §11): how much may be asked by an address, a user, a service, and how
//! often an address may try to connect.
//!
//! What counts where:
//! * **ip**: every request but those with a valid service key. One with a token or key that is not
//!   ours costs [`BAD_CREDENTIAL_UNITS`] more, even if they are not there: the address waits until
//!   they are. Who is on this machine and asks for himself is not limited.
//! * **user**, **service**: every request of a caller that was recognised; a batch costs as many
//!   units as it has messages. A service's own rate wins over the default one.
//! * **connect**: every handshake, with the same price for bad tokens and the same exception.
//!
//! Nobody waits in a queue: a request without units left is answered 429. Buckets are a node's own; those
//! of a cluster follow each other, see [`sharing`].

mod bucket;
mod headers;
mod key;
mod metrics;
mod proxy;
mod rate;
pub mod sharing;
mod state;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use governor::clock::{Clock, DefaultClock, Reference};
use http::HeaderMap;
use parking_lot::RwLock;
use rustc_hash::FxBuildHasher;

use self::{
    bucket::{Bucket, Buckets},
    headers::seconds_up,
    key::{Key, Keys},
    proxy::TrustedProxies,
    sharing::Noted,
    state::Newcomers,
};
use crate::{
    control::{SERVICES_MAX, Service},
    identity::Caller,
    networks::Networks,
};

pub use headers::Reading;
pub use key::BudgetSecret;
pub use metrics::ALL as METRICS;
pub use proxy::Client;
pub use rate::{NoRate, RATE_MAX, Rate};

/// Most addresses counted apart, of requests and of handshakes each: about 3 MiB. Those that find no
/// room share one bucket until others are forgotten, at most [`FORGET_INTERVAL`] after they are full.
pub const ADDRESSES_MAX: usize = 65_536;

/// Most users counted apart: about 6 MiB. At the limit as [`ADDRESSES_MAX`].
pub const USERS_MAX: usize = 131_072;

/// How often buckets that are full again are forgotten: a new one is as good.
pub const FORGET_INTERVAL: Duration = Duration::from_secs(5);

/// What a token or key that is not ours costs its address on top of the request. An expired token
/// costs nothing more: it was ours, and many clients find out that way.
pub const BAD_CREDENTIAL_UNITS: u32 = 10;

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An address's requests.
    Ip,
    /// A user's requests.
    User,
    /// A service's requests.
    Service,
    /// An address's handshakes.
    Connect,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ip, Self::User, Self::Service, Self::Connect];

    /// A metric label, and the name of the policy in headers.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::User => "user",
            Self::Service => "service",
            Self::Connect => "connect",
        }
    }

    /// What it is called between nodes. One that was used is never given another meaning.
    const fn number(self) -> u8 {
        match self {
            Self::Ip => 1,
            Self::User => 2,
            Self::Service => 3,
            Self::Connect => 4,
        }
    }

    fn numbered(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| u64::from(scope.number()) == number)
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Ip => "requests from this address",
            Self::User => "requests by this user",
            Self::Service => "requests by this service",
            Self::Connect => "connection attempts from this address",
        }
    }
}

/// There are not enough units left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many {}; try again in {} s", .reading.scope.what(), self.retry_after_seconds())]
pub struct Limited {
    retry_after: Duration,
    /// For the headers.
    pub reading: Reading,
}

impl Limited {
    /// When the same request fits, in whole seconds, at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u64 {
        seconds_up(self.retry_after).max(1)
    }
}

/// What a request came to: how the bucket stands, nothing where there is no limit, or no.
pub type Charge = Result<Option<Reading>, Limited>;

/// What is limited how much; `None` is not at all.
#[derive(Clone, Debug, Default)]
pub struct LimitConfig {
    /// `RATE_LIMIT_IP`.
    pub ip: Option<Rate>,
    /// `RATE_LIMIT_USER`.
    pub user: Option<Rate>,
    /// `RATE_LIMIT_SERVICE`: of services without their own.
    pub service: Option<Rate>,
    /// `RATE_LIMIT_CONNECT`.
    pub connect: Option<Rate>,
    /// `TRUSTED_PROXIES`.
    pub trusted_proxies: Networks,
}

impl LimitConfig {
    const fn rate(&self, scope: Scope) -> Option<Rate> {
        match scope {
            Scope::Ip => self.ip,
            Scope::User => self.user,
            Scope::Service => self.service,
            Scope::Connect => self.connect,
        }
    }
}

/// Counts.
pub struct Limiter<C: Clock = DefaultClock> {
    proxies: TrustedProxies,
    keys: Keys,
    ip: ArcSwapOption<Buckets<C>>,
    user: ArcSwapOption<Buckets<C>>,
    connect: ArcSwapOption<Buckets<C>>,
    service: RwLock<Option<Rate>>,
    /// One each, as each has its own rate. Bounded by [`SERVICES_MAX`].
    services: DashMap<Key, Arc<Bucket<C>>, FxBuildHasher>,
    /// Services that were not here yet, whose rate is therefore not known; on [`Limiter::now`].
    new_services: Newcomers,
    /// Whose use is to be told, by scope; none on a node that has no others.
    noted: Option<[Arc<Noted>; Scope::ALL.len()]>,
    clock: C,
    start: C::Instant,
    metrics: metrics::LimitMetrics,
}

impl<C: Clock> std::fmt::Debug for Limiter<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

impl Limiter {
    /// Of a node that has no others. Begins with full buckets.
    #[must_use]
    pub fn new(config: LimitConfig, recorder: &dyn ::metrics::Recorder) -> Self {
        Self::with_clock(config, None, DefaultClock::default(), recorder)
    }

    /// Of a node that tells others what was used on it ([`Limiter::spent`]) and is told
    /// ([`Limiter::charge`]). Begins with full buckets.
    #[must_use]
    pub fn in_cluster(
        config: LimitConfig,
        secret: &BudgetSecret,
        recorder: &dyn ::metrics::Recorder,
    ) -> Self {
        Self::with_clock(config, Some(secret), DefaultClock::default(), recorder)
    }
}

impl<C: Clock + Clone> Limiter<C> {
    fn with_clock(
        config: LimitConfig,
        secret: Option<&BudgetSecret>,
        clock: C,
        recorder: &dyn ::metrics::Recorder,
    ) -> Self {
        let noted = secret.map(|_| Scope::ALL.map(|_| Arc::new(Noted::default())));
        let limiter = Self {
            proxies: TrustedProxies(config.trusted_proxies.clone()),
            keys: secret.map_or_else(Keys::own, Keys::new),
            ip: ArcSwapOption::empty(),
            user: ArcSwapOption::empty(),
            connect: ArcSwapOption::empty(),
            service: RwLock::default(),
            services: DashMap::with_hasher(FxBuildHasher),
            new_services: Newcomers::default(),
            noted,
            start: clock.now(),
            clock,
            metrics: metrics::LimitMetrics::new(recorder),
        };
        limiter.set_rates(&config);
        limiter
    }

    /// The rates are these from here on; whose request it is goes on being said by the proxies of the start. Where
    /// one becomes another, its callers begin with full buckets, as a service does that gets a rate of its own: what was
    /// taken of the old rate says little of the new one.
    pub fn set_rates(&self, config: &LimitConfig) {
        for (scope, keys_max) in
            [(Scope::Ip, ADDRESSES_MAX), (Scope::User, USERS_MAX), (Scope::Connect, ADDRESSES_MAX)]
        {
            let Some(place) = self.place(scope) else { continue };
            let (rate, before) = (config.rate(scope), place.load_full());
            if before.as_ref().map(|before| before.rate()) == rate {
                continue;
            }
            let noted = self.noted.as_ref().map(|noted| Arc::clone(&noted[scope as usize]));
            let clock = self.clock.clone();
            let shared = before.map_or(0, |before| before.shared());
            let buckets = rate.map(|rate| {
                let buckets = Buckets::new(scope, rate, keys_max, clock, noted);
                buckets.count_on(shared);
                Arc::new(buckets)
            });
            place.store(buckets);
            self.metrics.kept(scope, 0, shared, 0);
        }
        *self.service.write() = config.service;
    }

    /// Whose request it is that came from `peer`. Those of unknown origin are one client.
    #[must_use]
    pub fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Client {
        self.proxies.client(peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), headers)
    }

    /// Counts a request that shows no valid service key.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn request(&self, client: Client) -> Charge {
        self.take_address(Scope::Ip, client)
    }

    /// Counts a handshake.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn connect(&self, client: Client) -> Charge {
        self.take_address(Scope::Connect, client)
    }

    /// After [`Limiter::request`]: what it showed was not ours.
    pub fn bad_request_credential(&self, client: Client) {
        self.owe(Scope::Ip, client);
    }

    /// After [`Limiter::connect`]: what it showed was not ours.
    pub fn bad_connect_credential(&self, client: Client) {
        self.owe(Scope::Connect, client);
    }

    /// Counts a request of a caller that was recognised. Admins are counted by address only.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn caller(&self, caller: &Caller) -> Charge {
        self.take(caller, 1, 0)
    }

    /// Counts the other messages of a batch, of which one was counted by [`Limiter::caller`].
    ///
    /// # Errors
    /// [`Limited`]. Its wait is for the whole batch, which then comes again from the start.
    pub fn batch(&self, caller: &Caller, messages: usize) -> Charge {
        let others = u32::try_from(messages).unwrap_or(u32::MAX).saturating_sub(1);
        if others == 0 { Ok(None) } else { self.take(caller, others, 1) }
    }

    /// The largest batch that ever fits.
    #[must_use]
    pub fn largest_batch(&self, caller: &Caller) -> Option<u32> {
        match caller {
            Caller::User(_) => Some(self.user.load().as_ref()?.rate().burst()),
            Caller::Service(service) => Some(self.service_rate(service)?.burst()),
            Caller::Admin(_) => None,
        }
    }

    fn take(&self, caller: &Caller, units: u32, more: u32) -> Charge {
        let taken = match caller {
            Caller::User(user) => {
                let users = self.user.load();
                users.as_ref().map(|users| users.take(self.keys.user(&user.inbox), units, more))
            }
            Caller::Service(service) => self.bucket(service).map(|bucket| bucket.take(units, more)),
            Caller::Admin(_) => None,
        };
        self.counted(taken.transpose())
    }

    fn take_address(&self, scope: Scope, client: Client) -> Charge {
        let taken = self.address(scope, client).map(|(buckets, key)| buckets.take(key, 1, 0));
        self.counted(taken.transpose())
    }

    fn owe(&self, scope: Scope, client: Client) {
        if let Some((buckets, key)) = self.address(scope, client) {
            buckets.owe(key, BAD_CREDENTIAL_UNITS);
        }
    }

    fn address(&self, scope: Scope, client: Client) -> Option<(Arc<Buckets<C>>, Key)> {
        let buckets = self.buckets(scope).filter(|_| !client.is_local)?;
        Some((buckets, self.keys.address(scope, client.key())))
    }

    fn buckets(&self, scope: Scope) -> Option<Arc<Buckets<C>>> {
        self.place(scope)?.load_full()
    }

    /// Services have buckets of their own.
    const fn place(&self, scope: Scope) -> Option<&ArcSwapOption<Buckets<C>>> {
        match scope {
            Scope::Ip => Some(&self.ip),
            Scope::User => Some(&self.user),
            Scope::Connect => Some(&self.connect),
            Scope::Service => None,
        }
    }

    fn service_rate(&self, service: &Service) -> Option<Rate> {
        service.rate_limit.map(Rate::from).or_else(|| *self.service.read())
    }

    /// A service's bucket; a new one where its rate has changed.
    fn bucket(&self, service: &Service) -> Option<Arc<Bucket<C>>> {
        let rate = self.service_rate(service)?;
        let key = self.keys.service(&service.id);
        if let Some(bucket) = self.services.get(&key)
            && bucket.rate() == rate
        {
            return Some(Arc::clone(&bucket));
        }
        // Only services that are gone can bring it there; the others begin anew.
        if self.services.len() >= SERVICES_MAX {
            self.services.clear();
        }
        let noted = self.noted.as_ref().map(|noted| Arc::clone(&noted[Scope::Service as usize]));
        let bucket = Arc::new(Bucket::new(Scope::Service, key, rate, &self.clock, noted));
        // Found under its key's lock, as it is put in: see `charge_service`.
        let place = self.services.entry(key).insert(Arc::clone(&bucket));
        let owed = self.new_services.arrived(key).unwrap_or(0).saturating_sub(self.now());
        drop(place);
        if owed > 0 {
            bucket.charge(owed);
            self.metrics.charged(Scope::Service, rate.units_of(owed));
        }
        Some(bucket)
    }

    fn counted(&self, charge: Charge) -> Charge {
        charge.inspect_err(|limited| self.metrics.limited(limited.reading.scope))
    }

    fn now(&self) -> u64 {
        self.clock.now().duration_since(self.start).as_u64()
    }

    /// Forgets full buckets, for ever. Spawn it once and drop it to stop.
    pub async fn upkeep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(FORGET_INTERVAL);
        loop {
            interval.tick().await;
            self.forget_full();
        }
    }

    fn forget_full(&self) {
        for scope in Scope::ALL {
            if let Some(buckets) = self.buckets(scope) {
                buckets.forget_full();
                self.metrics.kept(scope, buckets.keys(), buckets.shared(), buckets.newcomers());
            }
        }
        self.new_services.forget_full(self.now());
        let (services, newcomers) = (self.services.len(), self.new_services.len());
        self.metrics.kept(Scope::Service, services, 0, newcomers);
        if let Some(noted) = &self.noted {
            self.metrics.not_noted(noted.iter().map(|noted| noted.refused()).sum());
        }
    }
}

#[cfg(test)]
mod tests;
