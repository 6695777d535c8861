//! Settings that admins change while the hub runs, by version. What they may be knows whoever reads
//! settings at the start; here they are texts.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use protocol::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Control, ControlError, database::to_json};
use crate::{
    audit::Actor,
    sql::{Database, Row, SqlError, Statements, values},
};

/// Most versions that are kept: the oldest go. A row has some kilobytes at most, and nobody goes back so far.
pub const SETTINGS_VERSIONS_MAX: u64 = 1_000;

/// Live values by the names of their settings, as they stand in a file of settings.
pub type LiveTexts = BTreeMap<String, String>;

/// One setting of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingChange {
    /// Which.
    pub name: String,
    /// Its live value before; null where it had none, and what was given at the start was in force.
    pub before: Option<String>,
    /// Its live value since; null where it has none any more.
    pub after: Option<String>,
}

/// A change of live settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SettingsVersion {
    /// Counts the changes, from 1.
    pub version: u64,
    /// When.
    pub at: Time,
    /// By whom.
    pub by: Actor,
    /// Why, in their words.
    pub reason: Option<String>,
    /// The version that it brought back; null for a change of its own.
    pub restores: Option<u64>,
    /// What it changed.
    pub changes: Vec<SettingChange>,
    /// All live values since, by name.
    pub live: LiveTexts,
}

/// What is to become a version.
#[derive(Clone, Debug)]
pub struct NewSettings {
    /// By whom.
    pub by: Actor,
    /// Why.
    pub reason: Option<String>,
    /// Which version it brings back.
    pub restores: Option<u64>,
    /// All live values.
    pub live: LiveTexts,
}

/// What is different, by name.
#[must_use]
pub fn changes(before: &LiveTexts, after: &LiveTexts) -> Vec<SettingChange> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| SettingChange {
            name: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        })
        .collect()
}

impl Control {
    /// The latest version of the live settings; none where there never was one. Waits for the database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn settings(&self) -> Result<Option<SettingsVersion>, ControlError> {
        let latest = self.read(|database| {
            let sql = "SELECT version, at, actor, reason, restores, changes, live FROM control_settings \
                       ORDER BY version DESC LIMIT 1";
            Ok::<_, ControlError>(database.glance(sql, &[])?.pop())
        })?;
        Ok(latest.map(read_version).transpose()?)
    }

    /// The live values of a version; none at all for version 0, which is what was given at the start.
    ///
    /// # Errors
    /// [`ControlError::NoSettingsVersion`], or when the database cannot be read.
    pub fn settings_of(&self, version: u64) -> Result<LiveTexts, ControlError> {
        if version == 0 {
            return Ok(LiveTexts::new());
        }
        self.read(|database| {
            let sql = "SELECT live FROM control_settings WHERE version = $1";
            let mut row = database
                .glance(sql, &values![version])?
                .pop()
                .ok_or(ControlError::NoSettingsVersion)?;
            Ok(row.json()?)
        })
    }

    /// A page of the versions, the latest first, and how many there are.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn settings_versions(
        &self,
        skip: u64,
        most: usize,
    ) -> Result<(Vec<SettingsVersion>, u64), ControlError> {
        self.read(|database| {
            database.look(|database| {
                let all = database.number("SELECT count(*) FROM control_settings", &[])?;
                let sql = "SELECT version, at, actor, reason, restores, changes, live \
                           FROM control_settings ORDER BY version DESC LIMIT $1 OFFSET $2";
                let rows = database.rows(sql, &values![most, skip])?;
                let page = rows.into_iter().map(read_version).collect::<Result<_, _>>()?;
                Ok((page, all.unsigned_abs()))
            })
        })
    }

    /// Makes a version over another one, 0 where there is none; it is in force on each node that looks.
    ///
    /// # Errors
    /// [`ControlError::SettingsChanged`] where another one is the latest, or when the database cannot be
    /// written.
    pub fn save_settings(
        &self,
        over: u64,
        new: NewSettings,
    ) -> Result<SettingsVersion, ControlError> {
        let now = self.clock().now();
        self.write(|database| database.save_settings(over, new, now))
    }

    /// The latest version of the live settings at the last look; 0 for none. From memory.
    #[must_use]
    pub fn settings_version(&self) -> u64 {
        self.shared.settings.load(Ordering::Acquire).unsigned_abs()
    }

    /// Looks whether something has changed, unless somebody began to look after this was called. Waits for the
    /// database.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn look(&self) -> Result<(), ControlError> {
        self.refresh()
    }
}

