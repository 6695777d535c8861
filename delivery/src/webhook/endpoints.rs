//! Endpoints and their secrets in the database.

use protocol::{ServiceId, TenantId, Time};
use rustc_hash::FxHashMap;

use super::{
    Webhook, WebhookError,
    cluster::shares,
    endpoint::{
        Checked, Disabled, DisabledBy, ENDPOINTS_PER_SERVICE_MAX, Endpoint, WebhookStatus, kinds,
    },
    secret::{SECRETS_MAX, Secret, SecretTimes},
};
use crate::{
    outbound::{Allowed, Target},
    sql::{Row, SqlError, Statements, Value, values},
};

/// The word of `status` for an endpoint that nobody sees any more.
const DELETED: &str = "deleted";

/// A change that is asked of an endpoint, and the row it is about.
pub(super) fn find(
    database: &mut dyn Statements,
    service: &ServiceId,
    id: &str,
) -> Result<i64, WebhookError> {
    // PostgreSQL has no zero byte in a text.
    if id.contains('\0') {
        return Err(WebhookError::NotFound);
    }
    let row = database.row(
        "SELECT key FROM webhook_endpoint WHERE id = $1 AND service_id = $2 AND status <> $3",
        &values![id, service.as_str(), DELETED],
    )?;
    Ok(row.ok_or(WebhookError::NotFound)?.int()?)
}

/// Notes that an endpoint is not what it was, for other nodes.
fn changed(database: &mut dyn Statements, key: i64) -> Result<(), SqlError> {
    let n = database.number("UPDATE webhook_revision SET n = n + 1 RETURNING n", &[])?;
    let sql = "UPDATE webhook_endpoint SET changed = $2 WHERE key = $1";
    database.execute(sql, &values![key, n])?;
    Ok(())
}

pub(super) fn insert(
    database: &mut dyn Statements,
    id: &str,
    (tenant, service): (&TenantId, &ServiceId),
    new: &Checked,
    secret: &Secret,
    now: Time,
) -> Result<(), WebhookError> {
    let count = database.number(
        "SELECT count(*) FROM webhook_endpoint WHERE service_id = $1 AND status <> $2",
        &values![service.as_str(), DELETED],
    )?;
    if count >= ENDPOINTS_PER_SERVICE_MAX as i64 {
        return Err(WebhookError::TooMany);
    }
    let key = database.number(
        "INSERT INTO webhook_endpoint (id, tenant_id, service_id, url, events, description, status, \
         created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) RETURNING key",
        &values![
            id,
            tenant.as_str(),
            service.as_str(),
            new.target.as_str(),
            words_json(&new.events),
            &new.description,
            WebhookStatus::Active.as_str(),
            now,
        ],
    )?;
    add_secret(database, key, secret)?;
    Ok(changed(database, key)?)
}

/// A new URL is a new chance: it has not failed yet.
pub(super) fn update(
    database: &mut dyn Statements,
    key: i64,
    new: &Checked,
    now: Time,
) -> Result<(), SqlError> {
    database.execute(
        "UPDATE webhook_endpoint SET \
         failing_since = CASE WHEN url = $2 THEN failing_since ELSE NULL END, url = $2, \
         events = $3, description = $4, updated_at = $5 WHERE key = $1",
        &values![key, new.target.as_str(), words_json(&new.events), &new.description, now],
    )?;
    changed(database, key)
}

/// Hides it. Its deliveries, which may be a million, are removed little by little.
pub(super) fn delete(database: &mut dyn Statements, key: i64) -> Result<(), SqlError> {
    database.execute("DELETE FROM webhook_secret WHERE endpoint = $1", &values![key])?;
    let sql = "UPDATE webhook_endpoint SET status = $2, url = '' WHERE key = $1";
    database.execute(sql, &values![key, DELETED])?;
    changed(database, key)
}

/// Removes those that were deleted and have nothing left. Who has not seen that they were deleted must
/// read everything.
pub(super) fn forget_deleted(database: &mut dyn Statements) -> Result<(), SqlError> {
    let sql = "DELETE FROM webhook_endpoint WHERE status = $1 RETURNING changed";
    let mut forgotten = 0;
    for mut row in database.rows(sql, &values![DELETED])? {
        forgotten = forgotten.max(row.int()?);
    }
    if forgotten > 0 {
        let sql = "UPDATE webhook_revision SET forgotten = $1 WHERE forgotten < $1";
        database.execute(sql, &values![forgotten])?;
    }
    Ok(())
}

