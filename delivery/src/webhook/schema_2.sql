-- Version 2: the tables' names are those that they have in PostgreSQL, where they stand beside others;
-- secrets are numbered, revisions are noted, and the program itself keeps what was counted by triggers: in
-- PostgreSQL these would run once for each row.
DROP TRIGGER delivery_added;
DROP TRIGGER delivery_changed;
DROP TRIGGER delivery_removed;
ALTER TABLE endpoint RENAME TO webhook_endpoint;
ALTER TABLE delivery RENAME TO webhook_delivery;
ALTER TABLE webhook_endpoint ADD COLUMN changed INTEGER NOT NULL DEFAULT 0; -- revision of its last change
ALTER TABLE webhook_endpoint ADD COLUMN news INTEGER NOT NULL DEFAULT 0; -- when something was last recorded

CREATE TABLE webhook_secret (
    id         INTEGER PRIMARY KEY,
    endpoint   INTEGER NOT NULL REFERENCES webhook_endpoint ON DELETE CASCADE,
    key        BLOB NOT NULL,           -- what signatures are made with: it cannot be hashed
    created_at INTEGER NOT NULL,
    expires_at INTEGER                  -- null for the newest
) STRICT;
INSERT INTO webhook_secret SELECT rowid, endpoint, key, created_at, expires_at FROM secret;
DROP TABLE secret;
CREATE INDEX webhook_secret_endpoint ON webhook_secret (endpoint);

-- n counts changes of endpoints, news what was recorded or is to be sent again; forgotten is the highest
-- changed of an endpoint that is gone: who has not seen that change reads everything.
CREATE TABLE webhook_revision (
    n         INTEGER NOT NULL,
    forgotten INTEGER NOT NULL,
    news      INTEGER NOT NULL
) STRICT;
INSERT INTO webhook_revision VALUES (1, 0, 0);
