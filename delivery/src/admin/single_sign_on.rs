//! Logins of admins at an issuer of the operator's (OpenID Connect).
//!
//! The way there and back is that of users' logins ([`Way`]); what differs is the end. Who is let in is an account
//! that came by this login before; or, the first time, one whose email the issuer says is verified; or whoever
//! has a role by the issuer's claim, for whom an account is made. Nobody else. The browser that comes back gets
//! a code, which it exchanges within a minute: no session's token is ever in a URL, and a code that somebody
//! else has put into an admin's browser is worth nothing there, because it belongs to the browser that
//! began the login.
//!
//! The second factor is asked for as after a password, unless the issuer says in its token that it has had
//! one itself, or the settings say that it always has.

use std::{net::IpAddr, sync::Arc};

use protocol::Time;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{
    AdminAccount, AdminError, Admins, Challenge, LoggedIn, Role, USERNAME_BYTES_MAX,
    account::{self, by_email, by_id, by_name, end_sessions, folded, is_username},
};
use crate::{
    account::{Accounts, OnceKind, ProviderIdentity},
    clock::WallClock,
    outbound::Outbound,
    provider::{
        ADMIN, Away, Back, Begun, CODE_LIFE, Came, CustomConfig, CustomEndpoints, FieldMapping,
        Fields, Issuer, LoginError, Providers, Vouched, Way, hash, new_secret, one_of,
    },
    sql::{Statements, values},
};

/// Most words that a role is given for.
pub const ROLES_MAX: usize = 64;

/// What of `amr` (RFC 8176) alone says that there was more than one factor.
const SEVERAL: &str = "mfa";

/// What of it is something known. One of these with one of [`HAD`] makes two factors.
const KNOWN: [&str; 3] = ["pwd", "pin", "kba"];

/// What of it is something had, or a part of the person. Not `sms` and `tel`: numbers are taken over by those
/// who talk to the carrier (NIST SP 800-63B §5.1.3.3).
const HAD: [&str; 8] = ["otp", "hwk", "swk", "sc", "fpt", "face", "iris", "vbm"];

/// What `acr` says where there was more than one factor: PAPE, OpenID EAP ACR Values 1.0, REFEDS.
const STRONG: [&str; 4] = [
    "http://schemas.openid.net/pape/policies/2007/06/multi-factor",
    "phr",
    "phrh",
    "https://refeds.org/profile/mfa",
];

/// Where admins log in (`ADMIN_OIDC_*`).
#[derive(Clone, Debug)]
pub struct SingleSignOnConfig {
    /// Its name for people.
    pub title: String,
    /// Whose tokens are believed.
    pub issuer: Issuer,
    /// What this hub is called there.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// Where browsers come back to: the callback of the admin port, as they find it.
    pub redirect_uri: Url,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Whom the issuer gives a role; none where only accounts that are there are let in.
    pub roles: Option<ClaimedRoles>,
    /// Whether the issuer asks everybody for a second factor, whatever its tokens say.
    pub second_factor_there: bool,
}

/// Roles by what an issuer says of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedRoles {
    /// Where it says it: a path as in [`FieldMapping`], to a text or a list of texts.
    pub claim: String,
    /// Which of these words is which role, at most [`ROLES_MAX`].
    pub roles: Vec<(String, Role)>,
}

impl ClaimedRoles {
    /// The greatest role that the claims give.
    fn role(&self, claims: &Fields) -> Option<Role> {
        let said: Vec<&str> = match claims.at(&self.claim) {
            None => vec![],
            Some(Value::String(word)) => vec![word],
            Some(Value::Array(words)) if words.iter().all(Value::is_string) => {
                words.iter().filter_map(Value::as_str).collect()
            }
            Some(_) => {
                tracing::warn!(
                    claim = self.claim,
                    "ADMIN_OIDC_ROLE_CLAIM is neither a text nor a list of texts: it gives no role"
                );
                vec![]
            }
        };
        let given = self.roles.iter().filter(|(word, _)| said.contains(&word.as_str()));
        given.map(|(_, role)| *role).max_by_key(|role| *role as u8)
    }
}

/// Whether the issuer says that there was a second factor.
fn is_strong(claims: &Fields) -> bool {
    if claims.at("acr").and_then(Value::as_str).is_some_and(|acr| STRONG.contains(&acr)) {
        return true;
    }
    let Some(Value::Array(methods)) = claims.at("amr") else { return false };
    let has = |method: &str| methods.iter().any(|said| said == method);
    has(SEVERAL) || (KNOWN.into_iter().any(has) && HAD.into_iter().any(has))
}

/// Why a login does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SsoError {
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// What a code was exchanged for.
pub(crate) enum Entered {
    /// A session.
    In(Box<LoggedIn>),
    /// The second step of a login.
    Challenge(Challenge),
}

/// A login under way is for nothing but itself.
#[derive(Serialize, Deserialize)]
struct Purpose {}

