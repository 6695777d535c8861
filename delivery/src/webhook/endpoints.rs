//! Endpoints and their secrets in the file.

use protocol::{ServiceId, TenantId, Time};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Webhook, WebhookError,
    address::Allowed,
    client::Outcome,
    endpoint::{
        Checked, Disabled, DisabledBy, ENDPOINTS_PER_SERVICE_MAX, Endpoint, WebhookStatus, kinds,
    },
    secret::{SECRETS_MAX, Secret, SecretTimes},
    target::Target,
};
use crate::row::{count, json, maybe_time, maybe_word, time, word};

/// The word of `status` for an endpoint that nobody sees any more.
const DELETED: &str = "deleted";

/// A change that is asked of an endpoint, and the row it is about.
pub(super) fn find(
    connection: &Connection,
    service: &ServiceId,
    id: &str,
) -> Result<i64, WebhookError> {
    connection
        .prepare_cached(
            "SELECT key FROM endpoint WHERE id = ?1 AND service_id = ?2 AND status <> ?3",
        )?
        .query_row(params![id, service.as_str(), DELETED], |row| row.get(0))
        .optional()?
        .ok_or(WebhookError::NotFound)
}

pub(super) fn insert(
    connection: &Connection,
    id: &str,
    (tenant, service): (&TenantId, &ServiceId),
    new: &Checked,
    secret: &Secret,
    now: Time,
) -> Result<(), WebhookError> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM endpoint WHERE service_id = ?1 AND status <> ?2")?
        .query_row([service.as_str(), DELETED], |row| row.get(0))?;
    if count >= ENDPOINTS_PER_SERVICE_MAX as i64 {
        return Err(WebhookError::TooMany);
    }
    connection.execute(
        "INSERT INTO endpoint (id, tenant_id, service_id, url, events, description, status, \
         created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
        params![
            id,
            tenant.as_str(),
            service.as_str(),
            new.target.as_str(),
            words_json(&new.events),
            new.description,
            WebhookStatus::Active.as_str(),
            now.millis(),
        ],
    )?;
    add_secret(connection, connection.last_insert_rowid(), secret)
}

/// A new URL is a new chance: it has not failed yet.
pub(super) fn update(
    connection: &Connection,
    key: i64,
    new: &Checked,
    now: Time,
) -> Result<(), WebhookError> {
    connection.execute(
        "UPDATE endpoint SET failing_since = iif(url = ?2, failing_since, NULL), url = ?2, \
         events = ?3, description = ?4, updated_at = ?5 WHERE key = ?1",
        params![key, new.target.as_str(), words_json(&new.events), new.description, now.millis()],
    )?;
    Ok(())
}

/// Hides it. Its deliveries, which may be a million, are removed little by little.
pub(super) fn delete(connection: &Connection, key: i64) -> Result<(), WebhookError> {
    connection.execute("DELETE FROM secret WHERE endpoint = ?1", [key])?;
    connection.execute(
        "UPDATE endpoint SET status = ?2, url = '' WHERE key = ?1",
        params![key, DELETED],
    )?;
    Ok(())
}

pub(super) fn disable(
    connection: &Connection,
    key: i64,
    by: DisabledBy,
    now: Time,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE endpoint SET status = ?2, disabled_by = ?3, disabled_at = ?4 WHERE key = ?1",
        )?
        .execute(params![key, WebhookStatus::Disabled.as_str(), by.as_str(), now.millis()])?;
    Ok(())
}

/// What had failed for days begins anew.
pub(super) fn enable(connection: &Connection, key: i64) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE endpoint SET status = ?2, disabled_by = NULL, disabled_at = NULL, \
         failing_since = NULL WHERE key = ?1",
        params![key, WebhookStatus::Active.as_str()],
    )?;
    Ok(())
}

/// A new secret; the others end at `end` at the latest, and the oldest at once where there are too
/// many.
pub(super) fn rotate(
    connection: &Connection,
    key: i64,
    secret: &Secret,
    end: Time,
) -> Result<(), WebhookError> {
    connection.execute(
        "UPDATE secret SET expires_at = min(coalesce(expires_at, ?2), ?2) WHERE endpoint = ?1",
        params![key, end.millis()],
    )?;
    drop_ended_secrets(connection, secret.times.created_at)?;
    connection.execute(
        "DELETE FROM secret WHERE rowid IN (SELECT rowid FROM secret WHERE endpoint = ?1 \
         ORDER BY rowid DESC LIMIT -1 OFFSET ?2)",
        params![key, SECRETS_MAX as i64 - 1],
    )?;
    add_secret(connection, key, secret)
}

