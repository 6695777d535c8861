-- Webhooks: who wants to hear of what, and what is on its way. Times are unix milliseconds.
CREATE TABLE endpoint (
    key             INTEGER PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    tenant_id       TEXT NOT NULL,
    service_id      TEXT NOT NULL,
    url             TEXT NOT NULL,
    events          TEXT NOT NULL,      -- JSON: words of "type", or "*"
    description     TEXT NOT NULL,
    status          TEXT NOT NULL,      -- active | disabled | deleted (its deliveries are being removed)
    disabled_by     TEXT,               -- service | admin | failures | gone
    disabled_at     INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    failing_since   INTEGER,            -- null after a success
    last_success_at INTEGER,
    last_failure_at INTEGER,
    last_failure    TEXT,               -- a word of delivery.last_outcome
    dropped         INTEGER NOT NULL DEFAULT 0,  -- events for which there was no room
    dropped_at      INTEGER,
    -- Kept by the triggers below, so that limits and lists need not count.
    pending         INTEGER NOT NULL DEFAULT 0,
    pending_bytes   INTEGER NOT NULL DEFAULT 0,
    delivered       INTEGER NOT NULL DEFAULT 0,
    failed          INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX endpoint_service ON endpoint (service_id);

CREATE TABLE secret (
    endpoint   INTEGER NOT NULL REFERENCES endpoint ON DELETE CASCADE,
    key        BLOB NOT NULL,           -- what signatures are made with: it cannot be hashed
    created_at INTEGER NOT NULL,
    expires_at INTEGER                  -- null for the newest
) STRICT;
CREATE INDEX secret_endpoint ON secret (endpoint);

-- One event on its way to one endpoint, or what became of it. AUTOINCREMENT: lists go by id, and an
-- id that is used again would show the same row twice.
CREATE TABLE delivery (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint      INTEGER NOT NULL REFERENCES endpoint,
    event         TEXT NOT NULL,        -- webhook-id
    type          TEXT NOT NULL,
    at            INTEGER NOT NULL,     -- when it happened
    body          TEXT NOT NULL,        -- as it is signed and sent
    state         INTEGER NOT NULL,     -- 0 pending, 1 delivered, 2 failed
    waiting_since INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,     -- of the next attempt
    settled_at    INTEGER,              -- when it was delivered or failed
    last_at       INTEGER,              -- of the latest attempt
    last_outcome  TEXT,
    last_status   INTEGER,              -- HTTP status
    last_detail   TEXT,
    last_ms       INTEGER,
    UNIQUE (endpoint, event)
) STRICT;
CREATE INDEX delivery_listed ON delivery (endpoint, state, id);
CREATE INDEX delivery_due ON delivery (endpoint, due_at) WHERE state = 0;
CREATE INDEX delivery_waiting ON delivery (waiting_since) WHERE state = 0;
CREATE INDEX delivery_settled ON delivery (settled_at) WHERE state <> 0;
CREATE INDEX delivery_failed ON delivery (id) WHERE state = 2;

CREATE TRIGGER delivery_added AFTER INSERT ON delivery BEGIN
    UPDATE endpoint SET pending = pending + 1,
        pending_bytes = pending_bytes + octet_length(NEW.body)
    WHERE key = NEW.endpoint;
END;
CREATE TRIGGER delivery_changed AFTER UPDATE OF state ON delivery WHEN OLD.state <> NEW.state BEGIN
    UPDATE endpoint SET
        pending = pending + (NEW.state = 0) - (OLD.state = 0),
        pending_bytes = pending_bytes + octet_length(NEW.body) * ((NEW.state = 0) - (OLD.state = 0)),
        delivered = delivered + (NEW.state = 1) - (OLD.state = 1),
        failed = failed + (NEW.state = 2) - (OLD.state = 2)
    WHERE key = NEW.endpoint;
END;
CREATE TRIGGER delivery_removed AFTER DELETE ON delivery BEGIN
    UPDATE endpoint SET
        pending = pending - (OLD.state = 0),
        pending_bytes = pending_bytes - octet_length(OLD.body) * (OLD.state = 0),
        delivered = delivered - (OLD.state = 1),
        failed = failed - (OLD.state = 2)
    WHERE key = OLD.endpoint;
END;