impl Database {
    fn save_settings(
        &mut self,
        over: u64,
        new: NewSettings,
        now: Time,
    ) -> Result<SettingsVersion, ControlError> {
        self.change(|database| {
            let (latest, before) = latest(database)?;
            if latest != over {
                return Err(ControlError::SettingsChanged(latest));
            }
            let NewSettings { by, reason, restores, live } = new;
            let saved = SettingsVersion {
                version: latest + 1,
                at: now,
                by,
                reason,
                restores,
                changes: changes(&before, &live),
                live,
            };
            database.execute(
                "INSERT INTO control_settings (version, at, actor, reason, restores, changes, live) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                &values![
                    saved.version,
                    saved.at,
                    to_json(&saved.by),
                    saved.reason.clone(),
                    saved.restores,
                    to_json(&saved.changes),
                    to_json(&saved.live),
                ],
            )?;
            let oldest = saved.version.saturating_sub(SETTINGS_VERSIONS_MAX);
            let sql = "DELETE FROM control_settings WHERE version <= $1";
            database.execute(sql, &values![oldest])?;
            Ok(saved)
        })
    }
}

fn latest(database: &mut dyn Statements) -> Result<(u64, LiveTexts), ControlError> {
    let sql = "SELECT version, live FROM control_settings ORDER BY version DESC LIMIT 1";
    match database.row(sql, &[])? {
        Some(mut row) => Ok((row.count()?, row.json()?)),
        None => Ok((0, LiveTexts::new())),
    }
}

fn read_version(mut row: Row) -> Result<SettingsVersion, SqlError> {
    Ok(SettingsVersion {
        version: row.count()?,
        at: row.time()?,
        by: row.json()?,
        reason: row.maybe_text()?,
        restores: row.maybe_int()?.map(i64::unsigned_abs),
        changes: row.json()?,
        live: row.json()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::ActorKind;

    fn texts(pairs: &[(&str, &str)]) -> LiveTexts {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn new(pairs: &[(&str, &str)], restores: Option<u64>) -> NewSettings {
        let by = Actor { kind: ActorKind::Cli, id: String::new(), name: "ops".to_owned() };
        NewSettings { by, reason: Some("why".to_owned()), restores, live: texts(pairs) }
    }

    #[test]
    fn versions_follow_each_other_and_others_see_them() {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::open(folder.path()).unwrap();
        assert_eq!((control.settings().unwrap(), control.settings_version()), (None, 0));
        let first = control.save_settings(0, new(&[("A", "1"), ("B", "2")], None)).unwrap();
        assert_eq!((first.version, control.settings_version()), (1, 1));
        let second = control.save_settings(1, new(&[("A", "3")], None)).unwrap();
        let expected = [("A", Some("1"), Some("3")), ("B", Some("2"), None)];
        let told: Vec<_> = second
            .changes
            .iter()
            .map(|change| (&*change.name, change.before.as_deref(), change.after.as_deref()))
            .collect();
        assert_eq!(told, expected);
        let late = control.save_settings(1, new(&[], None));
        assert!(matches!(late, Err(ControlError::SettingsChanged(2))), "{late:?}");
        let third = control.save_settings(2, new(&[("A", "1"), ("B", "2")], Some(1))).unwrap();
        assert_eq!(control.settings_of(third.version).unwrap(), control.settings_of(1).unwrap());
        assert_eq!(control.settings_of(0).unwrap(), LiveTexts::new());
        assert!(matches!(control.settings_of(9), Err(ControlError::NoSettingsVersion)));
        let (page, all) = control.settings_versions(1, 1).unwrap();
        assert_eq!((page, all), (vec![second], 3));
        let other = Control::open(folder.path()).unwrap();
        assert_eq!((other.settings_version(), other.settings().unwrap()), (3, Some(third)));
    }
}
