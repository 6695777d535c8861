-- Admins who log in at an issuer.
ALTER TABLE admin_account ADD COLUMN email text COLLATE "C";  -- in lower case; NULL for none
CREATE UNIQUE INDEX admin_account_email ON admin_account (email);

-- By which login elsewhere an admin comes.
CREATE TABLE admin_identity (
    issuer    text COLLATE "C" NOT NULL,
    subject   text COLLATE "C" NOT NULL,
    admin_id  text COLLATE "C" NOT NULL REFERENCES admin_account (id) ON DELETE CASCADE,
    by_claim  bigint NOT NULL,    -- 1: the issuer says the role, with each login; 0: found by its email
    linked_at bigint NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX admin_identity_admin ON admin_identity (admin_id);
