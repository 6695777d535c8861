//! Logging in: whoever a provider vouches for becomes a user, with a session for the device.

use std::{net::IpAddr, sync::Arc};

use protocol::{DeviceId, TenantId, Time, UserId};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    AccountError, Accounts, Revocation, Void,
    deletion::is_being_deleted,
    refresh::Refresh,
    revoked::{is_disabled, revoke},
    session::{Session, SessionRow, end_of_device, end_oldest, insert},
};
use crate::{
    InboxKey,
    clock::after,
    identity::{LEEWAY, MintRequest, UserCaller},
    sql::{Statements, values},
};

/// Most sessions of one user. One more, and the one that was unused for longest ends: whoever loses
/// devices must not be kept out by them.
pub const SESSIONS_MAX: usize = 100;

/// Most identities of one user: each is another way in.
pub const IDENTITIES_MAX: usize = 20;

/// Longest name of a device, in bytes; what is longer is cut.
pub const DEVICE_NAME_BYTES_MAX: usize = 128;

/// Longest `User-Agent` that is kept, in bytes; what is longer is cut.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// Longest text of a provider that is kept, in bytes; what is longer is cut.
const TEXT_BYTES_MAX: usize = 1_024;

/// Most bytes of a provider's other facts, as JSON; more are left out altogether.
const ATTRIBUTES_BYTES_MAX: usize = 8 << 10;

/// The provider of sessions for whose user an admin vouched.
const VOUCHED: &str = "pushhub";

/// Somebody, as a provider vouches (seed 003 §6.1 `UserInfo`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderIdentity {
    /// Which provider.
    pub provider: String,
    /// Its id for them, which never changes and is never given to anybody else.
    pub subject: String,
    /// What they are called there.
    pub username: String,
    /// Where to write to; empty unless the provider says that it is verified.
    pub email: String,
    /// What to show.
    pub name: String,
    /// A picture's URL.
    pub avatar: String,
    /// What else is known.
    pub attributes: Map<String, Value>,
}

/// In which tenant somebody is for whom a provider vouches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tenancy {
    /// The settings say where a first login makes the user. Who is there already stays where they are: a setting
    /// that is changed must not part people from their messages.
    Settings(TenantId),
    /// The provider says it of this login. A user of another tenant does not get in by it: whoever has left a
    /// tenant at the provider must be out of it here.
    Provider(TenantId),
}

impl Default for Tenancy {
    fn default() -> Self {
        Self::Settings(TenantId::default())
    }
}

impl Tenancy {
    /// Where a first login makes the user.
    const fn tenant(&self) -> &TenantId {
        match self {
            Self::Settings(tenant) | Self::Provider(tenant) => tenant,
        }
    }

    /// Whether this user may come by it.
    pub(crate) fn admits(&self, inbox: &InboxKey) -> bool {
        match self {
            Self::Settings(_) => true,
            Self::Provider(tenant) => inbox.tenant == *tenant,
        }
    }
}

/// Who logs in.
#[derive(Clone, Debug)]
pub enum LogInAs {
    /// Whoever a provider vouches for. Without a user yet, one is made.
    Identity(Tenancy, Box<ProviderIdentity>),
    /// A user for whom an admin vouches: companies with a login of their own.
    User(InboxKey),
}

/// The device that logs in.
#[derive(Clone, Debug, Default)]
pub struct DeviceInfo {
    /// Its id; made up where it has none.
    pub id: Option<DeviceId>,
    /// What its owner calls it.
    pub name: String,
}

/// A login.
#[derive(Clone, Debug)]
pub struct LogIn {
    /// Who.
    pub who: LogInAs,
    /// With what.
    pub device: DeviceInfo,
    /// From where, as far as proxies are believed.
    pub address: Option<IpAddr>,
    /// What it says of itself.
    pub user_agent: String,
}

/// What a login or a refresh gives (RFC 6749 §5.1).
#[derive(Clone)]
pub struct TokenPair {
    /// For requests.
    pub access_token: SecretString,
    /// For the next pair.
    pub refresh_token: SecretString,
    /// How long the access token lives, in seconds.
    pub expires_in: u64,
    /// How long the refresh token lives, in seconds.
    pub refresh_expires_in: u64,
    /// Whose.
    pub caller: UserCaller,
}

impl std::fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenPair").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// A pair as answers carry it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TokenPair")]
pub(crate) struct ShownPair<'a> {
    /// For `Authorization: Bearer`.
    access_token: &'a str,
    /// For `POST /api/v3/auth/refresh`, once.
    refresh_token: &'a str,
    /// `Bearer`.
    token_type: &'static str,
    /// How long the access token lives, in seconds.
    expires_in: u64,
    /// How long the refresh token lives, in seconds.
    refresh_expires_in: u64,
    /// Whose.
    user_id: &'a UserId,
    /// The login.
    session_id: &'a str,
    /// The device.
    device_id: Option<&'a DeviceId>,
}

