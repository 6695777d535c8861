-- Settings that admins changed while the hub runs. The latest version is in force, on all nodes.
CREATE TABLE control_settings (
    version  bigint PRIMARY KEY,
    at       bigint NOT NULL,
    actor    text NOT NULL,     -- who: {"kind", "id", "name"}
    reason   text,
    restores bigint,            -- the version that it brought back; NULL for a change of its own
    changes  text NOT NULL,     -- [{"name", "before", "after"}]
    live     text NOT NULL      -- all live values, by name
);

-- Tenants that are being deleted. The row is the last that goes; until then nobody of the tenant comes in.
CREATE TABLE control_tenant_deletion (
    tenant_id    text COLLATE "C" PRIMARY KEY,
    requested_at bigint NOT NULL,
    leased_until bigint NOT NULL   -- whoever is at it; a node that ended is not after this
);
