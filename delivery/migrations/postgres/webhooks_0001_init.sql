-- Webhooks: who wants to hear of what, what is on its way, and which node sends it. The tables are those of
-- webhooks.db, by the same names. Times are milliseconds since 1970 UTC, by the clock of the node that writes,
-- except in webhook_node. Everything is changed under one lock (pg_advisory_xact_lock), so that limits are exact
-- and numbers are given in the order of commits.

CREATE TABLE webhook_endpoint (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    tenant_id text COLLATE "C" NOT NULL,
    service_id text COLLATE "C" NOT NULL,
    url text NOT NULL,
    events text NOT NULL,                -- JSON: words of "type", or "*"
    description text NOT NULL,
    status text NOT NULL,                -- active | disabled | deleted (its deliveries are being removed)
    disabled_by text,                    -- service | admin | failures | gone
    disabled_at bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    failing_since bigint,                -- null after a success
    last_success_at bigint,
    last_failure_at bigint,
    last_failure text,                   -- a word of webhook_delivery.last_outcome
    dropped bigint NOT NULL DEFAULT 0,   -- events for which there was no room
    dropped_at bigint,
    pending bigint NOT NULL DEFAULT 0,   -- these four so that limits and lists need not count
    pending_bytes bigint NOT NULL DEFAULT 0,
    delivered bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    changed bigint NOT NULL DEFAULT 0,   -- the revision of its last change
    news bigint NOT NULL DEFAULT 0       -- when something was last recorded
) WITH (fillfactor = 50);                -- updated by every commit that is about it
CREATE INDEX webhook_endpoint_service ON webhook_endpoint (service_id);
CREATE INDEX webhook_endpoint_changed ON webhook_endpoint (changed);
CREATE INDEX webhook_endpoint_news ON webhook_endpoint (news);

CREATE TABLE webhook_secret (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint bigint NOT NULL REFERENCES webhook_endpoint ON DELETE CASCADE,
    key bytea NOT NULL,                  -- what signatures are made with: it cannot be hashed
    created_at bigint NOT NULL,
    expires_at bigint                    -- null for the newest
);
CREATE INDEX webhook_secret_endpoint ON webhook_secret (endpoint);

-- One event on its way to one endpoint, or what became of it. No foreign key: it would look for the endpoint
-- once for each event, and whoever adds one has looked already, under the lock.
CREATE TABLE webhook_delivery (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint bigint NOT NULL,
    event text COLLATE "C" NOT NULL,     -- webhook-id
    type text NOT NULL,
    at bigint NOT NULL,                  -- when it happened
    body text NOT NULL,                  -- as it is signed and sent
    state bigint NOT NULL,               -- 0 pending, 1 delivered, 2 failed
    waiting_since bigint NOT NULL,
    attempts bigint NOT NULL,
    due_at bigint NOT NULL,              -- of the next attempt
    settled_at bigint,                   -- when it was delivered or failed
    last_at bigint,                      -- of the latest attempt
    last_outcome text,
    last_status bigint,                  -- HTTP status
    last_detail text,
    last_ms bigint,
    UNIQUE (endpoint, event)
);
CREATE INDEX webhook_delivery_listed ON webhook_delivery (endpoint, state, id);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint, due_at) WHERE state = 0;
CREATE INDEX webhook_delivery_waiting ON webhook_delivery (waiting_since) WHERE state = 0;
CREATE INDEX webhook_delivery_settled ON webhook_delivery (settled_at) WHERE state <> 0;
CREATE INDEX webhook_delivery_failed ON webhook_delivery (id) WHERE state = 2;

-- n counts changes of endpoints, news what was recorded or is to be sent again; forgotten is the highest
-- changed of an endpoint that is gone: who has not seen that change reads everything.
CREATE TABLE webhook_revision (n bigint NOT NULL, forgotten bigint NOT NULL, news bigint NOT NULL);
INSERT INTO webhook_revision VALUES (1, 0, 0);

-- The nodes that send, each by a name that it makes up at its start and again when its lease has ended.
CREATE TABLE webhook_node (
    id text COLLATE "C" PRIMARY KEY,
    lease_until bigint NOT NULL,         -- by the clock of this database
    leaving boolean NOT NULL             -- it finishes what it has and takes nothing more
) WITH (fillfactor = 50);

-- Services in shares, by a hash of their ids: who owns a share sends for the endpoints of its services, and
-- nobody else does. An owner that is no live node owns nothing.
CREATE TABLE webhook_share (
    n bigint PRIMARY KEY,
    owner text COLLATE "C"
) WITH (fillfactor = 50);
INSERT INTO webhook_share SELECT n, NULL FROM generate_series(0, 255) AS s (n);
