//! Whoever is asking, once it is known.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use protocol::{DeviceId, RoleId, TenantId, Time, UserId};

use crate::{
    InboxKey,
    admin::{Role, SignedIn},
    control::{LAST_USED_INTERVAL, Service},
    identity::signing::KeyMark,
    store::{SenderKey, TokenFacts, UserRecord},
};

/// The role whose bearers may do everything (seed 003 §4.8).
pub const SYSTEM_ADMIN: &str = "system_admin";

/// The role whose bearers may write to all of their own department (seed 003 §4.8).
pub const DEPARTMENT_ADMIN: &str = "department_admin";

/// What the name of a department begins with where a role is meant (contract §11).
pub const DEPARTMENT_PREFIX: &str = "department:";

/// The role that everybody of a department carries; none for a name that is too long, empty or has
/// control characters.
#[must_use]
pub fn department_role(department: &str) -> Option<RoleId> {
    if department.is_empty() {
        return None;
    }
    RoleId::new(format!("{DEPARTMENT_PREFIX}{department}")).ok()
}

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
    /// The token's `jti`, where it has one.
    pub token_id: Option<String>,
    /// By which of our own key pairs the token is signed; none for every other key.
    pub signed_by: Option<KeyMark>,
    /// What to show as the sender's name.
    pub username: String,
    /// Where to write to; empty where the token does not say.
    pub email: String,
    /// Names the user carries, such as `system_admin`.
    pub roles: Vec<String>,
    /// The department, where the token names one.
    pub department: Option<String>,
    /// What the token is for, such as `read` and `write`.
    pub scope: Vec<String>,
    /// When the token was made.
    pub issued_at: Time,
    /// When the token ends.
    pub expires_at: Time,
    /// Whether the directory knows what this token says.
    pub noted: Noted,
    /// When it was last written down that the login is used.
    pub seen: Seen,
}

/// When the use of a login was last written down; shared by all who hold the token's caller.
#[derive(Debug, Default)]
pub struct Seen(AtomicI64);

impl Seen {
    /// Whether it is time to write it down again, which it then is not for the next one who asks.
    pub fn is_due(&self, now: Time) -> bool {
        let interval = crate::clock::millis(LAST_USED_INTERVAL);
        let last = self.0.load(Ordering::Relaxed);
        now.millis().saturating_sub(last) >= interval
            && self
                .0
                .compare_exchange(last, now.millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl Clone for Seen {
    fn clone(&self) -> Self {
        Self(AtomicI64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// Whether the directory knows what a token says; shared by all who hold the token's caller.
#[derive(Debug, Default)]
pub struct Noted(AtomicBool);

impl Noted {
    /// Whether it does.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// From now on it does.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Clone for Noted {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.is_set()))
    }
}

impl UserCaller {
    /// Somebody of whom nothing else is said.
    #[must_use]
    pub fn new(inbox: InboxKey, expires_at: Time) -> Self {
        Self {
            username: inbox.user.as_str().to_owned(),
            inbox,
            device: None,
            session: None,
            token_id: None,
            signed_by: None,
            email: String::new(),
            roles: Vec::new(),
            department: None,
            scope: Vec::new(),
            issued_at: Time::default(),
            expires_at,
            noted: Noted::default(),
            seen: Seen::default(),
        }
    }

    /// What the token says of its user, for the directory. Roles that no role can be called are
    /// left out.
    #[must_use]
    pub fn facts(&self) -> TokenFacts {
        TokenFacts {
            issued_at: self.issued_at,
            username: self.username.clone(),
            email: self.email.clone(),
            roles: self.roles.iter().filter_map(|role| RoleId::new(role).ok()).collect(),
            department: self.department.clone(),
        }
    }

    /// With what the directory knows beside the token: roles that an admin added count like the
    /// token's, and the department is the directory's.
    #[must_use]
    pub fn with_record(&self, record: &UserRecord) -> Self {
        let mut user = self.clone();
        let added = record.added_roles.iter().map(|role| role.as_str().to_owned());
        user.roles.extend(added.filter(|role| !self.has_role(role)));
        user.department = record.department.clone();
        user
    }

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

    /// The department that the user may write to as a whole: the own one, for its admins.
    #[must_use]
    pub fn department_led(&self) -> Option<RoleId> {
        self.department
            .as_deref()
            .filter(|_| self.has_role(DEPARTMENT_ADMIN))
            .and_then(department_role)
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
    /// A user whose token has the role [`SYSTEM_ADMIN`], for the own tenant. A role that an admin
    /// added by REST opens no admin API: whoever could make admins there could never be stopped by
    /// the login service, which is the one that knows who left.
    User(Arc<UserCaller>),
    /// An admin who has logged in.
    Account(Arc<SignedIn>),
    /// An admin of all tenants who acts in this one, as an admin of it would.
    Within(Arc<Self>, TenantId),
}

impl AdminCaller {
    /// The only tenant that they see; none for all.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Token => None,
            Self::User(user) => Some(user.tenant()),
            Self::Account(admin) => admin.account.tenant_id.as_ref(),
            Self::Within(_, tenant) => Some(tenant),
        }
    }

    /// Who it is, for the log.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Token => "admin_token",
            Self::User(user) => user.user().as_str(),
            Self::Account(admin) => &admin.account.username,
            Self::Within(admin, _) => admin.name(),
        }
    }

    /// What they may do. A system admin may what is possible within the tenant.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Token | Self::User(_) => Role::Admin,
            Self::Account(admin) => admin.account.role,
            Self::Within(admin, _) => admin.role(),
        }
    }
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
            Self::User(user) => user.tenant().clone(),
            Self::Service(service) => service.tenant_id.clone(),
            Self::Admin(admin) => admin.tenant().cloned().unwrap_or_default(),
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
            Self::Admin(AdminCaller::Token | AdminCaller::Account(_) | AdminCaller::Within(..)) => {
                SenderKey::Admin
            }
        }
    }

    /// Who it is, for the log.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(user) => user.user().as_str(),
            Self::Service(service) => service.id.as_str(),
            Self::Admin(admin) => admin.name(),
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
