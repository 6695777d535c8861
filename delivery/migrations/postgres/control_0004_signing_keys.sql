-- The keys that tokens are signed with. sealed is the private key, encrypted with a key made of JWT_SECRET, which
-- all nodes have, so that this database alone signs nothing.
CREATE TABLE control_signing_key (
    kid text COLLATE "C" PRIMARY KEY,
    algorithm text NOT NULL,             -- RS256 | ES256 | EdDSA
    public text NOT NULL,                -- JSON, as it is published
    sealed text NOT NULL,                -- base64
    created_at bigint NOT NULL,
    signs_from bigint NOT NULL,
    ends_at bigint                       -- from then on it checks nothing; null while it is not replaced
);
