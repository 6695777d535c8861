-- Users who are being forgotten: their inbox is not in inboxes any more, and what hangs on it goes piece by
-- piece. Whoever holds a row of this works on it, so a node goes on where another one ended; the row is the
-- last that goes.
CREATE TABLE forgetting (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    usr text COLLATE "C" NOT NULL,
    inbox bigint,                        -- none for one who had no inbox
    emptied boolean NOT NULL DEFAULT false, -- nothing hangs on the inbox any more
    body_after bigint NOT NULL DEFAULT 0,   -- bodies up to this one do not name the user any more
    body_last bigint NOT NULL            -- later ones are about whoever has the name then
);
CREATE INDEX forgetting_user ON forgetting (tenant, usr);
