//! Templates in the database: documents with versions. What stands in a document is the business of
//! [`crate::template`]; here it is a text.

use protocol::TenantId;

use super::{
    Author, Control, ControlError, DELETED_PER_TENANT_MAX, Quotas, TEMPLATE_BYTES_ALL_MAX,
    TEMPLATE_BYTES_PER_TENANT_MAX, TEMPLATES_PER_TENANT_MAX, TemplateChange, TemplateChanges,
    TemplateLimit, TemplateRow, VERSIONS_MAX, VersionRow, Versions, storable,
};
use crate::{
    InboxKey,
    sql::{Database, Row, Statements, values},
};

impl Control {
    /// What has changed since [`TemplateChanges::revision`] was `since`, by whomever; from 0 on,
    /// everything.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn templates_since(&self, since: i64) -> Result<TemplateChanges, ControlError> {
        self.shared.reading()?.database.templates_since(since)
    }

    /// One version.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn template_version(
        &self,
        tenant: &TenantId,
        id: &str,
        version: u64,
    ) -> Result<Option<VersionRow>, ControlError> {
        if !storable(id) {
            return Ok(None);
        }
        self.shared.reading()?.database.template_version(tenant, id, version)
    }

    /// The versions of a template that are kept, newest first, also of a deleted one: how many there
    /// are, when it was deleted, and those after the first `skip`, at most `take`. None if there
    /// never was one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn template_versions(
        &self,
        tenant: &TenantId,
        id: &str,
        skip: u64,
        take: usize,
    ) -> Result<Option<Versions>, ControlError> {
        if !storable(id) {
            return Ok(None);
        }
        self.shared.reading()?.database.template_versions(tenant, id, skip, take)
    }

    /// Changes a template: `decide` sees how it stands and says what becomes of it. Nobody else
    /// changes it in between, in no process and on no node.
    ///
    /// # Errors
    /// What `decide` refuses; [`ControlError::Template`] where a limit is reached,
    /// [`ControlError::NotFound`] for an id that no database can hold.
    pub fn change_template<E: From<ControlError>>(
        &self,
        tenant: &TenantId,
        id: &str,
        decide: impl FnOnce(Option<&TemplateRow>) -> Result<TemplateChange, E>,
    ) -> Result<(), E> {
        if !storable(id) {
            return Err(ControlError::NotFound.into());
        }
        self.shared.writing()?.change_template(tenant, id, decide)
    }
}

/// Templates with their latest documents, in the order of [`read_template`].
macro_rules! templates {
    ($which:literal) => {
        concat!(
            "SELECT t.tenant_id, t.id, t.version, t.creator_kind, t.creator, t.deleted_at, \
             v.document FROM control_template t \
             JOIN control_template_version v USING (tenant_id, id, version) ",
            $which
        )
    };
}

impl Database {
    fn templates_since(&mut self, since: i64) -> Result<TemplateChanges, ControlError> {
        // As of one moment, so that no change between the two reads is passed over.
        self.look(|database| {
            let sql = "SELECT n, forgotten FROM control_template_revision";
            let mut row = database.row(sql, &[])?.unwrap_or_default();
            let (revision, forgotten) = (row.int()?, row.int()?);
            let everything = since == 0 || since < forgotten;
            if revision == since {
                return Ok(TemplateChanges { revision, everything: false, rows: Vec::new() });
            }
            let rows = if everything {
                database.rows(templates!("WHERE t.deleted_at IS NULL ORDER BY t.changed"), &[])
            } else {
                database
                    .rows(templates!("WHERE t.changed > $1 ORDER BY t.changed"), &values![since])
            };
            let rows = rows?.into_iter().map(read_template).collect::<Result<_, _>>()?;
            Ok(TemplateChanges { revision, everything, rows })
        })
    }

    fn template_version(
        &mut self,
        tenant: &TenantId,
        id: &str,
        version: u64,
    ) -> Result<Option<VersionRow>, ControlError> {
        let mut found = self.glance(
            "SELECT version, document, saved_by FROM control_template_version \
             WHERE tenant_id = $1 AND id = $2 AND version = $3",
            &values![tenant.as_str(), id, version],
        )?;
        found.pop().map(read_version).transpose()
    }

