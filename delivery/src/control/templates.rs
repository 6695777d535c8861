//! Templates in `control.db`: documents with versions. What stands in a document is the business of
//! [`crate::template`]; here it is a text.

use protocol::{TenantId, Time};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{
    Author, Control, ControlError, DELETED_PER_TENANT_MAX, Quotas, TEMPLATE_BYTES_ALL_MAX,
    TEMPLATE_BYTES_PER_TENANT_MAX, TEMPLATES_PER_TENANT_MAX, TemplateChange, TemplateChanges,
    TemplateLimit, TemplateRow, VERSIONS_MAX, VersionRow, Versions, database::Database,
};
use crate::row::{json, word};

impl Control {
    /// What has changed since [`TemplateChanges::revision`] was `since`, by whichever process; from
    /// 0 on, everything.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn templates_since(&self, since: i64) -> Result<TemplateChanges, ControlError> {
        self.reading.lock().templates_since(since)
    }

    /// One version.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn template_version(
        &self,
        tenant: &TenantId,
        id: &str,
        version: u64,
    ) -> Result<Option<VersionRow>, ControlError> {
        self.reading.lock().template_version(tenant, id, version)
    }

    /// The versions of a template that are kept, newest first, also of a deleted one: how many there
    /// are, when it was deleted, and those after the first `skip`, at most `take`. None if there
    /// never was one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn template_versions(
        &self,
        tenant: &TenantId,
        id: &str,
        skip: u64,
        take: usize,
    ) -> Result<Option<Versions>, ControlError> {
        self.reading.lock().template_versions(tenant, id, skip, take)
    }

    /// Changes a template: `decide` sees how it stands and says what becomes of it. Nobody else
    /// changes it in between, in no process.
    ///
    /// # Errors
    /// What `decide` refuses; [`ControlError::Template`] where a limit is reached.
    pub fn change_template<E: From<ControlError>>(
        &self,
        tenant: &TenantId,
        id: &str,
        decide: impl FnOnce(Option<&TemplateRow>) -> Result<TemplateChange, E>,
    ) -> Result<(), E> {
        self.writing.lock().change_template(tenant, id, decide)
    }
}

const COLUMNS: &str = "t.tenant_id, t.id, t.version, t.creator_kind, t.creator, t.deleted_at, \
                       v.document FROM template t JOIN template_version v USING \
                       (tenant_id, id, version)";

impl Database {
    fn templates_since(&self, since: i64) -> Result<TemplateChanges, ControlError> {
        // One read transaction, so that no change between the two reads is passed over.
        let transaction = self.connection.unchecked_transaction()?;
        let mut statement =
            transaction.prepare_cached("SELECT n, forgotten FROM template_revision")?;
        let (revision, forgotten): (i64, i64) =
            statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let everything = since == 0 || since < forgotten;
        if revision == since {
            return Ok(TemplateChanges { revision, everything: false, rows: Vec::new() });
        }
        let (condition, since) = if everything {
            ("t.deleted_at IS NULL AND t.changed > ?1", 0)
        } else {
            ("t.changed > ?1", since)
        };
        let sql = format!("SELECT {COLUMNS} WHERE {condition} ORDER BY t.changed");
        let mut statement = transaction.prepare_cached(&sql)?;
        let rows = statement.query_map([since], read_template)?.collect::<Result<_, _>>()?;
        Ok(TemplateChanges { revision, everything, rows })
    }

    fn template_version(
        &self,
        tenant: &TenantId,
        id: &str,
        version: u64,
    ) -> Result<Option<VersionRow>, ControlError> {
        let Ok(version) = i64::try_from(version) else { return Ok(None) };
        let mut statement = self.connection.prepare_cached(
            "SELECT version, document, saved_by FROM template_version \
             WHERE tenant_id = ?1 AND id = ?2 AND version = ?3",
        )?;
        let found = statement.query_row(params![tenant.as_str(), id, version], read_version);
        Ok(found.optional()?)
    }

    fn template_versions(
        &self,
        tenant: &TenantId,
        id: &str,
        skip: u64,
        take: usize,
    ) -> Result<Option<Versions>, ControlError> {
        let transaction = self.connection.unchecked_transaction()?;
        let deleted_at = transaction
            .prepare_cached("SELECT deleted_at FROM template WHERE tenant_id = ?1 AND id = ?2")?
            .query_row(params![tenant.as_str(), id], |row| row.get::<_, Option<i64>>(0))
            .optional()?;
        let Some(deleted_at) = deleted_at else { return Ok(None) };
        let total: i64 = transaction
            .prepare_cached(
                "SELECT count(*) FROM template_version WHERE tenant_id = ?1 AND id = ?2",
            )?
            .query_row(params![tenant.as_str(), id], |row| row.get(0))?;
        let mut statement = transaction.prepare_cached(
            "SELECT version, document, saved_by FROM template_version \
             WHERE tenant_id = ?1 AND id = ?2 ORDER BY version DESC LIMIT ?3 OFFSET ?4",
        )?;
        let place = params![tenant.as_str(), id, to_sql(take as u64), to_sql(skip)];
        let rows = statement.query_map(place, read_version)?.collect::<Result<_, _>>()?;
        Ok(Some(Versions {
            total: total.unsigned_abs(),
            deleted_at: deleted_at.map(Time::from_millis),
            rows,
        }))
    }