/// What is kept for a browser that comes with its code.
#[derive(Serialize, Deserialize)]
struct Ready {
    admin: String,
    /// The hash of the browser's secret.
    browser: String,
    is_strong: bool,
}

/// Logins of admins at an issuer.
pub(crate) struct SingleSignOn {
    way: Way,
    config: SingleSignOnConfig,
    admins: Arc<Admins>,
}

impl SingleSignOn {
    pub(crate) fn new(
        config: SingleSignOnConfig,
        timeout: std::time::Duration,
        (admins, accounts): (Arc<Admins>, Arc<Accounts>),
        (outbound, clock): (&Outbound, &WallClock),
        recorder: &dyn ::metrics::Recorder,
    ) -> Self {
        let custom = CustomConfig {
            name: ADMIN.to_owned(),
            title: config.title.clone(),
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            endpoints: CustomEndpoints::Issuer(Box::new(config.issuer.clone())),
            scopes: config.scopes.clone(),
            fields: FieldMapping::default(),
            pkce: true,
            tenant: None,
        };
        let providers = Providers::of_admins(custom, outbound, clock);
        let kind = OnceKind::AdminLoginState;
        let way = Way::new(providers, kind, timeout, accounts, recorder);
        Self { way, config, admins }
    }

    pub(crate) const fn way(&self) -> &Way {
        &self.way
    }

    pub(crate) fn title(&self) -> &str {
        &self.config.title
    }

    /// Where browsers come back to.
    pub(crate) fn redirect_uri(&self) -> &str {
        self.config.redirect_uri.as_str()
    }

    /// Begins a login.
    pub(crate) async fn begin(&self, browser: Option<SecretString>) -> Result<Begun, LoginError> {
        let callback = self.config.redirect_uri.as_str().to_owned();
        self.way.begin(Away { provider: ADMIN, callback, browser }, Purpose {}).await
    }

    /// A code for a browser that came back and is let in.
    pub(crate) async fn come_back(
        &self,
        came: &Came<'_>,
        from: IpAddr,
    ) -> Result<SecretString, SsoError> {
        let back: Back<Purpose> = self.way.come_back(came).await?;
        let vouched = self.way.vouched(came, &back).await?;
        let is_strong = self.config.second_factor_there || is_strong(&vouched.claims);
        let admin = match self.admitted(vouched).await {
            Ok(admin) => admin,
            Err(error) => {
                self.way.ended(ADMIN, false);
                let why = &error as &dyn std::error::Error;
                tracing::warn!(target: "security", event = "admin_login_refused", step = "single_sign_on", %from, error = why);
                return Err(error.into());
            }
        };
        let code = new_secret();
        let browser = hash(back.browser.expose_secret());
        let ready = Ready { admin: admin.id, browser, is_strong };
        let kept = self.way.accounts.keep_once(
            OnceKind::AdminExchangeCode,
            code.expose_secret(),
            &ready,
            CODE_LIFE,
        );
        kept.await.map_err(LoginError::from)?;
        Ok(code)
    }

    /// The admin for whom the issuer vouches.
    async fn admitted(&self, vouched: Vouched) -> Result<AdminAccount, AdminError> {
        let Vouched { identity, claims } = vouched;
        let role = self.config.roles.as_ref().and_then(|roles| roles.role(&claims));
        let (issuer, now) = (self.config.issuer.text.clone(), self.admins.now());
        let found = self.admins.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| find(database, &issuer, &identity, role, now))
            })
        });
        found.await?.ok_or(AdminError::NotKnown)
    }

    /// A session for a code, or what is missing for one. Spends the code, whosever it is.
    pub(crate) async fn exchange(
        &self,
        code: &str,
        browsers: &[SecretString],
        from: IpAddr,
        user_agent: &str,
    ) -> Result<Entered, SsoError> {
        let kind = OnceKind::AdminExchangeCode;
        let ready = self.way.accounts.take_once::<Ready>(kind, code).await;
        let ready = ready.map_err(LoginError::from)?;
        let ready = ready.filter(|ready| one_of(browsers, &ready.browser).is_some());
        let ready = ready.ok_or(LoginError::Code)?;
        let done = match ready.is_strong {
            true => self.admins.let_in(ready.admin, from, user_agent).await.map(Entered::in_),
            false => self.admins.challenge_of(ready.admin).await.map(Entered::Challenge),
        };
        self.way.ended(ADMIN, done.is_ok());
        Ok(done?)
    }
}

impl Entered {
    fn in_(done: LoggedIn) -> Self {
        Self::In(Box::new(done))
    }
}

