-- What keys are called, from where they may be used, and by what they were replaced.
ALTER TABLE control_service ADD COLUMN allowed_networks text NOT NULL DEFAULT '[]';  -- ["10.0.0.0/8"]
ALTER TABLE control_api_key ADD COLUMN name text NOT NULL DEFAULT '';
ALTER TABLE control_api_key ADD COLUMN allowed_networks text NOT NULL DEFAULT '[]';
ALTER TABLE control_api_key ADD COLUMN last_used_from text;
ALTER TABLE control_api_key ADD COLUMN replaced_by text COLLATE "C";
DROP TRIGGER control_revised ON control_api_key;
CREATE TRIGGER control_revised AFTER INSERT OR DELETE
    OR UPDATE OF id, service_id, secret_hash, expires_at, allowed_networks ON control_api_key
    FOR EACH STATEMENT EXECUTE FUNCTION control_revised();

-- Who looks after this installation, with a password and a second factor.
CREATE TABLE admin_account (
    id            text COLLATE "C" PRIMARY KEY,
    username      text COLLATE "C" NOT NULL UNIQUE,  -- in lower case
    name          text NOT NULL,
    role          text NOT NULL,         -- viewer | operator | admin
    tenant_id     text COLLATE "C",      -- the only one they see; NULL for all
    password      text NOT NULL,         -- $argon2id$…
    totp_seed     text,                  -- with a key that is not in here it makes the secret of the codes
    totp_step     bigint NOT NULL,       -- of the latest code that was used: each is good once
    recovery      text NOT NULL,         -- SHA-256 of the codes that are left: ["…"]
    disabled_at   bigint,
    created_at    bigint NOT NULL,
    updated_at    bigint NOT NULL,
    last_login_at bigint
);

CREATE TABLE admin_session (
    id            text COLLATE "C" PRIMARY KEY,
    admin_id      text COLLATE "C" NOT NULL REFERENCES admin_account (id) ON DELETE CASCADE,
    hash          bytea NOT NULL UNIQUE, -- SHA-256 of the token
    address       text NOT NULL,
    user_agent    text NOT NULL,
    created_at    bigint NOT NULL,
    last_seen_at  bigint NOT NULL,
    expires_at    bigint NOT NULL
);
CREATE INDEX admin_session_admin ON admin_session (admin_id);
