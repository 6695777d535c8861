-- Version 2: templates (seed 003 §4.4). A template is a row that says how things stand and a document
-- for each version; the latest document is the one in force. One that was deleted keeps both.
CREATE TABLE template (
    tenant_id    TEXT NOT NULL,
    id           TEXT NOT NULL,
    version      INTEGER NOT NULL,  -- the latest; goes on when a deleted one is made again
    creator_kind TEXT NOT NULL,     -- service | user | admin
    creator      TEXT NOT NULL,
    bytes        INTEGER NOT NULL,  -- what the latest document weighs
    deleted_at   INTEGER,
    changed      INTEGER NOT NULL,  -- the revision of its last change
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX template_changed ON template (changed);

-- With a rowid: documents are too large for the leaves of an index.
CREATE TABLE template_version (
    tenant_id TEXT NOT NULL,
    id        TEXT NOT NULL,
    version   INTEGER NOT NULL,
    document  TEXT NOT NULL,        -- JSON
    saved_by  TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id, version)
) STRICT;

-- Apart from that of services and keys, which would all be read anew with each template.
-- `forgotten` is the highest `changed` of a row that is gone: who has not seen that change cannot find
-- it any more and reads everything.
CREATE TABLE template_revision (n INTEGER NOT NULL, forgotten INTEGER NOT NULL) STRICT;
INSERT INTO template_revision VALUES (1, 0);
