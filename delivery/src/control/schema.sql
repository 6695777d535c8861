-- Services and their keys. Lists are JSON arrays; times are milliseconds since 1970 UTC.
CREATE TABLE service (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    type        TEXT NOT NULL,     -- internal | external | system
    level       TEXT NOT NULL,     -- system | business | third_party
    permissions TEXT NOT NULL,     -- ["on_behalf_of"]
    scope       TEXT NOT NULL,     -- {"templates": [], "channels": [], "message_types": []}
    rate_limit  TEXT,              -- {"per_second": 100, "burst": 200}
    owner       TEXT NOT NULL,
    status      TEXT NOT NULL,     -- pending | active | suspended | disabled
    tenant_id   TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The secret itself is nowhere: only its SHA-256.
CREATE TABLE api_key (
    id           TEXT PRIMARY KEY,
    service_id   TEXT NOT NULL REFERENCES service (id) ON DELETE CASCADE,
    secret_hash  BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX api_key_service ON api_key (service_id);

-- Counts what a reader must know of at once. The last use of a key is not among it: every busy key
-- changes that once a minute, and nobody decides by it.
CREATE TABLE revision (n INTEGER NOT NULL) STRICT;
INSERT INTO revision VALUES (1);
CREATE TRIGGER service_inserted AFTER INSERT ON service
    BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER service_updated AFTER UPDATE ON service
    BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER service_deleted AFTER DELETE ON service
    BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER key_inserted AFTER INSERT ON api_key
    BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER key_updated AFTER UPDATE OF id, service_id, secret_hash, expires_at ON api_key
    BEGIN UPDATE revision SET n = n + 1; END;
CREATE TRIGGER key_deleted AFTER DELETE ON api_key
    BEGIN UPDATE revision SET n = n + 1; END;
