//! What users prefer: in the database, and how nodes hear of it.
//!
//! Each change takes a revision of `account_revision`, as what is revoked does; so a node finds what has changed
//! by one number, at its look each second or when the bus says so, and reads those rows alone.

use std::{
    mem,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use protocol::{TenantId, UserId};
use tokio::sync::oneshot;

use super::{AccountError, Accounts, profile::make};
use crate::{
    InboxKey,
    control::ControlError,
    preference::{Known, Preferences, Silence},
    sql::{Row, SqlError, Statements, values},
};

/// Users whose preferences are read at once: they come with a few KiB each, and 1,000 of them are read in
/// some ten milliseconds.
const PAGE: usize = 1_000;

/// Users who connect and are looked up together. Those who come meanwhile wait for the next look, of whom there are
/// at most as many as connections may be open.
const GATHERED_MAX: usize = 256;

/// Is told what a user does not want to hear from now on.
type Heard = Box<dyn Fn(&InboxKey, &Arc<Silence>) + Send + Sync>;

/// Preferences as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptPreferences {
    /// What they say.
    pub preferences: Preferences,
    /// Counts their changes; 0 for a user who never said anything.
    pub version: u64,
}

type Asked = (InboxKey, oneshot::Sender<Option<Arc<Silence>>>);

/// What is in memory of preferences, and who waits for more.
#[derive(Default)]
pub(super) struct Following {
    known: Arc<Known>,
    /// As of which revision that is. Held while it is brought up to date.
    revision: Mutex<i64>,
    heard: OnceLock<Heard>,
    gathering: Mutex<Gathering>,
}

impl Following {
    pub(super) fn known_len(&self) -> usize {
        self.known.len()
    }
}

#[derive(Default)]
struct Gathering {
    asked: Vec<Asked>,
    /// Whether somebody reads.
    running: bool,
}

/// The preferences of a user who connects could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user's preferences cannot be read now")]
pub struct Unread;

fn read(
    database: &mut dyn Statements,
    inbox: &InboxKey,
) -> Result<Option<KeptPreferences>, SqlError> {
    let sql = "SELECT preferences, preferences_version FROM account_user \
               WHERE tenant_id = $1 AND user_id = $2";
    let row = database.row(sql, &values![inbox.tenant.as_str(), inbox.user.as_str()])?;
    let Some(mut row) = row else { return Ok(None) };
    Ok(Some(KeptPreferences { preferences: row.json()?, version: row.count()? }))
}

/// Nodes are to read what a user prefers anew. Only inside [`crate::sql::Database::change`].
pub(super) fn touch(database: &mut dyn Statements, inbox: &InboxKey) -> Result<(), SqlError> {
    database.execute("UPDATE account_revision SET n = n + 1", &[])?;
    database.execute(
        "UPDATE account_user SET preferences_changed = (SELECT n FROM account_revision) \
         WHERE tenant_id = $1 AND user_id = $2",
        &values![inbox.tenant.as_str(), inbox.user.as_str()],
    )?;
    Ok(())
}

/// What has changed of a user.
struct Changed {
    inbox: InboxKey,
    preferences: Preferences,
    locale: String,
    time_zone: String,
    revision: i64,
}

impl Changed {
    fn read(mut row: Row) -> Result<Self, SqlError> {
        Ok(Self {
            inbox: InboxKey::new(row.word::<TenantId>()?, row.word::<UserId>()?),
            preferences: row.json()?,
            locale: row.text()?,
            time_zone: row.text()?,
            revision: row.int()?,
        })
    }

    fn silence(&self) -> Arc<Silence> {
        Arc::new(Silence::new(self.revision, &self.preferences, &self.time_zone))
    }
}

impl Accounts {
    /// Who has preferences, and what they speak.
    #[must_use]
    pub const fn known_preferences(&self) -> &Arc<Known> {
        &self.following.known
    }

    /// Calls `heard` with what each user whose preferences change does not want to hear from here on, on
    /// whatever thread learns of it, also of users who are not here. The first one is kept.
    pub fn on_preferences(&self, heard: impl Fn(&InboxKey, &Arc<Silence>) + Send + Sync + 'static) {
        let _ = self.following.heard.set(Box::new(heard));
    }

