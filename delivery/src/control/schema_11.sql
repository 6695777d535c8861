-- Version 11: users who are being deleted. The row is the last that goes; until then nobody can log in as them.
CREATE TABLE account_deletion (
    tenant_id    TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    leased_until INTEGER NOT NULL,  -- whoever is at it; a process that ended is not after this
    PRIMARY KEY (tenant_id, user_id)
) STRICT, WITHOUT ROWID;
