//! Keys in the database.

use protocol::{ServiceId, Time};

use super::{
    ControlError, LAST_USED_INTERVAL,
    database::{status, to_json},
    key::{ApiKey, ApiKeyOnce, KEY_OVERLAP_MAX, Rotation, SecretHash},
};
use crate::sql::{Database, Row, SqlError, Statements, values};

/// Most keys of one service that were not deleted. A rotation needs two. Those that have expired make room.
pub const KEYS_PER_SERVICE_MAX: usize = 20;

/// All keys, in the columns of [`read_key`].
pub(super) const KEYS: &str = "SELECT id, service_id, name, allowed_networks, created_at, expires_at, \
                               last_used_at, last_used_from, replaced_by, secret_hash \
                               FROM control_api_key";

/// One key with what is needed to check it.
pub(super) struct KeyRecord {
    pub(super) key: ApiKey,
    pub(super) hash: SecretHash,
}

/// A key was used, from there.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyUse {
    pub(super) id: String,
    pub(super) at: Time,
    pub(super) from: String,
}

impl Database {
    /// A service's keys, oldest first; none where there is no such service.
    pub(super) fn keys_of(
        &mut self,
        service: &ServiceId,
    ) -> Result<Option<Vec<ApiKey>>, ControlError> {
        self.look(|database| {
            if status(database, service)?.is_none() {
                return Ok(None);
            }
            keys_of(database, service).map(Some)
        })
    }

    pub(super) fn insert_key(
        &mut self,
        key: &ApiKey,
        hash: SecretHash,
    ) -> Result<(), ControlError> {
        self.change(|database| {
            if status(database, &key.service_id)?.is_none() {
                return Err(ControlError::NotFound);
            }
            make_room(database, &key.service_id, key.created_at)?;
            insert_key(database, key, hash)
        })
    }

    /// Makes a key that takes the place of another one, or of all that live.
    pub(super) fn rotate_keys(
        &mut self,
        service: &ServiceId,
        only: Option<&str>,
        rotation: Rotation,
        now: Time,
    ) -> Result<ApiKeyOnce, ControlError> {
        self.change(|database| {
            if status(database, service)?.is_none() {
                return Err(ControlError::NotFound);
            }
            let mut old = keys_of(database, service)?;
            match only {
                Some(id) => {
                    old.retain(|key| key.id == id);
                    let key = old.first().ok_or(ControlError::NotFound)?;
                    if let Some(by) = &key.replaced_by {
                        return Err(ControlError::KeyReplaced(by.clone()));
                    }
                    if key.has_expired(now) {
                        return Err(ControlError::KeyExpired);
                    }
                }
                None => old.retain(|key| !key.has_expired(now)),
            }
            make_room(database, service, now)?;
            let (mut new, hash) = ApiKeyOnce::generate(service.clone(), now);
            new.key.expires_at = rotation.expires_at;
            if let Some(before) = old.last() {
                new.key.name.clone_from(&before.name);
                new.key.allowed_networks.clone_from(&before.allowed_networks);
                let lived = |end: Time| end.millis() - before.created_at.millis();
                let again = |end| Time::from_millis(now.millis().saturating_add(lived(end)));
                let same = before.expires_at.map(again);
                new.key.expires_at = rotation.expires_at.or(same);
            }
            insert_key(database, &new.key, hash)?;
            let end = crate::clock::after(now, rotation.overlap.min(KEY_OVERLAP_MAX));
            for key in old {
                let end = key.expires_at.map_or(end, |before| before.min(end));
                database.execute(
                    "UPDATE control_api_key SET expires_at = $2, \
                     replaced_by = coalesce(replaced_by, $3) WHERE id = $1",
                    &values![&key.id, end, &new.key.id],
                )?;
            }
            Ok(new)
        })
    }