/// The account of a login, who is found by its email or made by its role the first time. None where there is
/// none; and where a role that was all they had is gone, and their sessions with it.
fn find(
    database: &mut dyn Statements,
    issuer: &str,
    identity: &ProviderIdentity,
    role: Option<Role>,
    now: Time,
) -> Result<Option<AdminAccount>, AdminError> {
    let sql = "SELECT admin_id, by_claim FROM admin_identity WHERE issuer = $1 AND subject = $2";
    let known = database.row(sql, &values![issuer, &identity.subject])?;
    let known = known.map(|mut row| Ok::<_, AdminError>((row.text()?, row.int()? != 0)));
    let (id, by_claim) = match known.transpose()? {
        Some(known) => known,
        None => {
            let Some((id, by_claim)) = first(database, issuer, identity, role, now)? else {
                return Ok(None);
            };
            let sql = "INSERT INTO admin_identity (issuer, subject, admin_id, by_claim, linked_at) \
                       VALUES ($1, $2, $3, $4, $5)";
            let subject = &identity.subject;
            let row = values![issuer, subject, &id, i64::from(by_claim), now];
            database.execute(sql, &row)?;
            (id, by_claim)
        }
    };
    if by_claim {
        let Some(role) = role else {
            end_sessions(database, &id, "")?;
            return Ok(None);
        };
        let sql =
            "UPDATE admin_account SET role = $2, updated_at = $3 WHERE id = $1 AND role <> $2";
        database.execute(sql, &values![&id, role.as_str(), now])?;
    }
    let account = by_id(database, &id)?.map(|row| row.account);
    match account {
        Some(account) if account.disabled_at.is_some() => Err(AdminError::Disabled),
        account => Ok(account),
    }
}

/// Whose a login is that comes for the first time, and whether its role is the issuer's.
fn first(
    database: &mut dyn Statements,
    issuer: &str,
    identity: &ProviderIdentity,
    role: Option<Role>,
    now: Time,
) -> Result<Option<(String, bool)>, AdminError> {
    // Empty where the issuer does not say that it is verified.
    let email = folded(&identity.email);
    if !email.is_empty()
        && let Some(row) = by_email(database, &email)?
    {
        let sql = "SELECT count(*) FROM admin_identity WHERE issuer = $1 AND admin_id = $2";
        let linked = database.number(sql, &values![issuer, &row.account.id])?;
        // An address that was given to another person at the issuer does not make them this one.
        return Ok((linked == 0).then_some((row.account.id, false)));
    }
    let Some(role) = role else { return Ok(None) };
    let username = free_username(database, identity)?;
    let name = identity.name.clone();
    let account = AdminAccount { name, ..account::made(username, role, now) };
    account::insert(database, &account, "")?;
    tracing::info!(target: "security", event = "admin_created", by = "single_sign_on", admin = account.username);
    Ok(Some((account.id, true)))
}

/// A name that nobody has, as much like what the issuer calls them as can be.
fn free_username(
    database: &mut dyn Statements,
    identity: &ProviderIdentity,
) -> Result<String, AdminError> {
    let mut wished = folded(&identity.username);
    wished.retain(|c| c.is_ascii_alphanumeric() || ".@_-".contains(c));
    wished.truncate(USERNAME_BYTES_MAX - 9);
    if is_username(&wished) && by_name(database, &wished)?.is_none() {
        return Ok(wished);
    }
    let random = rand::random::<u32>();
    Ok(format!("{wished}-{random:08x}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Fields {
        Fields::of(value)
    }

    #[test]
    fn the_greatest_role_counts_and_other_types_give_none() {
        let roles = ClaimedRoles {
            claim: "realm.groups".to_owned(),
            roles: vec![
                ("root".to_owned(), Role::Admin),
                ("ops".to_owned(), Role::Operator),
                ("watch".to_owned(), Role::Viewer),
            ],
        };
        let of = |groups: Value| roles.role(&claims(json!({"realm": {"groups": groups}})));
        assert_eq!(of(json!("ops")), Some(Role::Operator));
        assert_eq!(of(json!(["watch", "root", "x"])), Some(Role::Admin));
        for none in [
            json!([]),
            json!("roots"),
            json!("ops root"),
            json!({"root": true}),
            json!(["root", 1]),
            json!([["root"]]),
            json!(true),
            json!(null),
        ] {
            assert_eq!(of(none.clone()), None, "{none}");
        }
        assert_eq!(roles.role(&claims(json!({}))), None);
    }

    #[test]
    fn two_factors_are_two() {
        for strong in [
            json!({"amr": ["mfa"]}),
            json!({"amr": ["pwd", "otp"]}),
            json!({"amr": ["pin", "hwk"]}),
            json!({"acr": "phr"}),
        ] {
            assert!(is_strong(&claims(strong.clone())), "{strong}");
        }
        for weak in [
            json!({}),
            json!({"amr": ["pwd"]}),
            json!({"amr": ["pwd", "sms"]}),
            json!({"amr": ["otp"]}),
            json!({"amr": "mfa"}),
            json!({"amr": {"mfa": true}}),
            json!({"acr": "1"}),
            json!({"acr": ["phr"]}),
        ] {
            assert!(!is_strong(&claims(weak.clone())), "{weak}");
        }
    }
}
