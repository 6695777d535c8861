//! Who is asking.
//!
//! A request comes from a user (JWT), a service (API key) or an admin; the answer is a [`Caller`],
//! which handlers take as an argument, so that none can forget to ask.

mod cache;
mod metrics;
mod token;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use protocol::{DeviceId, TenantId, Time, UserId};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::{
    InboxKey,
    control::{Control, ControlError, KeyError, Service, ServiceStatus},
    store::SenderKey,
};

pub use cache::ENTRIES_MAX as TOKEN_CACHE_ENTRIES_MAX;
pub use metrics::ALL as METRICS;
pub use token::{LEEWAY, MintRequest, TOKEN_BYTES_MAX};

/// The role whose bearers may do everything (seed 003 §4.8).
pub const SYSTEM_ADMIN: &str = "system_admin";

/// The word of a token's `scope` that sending needs, where the token has such words at all.
const SCOPE_WRITE: &str = "write";
const SCOPE_READ: &str = "read";

/// A user, as a valid token says.
#[derive(Clone, Debug)]
pub struct UserCaller {
    /// Whose inbox.
    pub inbox: InboxKey,
    /// The device, where the token names one.
    pub device: Option<DeviceId>,
    /// The login, where the token names one.
    pub session: Option<String>,
    /// What to show as the sender's name.
    pub username: String,
    /// Names the user carries, such as `system_admin`.
    pub roles: Vec<String>,
    /// What the token is for, such as `read` and `write`.
    pub scope: Vec<String>,
    /// When the token ends.
    pub expires_at: Time,
}

impl UserCaller {
    /// The user's id.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.inbox.user
    }

    /// The user's tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.inbox.tenant
    }

    /// Whether the user carries a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r == role)
    }

    /// Whether the user may do everything.
    #[must_use]
    pub fn is_system_admin(&self) -> bool {
        self.has_role(SYSTEM_ADMIN)
    }

    /// Whether the token may be used to send: not one whose scope says `read` and not `write`.
    /// Words that mean something to other programs only are not looked at.
    #[must_use]
    pub fn may_write(&self) -> bool {
        let says = |word: &str| self.scope.iter().any(|s| s == word);
        says(SCOPE_WRITE) || !says(SCOPE_READ)
    }
}

/// An admin.
#[derive(Clone, Debug)]
pub enum AdminCaller {
    /// The bearer of the admin token.
    Token,
    /// A user with the role [`SYSTEM_ADMIN`].
    User(Arc<UserCaller>),
}

/// Whoever is asking.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A person.
    User(Arc<UserCaller>),
    /// A backend.
    Service(Arc<Service>),
    /// An admin.
    Admin(AdminCaller),
}

impl Caller {
    /// The wall they stand behind.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::User(user) | Self::Admin(AdminCaller::User(user)) => user.tenant().clone(),
            Self::Service(service) => service.tenant_id.clone(),
            Self::Admin(AdminCaller::Token) => TenantId::default(),
        }
    }

    /// Whose the messages are that they send.
    #[must_use]
    pub fn sender_key(&self) -> SenderKey {
        match self {
            Self::User(user) | Self::Admin(AdminCaller::User(user)) => {
                SenderKey::User(user.user().clone())
            }
            Self::Service(service) => SenderKey::Service(service.id.clone()),
            Self::Admin(AdminCaller::Token) => SenderKey::Admin,
        }
    }

    /// Whether they may change and take back what `sender` sent, and see what became of it: the
    /// sender, and admins.
    #[must_use]
    pub fn may_manage(&self, sender: &SenderKey) -> bool {
        match self {
            Self::Admin(_) => true,
            Self::User(user) if user.is_system_admin() => true,
            Self::User(_) | Self::Service(_) => self.sender_key() == *sender,
        }
    }

    /// What kind it is; a metric label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Service(_) => "service",
            Self::Admin(_) => "admin",
        }
    }
}