    /// Changes a key if the service has one of this id; how it stands then.
    pub(super) fn change_key(
        &mut self,
        service: &ServiceId,
        id: &str,
        change: impl FnOnce(&mut ApiKey) -> Result<(), ControlError>,
    ) -> Result<ApiKey, ControlError> {
        self.change(|database| {
            let mut keys = keys_of(database, service)?.into_iter();
            let mut key = keys.find(|key| key.id == id).ok_or(ControlError::NotFound)?;
            change(&mut key)?;
            database.execute(
                "UPDATE control_api_key SET name = $2, allowed_networks = $3 WHERE id = $1",
                &values![&key.id, &key.name, to_json(&key.allowed_networks)],
            )?;
            Ok(key)
        })
    }

    pub(super) fn delete_key(
        &mut self,
        service: &ServiceId,
        key: &str,
    ) -> Result<(), ControlError> {
        self.change(|database| {
            let sql = "DELETE FROM control_api_key WHERE id = $1 AND service_id = $2";
            match database.execute(sql, &values![key, service.as_str()])? {
                0 => Err(ControlError::NotFound),
                _ => Ok(()),
            }
        })
    }

    /// Notes when keys were used and from where, unless somebody has done so of late.
    pub(super) fn touch_keys(&mut self, mut used: Vec<KeyUse>) -> Result<(), ControlError> {
        // In one order, so that two nodes never wait for each other's rows.
        used.sort_unstable();
        let interval = crate::clock::millis(LAST_USED_INTERVAL);
        let used: Vec<_> = used
            .iter()
            .map(|KeyUse { id, at, from }| {
                values![id, *at, from, at.millis().saturating_sub(interval)].to_vec()
            })
            .collect();
        self.note(|database| {
            Ok(database.execute_each(
                "UPDATE control_api_key SET last_used_at = $2, last_used_from = $3 \
                 WHERE id = $1 AND coalesce(last_used_at, 0) <= $4",
                &used,
            )?)
        })
    }
}

/// A service's keys, oldest first.
fn keys_of(
    database: &mut dyn Statements,
    service: &ServiceId,
) -> Result<Vec<ApiKey>, ControlError> {
    let sql = "SELECT id, service_id, name, allowed_networks, created_at, expires_at, last_used_at, \
               last_used_from, replaced_by, secret_hash \
               FROM control_api_key WHERE service_id = $1 ORDER BY created_at, id";
    let rows = database.rows(sql, &values![service.as_str()])?;
    rows.into_iter().map(|row| Ok(read_key(row)?.key)).collect()
}

/// Room for one more key: where there is none, those that have expired go. They are kept until then,
/// so that whoever is refused can be told which key it was.
fn make_room(
    database: &mut dyn Statements,
    service: &ServiceId,
    now: Time,
) -> Result<(), ControlError> {
    let mut count = || -> Result<bool, SqlError> {
        let sql = "SELECT count(*) FROM control_api_key WHERE service_id = $1";
        let count = database.number(sql, &values![service.as_str()])?;
        if count < KEYS_PER_SERVICE_MAX as i64 {
            return Ok(true);
        }
        let sql = "DELETE FROM control_api_key WHERE service_id = $1 AND expires_at <= $2";
        Ok(database.execute(sql, &values![service.as_str(), now])? > 0)
    };
    if count()? { Ok(()) } else { Err(ControlError::TooManyKeys) }
}

pub(super) fn insert_key(
    database: &mut dyn Statements,
    key: &ApiKey,
    hash: SecretHash,
) -> Result<(), ControlError> {
    database.execute(
        "INSERT INTO control_api_key (id, service_id, name, allowed_networks, secret_hash, \
         created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &values![
            &key.id,
            key.service_id.as_str(),
            &key.name,
            to_json(&key.allowed_networks),
            &hash.0,
            key.created_at,
            key.expires_at,
        ],
    )?;
    Ok(())
}

pub(super) fn read_key(mut row: Row) -> Result<KeyRecord, ControlError> {
    Ok(KeyRecord {
        key: ApiKey {
            id: row.text()?,
            service_id: row.word::<ServiceId>()?,
            name: row.text()?,
            allowed_networks: row.json()?,
            created_at: row.time()?,
            expires_at: row.maybe_time()?,
            last_used_at: row.maybe_time()?,
            last_used_from: row.maybe_text()?,
            replaced_by: row.maybe_text()?,
        },
        hash: SecretHash(row.hash()?),
    })
}
