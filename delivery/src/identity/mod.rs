//! Who is asking.
//!
//! A request comes from a user (JWT), a service (API key) or an admin; the answer is a [`Caller`],
//! which handlers take as an argument, so that none can forget to ask.

mod cache;
mod caller;
mod error;
mod issuers;
pub mod jwks;
mod jws;
mod metrics;
mod rights;
pub mod signing;
mod token;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use protocol::{TenantId, Time};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::runtime::Handle;

use self::{
    jwks::{IssuerKeys, KeysError, PublicJwk},
    jws::Jws,
    signing::SigningKeys,
    token::Doubt,
};
use crate::{
    InboxKey,
    account::{LoginMark, Revocations},
    control::{Control, Service},
};

pub use cache::ENTRIES_MAX as TOKEN_CACHE_ENTRIES_MAX;
pub use caller::{
    AdminCaller, Caller, DEPARTMENT_ADMIN, DEPARTMENT_PREFIX, Noted, SYSTEM_ADMIN, Seen,
    UserCaller, department_role,
};
pub use error::AuthError;
pub use issuers::{ISSUERS_MAX, IssuerError, Issuers, NoIssuers, TrustedIssuers};
pub use jws::{BadJws, TOKEN_BYTES_MAX};
pub use metrics::ALL as METRICS;
pub use rights::{note, with_all_rights};
pub use token::{LEEWAY, MintRequest};

/// What tokens are checked against.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Checks user tokens with HS256, and signs them where no key pair does.
    pub jwt_secret: SecretString,
    /// The `iss` of user tokens.
    pub issuer: String,
    /// A user token's `aud` names one of these; minted tokens carry the first.
    pub audience: Vec<String>,
    /// Opens the admin API.
    pub admin_token: SecretString,
    /// How long a minted token lives unless asked otherwise.
    pub access_ttl: Duration,
}

/// Tells who is asking.
pub struct Identity {
    tokens: token::Tokens,
    cache: cache::TokenCache,
    admin_token: SecretString,
    control: Arc<Control>,
    revocations: Arc<Revocations>,
    access_ttl: Duration,
    metrics: OnceLock<metrics::IdentityMetrics>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Takes the keys.
    #[must_use]
    pub fn new(config: IdentityConfig, control: Arc<Control>) -> Self {
        Self {
            admin_token: config.admin_token.clone(),
            access_ttl: config.access_ttl,
            revocations: Arc::default(),
            tokens: token::Tokens::new(config),
            cache: cache::TokenCache::default(),
            control,
            metrics: OnceLock::new(),
        }
    }

    /// What is not to be believed any more, though it may be signed well.
    #[must_use]
    pub const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// How long an access token lives unless asked otherwise.
    #[must_use]
    pub const fn access_ttl(&self) -> Duration {
        self.access_ttl
    }

    /// Signs with a key pair where these have one, checks by all of them, and believes these issuers
    /// too.
    #[must_use]
    pub fn with_keys(mut self, signing: Arc<SigningKeys>, others: Issuers) -> Self {
        self.tokens.signing = Some(signing);
        self.tokens.others = others;
        self
    }

    /// Calls `heard` whenever tokens of one of our own keys are void from then on, on the thread that learns of
    /// it. The first one is kept.
    pub fn on_key_withdrawn(&self, heard: impl Fn() + Send + Sync + 'static) {
        if let Some(keys) = &self.tokens.signing {
            keys.on_withdrawn(heard);
        }
    }

    /// Whether a token that was good before is still to be believed, expiry aside. Some 100 ns where anything is
    /// void at all.
    ///
    /// # Errors
    /// [`AuthError::Revoked`], [`AuthError::UserDisabled`].
    pub fn check_mark(&self, inbox: &InboxKey, mark: &LoginMark) -> Result<(), AuthError> {
        if let (Some(key), Some(keys)) = (mark.signed_by, &self.tokens.signing)
            && !keys.is_checking(key)
        {
            return Err(AuthError::Revoked);
        }
        self.check_tenant(&inbox.tenant)?;
        self.revocations.check_mark(inbox, mark)
    }

    /// A token that was believed when it was made.
    fn check_user(&self, user: &UserCaller) -> Result<(), AuthError> {
        self.check_tenant(&user.inbox.tenant)?;
        self.revocations.check(user)
    }

