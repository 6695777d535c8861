-- Version 5: who logs in (seed 003 §6). Times are milliseconds since 1970 UTC.
-- A user as logins and the user know them; what tokens and admins say is in the directory.
CREATE TABLE account_user (
    tenant_id   TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    username    TEXT NOT NULL,
    email       TEXT NOT NULL,     -- '' where no provider has vouched for one
    name        TEXT NOT NULL,
    avatar      TEXT NOT NULL,
    locale      TEXT NOT NULL,
    time_zone   TEXT NOT NULL,
    attributes  TEXT NOT NULL,     -- {…}, as the provider of the latest login says
    preferences TEXT NOT NULL,     -- {…}
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) STRICT, WITHOUT ROWID;

-- Whom providers know as whom. Nobody is found by their email: providers give those out anew.
CREATE TABLE account_identity (
    provider      TEXT NOT NULL,
    subject       TEXT NOT NULL,
    tenant_id     TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    username      TEXT NOT NULL,
    email         TEXT NOT NULL,
    linked_at     INTEGER NOT NULL,
    last_login_at INTEGER NOT NULL,
    PRIMARY KEY (provider, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_identity_user ON account_identity (tenant_id, user_id);

-- Logins that have not ended. Refresh tokens are nowhere: the n-th is made of the seed, n and a key that is
-- not in here.
CREATE TABLE account_session (
    id            TEXT PRIMARY KEY,
    tenant_id     TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    device_id     TEXT NOT NULL,
    device_name   TEXT NOT NULL,
    provider      TEXT NOT NULL,
    address       TEXT NOT NULL,     -- where it was seen last; '' where that is not known
    user_agent    TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,  -- of the latest refresh token
    access_until  INTEGER NOT NULL,  -- of the latest access token
    refreshed_at  INTEGER NOT NULL,
    generation    INTEGER NOT NULL,  -- of the refresh token: 1, 2, 3 …
    seed          BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX account_session_device ON account_session (tenant_id, user_id, device_id);
CREATE INDEX account_session_expiry ON account_session (expires_at);

-- What is not to be believed any more, while it would be valid without this.
CREATE TABLE account_revoked (
    kind       TEXT NOT NULL,      -- session | token | user | disabled
    tenant_id  TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    value      TEXT NOT NULL,      -- the session, the token's id; '' for a user
    spared     TEXT NOT NULL,      -- of a user: the session that goes on
    before     INTEGER NOT NULL,   -- of a user: tokens that were made until then
    until      INTEGER NOT NULL,   -- when nobody need remember it any more
    changed    INTEGER NOT NULL,   -- the revision of its last change
    PRIMARY KEY (kind, tenant_id, user_id, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_revoked_changed ON account_revoked (changed);
CREATE INDEX account_revoked_until ON account_revoked (until);

-- Secrets that can be used once, by their SHA-256: tickets, logins under way.
CREATE TABLE account_once (
    kind       TEXT NOT NULL,
    hash       BLOB NOT NULL,
    payload    TEXT NOT NULL,      -- JSON
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (kind, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_once_expiry ON account_once (expires_at);

-- Counts the changes of account_revoked, apart from those of services, which would all be read anew with
-- each logout.
CREATE TABLE account_revision (n INTEGER NOT NULL) STRICT;
INSERT INTO account_revision VALUES (1);
