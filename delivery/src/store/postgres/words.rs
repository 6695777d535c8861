//! What names are and how many are behind them; asked with sends.

use protocol::{TenantId, UserId};

use super::{
    columns::{Columns as _, group_text},
    core::Core,
    errors::Failure,
    pool::rows,
};
use crate::store::{Audience, NameKind};

impl Core {
    pub(super) async fn kinds(
        &self,
        tenant: &TenantId,
        names: &[UserId],
    ) -> Result<Vec<NameKind>, Failure> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.db.client().await?;
        // A message makes an inbox of any name, so that it is one comes last: anybody could take a
        // channel's or a role's.
        let sql = "SELECT CASE WHEN u.inbox IS NOT NULL THEN 0 WHEN c.id IS NOT NULL THEN 1
                WHEN g.members > 0 THEN 2 WHEN i.id IS NOT NULL THEN 0 ELSE 3 END
            FROM unnest($2::text[]) WITH ORDINALITY AS k (name, n)
            LEFT JOIN inboxes i ON i.tenant = $1 AND i.usr = k.name
            LEFT JOIN users u ON u.inbox = i.id
            LEFT JOIN channels c ON c.tenant = $1 AND c.id = k.name
            LEFT JOIN groups g ON g.tenant = $1 AND g.grp = 'r:' || k.name
            ORDER BY k.n";
        let names: Vec<&str> = names.iter().map(UserId::as_str).collect();
        let found = rows(&client, sql, &[&tenant.as_str(), &names]).await?;
        found
            .iter()
            .map(|row| {
                Ok(match row.column::<i32>(0)? {
                    0 => NameKind::User,
                    1 => NameKind::Channel,
                    2 => NameKind::Role,
                    _ => NameKind::Unknown,
                })
            })
            .collect()
    }

    pub(super) async fn audience_size(
        &self,
        tenant: &TenantId,
        audience: &Audience,
    ) -> Result<Option<u64>, Failure> {
        let Audience::Some { users, groups } = audience else { return Ok(None) };
        let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let groups: Vec<String> = groups.iter().map(group_text).collect();
        let client = self.db.client().await?;
        let found = if let [group] = &groups[..] {
            // Of one group there is a count; only who is named is looked up.
            let sql =
                "SELECT coalesce((SELECT members FROM groups WHERE tenant = $1 AND grp = $3), 0)
                + (SELECT count(*) FROM (SELECT DISTINCT name FROM unnest($2::text[]) AS name) AS k
                    WHERE NOT EXISTS (SELECT 1 FROM members m WHERE m.tenant = $1 AND m.grp = $3
                        AND m.usr = k.name AND m.until_pos IS NULL))";
            rows(&client, sql, &[&tenant.as_str(), &users, group]).await?
        } else {
            let sql = "SELECT count(*) FROM (SELECT name FROM unnest($2::text[]) AS name
                UNION SELECT usr FROM members
                WHERE tenant = $1 AND grp = ANY($3) AND until_pos IS NULL) AS k";
            rows(&client, sql, &[&tenant.as_str(), &users, &groups]).await?
        };
        found.first().map(|row| row.count(0)).transpose()
    }
}
