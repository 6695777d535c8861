-- Users who are being deleted. The row is the last that goes; until then nobody can log in as them.
CREATE TABLE account_deletion (
    tenant_id    text COLLATE "C" NOT NULL,
    user_id      text COLLATE "C" NOT NULL,
    requested_at bigint NOT NULL,
    leased_until bigint NOT NULL,   -- whoever is at it; a node that ended is not after this
    PRIMARY KEY (tenant_id, user_id)
);
