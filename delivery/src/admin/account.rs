//! Who is an admin.

use protocol::{FieldProblem, TenantId, Time};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{AdminAccount, AdminError, Admins, Role};
use crate::{
    control::TEXT_BYTES_MAX,
    object,
    sql::{Row, SqlError, Statements, values},
};

/// Most admins. They are people.
pub const ADMINS_MAX: usize = 1_000;

/// Longest username, in bytes.
pub const USERNAME_BYTES_MAX: usize = 64;

/// Longest address of mail, in bytes (RFC 5321 §4.5.3.1.3).
pub const EMAIL_BYTES_MAX: usize = 254;

/// Shortest password, in bytes: with a second factor and a guard before it, NIST SP 800-63B would take 8.
pub const PASSWORD_BYTES_MIN: usize = 12;

/// Longest password, in bytes: it is hashed whole.
pub const PASSWORD_BYTES_MAX: usize = 256;

/// An admin to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAdmin {
    /// The name to log in with: letters, digits and `.@_-`, at most [`USERNAME_BYTES_MAX`].
    pub username: String,
    /// What people call them, at most [`TEXT_BYTES_MAX`] bytes.
    #[serde(default, deserialize_with = "object::or_default")]
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The only tenant that they see; all unless said.
    #[serde(default)]
    pub tenant_id: Option<String>,
    /// The address by which the issuer of `ADMIN_OIDC_ISSUER` knows them; none unless said.
    #[serde(default)]
    pub email: Option<String>,
    /// [`PASSWORD_BYTES_MIN`] to [`PASSWORD_BYTES_MAX`] bytes.
    pub password: SecretString,
}

/// What may be changed of an admin; what is not said stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminChanges {
    /// What people call them.
    pub name: Option<String>,
    /// What they may do.
    pub role: Option<Role>,
    /// Another address by which the issuer knows them; empty for none. The login there that was found by the
    /// one before is theirs no more, and their sessions end.
    pub email: Option<String>,
    /// Whether they are out. Their sessions end.
    pub disabled: Option<bool>,
    /// A new password. Their sessions end.
    pub password: Option<SecretString>,
    /// Whether their second factor is forgotten: they enrol another one with the next login. Their
    /// sessions end.
    pub forget_second_factor: Option<bool>,
}

/// An admin with what makes a login.
pub(super) struct AdminRow {
    pub(super) account: AdminAccount,
    pub(super) password: String,
    pub(super) totp_seed: Option<String>,
    pub(super) totp_step: i64,
    pub(super) recovery: Vec<String>,
}

/// The rest of a question for admins.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, username, name, role, tenant_id, password, totp_seed, totp_step, recovery, \
             disabled_at, created_at, updated_at, last_login_at, email FROM admin_account ",
            $rest
        )
    };
}

pub(super) fn read(row: &mut Row) -> Result<AdminRow, SqlError> {
    let (id, username, name) = (row.text()?, row.text()?, row.text()?);
    let (role, tenant_id) = (row.word()?, row.maybe_word::<TenantId>()?);
    let (password, totp_seed, totp_step) = (row.text()?, row.maybe_text()?, row.int()?);
    let recovery: Vec<String> = row.json()?;
    let account = AdminAccount {
        id,
        username,
        name,
        role,
        tenant_id,
        has_password: !password.is_empty(),
        second_factor: totp_seed.is_some(),
        recovery_codes_left: recovery.len(),
        disabled_at: row.maybe_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
        last_login_at: row.maybe_time()?,
        email: row.maybe_text()?,
    };
    Ok(AdminRow { account, password, totp_seed, totp_step, recovery })
}

pub(super) fn by_name(
    database: &mut dyn Statements,
    username: &str,
) -> Result<Option<AdminRow>, SqlError> {
    let row = database.row(select!("WHERE username = $1"), &values![username])?;
    row.map(|mut row| read(&mut row)).transpose()
}

pub(super) fn by_id(database: &mut dyn Statements, id: &str) -> Result<Option<AdminRow>, SqlError> {
    let row = database.row(select!("WHERE id = $1"), &values![id])?;
    row.map(|mut row| read(&mut row)).transpose()
}

pub(super) fn by_email(
    database: &mut dyn Statements,
    email: &str,
) -> Result<Option<AdminRow>, SqlError> {
    let row = database.row(select!("WHERE email = $1"), &values![email])?;
    row.map(|mut row| read(&mut row)).transpose()
}

/// One that is seen from a tenant, or from above all.
fn visible(
    database: &mut dyn Statements,
    id: &str,
    tenant: Option<&TenantId>,
) -> Result<AdminAccount, AdminError> {
    let found = by_id(database, id)?.map(|row| row.account);
    let seen = |admin: &AdminAccount| tenant.is_none() || admin.tenant_id.as_ref() == tenant;
    found.filter(seen).ok_or(AdminError::NotFound)
}

/// The name as it is kept and looked for.
pub(super) fn folded(username: &str) -> String {
    username.to_lowercase()
}