pub(super) fn disable(
    database: &mut dyn Statements,
    key: i64,
    by: DisabledBy,
    now: Time,
) -> Result<(), SqlError> {
    database.execute(
        "UPDATE webhook_endpoint SET status = $2, disabled_by = $3, disabled_at = $4 WHERE key = $1",
        &values![key, WebhookStatus::Disabled.as_str(), by.as_str(), now],
    )?;
    changed(database, key)
}

/// What had failed for days begins anew.
pub(super) fn enable(database: &mut dyn Statements, key: i64) -> Result<(), SqlError> {
    database.execute(
        "UPDATE webhook_endpoint SET status = $2, disabled_by = NULL, disabled_at = NULL, \
         failing_since = NULL WHERE key = $1",
        &values![key, WebhookStatus::Active.as_str()],
    )?;
    changed(database, key)
}

/// A new secret; the others end at `end` at the latest, and the oldest at once where there are too
/// many.
pub(super) fn rotate(
    database: &mut dyn Statements,
    key: i64,
    secret: &Secret,
    end: Time,
) -> Result<(), SqlError> {
    database.execute(
        "UPDATE webhook_secret SET \
         expires_at = CASE WHEN expires_at < $2 THEN expires_at ELSE $2 END WHERE endpoint = $1",
        &values![key, end],
    )?;
    drop_ended_secrets(database, secret.times.created_at)?;
    database.execute(
        "DELETE FROM webhook_secret WHERE endpoint = $1 AND id NOT IN \
         (SELECT id FROM webhook_secret WHERE endpoint = $1 ORDER BY id DESC LIMIT $2)",
        &values![key, SECRETS_MAX - 1],
    )?;
    add_secret(database, key, secret)?;
    changed(database, key)
}

pub(super) fn drop_ended_secrets(database: &mut dyn Statements, now: Time) -> Result<(), SqlError> {
    database.execute("DELETE FROM webhook_secret WHERE expires_at <= $1", &values![now])?;
    Ok(())
}

fn add_secret(database: &mut dyn Statements, key: i64, secret: &Secret) -> Result<(), SqlError> {
    let SecretTimes { created_at, expires_at } = secret.times;
    database.execute(
        "INSERT INTO webhook_secret (endpoint, key, created_at, expires_at) \
         VALUES ($1, $2, $3, $4)",
        &values![key, secret.bytes(), created_at, expires_at],
    )?;
    Ok(())
}

fn words_json(words: &[&str]) -> String {
    serde_json::to_string(words).expect("words are texts")
}

/// A question about endpoints, and one about their secrets, newest first.
macro_rules! of {
    ($which:literal) => {
        (
            concat!(
                "SELECT e.key, e.tenant_id, e.status, e.id, e.service_id, e.url, e.events, \
                 e.description, e.disabled_by, e.disabled_at, e.created_at, e.updated_at, \
                 e.pending, e.delivered, e.failed, e.dropped, e.dropped_at, e.failing_since, \
                 e.last_success_at, e.last_failure_at, e.last_failure \
                 FROM webhook_endpoint e WHERE ",
                $which,
                " ORDER BY e.key"
            ),
            concat!(
                "SELECT s.endpoint, s.key, s.created_at, s.expires_at FROM webhook_secret s \
                 JOIN webhook_endpoint e ON e.key = s.endpoint WHERE ",
                $which,
                " ORDER BY s.id DESC"
            ),
        )
    };
}

/// An endpoint as it stands in the database.
pub(super) struct Stored {
    key: i64,
    tenant: TenantId,
    is_deleted: bool,
    webhook: Webhook,
    secrets: Vec<Secret>,
}

impl Stored {
    fn read(mut row: Row, secrets: &mut FxHashMap<i64, Vec<Secret>>) -> Result<Self, SqlError> {
        let (key, tenant) = (row.int()?, row.word()?);
        let status = row.text()?;
        let is_deleted = status == DELETED;
        let webhook = Webhook {
            id: row.text()?,
            service_id: row.word()?,
            url: row.text()?,
            events: row.json()?,
            description: row.text()?,
            status: match status.parse() {
                Ok(status) => status,
                Err(_) if is_deleted => WebhookStatus::Disabled,
                Err(error) => return Err(SqlError::Damaged(error.into())),
            },
            disabled: match (row.maybe_word::<DisabledBy>()?, row.maybe_time()?) {
                (Some(by), Some(at)) => Some(Disabled::new(by, at)),
                _ => None,
            },
            created_at: row.time()?,
            updated_at: row.time()?,
            secrets: Vec::new(),
            pending: row.count()?,
            delivered: row.count()?,
            failed: row.count()?,
            dropped: row.count()?,
            dropped_at: row.maybe_time()?,
            failing_since: row.maybe_time()?,
            last_success_at: row.maybe_time()?,
            last_failure_at: row.maybe_time()?,
            last_failure: row.maybe_word()?,
        };
        let secrets = secrets.remove(&key).unwrap_or_default();
        Ok(Self { key, tenant, is_deleted, webhook, secrets })
    }