impl TokenPair {
    /// As answers carry it.
    pub(crate) fn shown(&self) -> ShownPair<'_> {
        ShownPair {
            access_token: self.access_token.expose_secret(),
            refresh_token: self.refresh_token.expose_secret(),
            token_type: "Bearer",
            expires_in: self.expires_in,
            refresh_expires_in: self.refresh_expires_in,
            user_id: self.caller.user(),
            session_id: self.caller.session.as_deref().unwrap_or_default(),
            device_id: self.caller.device.as_ref(),
        }
    }
}

/// At most so many bytes of a text, without control characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text[..text.floor_char_boundary(most)].to_owned()
}

impl Accounts {
    /// Logs somebody in: finds or makes the user, and a session for the device, whose older session ends.
    ///
    /// # Errors
    /// [`AccountError::UserDisabled`], [`AccountError::OtherTenant`]; when the database cannot be asked nothing has happened, or
    /// ([`crate::control::ControlError::Unknown`]) a session is there that nobody has.
    pub async fn log_in(self: &Arc<Self>, log_in: LogIn) -> Result<TokenPair, AccountError> {
        let provider = match &log_in.who {
            LogInAs::Identity(_, identity) => identity.provider.clone(),
            LogInAs::User(_) => VOUCHED.to_owned(),
        };
        let done = self.aside(move |accounts| accounts.log_in_now(log_in)).await;
        match &done {
            Ok(pair) => tracing::info!(
                target: "security", event = "logged_in", provider,
                user = pair.caller.user().as_str(), session = pair.caller.session
            ),
            Err(error) => tracing::warn!(
                target: "security", event = "login_failed", provider,
                error = error as &dyn std::error::Error
            ),
        }
        done
    }

    fn log_in_now(&self, log_in: LogIn) -> Result<TokenPair, AccountError> {
        let LogIn { who, device, address, user_agent } = log_in;
        let now = self.now();
        let device_id = match device.id {
            Some(id) => id,
            None => DeviceId::new(Uuid::now_v7().to_string()).expect("36 characters are an id"),
        };
        let provider = match &who {
            LogInAs::Identity(_, identity) => identity.provider.clone(),
            LogInAs::User(_) => VOUCHED.to_owned(),
        };
        let begin = |inbox: InboxKey| SessionRow {
            session: Session {
                id: Uuid::now_v7().simple().to_string(),
                inbox,
                device_id,
                device_name: cut(&device.name, DEVICE_NAME_BYTES_MAX),
                provider,
                address: address.map(|address| address.to_string()).unwrap_or_default(),
                user_agent: cut(&user_agent, USER_AGENT_BYTES_MAX),
                created_at: now,
                last_seen_at: now,
                expires_at: after(now, self.config.refresh_ttl),
            },
            access_until: after(now, self.identity.access_ttl()),
            refreshed_at: now,
            generation: 1,
            seed: rand::random(),
        };
        let (session, username, email) = self.control.write(|database| {
            database.change(|database| {
                let inbox = match &who {
                    LogInAs::Identity(tenancy, identity) => {
                        user_of(database, tenancy, identity, now)?
                    }
                    LogInAs::User(inbox) => inbox.clone(),
                };
                if is_disabled(database, &inbox)? {
                    return Err(AccountError::UserDisabled);
                }
                if is_being_deleted(database, &inbox)? {
                    return Err(AccountError::BeingDeleted);
                }
                let session = begin(inbox);
                if let Some(ended) = end_of_device(database, &session.session)? {
                    revoke(database, &ended)?;
                }
                for ended in end_oldest(database, &session.session.inbox, SESSIONS_MAX - 1)? {
                    revoke(database, &ended)?;
                }
                insert(database, &session)?;
                let (username, email) = names(database, &session.session.inbox)?;
                Ok((session, username, email))
            })
        })?;
        self.written();
        Ok(self.pair(&session, &username, &email))
    }

    /// The pair of a session's latest generation: the same one each time it is asked for.
    pub(super) fn pair(&self, row: &SessionRow, username: &str, email: &str) -> TokenPair {
        let session = &row.session;
        let refresh = Refresh { session: session.id.clone(), generation: row.generation };
        let key = &self.config.refresh_key;
        let inbox = &session.inbox;
        let request = MintRequest {
            device: Some(session.device_id.clone()),
            tenant: (inbox.tenant != TenantId::default()).then(|| inbox.tenant.clone()),
            username: Some(username.to_owned()).filter(|name| !name.is_empty()),
            email: Some(email.to_owned()),
            provider: Some(session.provider.clone()),
            session: Some(session.id.clone()),
            id: Some(key.token_id(&refresh, &row.seed)),
            ..MintRequest::new(inbox.user.clone())
        };
        let (access_token, caller) = self.identity.mint_at(&request, row.refreshed_at);
        TokenPair {
            access_token: access_token.into(),
            refresh_token: key.token(&refresh, &row.seed).into(),
            expires_in: self.identity.access_ttl().as_secs(),
            refresh_expires_in: self.config.refresh_ttl.as_secs(),
            caller,
        }
    }
}