/// A new account, before it is written.
pub(super) fn made(username: String, role: Role, now: Time) -> AdminAccount {
    AdminAccount {
        id: format!("adm-{}", uuid::Uuid::now_v7().simple()),
        username,
        name: String::new(),
        role,
        tenant_id: None,
        email: None,
        has_password: false,
        second_factor: false,
        recovery_codes_left: 0,
        disabled_at: None,
        created_at: now,
        updated_at: now,
        last_login_at: None,
    }
}

/// Writes a new account; an empty hash is of no password.
pub(super) fn insert(
    database: &mut dyn Statements,
    account: &AdminAccount,
    password: &str,
) -> Result<(), AdminError> {
    if by_name(database, &account.username)?.is_some() {
        return Err(AdminError::NameTaken);
    }
    if let Some(email) = &account.email
        && by_email(database, email)?.is_some()
    {
        return Err(AdminError::EmailTaken);
    }
    let count = database.number("SELECT count(*) FROM admin_account", &[])?;
    if count >= ADMINS_MAX as i64 {
        return Err(AdminError::TooMany);
    }
    database.execute(
        "INSERT INTO admin_account (id, username, name, role, tenant_id, password, totp_step, \
         recovery, created_at, updated_at, email) \
         VALUES ($1, $2, $3, $4, $5, $6, 0, '[]', $7, $7, $8)",
        &values![
            &account.id,
            &account.username,
            &account.name,
            account.role.as_str(),
            account.tenant_id.as_ref().map(TenantId::as_str),
            password,
            account.created_at,
            account.email.as_deref(),
        ],
    )?;
    Ok(())
}

/// Ends all sessions of an admin, but for one where it is named; how many there were.
pub(super) fn end_sessions(
    database: &mut dyn Statements,
    id: &str,
    spared: &str,
) -> Result<u64, SqlError> {
    let sql = "DELETE FROM admin_session WHERE admin_id = $1 AND id <> $2";
    database.execute(sql, &values![id, spared])
}

/// Whether a text can be a password; `path` is what it is called.
pub(super) fn check_password(path: &str, password: &SecretString) -> Result<(), AdminError> {
    let mut problems = Problems(Vec::new());
    problems.password(path, password);
    problems.end()
}

/// Whether a username can be kept, folded as it is.
pub(super) fn is_username(username: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".@_-".contains(c);
    (1..=USERNAME_BYTES_MAX).contains(&username.len()) && username.chars().all(plain)
}

struct Problems(Vec<FieldProblem>);

impl Problems {
    fn say(&mut self, path: &str, problem: String) {
        self.0.push(FieldProblem { path: path.to_owned(), problem });
    }

    fn name(&mut self, name: &str) {
        if name.len() > TEXT_BYTES_MAX {
            self.say("name", format!("must have at most {TEXT_BYTES_MAX} bytes"));
        }
        if name.chars().any(char::is_control) {
            self.say("name", "must not contain control characters".to_owned());
        }
    }

    fn password(&mut self, path: &str, password: &SecretString) {
        let bytes = password.expose_secret().len();
        if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&bytes) {
            let problem = format!("must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
            self.say(path, problem);
        }
    }

    fn email(&mut self, email: &str) {
        let is_address = email.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && !host.is_empty() && !host.contains('@')
        });
        let is_plain = !email.chars().any(|c| c.is_control() || c.is_whitespace());
        if !is_address || !is_plain || email.len() > EMAIL_BYTES_MAX {
            let problem = format!("must be an address of at most {EMAIL_BYTES_MAX} bytes");
            self.say("email", problem);
        }
    }

    fn end(self) -> Result<(), AdminError> {
        if self.0.is_empty() { Ok(()) } else { Err(AdminError::Invalid(self.0)) }
    }
}

