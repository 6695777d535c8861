-- Version 9: admins who log in at an issuer (admin::single_sign_on).
ALTER TABLE admin_account ADD COLUMN email TEXT;  -- in lower case; NULL for none
CREATE UNIQUE INDEX admin_account_email ON admin_account (email) WHERE email IS NOT NULL;

-- By which login elsewhere an admin comes.
CREATE TABLE admin_identity (
    issuer    TEXT NOT NULL,
    subject   TEXT NOT NULL,
    admin_id  TEXT NOT NULL REFERENCES admin_account (id) ON DELETE CASCADE,
    by_claim  INTEGER NOT NULL,   -- 1: the issuer says the role, with each login; 0: found by its email
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX admin_identity_admin ON admin_identity (admin_id);