    /// Nobody comes in while their tenant is being deleted.
    fn check_tenant(&self, tenant: &TenantId) -> Result<(), AuthError> {
        if self.control.is_leaving(tenant) { Err(AuthError::Revoked) } else { Ok(()) }
    }

    /// As [`Identity::check_mark`].
    ///
    /// # Errors
    /// As [`Identity::check_mark`].
    pub(crate) fn check_login(&self, caller: &UserCaller) -> Result<(), AuthError> {
        self.check_mark(&caller.inbox, &LoginMark::of(caller))
    }

    /// The public halves of the keys that this service signs with, as they are published.
    #[must_use]
    pub fn published_keys(&self) -> Vec<PublicJwk> {
        self.tokens.signing.as_ref().map(|keys| keys.published()).unwrap_or_default()
    }

    /// Counts from here on; the first recorder is kept.
    pub fn register_metrics(&self, recorder: &dyn ::metrics::Recorder) {
        self.metrics.get_or_init(|| metrics::IdentityMetrics::new(recorder));
    }

    /// Checks a user's token and remembers nothing: for sockets, which show theirs once. 15,000 of
    /// them in the cache would cost more than the 3 µs of checking. Does not wait: a key of another issuer
    /// that is not known is fetched for whoever comes again ([`Identity::fetch_key_of`] waits for it).
    ///
    /// # Errors
    /// [`AuthError::BadToken`], [`AuthError::Expired`], [`AuthError::NotYet`], [`AuthError::NoKeys`],
    /// [`AuthError::Revoked`], [`AuthError::UserDisabled`].
    pub fn verify_user(&self, token: &str) -> Result<UserCaller, AuthError> {
        let verified = self.tokens.verify(token, self.control.clock().now());
        if let (Err(Doubt::NewKey(keys)), Ok(runtime)) = (&verified, Handle::try_current()) {
            let (keys, token) = (Arc::clone(keys), token.to_owned());
            runtime.spawn(async move { fetch(&keys, &token).await });
        }
        let believed = verified.map_err(no_waiting).and_then(|user| {
            self.check_user(&user)?;
            Ok(user)
        });
        self.counted(believed)
    }

    /// Fetches the key that a token of another issuer was signed with, where it is not known; for those
    /// who check the token next. Does not wait for other tokens.
    pub async fn fetch_key_of(&self, token: &str) {
        if self.tokens.others.0.is_empty() {
            return;
        }
        if let Err(Doubt::NewKey(keys)) = self.tokens.verify(token, self.control.clock().now()) {
            fetch(&keys, token).await;
        }
    }

    /// As [`Identity::verify_user`], remembering the token: under a microsecond for one that was
    /// seen before. Waits where the key of the token's issuer has to be fetched.
    ///
    /// # Errors
    /// As [`Identity::verify_user`].
    pub async fn verify_user_shared(&self, token: &str) -> Result<Arc<UserCaller>, AuthError> {
        let known = match self.user_of(token) {
            Err(Doubt::NewKey(keys)) => {
                fetch(&keys, token).await;
                self.user_of(token)
            }
            known => known,
        };
        self.counted(known.map_err(no_waiting))
    }