impl Admins {
    /// Makes an admin, of this tenant only where one is given.
    ///
    /// # Errors
    /// [`AdminError::Invalid`], [`AdminError::NameTaken`], [`AdminError::EmailTaken`], [`AdminError::TooMany`].
    pub async fn create(
        &self,
        new: NewAdmin,
        tenant: Option<TenantId>,
    ) -> Result<AdminAccount, AdminError> {
        let mut problems = Problems(Vec::new());
        let username = folded(&new.username);
        if !is_username(&username) {
            let problem = format!("must have 1 to {USERNAME_BYTES_MAX} of a-z, 0-9 and .@_-");
            problems.say("username", problem);
        }
        problems.name(&new.name);
        problems.password("password", &new.password);
        let email = new.email.map(|email| folded(&email));
        if let Some(email) = &email {
            problems.email(email);
        }
        let said = new.tenant_id.map(TenantId::new).transpose();
        let said = said.unwrap_or_else(|error| {
            problems.say("tenant_id", error.to_string());
            None
        });
        if said.is_some() && tenant.is_some() && said != tenant {
            problems.say("tenant_id", "must be your own tenant".to_owned());
        }
        problems.end()?;
        let password = self.hash(new.password).await?;
        let account = AdminAccount {
            name: new.name,
            tenant_id: said.or(tenant),
            email,
            has_password: true,
            ..made(username, new.role, self.now())
        };
        self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| {
                    insert(database, &account, &password)?;
                    Ok(account)
                })
            })
        })
        .await
    }

    /// All admins of a tenant, or of all, by username.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn list(&self, tenant: Option<TenantId>) -> Result<Vec<AdminAccount>, AdminError> {
        self.aside(move |control| {
            let rows = control.read(|database| {
                database.look(|database| {
                    let rows = database.rows(select!("ORDER BY username"), &[])?;
                    let rows = rows.into_iter().map(|mut row| read(&mut row));
                    rows.collect::<Result<Vec<_>, _>>().map_err(AdminError::from)
                })
            })?;
            let accounts = rows.into_iter().map(|row| row.account);
            Ok(accounts.filter(|admin| tenant.is_none() || admin.tenant_id == tenant).collect())
        })
        .await
    }

    /// One admin.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub async fn get(
        &self,
        id: String,
        tenant: Option<TenantId>,
    ) -> Result<AdminAccount, AdminError> {
        self.aside(move |control| {
            control
                .read(|database| database.look(|database| visible(database, &id, tenant.as_ref())))
        })
        .await
    }

    /// Changes an admin. What is taken from them is gone with their next request.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], [`AdminError::Invalid`], [`AdminError::EmailTaken`].
    pub async fn update(
        &self,
        id: String,
        changes: AdminChanges,
        tenant: Option<TenantId>,
    ) -> Result<AdminAccount, AdminError> {
        let mut problems = Problems(Vec::new());
        if let Some(name) = &changes.name {
            problems.name(name);
        }
        if let Some(password) = &changes.password {
            problems.password("password", password);
        }
        let email = changes.email.map(|email| folded(&email));
        if let Some(email) = email.as_ref().filter(|email| !email.is_empty()) {
            problems.email(email);
        }
        problems.end()?;
        let ends = changes.password.is_some()
            || changes.disabled == Some(true)
            || changes.forget_second_factor == Some(true);
        let password = match changes.password {
            Some(password) => Some(self.hash(password).await?),
            None => None,
        };
        let now = self.now();
        self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| {
                    let before = visible(database, &id, tenant.as_ref())?;
                    let disabled_at = match changes.disabled {
                        Some(true) => Some(before.disabled_at.unwrap_or(now)),
                        Some(false) => None,
                        None => before.disabled_at,
                    };
                    database.execute(
                        "UPDATE admin_account SET name = $2, role = $3, disabled_at = $4, \
                         password = coalesce($5, password), updated_at = $6 WHERE id = $1",
                        &values![
                            &id,
                            changes.name.as_ref().unwrap_or(&before.name),
                            changes.role.unwrap_or(before.role).as_str(),
                            disabled_at,
                            password.as_deref(),
                            now,
                        ],
                    )?;
                    if changes.forget_second_factor == Some(true) {
                        let sql = "UPDATE admin_account SET totp_seed = NULL, recovery = '[]' \
                                   WHERE id = $1";
                        database.execute(sql, &values![&id])?;
                    }
                    let renamed = match email {
                        Some(email) => change_email(database, &before, &email)?,
                        None => false,
                    };
                    if ends || renamed {
                        end_sessions(database, &id, "")?;
                    }
                    visible(database, &id, tenant.as_ref())
                })
            })
        })
        .await
    }

    /// Deletes an admin, and their sessions.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub async fn delete(&self, id: String, tenant: Option<TenantId>) -> Result<(), AdminError> {
        self.aside(move |control| {
            control.write_beside(|database| {
                database.change(|database| {
                    visible(database, &id, tenant.as_ref())?;
                    end_sessions(database, &id, "")?;
                    let sql = "DELETE FROM admin_identity WHERE admin_id = $1";
                    database.execute(sql, &values![&id])?;
                    let sql = "DELETE FROM admin_account WHERE id = $1";
                    database.execute(sql, &values![&id])?;
                    Ok(())
                })
            })
        })
        .await
    }
}

/// Writes another address of mail, or none for an empty one; whether it is another.
fn change_email(
    database: &mut dyn Statements,
    before: &AdminAccount,
    email: &str,
) -> Result<bool, AdminError> {
    if before.email.as_deref().unwrap_or_default() == email {
        return Ok(false);
    }
    let email = Some(email).filter(|email| !email.is_empty());
    if let Some(email) = email
        && by_email(database, email)?.is_some()
    {
        return Err(AdminError::EmailTaken);
    }
    let sql = "UPDATE admin_account SET email = $2 WHERE id = $1";
    database.execute(sql, &values![&before.id, email])?;
    let sql = "DELETE FROM admin_identity WHERE admin_id = $1 AND by_claim = 0";
    database.execute(sql, &values![&before.id])?;
    Ok(true)
}

/// When an admin logged in; part of a login's transaction.
pub(super) fn note_login(
    database: &mut dyn Statements,
    id: &str,
    now: Time,
) -> Result<(), SqlError> {
    let sql = "UPDATE admin_account SET last_login_at = $2 WHERE id = $1";
    database.execute(sql, &values![id, now])?;
    Ok(())
}