    fn change_template<E: From<ControlError>>(
        &mut self,
        tenant: &TenantId,
        id: &str,
        decide: impl FnOnce(Option<&TemplateRow>) -> Result<TemplateChange, E>,
    ) -> Result<(), E> {
        let failed = |error: rusqlite::Error| E::from(ControlError::from(error));
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let present = transaction
            .query_row(
                &format!("SELECT {COLUMNS} WHERE t.tenant_id = ?1 AND t.id = ?2"),
                params![tenant.as_str(), id],
                read_template,
            )
            .optional()
            .map_err(failed)?;
        let change = decide(present.as_ref())?;
        write_change(&transaction, tenant, id, change)?;
        transaction.commit().map_err(failed)
    }
}

fn write_change(
    transaction: &Connection,
    tenant: &TenantId,
    id: &str,
    change: TemplateChange,
) -> Result<(), ControlError> {
    let tenant = tenant.as_str();
    let revision: i64 =
        transaction.query_row("UPDATE template_revision SET n = n + 1 RETURNING n", [], |row| {
            row.get(0)
        })?;
    match change {
        TemplateChange::Save { version, author, document, weight, saved_by } => {
            let version = to_sql(version);
            let is_new = transaction
                .query_row(
                    "SELECT 1 FROM template WHERE tenant_id = ?1 AND id = ?2 AND deleted_at IS NULL",
                    params![tenant, id],
                    |_| Ok(()),
                )
                .optional()?
                .is_none();
            transaction.execute(
                "INSERT INTO template_version VALUES (?1, ?2, ?3, ?4, ?5)",
                params![tenant, id, version, document, saved_by],
            )?;
            transaction.execute(
                "INSERT OR REPLACE INTO template VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7)",
                params![
                    tenant,
                    id,
                    version,
                    author.kind.as_str(),
                    author.id,
                    to_sql(weight as u64),
                    revision
                ],
            )?;
            transaction.execute(
                "DELETE FROM template_version WHERE tenant_id = ?1 AND id = ?2 AND version <= ?3",
                params![tenant, id, version - VERSIONS_MAX as i64],
            )?;
            if is_new {
                check_quota(transaction, tenant)?;
            }
            check_limits(transaction, tenant)
        }
        TemplateChange::Delete { at } => {
            transaction.execute(
                "UPDATE template SET deleted_at = ?3, changed = ?4 WHERE tenant_id = ?1 AND id = ?2",
                params![tenant, id, at.millis(), revision],
            )?;
            forget_deleted(transaction, tenant)
        }
    }
}

/// A quota that was lowered keeps nobody from changing what is there.
fn check_quota(transaction: &Connection, tenant: &str) -> Result<(), ControlError> {
    let quotas: Option<Quotas> = transaction
        .query_row("SELECT quotas FROM tenant WHERE id = ?1", [tenant], |row| json(row, "quotas"))
        .optional()?;
    let Some(quota) = quotas.and_then(|quotas| quotas.templates) else { return Ok(()) };
    let count: i64 = transaction.query_row(
        "SELECT count(*) FROM template WHERE tenant_id = ?1 AND deleted_at IS NULL",
        [tenant],
        |row| row.get(0),
    )?;
    if count.unsigned_abs() > quota {
        return Err(ControlError::Template(TemplateLimit::Quota(quota)));
    }
    Ok(())
}

fn check_limits(transaction: &Connection, tenant: &str) -> Result<(), ControlError> {
    let (count, own, all): (i64, i64, i64) = transaction.query_row(
        "SELECT count(*) FILTER (WHERE tenant_id = ?1), \
         coalesce(sum(bytes) FILTER (WHERE tenant_id = ?1), 0), coalesce(sum(bytes), 0) \
         FROM template WHERE deleted_at IS NULL",
        [tenant],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let limit = if count > TEMPLATES_PER_TENANT_MAX as i64 {
        TemplateLimit::Count
    } else if own > TEMPLATE_BYTES_PER_TENANT_MAX as i64 {
        TemplateLimit::TenantBytes
    } else if all > TEMPLATE_BYTES_ALL_MAX as i64 {
        TemplateLimit::Bytes
    } else {
        return Ok(());
    };
    Err(ControlError::Template(limit))
}

/// Who makes and deletes templates in a loop must not fill the disk.
fn forget_deleted(transaction: &Connection, tenant: &str) -> Result<(), ControlError> {
    let mut statement = transaction.prepare(
        "SELECT id, changed FROM template WHERE tenant_id = ?1 AND deleted_at IS NOT NULL \
         ORDER BY changed DESC LIMIT -1 OFFSET ?2",
    )?;
    let old = statement
        .query_map(params![tenant, DELETED_PER_TENANT_MAX as i64], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    for (id, changed) in old {
        transaction
            .execute("UPDATE template_revision SET forgotten = max(forgotten, ?1)", [changed])?;
        for table in ["template_version", "template"] {
            transaction.execute(
                &format!("DELETE FROM {table} WHERE tenant_id = ?1 AND id = ?2"),
                params![tenant, id],
            )?;
        }
    }
    Ok(())
}

fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn read_template(row: &Row<'_>) -> rusqlite::Result<TemplateRow> {
    Ok(TemplateRow {
        tenant: word(row, "tenant_id")?,
        id: row.get("id")?,
        version: row.get::<_, i64>("version")?.unsigned_abs(),
        author: Author { kind: word(row, "creator_kind")?, id: row.get("creator")? },
        deleted_at: row.get::<_, Option<i64>>("deleted_at")?.map(Time::from_millis),
        document: row.get("document")?,
    })
}

fn read_version(row: &Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow {
        version: row.get::<_, i64>("version")?.unsigned_abs(),
        document: row.get("document")?,
        saved_by: row.get("saved_by")?,
    })
}