/// Why nobody was recognised. The sentences tell a caller no more than "expired" or "not valid".
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization` header.
    #[error("an Authorization header is needed")]
    Missing,
    /// Neither `Bearer` nor `Service`.
    #[error("the Authorization header must begin with Bearer or Service")]
    UnknownScheme,
    /// A token that we did not make, or not for this.
    #[error("the token is not valid")]
    BadToken,
    /// A token whose time is over.
    #[error("the token has expired")]
    Expired,
    /// A token whose time has not begun.
    #[error("the token is not valid yet")]
    NotYet,
    /// A service key that is unknown, revoked, expired or wrong.
    #[error("the service key is not valid")]
    BadKey,
    /// A known service that may not be heard now. Known, hence 403.
    #[error("the service is {0}")]
    ServiceInactive(ServiceStatus),
    /// A known user who is no admin. Known, hence 403.
    #[error("this needs an admin")]
    NotAdmin,
    /// Services cannot be looked up.
    #[error("service keys cannot be checked now")]
    Unavailable(#[source] Box<ControlError>),
}

impl AuthError {
    /// A metric label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::UnknownScheme => "unknown_scheme",
            Self::BadToken => "bad_token",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::BadKey => "bad_key",
            Self::ServiceInactive(_) => "service_inactive",
            Self::NotAdmin => "not_admin",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Whether what was shown never was ours: a guess, or a slip. An expired token was ours.
    #[must_use]
    pub const fn is_guess(&self) -> bool {
        match self {
            Self::BadToken | Self::BadKey => true,
            Self::Missing
            | Self::UnknownScheme
            | Self::Expired
            | Self::NotYet
            | Self::ServiceInactive(_)
            | Self::NotAdmin
            | Self::Unavailable(_) => false,
        }
    }

    /// Every label.
    pub const LABELS: [&'static str; 9] = [
        "missing",
        "unknown_scheme",
        "bad_token",
        "expired",
        "not_yet",
        "bad_key",
        "service_inactive",
        "not_admin",
        "unavailable",
    ];
}

impl From<KeyError> for AuthError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Bad => Self::BadKey,
            KeyError::Inactive(status) => Self::ServiceInactive(status),
            KeyError::Unavailable(source) => Self::Unavailable(source),
        }
    }
}

/// What tokens are checked against.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Signs and checks user tokens (HS256).
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
            tokens: token::Tokens::new(config),
            cache: cache::TokenCache::default(),
            control,
            metrics: OnceLock::new(),
        }
    }

    /// Counts from here on; the first recorder is kept.
    pub fn register_metrics(&self, recorder: &dyn ::metrics::Recorder) {
        self.metrics.get_or_init(|| metrics::IdentityMetrics::new(recorder));
    }

    /// Checks a user's token and remembers nothing: for sockets, which show theirs once. 15,000 of
    /// them in the cache would cost more than the 3 µs of checking.
    ///
    /// # Errors
    /// [`AuthError::BadToken`], [`AuthError::Expired`], [`AuthError::NotYet`].
    pub fn verify_user(&self, token: &str) -> Result<UserCaller, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return self.counted(Err(AuthError::BadToken));
        }
        self.counted(self.tokens.verify(token))
    }

    /// As [`Identity::verify_user`], remembering the token: under a microsecond for one that was
    /// seen before.
    ///
    /// # Errors
    /// As [`Identity::verify_user`].
    pub fn verify_user_shared(&self, token: &str) -> Result<Arc<UserCaller>, AuthError> {
        self.counted(self.user_of(token))
    }

    fn user_of(&self, token: &str) -> Result<Arc<UserCaller>, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::BadToken);
        }
        let key = cache::key(token);
        let known = self.cache.get(&key, crate::clock::now());
        if let Some(metrics) = self.metrics.get() {
            metrics.cache(known.is_some());
        }
        if let Some(user) = known {
            return Ok(user);
        }
        let user = Arc::new(self.tokens.verify(token)?);
        self.cache.insert(key, Arc::clone(&user));
        Ok(user)
    }

    /// Checks a service's key.
    ///
    /// # Errors
    /// [`AuthError::BadKey`], [`AuthError::ServiceInactive`], [`AuthError::Unavailable`].
    pub fn verify_service(&self, key: &str) -> Result<Arc<Service>, AuthError> {
        self.counted(self.control.verify(key).map_err(AuthError::from))
    }

    /// Checks what opens the admin API: the admin token, or the token of a system admin.
    ///
    /// # Errors
    /// As [`Identity::verify_user`], and [`AuthError::NotAdmin`].
    pub fn verify_admin(&self, bearer: &str) -> Result<AdminCaller, AuthError> {
        let expected = self.admin_token.expose_secret().as_bytes();
        if !expected.is_empty() && bool::from(expected.ct_eq(bearer.as_bytes())) {
            return Ok(AdminCaller::Token);
        }
        let user = self.verify_user_shared(bearer)?;
        if user.is_system_admin() {
            Ok(AdminCaller::User(user))
        } else {
            self.counted(Err(AuthError::NotAdmin))
        }
    }

    /// Reads an `Authorization` header of the user API.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn caller(&self, authorization: Option<&[u8]>) -> Result<Caller, AuthError> {
        match self.counted(Credential::parse(authorization))? {
            Credential::Bearer(token) => Ok(Caller::User(self.verify_user_shared(token)?)),
            Credential::Service(key) => Ok(Caller::Service(self.verify_service(key)?)),
        }
    }

    /// Reads an `Authorization` header of the admin API.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn admin(&self, authorization: Option<&[u8]>) -> Result<AdminCaller, AuthError> {
        match self.counted(Credential::parse(authorization))? {
            Credential::Bearer(token) => self.verify_admin(token),
            // A good key is a known caller, who is no admin; a bad one is nobody.
            Credential::Service(key) => {
                self.verify_service(key)?;
                self.counted(Err(AuthError::NotAdmin))
            }
        }
    }

    /// Makes a user's token.
    #[must_use]
    pub fn mint(&self, request: &MintRequest) -> String {
        self.tokens.mint(request)
    }

    fn counted<T>(&self, result: Result<T, AuthError>) -> Result<T, AuthError> {
        if let (Err(error), Some(metrics)) = (&result, self.metrics.get()) {
            metrics.failed(error);
        }
        result
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
mod tests;
