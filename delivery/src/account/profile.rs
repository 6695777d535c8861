//! What users say of themselves, and by which logins they come (seed 003 §6.4).

use std::sync::Arc;

use protocol::Time;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    AccountError, Accounts, IDENTITIES_MAX, ProviderIdentity,
    login::{keep_facts, link, owner},
    preferences::touch,
};
use crate::{
    InboxKey,
    sql::{SqlError, Statements, values},
};

/// Longest text of a profile, in bytes.
pub const PROFILE_TEXT_BYTES_MAX: usize = 1_024;

/// What is known of a user beside what tokens and admins say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// What the provider of the latest login calls them; empty for one who never logged in.
    pub username: String,
    /// Where to write to, as a provider has verified; else empty.
    pub email: String,
    /// What to show.
    pub name: String,
    /// A picture's URL.
    pub avatar: String,
    /// A language tag such as `zh-CN`.
    pub locale: String,
    /// An IANA time zone such as `Asia/Shanghai`.
    pub time_zone: String,
    /// What else the provider of the latest login said.
    pub attributes: Map<String, Value>,
    /// When it was first written; none for one of whom nothing is written.
    pub created_at: Option<Time>,
    /// When it was last changed.
    pub updated_at: Option<Time>,
}

/// What a user changes; what is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// What to show.
    pub name: Option<String>,
    /// A picture's URL.
    pub avatar: Option<String>,
    /// A language tag.
    pub locale: Option<String>,
    /// A time zone.
    pub time_zone: Option<String>,
}

/// A login by which a user comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Linked {
    /// The provider.
    pub provider: String,
    /// Its id for the user.
    pub subject: String,
    /// What they are called there.
    pub username: String,
    /// Their address there, where it is verified; else empty.
    pub email: String,
    /// Since when it is linked.
    pub linked_at: Time,
    /// When it was used last.
    pub last_login_at: Time,
}

fn read(database: &mut dyn Statements, inbox: &InboxKey) -> Result<Option<Profile>, SqlError> {
    let sql = "SELECT username, email, name, avatar, locale, time_zone, attributes, created_at, \
               updated_at FROM account_user WHERE tenant_id = $1 AND user_id = $2";
    let row = database.row(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])?;
    let Some(mut row) = row else { return Ok(None) };
    Ok(Some(Profile {
        username: row.text()?,
        email: row.text()?,
        name: row.text()?,
        avatar: row.text()?,
        locale: row.text()?,
        time_zone: row.text()?,
        attributes: row.json()?,
        created_at: Some(row.time()?),
        updated_at: Some(row.time()?),
    }))
}

fn linked(database: &mut dyn Statements, inbox: &InboxKey) -> Result<Vec<Linked>, SqlError> {
    let sql = "SELECT provider, subject, username, email, linked_at, last_login_at \
               FROM account_identity WHERE tenant_id = $1 AND user_id = $2 \
               ORDER BY linked_at, provider, subject";
    let rows = database.rows(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])?;
    let linked = rows.into_iter().map(|mut row| {
        Ok(Linked {
            provider: row.text()?,
            subject: row.text()?,
            username: row.text()?,
            email: row.text()?,
            linked_at: row.time()?,
            last_login_at: row.time()?,
        })
    });
    linked.collect()
}

