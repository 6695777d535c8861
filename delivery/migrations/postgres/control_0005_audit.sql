-- What admins have changed, for good. Entries are added and never changed; hash holds each one and all before
-- it together.
CREATE TABLE audit_entry (
    seq bigint PRIMARY KEY,              -- 1, 2, 3 ... without holes
    id text COLLATE "C" NOT NULL UNIQUE,
    at bigint NOT NULL,
    tenant_id text COLLATE "C",          -- null for what is of the whole installation
    actor_kind text NOT NULL,            -- admin_token | admin | user | cli
    actor_id text COLLATE "C" NOT NULL,
    actor_name text COLLATE "C" NOT NULL,
    address text NOT NULL,
    request_id text NOT NULL,
    action text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    status bigint NOT NULL,
    detail text,                         -- {"before": ..., "after": ...}
    hash bytea NOT NULL
);
CREATE FUNCTION audit_entry_stands() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'entries of the audit log stand'; END $$;
CREATE TRIGGER audit_entry_stands BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_stands();
