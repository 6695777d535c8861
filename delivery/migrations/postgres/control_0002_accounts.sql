-- Who logs in (seed 003 §6), in the tables of control.db. Times are milliseconds since 1970 UTC.
-- A user as logins and the user know them; what tokens and admins say is in the directory.
CREATE TABLE account_user (
    tenant_id   text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    username    text NOT NULL,
    email       text NOT NULL,     -- '' where no provider has vouched for one
    name        text NOT NULL,
    avatar      text NOT NULL,
    locale      text NOT NULL,
    time_zone   text NOT NULL,
    attributes  text NOT NULL,     -- {…}, as the provider of the latest login says
    preferences text NOT NULL,     -- {…}
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

-- Whom providers know as whom. Nobody is found by their email: providers give those out anew.
CREATE TABLE account_identity (
    provider      text COLLATE "C" NOT NULL,
    subject       text COLLATE "C" NOT NULL,
    tenant_id     text COLLATE "C" NOT NULL,
    user_id       text COLLATE "C" NOT NULL,
    username      text NOT NULL,
    email         text NOT NULL,
    linked_at     bigint NOT NULL,
    last_login_at bigint NOT NULL,
    PRIMARY KEY (provider, subject)
);
CREATE INDEX account_identity_user ON account_identity (tenant_id, user_id);

-- Logins that have not ended. Refresh tokens are nowhere: the n-th is made of the seed, n and a key that is
-- not in here.
CREATE TABLE account_session (
    id            text COLLATE "C" PRIMARY KEY,
    tenant_id     text COLLATE "C" NOT NULL,
    user_id       text COLLATE "C" NOT NULL,
    device_id     text COLLATE "C" NOT NULL,
    device_name   text NOT NULL,
    provider      text COLLATE "C" NOT NULL,
    address       text NOT NULL,     -- where it was seen last; '' where that is not known
    user_agent    text NOT NULL,
    created_at    bigint NOT NULL,
    last_seen_at  bigint NOT NULL,
    expires_at    bigint NOT NULL,  -- of the latest refresh token
    access_until  bigint NOT NULL,  -- of the latest access token
    refreshed_at  bigint NOT NULL,
    generation    bigint NOT NULL,  -- of the refresh token: 1, 2, 3 …
    seed          bytea NOT NULL
) WITH (fillfactor = 70);                -- updated once a minute while it is used
CREATE UNIQUE INDEX account_session_device ON account_session (tenant_id, user_id, device_id);
CREATE INDEX account_session_expiry ON account_session (expires_at);

-- What is not to be believed any more, while it would be valid without this.
CREATE TABLE account_revoked (
    kind       text COLLATE "C" NOT NULL,      -- session | token | user | disabled
    tenant_id  text COLLATE "C" NOT NULL,
    user_id    text COLLATE "C" NOT NULL,
    value      text COLLATE "C" NOT NULL,      -- the session, the token's id; '' for a user
    spared     text NOT NULL,      -- of a user: the session that goes on
    before     bigint NOT NULL,   -- of a user: tokens that were made until then
    until      bigint NOT NULL,   -- when nobody need remember it any more
    changed    bigint NOT NULL,   -- the revision of its last change
    PRIMARY KEY (kind, tenant_id, user_id, value)
);
CREATE INDEX account_revoked_changed ON account_revoked (changed);
CREATE INDEX account_revoked_until ON account_revoked (until);

-- Secrets that can be used once, by their SHA-256: tickets, logins under way.
CREATE TABLE account_once (
    kind       text COLLATE "C" NOT NULL,
    hash       bytea NOT NULL,
    payload    text NOT NULL,      -- JSON
    expires_at bigint NOT NULL,
    PRIMARY KEY (kind, hash)
);
CREATE INDEX account_once_expiry ON account_once (expires_at);

-- Counts the changes of account_revoked, apart from those of services, which would all be read anew with
-- each logout.
CREATE TABLE account_revision (n bigint NOT NULL);
INSERT INTO account_revision VALUES (1);