    fn user_of(&self, token: &str) -> Result<Arc<UserCaller>, Doubt> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::BadToken.into());
        }
        let (key, withdrawn) = (cache::key(token), self.tokens.withdrawn());
        let known = self.cache.get(&key, self.control.clock().now(), withdrawn);
        if let Some(metrics) = self.metrics.get() {
            metrics.cache(known.is_some());
        }
        if let Some(user) = known {
            // Not before it is kept, because it may be revoked at any time after.
            self.check_user(&user)?;
            return Ok(user);
        }
        let user = Arc::new(self.tokens.verify(token, self.control.clock().now())?);
        self.check_user(&user)?;
        self.cache.insert(key, Arc::clone(&user), withdrawn);
        Ok(user)
    }

    /// Checks a service's key that was shown from an address. Waits only if it is not known yet.
    ///
    /// # Errors
    /// [`AuthError::BadKey`], [`AuthError::KeyAddress`], [`AuthError::ServiceInactive`], [`AuthError::Unavailable`].
    pub async fn verify_service(&self, key: &str, from: IpAddr) -> Result<Arc<Service>, AuthError> {
        self.counted(self.control.verify_aside(key, from).await.map_err(AuthError::from))
    }

    /// Checks what opens the admin API: the admin token, or the token of a system admin.
    ///
    /// # Errors
    /// As [`Identity::verify_user`], and [`AuthError::NotAdmin`].
    pub async fn verify_admin(&self, bearer: &str) -> Result<AdminCaller, AuthError> {
        let expected = self.admin_token.expose_secret().as_bytes();
        if !expected.is_empty() && bool::from(expected.ct_eq(bearer.as_bytes())) {
            return Ok(AdminCaller::Token);
        }
        let user = self.verify_user_shared(bearer).await?;
        if user.is_system_admin() {
            Ok(AdminCaller::User(user))
        } else {
            self.counted(Err(AuthError::NotAdmin))
        }
    }

    /// Reads an `Authorization` header of the user API that came from an address.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn caller(
        &self,
        authorization: Option<&[u8]>,
        from: IpAddr,
    ) -> Result<Caller, AuthError> {
        match self.counted(Credential::parse(authorization))? {
            Credential::Bearer(token) => Ok(Caller::User(self.verify_user_shared(token).await?)),
            Credential::Service(key) => Ok(Caller::Service(self.verify_service(key, from).await?)),
        }
    }

    /// Reads an `Authorization` header of the admin API that came from an address.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn admin(
        &self,
        authorization: Option<&[u8]>,
        from: IpAddr,
    ) -> Result<AdminCaller, AuthError> {
        match self.counted(Credential::parse(authorization))? {
            Credential::Bearer(token) => self.verify_admin(token).await,
            // A good key is a known caller, who is no admin; a bad one is nobody.
            Credential::Service(key) => {
                self.verify_service(key, from).await?;
                self.counted(Err(AuthError::NotAdmin))
            }
        }
    }

    /// Makes a user's token.
    #[must_use]
    pub fn mint(&self, request: &MintRequest) -> String {
        self.mint_at(request, self.control.clock().now()).0
    }

    /// As [`Identity::mint`], as of a moment, and whom it makes of its bearer.
    pub(crate) fn mint_at(&self, request: &MintRequest, now: Time) -> (String, UserCaller) {
        self.tokens.mint(request, now)
    }

    pub(crate) fn counted<T>(&self, result: Result<T, AuthError>) -> Result<T, AuthError> {
        if let (Err(error), Some(metrics)) = (&result, self.metrics.get()) {
            metrics.failed(error);
        }
        result
    }
}

/// What is said of a token where nobody waits for its key.
fn no_waiting(doubt: Doubt) -> AuthError {
    match doubt {
        Doubt::No(error) => error,
        // Its issuer has keys, and this is none of them.
        Doubt::NewKey(keys) if keys.is_known() => AuthError::BadToken,
        Doubt::NewKey(_) => AuthError::NoKeys,
    }
}

async fn fetch(keys: &IssuerKeys, token: &str) {
    let Ok(jws) = Jws::read(token) else { return };
    match keys.fetch_for(&jws).await {
        Ok(()) | Err(KeysError::CoolingDown) => {}
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the keys of an issuer could not be fetched"
        ),
    }
}

enum Credential<'a> {
    Bearer(&'a str),
    Service(&'a str),
}

impl<'a> Credential<'a> {
    /// Schemes are read without regard to case (RFC 9110 §11.1).
    fn parse(header: Option<&'a [u8]>) -> Result<Self, AuthError> {
        let header = header.ok_or(AuthError::Missing)?;
        let text = std::str::from_utf8(header).map_err(|_| AuthError::UnknownScheme)?;
        let (scheme, rest) = text.trim().split_once(' ').ok_or(AuthError::UnknownScheme)?;
        let rest = rest.trim_start();
        if scheme.eq_ignore_ascii_case("bearer") {
            Ok(Self::Bearer(rest))
        } else if scheme.eq_ignore_ascii_case("service") {
            Ok(Self::Service(rest))
        } else {
            Err(AuthError::UnknownScheme)
        }
    }
}

#[cfg(test)]
mod forged_tests;
#[cfg(test)]
mod tests;
