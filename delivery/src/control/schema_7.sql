-- Version 7: the keys that tokens are signed with (identity::signing). sealed is the private key, encrypted
-- with a key made of JWT_SECRET, so that this file alone signs nothing.
CREATE TABLE control_signing_key (
    kid        TEXT PRIMARY KEY,
    algorithm  TEXT NOT NULL,     -- RS256 | ES256 | EdDSA
    public     TEXT NOT NULL,     -- JSON, as it is published
    sealed     TEXT NOT NULL,     -- base64
    created_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL,
    ends_at    INTEGER            -- from then on it checks nothing; NULL while it is not replaced
) STRICT, WITHOUT ROWID;
