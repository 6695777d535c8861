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
//! Nobody waits in a queue: a request without units left is answered 429. Buckets are a node's own.

mod bucket;
mod headers;
mod metrics;
mod proxy;
mod rate;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use dashmap::DashMap;
use governor::clock::DefaultClock;
use http::HeaderMap;
use protocol::ServiceId;
use rustc_hash::FxBuildHasher;

use self::{
    bucket::{Bucket, Buckets},
    headers::seconds_up,
    proxy::TrustedProxies,
};
use crate::{
    InboxKey,
    control::{SERVICES_MAX, Service},
    identity::Caller,
    networks::Networks,
};

pub use headers::Reading;
pub use metrics::ALL as METRICS;
pub use proxy::Client;
pub use rate::{NoRate, RATE_MAX, Rate};

/// Most addresses counted apart, of requests and of handshakes each: about 6 MiB. Those that find no
/// room share one bucket until others are forgotten, at most [`FORGET_INTERVAL`] after they are full.
pub const ADDRESSES_MAX: usize = 65_536;

/// Most users counted apart: about 20 MiB. At the limit as [`ADDRESSES_MAX`].
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

/// Counts.
pub struct Limiter {
    proxies: TrustedProxies,
    ip: Option<Buckets<IpAddr>>,
    user: Option<Buckets<InboxKey>>,
    connect: Option<Buckets<IpAddr>>,
    service: Option<Rate>,
    /// One each, as each has its own rate. Bounded by [`SERVICES_MAX`].
    services: DashMap<ServiceId, Arc<Bucket>, FxBuildHasher>,
    metrics: metrics::LimitMetrics,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

impl Limiter {
    /// Begins with full buckets.
    #[must_use]
    pub fn new(config: LimitConfig, recorder: &dyn ::metrics::Recorder) -> Self {
        let LimitConfig { ip, user, service, connect, trusted_proxies } = config;
        let clock = DefaultClock::default();
        let addresses = |scope, rate| Buckets::new(scope, rate, ADDRESSES_MAX, clock.clone());
        Self {
            proxies: TrustedProxies(trusted_proxies),
            ip: ip.map(|rate| addresses(Scope::Ip, rate)),
            user: user.map(|rate| Buckets::new(Scope::User, rate, USERS_MAX, clock.clone())),
            connect: connect.map(|rate| addresses(Scope::Connect, rate)),
            service,
            services: DashMap::with_hasher(FxBuildHasher),
            metrics: metrics::LimitMetrics::new(recorder),
        }
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
        self.counted(take(self.ip.as_ref(), client))
    }

    /// Counts a handshake.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn connect(&self, client: Client) -> Charge {
        self.counted(take(self.connect.as_ref(), client))
    }

    /// After [`Limiter::request`]: what it showed was not ours.
    pub fn bad_request_credential(&self, client: Client) {
        owe(self.ip.as_ref(), client);
    }

    /// After [`Limiter::connect`]: what it showed was not ours.
    pub fn bad_connect_credential(&self, client: Client) {
        owe(self.connect.as_ref(), client);
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
            Caller::User(_) => Some(self.user.as_ref()?.rate().burst()),
            Caller::Service(service) => Some(self.service_rate(service)?.burst()),
            Caller::Admin(_) => None,
        }
    }

    fn take(&self, caller: &Caller, units: u32, more: u32) -> Charge {
        let taken = match caller {
            Caller::User(user) => {
                self.user.as_ref().map(|users| users.take(&user.inbox, units, more))
            }
            Caller::Service(service) => self.bucket(service).map(|bucket| bucket.take(units, more)),
            Caller::Admin(_) => None,
        };
        self.counted(taken.transpose())
    }

    fn service_rate(&self, service: &Service) -> Option<Rate> {
        service.rate_limit.map(Rate::from).or(self.service)
    }

    /// A service's bucket; a new one where its rate has changed.
    fn bucket(&self, service: &Service) -> Option<Arc<Bucket>> {
        let rate = self.service_rate(service)?;
        if let Some(bucket) = self.services.get(&service.id)
            && bucket.rate() == rate
        {
            return Some(Arc::clone(&bucket));
        }
        // Only services that are gone can bring it there; the others begin anew.
        if self.services.len() >= SERVICES_MAX {
            self.services.clear();
        }
        let bucket = Arc::new(Bucket::new(Scope::Service, rate));
        self.services.insert(service.id.clone(), Arc::clone(&bucket));
        Some(bucket)
    }

    fn counted(&self, charge: Charge) -> Charge {
        charge.inspect_err(|limited| self.metrics.limited(limited.reading.scope))
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
        for (scope, buckets) in [(Scope::Ip, &self.ip), (Scope::Connect, &self.connect)] {
            if let Some(buckets) = buckets {
                buckets.forget_full();
                self.metrics.kept(scope, buckets.keys(), buckets.shared());
            }
        }
        if let Some(buckets) = &self.user {
            buckets.forget_full();
            self.metrics.kept(Scope::User, buckets.keys(), buckets.shared());
        }
        self.metrics.kept(Scope::Service, self.services.len(), 0);
    }
}

