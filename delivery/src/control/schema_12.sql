-- Version 12: settings that admins changed while the hub runs. The latest version is in force.
CREATE TABLE control_settings (
    version  INTEGER PRIMARY KEY,   -- from 1, without holes while it is the latest
    at       INTEGER NOT NULL,
    actor    TEXT NOT NULL,         -- who: {"kind", "id", "name"}
    reason   TEXT,
    restores INTEGER,               -- the version that it brought back; NULL for a change of its own
    changes  TEXT NOT NULL,         -- [{"name", "before", "after"}]
    live     TEXT NOT NULL          -- all live values, by name
) STRICT;

-- Tenants that are being deleted. The row is the last that goes; until then nobody of the tenant comes in.
CREATE TABLE control_tenant_deletion (
    tenant_id    TEXT PRIMARY KEY,
    requested_at INTEGER NOT NULL,
    leased_until INTEGER NOT NULL  -- whoever is at it; a process that ended is not after this
) STRICT, WITHOUT ROWID;