    /// What a user prefers.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn preferences(
        self: &Arc<Self>,
        inbox: &InboxKey,
    ) -> Result<KeptPreferences, AccountError> {
        let inbox = inbox.clone();
        self.aside(move |accounts| {
            accounts.control.read(|database| {
                database.look(|database| Ok(read(database, &inbox)?.unwrap_or_default()))
            })
        })
        .await
    }

    /// Puts preferences in the place of those that were; the same ones are no change.
    ///
    /// # Errors
    /// [`AccountError::PreferencesChanged`] where they are not of the version that was `expected`.
    pub async fn save_preferences(
        self: &Arc<Self>,
        inbox: &InboxKey,
        preferences: Preferences,
        expected: Option<u64>,
    ) -> Result<KeptPreferences, AccountError> {
        let inbox = inbox.clone();
        self.aside(move |accounts| {
            let now = accounts.now();
            let (kept, changed) = accounts.control.write(|database| {
                database.change(|database| {
                    let kept = read(database, &inbox)?.unwrap_or_default();
                    if expected.is_some_and(|expected| expected != kept.version) {
                        return Err(AccountError::PreferencesChanged(Box::new(kept)));
                    }
                    if kept.preferences == preferences {
                        return Ok((kept, false));
                    }
                    make(database, &inbox, now)?;
                    let document =
                        serde_json::to_string(&preferences).expect("preferences have string keys");
                    database.execute(
                        "UPDATE account_user SET preferences = $3, \
                         preferences_version = preferences_version + 1, updated_at = $4 \
                         WHERE tenant_id = $1 AND user_id = $2",
                        &values![inbox.tenant.as_str(), inbox.user.as_str(), document, now],
                    )?;
                    touch(database, &inbox)?;
                    Ok((KeptPreferences { preferences, version: kept.version + 1 }, true))
                })
            })?;
            if changed {
                accounts.written();
            }
            Ok(kept)
        })
        .await
    }

    /// What a user who connects does not want to hear; none for one who hears everything, which is known
    /// without a look at the database. The look is shared by all who connect at the same time.
    ///
    /// # Errors
    /// [`Unread`] when the database cannot be asked.
    pub async fn silence(
        self: &Arc<Self>,
        inbox: &InboxKey,
    ) -> Result<Option<Arc<Silence>>, Unread> {
        if !self.following.known.can_silence(&inbox.tenant, &inbox.user) {
            return Ok(None);
        }
        let (tell, told) = oneshot::channel();
        let leads = {
            let mut gathering = self.following.gathering.lock();
            gathering.asked.push((inbox.clone(), tell));
            !mem::replace(&mut gathering.running, true)
        };
        if leads {
            tokio::spawn(Arc::clone(self).answer_gathered());
        }
        told.await.map_err(|_| Unread)
    }

    /// Reads until nobody asks any more. Who is not answered is told by that that it could not be read.
    async fn answer_gathered(self: Arc<Self>) {
        loop {
            let asked: Vec<Asked> = {
                let mut gathering = self.following.gathering.lock();
                let many = gathering.asked.len().min(GATHERED_MAX);
                gathering.running = many > 0;
                gathering.asked.drain(..many).collect()
            };
            if asked.is_empty() {
                return;
            }
            let looked = self.aside(move |accounts| accounts.look_up(asked)).await;
            if let Err(error) = looked {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the preferences of users who connect cannot be read");
            }
        }
    }

    fn look_up(&self, asked: Vec<Asked>) -> Result<(), AccountError> {
        let sql = "SELECT tenant_id, user_id, preferences, locale, time_zone, preferences_changed \
                   FROM account_user WHERE tenant_id = $1 AND user_id = $2";
        let all: Vec<Vec<_>> = asked
            .iter()
            .map(|(inbox, _)| values![inbox.tenant.as_str(), inbox.user.as_str()].into())
            .collect();
        let found: Vec<Vec<Row>> = self.control.read(|database| {
            database.look(|database| Ok::<_, ControlError>(database.rows_each(sql, &all)?))
        })?;
        drop(all);
        for ((_, tell), rows) in asked.into_iter().zip(found) {
            // What is damaged of one must not keep the others out.
            match rows.into_iter().next().map(Changed::read).transpose() {
                // Whoever has gone meanwhile needs no answer.
                Ok(changed) => drop(tell.send(changed.map(|changed| changed.silence()))),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the preferences of a user who connects are damaged");
                }
            }
        }
        Ok(())
    }

    /// Reads what users prefer since the last time, if anything has changed.
    pub(super) fn learn_preferences(&self) -> Result<(), AccountError> {
        let Following { known, revision, heard, .. } = &self.following;
        let mut revision = revision.lock();
        if self.control.accounts_revision() == *revision {
            return Ok(());
        }
        // No tenant is empty, so everybody of the next revision is behind it.
        let mut after = (*revision + 1, String::new(), String::new());
        let mut seen = None;
        loop {
            let (latest, page) = self.changed_after(&after)?;
            // As of the first page: what changes while the others are read is read again.
            let latest = *seen.get_or_insert(latest);
            for changed in &page {
                let Changed { inbox: InboxKey { tenant, user }, preferences, locale, .. } = changed;
                if !known.learn(tenant, user, preferences, locale)
                    && let Some(metrics) = self.metrics.get()
                {
                    metrics.languages_left_out.increment(1);
                }
                if let Some(heard) = heard.get() {
                    heard(&changed.inbox, &changed.silence());
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => {
                    let InboxKey { tenant, user } = &last.inbox;
                    after = (last.revision, tenant.as_str().to_owned(), user.as_str().to_owned());
                }
                Some(_) | None => {
                    *revision = latest;
                    return Ok(());
                }
            }
        }
    }

    fn changed_after(
        &self,
        (revision, tenant, user): &(i64, String, String),
    ) -> Result<(i64, Vec<Changed>), AccountError> {
        let sql = "SELECT tenant_id, user_id, preferences, locale, time_zone, preferences_changed \
                   FROM account_user WHERE preferences_changed > 0 \
                   AND (preferences_changed, tenant_id, user_id) > ($1, $2, $3) \
                   ORDER BY preferences_changed, tenant_id, user_id LIMIT $4";
        let limit = i64::try_from(PAGE).expect("it is a thousand");
        self.control.read(|database| {
            database.look(|database| {
                let latest = database.number("SELECT n FROM account_revision", &[])?;
                let rows = database.rows(sql, &values![*revision, tenant, user, limit])?;
                Ok((latest, rows.into_iter().map(Changed::read).collect::<Result<_, _>>()?))
            })
        })
    }
}
