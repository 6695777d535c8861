-- Version 8: what admins have changed, for good (audit). Entries are added and never changed; hash holds each
-- one and all before it together.
CREATE TABLE audit_entry (
    seq        INTEGER PRIMARY KEY,  -- 1, 2, 3 … without holes
    id         TEXT NOT NULL UNIQUE,
    at         INTEGER NOT NULL,
    tenant_id  TEXT,                 -- NULL for what is of the whole installation
    actor_kind TEXT NOT NULL,        -- admin_token | admin | user | cli
    actor_id   TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    address    TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    status     INTEGER NOT NULL,
    detail     TEXT,                 -- {"before": …, "after": …}
    hash       BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_entry_stands BEFORE UPDATE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'entries of the audit log stand'); END;
CREATE TRIGGER audit_entry_stays BEFORE DELETE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'entries of the audit log stay'); END;
