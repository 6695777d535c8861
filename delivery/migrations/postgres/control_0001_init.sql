-- Control data: services and their keys, templates, what tenants may use and have used. The tables are
-- those of control.db, by the same names. Lists and limits are JSON; times are milliseconds since 1970
-- UTC, by the clock of the node that writes. Ids are compared byte by byte (COLLATE "C"), as every
-- node orders them.

CREATE TABLE control_service (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    type text NOT NULL,                  -- internal | external | system
    level text NOT NULL,                 -- system | business | third_party
    permissions text NOT NULL,           -- ["on_behalf_of"]
    scope text NOT NULL,                 -- {"templates": [], "channels": [], "message_types": []}
    rate_limit text,                     -- {"per_second": 100, "burst": 200}
    owner text NOT NULL,
    status text NOT NULL,                -- pending | active | suspended | disabled
    tenant_id text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL
);

-- The secret itself is nowhere: only its SHA-256.
CREATE TABLE control_api_key (
    id text COLLATE "C" PRIMARY KEY,
    service_id text COLLATE "C" NOT NULL REFERENCES control_service (id) ON DELETE CASCADE,
    secret_hash bytea NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint,
    last_used_at bigint
) WITH (fillfactor = 70);                -- updated once a minute while it is used
CREATE INDEX control_api_key_service ON control_api_key (service_id);

CREATE TABLE control_tenant (
    id text COLLATE "C" PRIMARY KEY,
    quotas text NOT NULL,                -- {"messages_per_day": 1000, "channels": null, …}
    updated_at bigint NOT NULL
);

-- Counts what a node must know of at once: each asks for it every second. The last use of a key is not
-- among it: every busy key changes that once a minute, and nobody decides by it.
CREATE TABLE control_revision (n bigint NOT NULL);
INSERT INTO control_revision VALUES (1);
CREATE FUNCTION control_revised() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN UPDATE control_revision SET n = n + 1; RETURN NULL; END $$;
CREATE TRIGGER control_revised AFTER INSERT OR UPDATE OR DELETE ON control_service
    FOR EACH STATEMENT EXECUTE FUNCTION control_revised();
CREATE TRIGGER control_revised AFTER INSERT OR DELETE
    OR UPDATE OF id, service_id, secret_hash, expires_at ON control_api_key
    FOR EACH STATEMENT EXECUTE FUNCTION control_revised();
CREATE TRIGGER control_revised AFTER INSERT OR UPDATE OR DELETE ON control_tenant
    FOR EACH STATEMENT EXECUTE FUNCTION control_revised();

-- A template is a row that says how things stand and a document for each version; the latest document
-- is the one in force. One that was deleted keeps both.
CREATE TABLE control_template (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,             -- the latest; goes on when a deleted one is made again
    creator_kind text NOT NULL,          -- service | user | admin
    creator text COLLATE "C" NOT NULL,
    bytes bigint NOT NULL,               -- what the latest document weighs
    deleted_at bigint,
    changed bigint NOT NULL,             -- the revision of its last change
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX control_template_changed ON control_template (changed);

CREATE TABLE control_template_version (
    tenant_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    document text NOT NULL,              -- JSON
    saved_by text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, id, version)
);

-- Apart from that of services and keys, which would all be read anew with each template.
-- forgotten is the highest changed of a row that is gone: who has not seen that change cannot find it any
-- more and reads everything.
CREATE TABLE control_template_revision (n bigint NOT NULL, forgotten bigint NOT NULL);
INSERT INTO control_template_revision VALUES (1, 0);

-- What was used since midnight, a row for each process that counts: it writes its own sum, not what was
-- added to it, so that a write whose answer was lost may be done again. The sum of the rows is exact.
CREATE TABLE control_tenant_usage (
    tenant_id text COLLATE "C" NOT NULL,
    day bigint NOT NULL,                 -- days since 1970 UTC
    node text COLLATE "C" NOT NULL,      -- made up at each start
    messages bigint NOT NULL,
    recipients bigint NOT NULL,
    PRIMARY KEY (day, tenant_id, node)
) WITH (fillfactor = 50);                -- updated every two seconds
