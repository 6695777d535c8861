-- Version 3: what a tenant may use, and what it has used today.
CREATE TABLE tenant (
    id         TEXT PRIMARY KEY,
    quotas     TEXT NOT NULL,     -- {"messages_per_day": 1000, "channels": null, …}; null is no limit
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER tenant_inserted AFTER INSERT ON tenant
    BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER tenant_updated AFTER UPDATE ON tenant
    BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER tenant_deleted AFTER DELETE ON tenant
    BEGIN UPDATE revision SET n = n + 1; END;

-- No part of the revision: counting in memory is what counts, this is for the next start.
CREATE TABLE tenant_usage (
    tenant_id  TEXT PRIMARY KEY,
    day        INTEGER NOT NULL,  -- days since 1970 UTC
    messages   INTEGER NOT NULL,
    recipients INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
