-- Version 4: the tables' names are those that they have in PostgreSQL, where they stand beside those of
-- messages; and what was used has a row for each process that counts (here it is one, called '').
ALTER TABLE service RENAME TO control_service;
ALTER TABLE api_key RENAME TO control_api_key;
ALTER TABLE revision RENAME TO control_revision;
ALTER TABLE template RENAME TO control_template;
ALTER TABLE template_version RENAME TO control_template_version;
ALTER TABLE template_revision RENAME TO control_template_revision;
ALTER TABLE tenant RENAME TO control_tenant;

CREATE TABLE control_tenant_usage (
    tenant_id  TEXT NOT NULL,
    day        INTEGER NOT NULL,  -- days since 1970 UTC
    node       TEXT NOT NULL,
    messages   INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    PRIMARY KEY (day, tenant_id, node)
) STRICT, WITHOUT ROWID;
INSERT INTO control_tenant_usage SELECT tenant_id, day, '', messages, recipients FROM tenant_usage;
DROP TABLE tenant_usage;
