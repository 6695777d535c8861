-- Version 6: what keys are called, from where they may be used, and by what they were replaced.
ALTER TABLE control_service ADD COLUMN allowed_networks TEXT NOT NULL DEFAULT '[]';  -- ["10.0.0.0/8"]
ALTER TABLE control_api_key ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE control_api_key ADD COLUMN allowed_networks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE control_api_key ADD COLUMN last_used_from TEXT;
ALTER TABLE control_api_key ADD COLUMN replaced_by TEXT;
DROP TRIGGER key_updated;
CREATE TRIGGER key_updated
    AFTER UPDATE OF id, service_id, secret_hash, expires_at, allowed_networks ON control_api_key
    BEGIN UPDATE control_revision SET n = n + 1; END;

-- Who looks after this installation, with a password and a second factor.
CREATE TABLE admin_account (
    id            TEXT PRIMARY KEY,
    username      TEXT NOT NULL UNIQUE,  -- in lower case
    name          TEXT NOT NULL,
    role          TEXT NOT NULL,         -- viewer | operator | admin
    tenant_id     TEXT,                  -- the only one they see; NULL for all
    password      TEXT NOT NULL,         -- $argon2id$…
    totp_seed     TEXT,                  -- with a key that is not in here it makes the secret of the codes
    totp_step     INTEGER NOT NULL,      -- of the latest code that was used: each is good once
    recovery      TEXT NOT NULL,         -- SHA-256 of the codes that are left: ["…"]
    disabled_at   INTEGER,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    last_login_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE admin_session (
    id            TEXT PRIMARY KEY,
    admin_id      TEXT NOT NULL REFERENCES admin_account (id) ON DELETE CASCADE,
    hash          BLOB NOT NULL UNIQUE,  -- SHA-256 of the token
    address       TEXT NOT NULL,
    user_agent    TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX admin_session_admin ON admin_session (admin_id);