/// Until when a session's access tokens could be believed.
pub(super) fn void_session(session: &Session, access_until: Time) -> Revocation {
    Revocation {
        inbox: session.inbox.clone(),
        void: Void::Session(session.id.clone()),
        until: after(access_until, 2 * LEEWAY),
    }
}

/// What the user of a session is called, as the latest login says.
pub(super) fn names(
    database: &mut dyn Statements,
    inbox: &InboxKey,
) -> Result<(String, String), AccountError> {
    let sql = "SELECT username, email FROM account_user WHERE tenant_id = $1 AND user_id = $2";
    let row = database.row(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])?;
    Ok(match row {
        Some(mut row) => (row.text()?, row.text()?),
        None => Default::default(),
    })
}

/// The user of an identity, who is made where there is none. What the provider says is kept.
fn user_of(
    database: &mut dyn Statements,
    tenancy: &Tenancy,
    identity: &ProviderIdentity,
    now: Time,
) -> Result<InboxKey, AccountError> {
    let inbox = match owner(database, identity)? {
        Some(inbox) if tenancy.admits(&inbox) => inbox,
        Some(_) => return Err(AccountError::OtherTenant),
        None => {
            let user = UserId::new(Uuid::now_v7().to_string()).expect("36 characters are an id");
            let inbox = InboxKey::new(tenancy.tenant().clone(), user);
            link(database, &inbox, identity, now)?;
            inbox
        }
    };
    keep_facts(database, &inbox, identity, now)?;
    Ok(inbox)
}

/// Whose an identity is.
pub(super) fn owner(
    database: &mut dyn Statements,
    identity: &ProviderIdentity,
) -> Result<Option<InboxKey>, AccountError> {
    let sql =
        "SELECT tenant_id, user_id FROM account_identity WHERE provider = $1 AND subject = $2";
    let row = database.row(sql, &values![&identity.provider, &identity.subject])?;
    Ok(match row {
        Some(mut row) => Some(InboxKey::new(row.word()?, row.word()?)),
        None => None,
    })
}

/// Makes it the user's.
pub(super) fn link(
    database: &mut dyn Statements,
    inbox: &InboxKey,
    identity: &ProviderIdentity,
    now: Time,
) -> Result<(), AccountError> {
    database.execute(
        "INSERT INTO account_identity (provider, subject, tenant_id, user_id, username, email, \
         linked_at, last_login_at) VALUES ($1, $2, $3, $4, '', '', $5, $5)",
        &values![
            &identity.provider,
            &identity.subject,
            inbox.tenant.as_str(),
            inbox.user.as_str(),
            now
        ],
    )?;
    Ok(())
}

/// Keeps what the provider says now. A name and a picture that are there stay: they may be the user's own
/// choice.
pub(super) fn keep_facts(
    database: &mut dyn Statements,
    inbox: &InboxKey,
    identity: &ProviderIdentity,
    now: Time,
) -> Result<(), AccountError> {
    let text = |text: &str| cut(text, TEXT_BYTES_MAX);
    let attributes = serde_json::to_string(&identity.attributes).unwrap_or_default();
    let attributes = match attributes.len() {
        1..=ATTRIBUTES_BYTES_MAX => attributes,
        _ => "{}".to_owned(),
    };
    let (username, email) = (text(&identity.username), text(&identity.email));
    database.execute(
        "UPDATE account_identity SET username = $3, email = $4, last_login_at = $5 \
         WHERE provider = $1 AND subject = $2",
        &values![&identity.provider, &identity.subject, &username, &email, now],
    )?;
    database.execute(
        "INSERT INTO account_user (tenant_id, user_id, username, email, name, avatar, locale, \
         time_zone, attributes, preferences, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, '', '', $7, '{}', $8, $8) \
         ON CONFLICT (tenant_id, user_id) DO UPDATE SET username = excluded.username, \
         email = CASE WHEN excluded.email = '' THEN account_user.email ELSE excluded.email END, \
         name = CASE WHEN account_user.name = '' THEN excluded.name ELSE account_user.name END, \
         avatar = CASE WHEN account_user.avatar = '' THEN excluded.avatar ELSE account_user.avatar END, \
         attributes = excluded.attributes, updated_at = excluded.updated_at",
        &values![
            inbox.tenant.as_str(),
            inbox.user.as_str(),
            &username,
            &email,
            text(&identity.name),
            text(&identity.avatar),
            attributes,
            now
        ],
    )?;
    Ok(())
}