impl Accounts {
    /// What is known of a user, and the logins by which they come.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn profile(
        self: &Arc<Self>,
        inbox: &InboxKey,
    ) -> Result<(Profile, Vec<Linked>), AccountError> {
        let inbox = inbox.clone();
        self.aside(move |accounts| {
            accounts.control.read(|database| {
                database.look(|database| {
                    let profile = read(database, &inbox)?.unwrap_or_default();
                    Ok((profile, linked(database, &inbox)?))
                })
            })
        })
        .await
    }

    /// The logins by which a user comes.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn identities(
        self: &Arc<Self>,
        inbox: &InboxKey,
    ) -> Result<Vec<Linked>, AccountError> {
        self.profile(inbox).await.map(|(_, linked)| linked)
    }

    /// Changes what a user says of themselves.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn save_profile(
        self: &Arc<Self>,
        inbox: &InboxKey,
        change: ProfileChange,
    ) -> Result<(), AccountError> {
        let inbox = inbox.clone();
        self.aside(move |accounts| {
            let now = accounts.now();
            // Preferences go by the profile's language and clock, and nodes have those in memory.
            if change.locale.is_none() && change.time_zone.is_none() {
                return accounts.control.write_beside(|database| {
                    database.note(|database| Ok(write(database, &inbox, change, now)?))
                });
            }
            accounts.control.write(|database| {
                database.change(|database| {
                    write(database, &inbox, change, now)?;
                    Ok::<_, AccountError>(touch(database, &inbox)?)
                })
            })?;
            accounts.written();
            Ok(())
        })
        .await
    }

    /// Lets a user come by another login as well. One that is the user's already is brought up to date.
    ///
    /// # Errors
    /// [`AccountError::LinkedElsewhere`], [`AccountError::TooManyIdentities`].
    pub async fn link(
        self: &Arc<Self>,
        inbox: &InboxKey,
        identity: ProviderIdentity,
    ) -> Result<(), AccountError> {
        let inbox = inbox.clone();
        self.aside(move |accounts| {
            let now = accounts.now();
            accounts.control.write(|database| {
                database.change(|database| {
                    match owner(database, &identity)? {
                        Some(other) if other != inbox => return Err(AccountError::LinkedElsewhere),
                        Some(_) => {}
                        None if linked(database, &inbox)?.len() >= IDENTITIES_MAX => {
                            return Err(AccountError::TooManyIdentities);
                        }
                        None => link(database, &inbox, &identity, now)?,
                    }
                    keep_facts(database, &inbox, &identity, now)
                })
            })
        })
        .await
    }

    /// Takes a login away.
    ///
    /// # Errors
    /// [`AccountError::NoIdentity`]; [`AccountError::LastIdentity`] for the only one.
    pub async fn unlink(
        self: &Arc<Self>,
        inbox: &InboxKey,
        provider: &str,
        subject: &str,
    ) -> Result<(), AccountError> {
        let (inbox, provider, subject) = (inbox.clone(), provider.to_owned(), subject.to_owned());
        self.aside(move |accounts| {
            accounts.control.write(|database| {
                database.change(|database| {
                    let all = linked(database, &inbox)?;
                    let is = |one: &Linked| one.provider == provider && one.subject == subject;
                    if !all.iter().any(is) {
                        return Err(AccountError::NoIdentity);
                    }
                    if all.len() == 1 {
                        return Err(AccountError::LastIdentity);
                    }
                    let sql = "DELETE FROM account_identity WHERE provider = $1 AND subject = $2";
                    database.execute(sql, &values![&provider, &subject])?;
                    Ok(())
                })
            })
        })
        .await
    }
}

/// What a user changes of themselves.
fn write(
    database: &mut dyn Statements,
    inbox: &InboxKey,
    change: ProfileChange,
    now: Time,
) -> Result<(), SqlError> {
    make(database, inbox, now)?;
    let ProfileChange { name, avatar, locale, time_zone } = change;
    let (tenant, user) = (inbox.tenant.as_str(), inbox.user.as_str());
    database.execute(
        "UPDATE account_user SET name = coalesce($3, name), avatar = coalesce($4, avatar), \
         locale = coalesce($5, locale), time_zone = coalesce($6, time_zone), updated_at = $7 \
         WHERE tenant_id = $1 AND user_id = $2",
        &values![tenant, user, name, avatar, locale, time_zone, now],
    )?;
    Ok(())
}

/// Makes the row of a user of whom nothing is written.
pub(super) fn make(
    database: &mut dyn Statements,
    inbox: &InboxKey,
    now: Time,
) -> Result<(), SqlError> {
    let sql = "INSERT INTO account_user (tenant_id, user_id, username, email, name, avatar, locale, \
               time_zone, attributes, preferences, created_at, updated_at) \
               VALUES ($1, $2, '', '', '', '', '', '', '{}', '{}', $3, $3) \
               ON CONFLICT (tenant_id, user_id) DO NOTHING";
    database.execute(sql, &values![inbox.tenant.as_str(), inbox.user.as_str(), now])?;
    Ok(())
}