    fn template_versions(
        &mut self,
        tenant: &TenantId,
        id: &str,
        skip: u64,
        take: usize,
    ) -> Result<Option<Versions>, ControlError> {
        self.look(|database| {
            let place = values![tenant.as_str(), id];
            let sql = "SELECT deleted_at FROM control_template WHERE tenant_id = $1 AND id = $2";
            let Some(mut row) = database.row(sql, &place)? else { return Ok(None) };
            let deleted_at = row.maybe_time()?;
            let sql = "SELECT count(*) FROM control_template_version \
                       WHERE tenant_id = $1 AND id = $2";
            let total = database.number(sql, &place)?.unsigned_abs();
            let rows = database.rows(
                "SELECT version, document, saved_by FROM control_template_version \
                 WHERE tenant_id = $1 AND id = $2 ORDER BY version DESC LIMIT $3 OFFSET $4",
                &values![tenant.as_str(), id, take, skip],
            )?;
            let rows = rows.into_iter().map(read_version).collect::<Result<_, _>>()?;
            Ok(Some(Versions { total, deleted_at, rows }))
        })
    }

    fn change_template<E: From<ControlError>>(
        &mut self,
        tenant: &TenantId,
        id: &str,
        decide: impl FnOnce(Option<&TemplateRow>) -> Result<TemplateChange, E>,
    ) -> Result<(), E> {
        let changed = self.change(|database| {
            let sql = templates!("WHERE t.tenant_id = $1 AND t.id = $2");
            let present = database.row(sql, &values![tenant.as_str(), id])?;
            let present = present.map(read_template).transpose()?;
            let change = decide(present.as_ref()).map_err(Unchanged::Refused)?;
            write_change(database, tenant.as_str(), id, change)?;
            Ok(())
        });
        changed.map_err(|why| match why {
            Unchanged::Refused(error) => error,
            Unchanged::Failed(error) => error.into(),
        })
    }
}

/// Why a template was not changed.
enum Unchanged<E> {
    /// Whoever decides says so.
    Refused(E),
    Failed(ControlError),
}

impl<E, F: Into<ControlError>> From<F> for Unchanged<E> {
    fn from(error: F) -> Self {
        Self::Failed(error.into())
    }
}

fn write_change(
    database: &mut dyn Statements,
    tenant: &str,
    id: &str,
    change: TemplateChange,
) -> Result<(), ControlError> {
    let sql = "UPDATE control_template_revision SET n = n + 1 RETURNING n";
    let revision = database.number(sql, &[])?;
    match change {
        TemplateChange::Save { version, author, document, weight, saved_by } => {
            let is_new = database
                .row(
                    "SELECT id FROM control_template \
                     WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
                    &values![tenant, id],
                )?
                .is_none();
            database.execute(
                "INSERT INTO control_template_version (tenant_id, id, version, document, saved_by) \
                 VALUES ($1, $2, $3, $4, $5)",
                &values![tenant, id, version, &document, &saved_by],
            )?;
            let author = (author.kind.as_str(), &author.id);
            database.execute(
                "INSERT INTO control_template (tenant_id, id, version, creator_kind, creator, \
                 bytes, deleted_at, changed) VALUES ($1, $2, $3, $4, $5, $6, NULL, $7) \
                 ON CONFLICT (tenant_id, id) DO UPDATE SET version = excluded.version, \
                 creator_kind = excluded.creator_kind, creator = excluded.creator, \
                 bytes = excluded.bytes, deleted_at = NULL, changed = excluded.changed",
                &values![tenant, id, version, author.0, author.1, weight, revision],
            )?;
            if let Some(last_gone) = version.checked_sub(VERSIONS_MAX as u64) {
                database.execute(
                    "DELETE FROM control_template_version \
                     WHERE tenant_id = $1 AND id = $2 AND version <= $3",
                    &values![tenant, id, last_gone],
                )?;
            }
            if is_new {
                check_quota(database, tenant)?;
            }
            check_limits(database, tenant)
        }
        TemplateChange::Delete { at } => {
            database.execute(
                "UPDATE control_template SET deleted_at = $3, changed = $4 \
                 WHERE tenant_id = $1 AND id = $2",
                &values![tenant, id, at, revision],
            )?;
            forget_deleted(database, tenant)
        }
    }
}