fn take(buckets: Option<&Buckets<IpAddr>>, client: Client) -> Charge {
    let buckets = buckets.filter(|_| !client.is_local);
    buckets.map(|buckets| buckets.take(&client.key(), 1, 0)).transpose()
}

fn owe(buckets: Option<&Buckets<IpAddr>>, client: Client) {
    if let Some(buckets) = buckets.filter(|_| !client.is_local) {
        buckets.owe(&client.key(), BAD_CREDENTIAL_UNITS);
    }
}

#[cfg(test)]
mod tests {
    use ::metrics::NoopRecorder;
    use protocol::{TenantId, Time};

    use super::*;
    use crate::control::{Level, RateLimit, Scope as Allowed, ServiceStatus, ServiceType};

    fn service(id: &str, burst: u32) -> Caller {
        Caller::Service(Arc::new(Service {
            id: ServiceId::new(id).unwrap(),
            name: id.to_owned(),
            kind: ServiceType::Internal,
            level: Level::Business,
            permissions: Vec::new(),
            scope: Allowed::default(),
            rate_limit: (burst > 0).then_some(RateLimit { per_second: 1, burst }),
            owner: String::new(),
            status: ServiceStatus::Active,
            tenant_id: TenantId::default(),
            created_at: Time::default(),
        }))
    }

    #[test]
    fn a_new_rate_of_a_service_holds_at_once() {
        let limiter = Limiter::new(LimitConfig::default(), &NoopRecorder);
        assert_eq!(limiter.caller(&service("a", 0)), Ok(None));
        assert_eq!(limiter.caller(&service("a", 5)).unwrap().unwrap().remaining, 4);
        assert_eq!(limiter.caller(&service("b", 5)).unwrap().unwrap().remaining, 4);
        assert_eq!(limiter.caller(&service("a", 9)).unwrap().unwrap().remaining, 8);
        assert_eq!(limiter.largest_batch(&service("a", 9)), Some(9));
        assert_eq!(limiter.largest_batch(&service("a", 0)), None);
        assert_eq!(limiter.services.len(), 2);
    }

    #[test]
    fn a_bad_token_at_the_handshake_is_paid_for_by_its_address() {
        let config = LimitConfig { connect: Some(Rate::hourly(20)), ..LimitConfig::default() };
        let limiter = Limiter::new(config, &NoopRecorder);
        let client = |text: &str| limiter.client(text.parse().ok(), &HeaderMap::new());
        let (guesser, other) = (client("203.0.113.9"), client("203.0.113.10"));
        let mut attempts = 0;
        while limiter.connect(guesser).is_ok() {
            limiter.bad_connect_credential(guesser);
            attempts += 1;
        }
        assert_eq!(attempts, 2);
        assert!(limiter.connect(other).is_ok());
        assert_eq!(limiter.connect(client("127.0.0.1")), Ok(None), "not limited at all");
        limiter.forget_full();
        assert!(limiter.connect(guesser).is_err(), "what is owed is not forgotten");
    }
}