    /// As it is shown.
    fn shown(self, now: Time) -> Webhook {
        let secrets = self.secrets.iter().map(|secret| secret.times);
        let secrets = secrets.filter(|times| times.expires_at.is_none_or(|end| end > now));
        Webhook { secrets: secrets.collect(), ..self.webhook }
    }

    /// As memory has it; none for one that was deleted.
    fn known(self, allowed: &Allowed) -> (i64, Option<Endpoint>) {
        let Self { key, tenant, is_deleted, webhook, secrets } = self;
        let endpoint = Endpoint {
            key,
            id: webhook.id,
            tenant,
            share: shares::of_service(&webhook.service_id),
            service: webhook.service_id,
            target: Target::parse(&webhook.url, allowed).ok(),
            kinds: kinds(webhook.events.iter().map(String::as_str)),
            active: webhook.status == WebhookStatus::Active,
            updated_at: webhook.updated_at,
            secrets,
        };
        (key, (!is_deleted).then_some(endpoint))
    }
}

fn read(
    database: &mut dyn Statements,
    (endpoints, secrets): (&'static str, &'static str),
    values: &[Value<'_>],
) -> Result<Vec<Stored>, SqlError> {
    let mut found: FxHashMap<i64, Vec<Secret>> = FxHashMap::default();
    for mut row in database.rows(secrets, values)? {
        let key = row.int()?;
        let (secret, created_at, expires_at) = (row.bytes()?, row.time()?, row.maybe_time()?);
        let secret = Secret::known(secret, SecretTimes { created_at, expires_at });
        found.entry(key).or_default().push(secret);
    }
    let rows = database.rows(endpoints, values)?;
    rows.into_iter().map(|row| Stored::read(row, &mut found)).collect()
}

fn of_service(database: &mut dyn Statements, service: &ServiceId) -> Result<Vec<Stored>, SqlError> {
    let which = of!("e.service_id = $1 AND e.status <> 'deleted'");
    read(database, which, &values![service.as_str()])
}

/// All endpoints, as memory has them.
pub(super) fn load(
    database: &mut dyn Statements,
    allowed: &Allowed,
) -> Result<Vec<Endpoint>, SqlError> {
    let all = read(database, of!("e.status <> 'deleted'"), &[])?;
    Ok(all.into_iter().filter_map(|stored| stored.known(allowed).1).collect())
}

/// Those of a service, as memory has them.
pub(super) fn load_service(
    database: &mut dyn Statements,
    service: &ServiceId,
    allowed: &Allowed,
) -> Result<Vec<Endpoint>, SqlError> {
    let all = of_service(database, service)?;
    Ok(all.into_iter().filter_map(|stored| stored.known(allowed).1).collect())
}

/// Those that were changed after a revision; none in place of one that was deleted.
pub(super) fn load_changed(
    database: &mut dyn Statements,
    since: i64,
    allowed: &Allowed,
) -> Result<Vec<(i64, Option<Endpoint>)>, SqlError> {
    let all = read(database, of!("e.changed > $1"), &values![since])?;
    Ok(all.into_iter().map(|stored| stored.known(allowed)).collect())
}

/// The endpoints of a service, oldest first.
pub(super) fn list(
    database: &mut dyn Statements,
    service: &ServiceId,
    now: Time,
) -> Result<Vec<Webhook>, SqlError> {
    let all = of_service(database, service)?;
    Ok(all.into_iter().map(|stored| stored.shown(now)).collect())
}

/// One endpoint that is there.
pub(super) fn get(
    database: &mut dyn Statements,
    key: i64,
    now: Time,
) -> Result<Webhook, WebhookError> {
    let one = read(database, of!("e.key = $1"), &values![key])?.pop();
    Ok(one.ok_or(WebhookError::NotFound)?.shown(now))
}