/// Templates, and all versions of them, say no longer that a user made or saved them. They stay: they are the
/// tenant's. Whoever had made one is nobody from now on, so that admins alone change it.
pub(crate) fn disown_templates(
    database: &mut dyn Statements,
    inbox: &InboxKey,
) -> Result<(), ControlError> {
    let (tenant, user) = (inbox.tenant.as_str(), inbox.user.as_str());
    let sql = "SELECT id FROM control_template \
               WHERE tenant_id = $1 AND creator_kind = 'user' AND creator = $2";
    for mut row in database.rows(sql, &values![tenant, user])? {
        let id = row.text()?;
        let sql = "SELECT version, document FROM control_template_version \
                   WHERE tenant_id = $1 AND id = $2";
        for mut row in database.rows(sql, &values![tenant, &id])? {
            let (version, mut document) = (row.int()?, row.json::<serde_json::Value>()?);
            if document.get("created_by").is_some_and(|by| by == user) {
                document["created_by"] = serde_json::Value::String(String::new());
                let sql = "UPDATE control_template_version SET document = $4 \
                           WHERE tenant_id = $1 AND id = $2 AND version = $3";
                database.execute(sql, &values![tenant, &id, version, document.to_string()])?;
            }
        }
        let sql = "UPDATE control_template_revision SET n = n + 1 RETURNING n";
        let revision = database.number(sql, &[])?;
        let sql = "UPDATE control_template SET creator = '', changed = $3 \
                   WHERE tenant_id = $1 AND id = $2";
        database.execute(sql, &values![tenant, &id, revision])?;
    }
    // A service of the same id is not told apart from the user here; it is a name for people to read.
    let sql = "UPDATE control_template_version SET saved_by = '' \
               WHERE tenant_id = $1 AND saved_by = $2";
    database.execute(sql, &values![tenant, user])?;
    Ok(())
}

/// A quota that was lowered keeps nobody from changing what is there.
fn check_quota(database: &mut dyn Statements, tenant: &str) -> Result<(), ControlError> {
    let sql = "SELECT quotas FROM control_tenant WHERE id = $1";
    let Some(mut row) = database.row(sql, &values![tenant])? else { return Ok(()) };
    let Some(quota) = row.json::<Quotas>()?.templates else { return Ok(()) };
    let sql = "SELECT count(*) FROM control_template WHERE tenant_id = $1 AND deleted_at IS NULL";
    if database.number(sql, &values![tenant])?.unsigned_abs() > quota {
        return Err(ControlError::Template(TemplateLimit::Quota(quota)));
    }
    Ok(())
}

fn check_limits(database: &mut dyn Statements, tenant: &str) -> Result<(), ControlError> {
    // PostgreSQL adds up to a type of its own, hence the casts.
    let found = database.row(
        "SELECT count(*) FILTER (WHERE tenant_id = $1), \
         CAST(coalesce(sum(bytes) FILTER (WHERE tenant_id = $1), 0) AS bigint), \
         CAST(coalesce(sum(bytes), 0) AS bigint) \
         FROM control_template WHERE deleted_at IS NULL",
        &values![tenant],
    )?;
    let mut row = found.unwrap_or_default();
    let (count, own, all) = (row.int()?, row.int()?, row.int()?);
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
fn forget_deleted(database: &mut dyn Statements, tenant: &str) -> Result<(), ControlError> {
    let old = database.rows(
        "SELECT id, changed FROM control_template WHERE tenant_id = $1 AND deleted_at IS NOT NULL \
         ORDER BY changed DESC LIMIT $3 OFFSET $2",
        &values![tenant, DELETED_PER_TENANT_MAX, i64::MAX],
    )?;
    for mut row in old {
        let (id, changed) = (row.text()?, row.int()?);
        let sql = "UPDATE control_template_revision SET forgotten = $1 WHERE forgotten < $1";
        database.execute(sql, &values![changed])?;
        for sql in [
            "DELETE FROM control_template_version WHERE tenant_id = $1 AND id = $2",
            "DELETE FROM control_template WHERE tenant_id = $1 AND id = $2",
        ] {
            database.execute(sql, &values![tenant, &id])?;
        }
    }
    Ok(())
}

fn read_template(mut row: Row) -> Result<TemplateRow, ControlError> {
    Ok(TemplateRow {
        tenant: row.word()?,
        id: row.text()?,
        version: row.count()?,
        author: Author { kind: row.word()?, id: row.text()? },
        deleted_at: row.maybe_time()?,
        document: row.text()?,
    })
}

fn read_version(mut row: Row) -> Result<VersionRow, ControlError> {
    Ok(VersionRow { version: row.count()?, document: row.text()?, saved_by: row.text()? })
}