pub(super) fn drop_ended_secrets(connection: &Connection, now: Time) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM secret WHERE expires_at <= ?1", [now.millis()])
}

fn add_secret(connection: &Connection, key: i64, secret: &Secret) -> Result<(), WebhookError> {
    let SecretTimes { created_at, expires_at } = secret.times;
    connection.execute(
        "INSERT INTO secret VALUES (?1, ?2, ?3, ?4)",
        params![key, secret.bytes(), created_at.millis(), expires_at.map(Time::millis)],
    )?;
    Ok(())
}

fn words_json(words: &[&str]) -> String {
    serde_json::to_string(words).expect("words are texts")
}

/// The endpoints, all or those of a service, as memory has them.
pub(super) fn load(
    connection: &Connection,
    service: Option<&ServiceId>,
    allowed: &Allowed,
) -> Result<Vec<Endpoint>, WebhookError> {
    let read = |row: &Row<'_>| read_endpoint(connection, row, allowed);
    let rows: rusqlite::Result<_> = match service {
        Some(service) => connection
            .prepare_cached("SELECT * FROM endpoint WHERE service_id = ?1 AND status <> ?2")?
            .query_map([service.as_str(), DELETED], read)?
            .collect(),
        None => connection
            .prepare_cached("SELECT * FROM endpoint WHERE status <> ?1")?
            .query_map([DELETED], read)?
            .collect(),
    };
    Ok(rows?)
}

fn read_endpoint(
    connection: &Connection,
    row: &Row<'_>,
    allowed: &Allowed,
) -> rusqlite::Result<Endpoint> {
    let (key, url): (i64, String) = (row.get("key")?, row.get("url")?);
    let words: Vec<String> = json(row, "events")?;
    let status: WebhookStatus = word(row, "status")?;
    Ok(Endpoint {
        key,
        id: row.get("id")?,
        tenant: word(row, "tenant_id")?,
        service: word(row, "service_id")?,
        target: Target::parse(&url, allowed).ok(),
        kinds: kinds(words.iter().map(String::as_str)),
        active: status == WebhookStatus::Active,
        secrets: read_secrets(connection, key)?,
    })
}

fn read_secrets(connection: &Connection, key: i64) -> rusqlite::Result<Vec<Secret>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, created_at, expires_at FROM secret WHERE endpoint = ?1 ORDER BY rowid DESC",
    )?;
    let rows = statement.query_map([key], |row| {
        let times = SecretTimes {
            created_at: time(row, "created_at")?,
            expires_at: maybe_time(row, "expires_at")?,
        };
        Ok(Secret::known(row.get("key")?, times))
    })?;
    rows.collect()
}

/// The endpoints of a service, oldest first.
pub(super) fn list(
    connection: &Connection,
    service: &ServiceId,
    now: Time,
) -> Result<Vec<Webhook>, WebhookError> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM endpoint WHERE service_id = ?1 AND status <> ?2 ORDER BY key",
    )?;
    let rows = statement
        .query_map([service.as_str(), DELETED], |row| read_webhook(connection, row, now))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One endpoint.
pub(super) fn get(connection: &Connection, key: i64, now: Time) -> Result<Webhook, WebhookError> {
    let mut statement = connection.prepare_cached("SELECT * FROM endpoint WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| read_webhook(connection, row, now))?)
}

fn read_webhook(connection: &Connection, row: &Row<'_>, now: Time) -> rusqlite::Result<Webhook> {
    let disabled =
        match (row.get::<_, Option<String>>("disabled_by")?, maybe_time(row, "disabled_at")?) {
            (Some(_), Some(at)) => Some(Disabled::new(word::<DisabledBy>(row, "disabled_by")?, at)),
            _ => None,
        };
    let secrets = read_secrets(connection, row.get("key")?)?;
    let secrets = secrets.iter().map(|secret| secret.times);
    Ok(Webhook {
        id: row.get("id")?,
        service_id: word(row, "service_id")?,
        url: row.get("url")?,
        events: json(row, "events")?,
        description: row.get("description")?,
        status: word(row, "status")?,
        disabled,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        secrets: secrets.filter(|times| times.expires_at.is_none_or(|end| end > now)).collect(),
        pending: count(row, "pending")?,
        delivered: count(row, "delivered")?,
        failed: count(row, "failed")?,
        dropped: count(row, "dropped")?,
        dropped_at: maybe_time(row, "dropped_at")?,
        failing_since: maybe_time(row, "failing_since")?,
        last_success_at: maybe_time(row, "last_success_at")?,
        last_failure_at: maybe_time(row, "last_failure_at")?,
        last_failure: maybe_word::<Outcome>(row, "last_failure")?,
    })
}
