-- What pushhub keeps in PostgreSQL. Times are milliseconds since 1970, by this database's clock.
-- Ids and words are compared byte by byte (COLLATE "C"), as every node orders them.

-- The time, moved by as many milliseconds (0 but in tests).
CREATE FUNCTION now_ms(shift bigint) RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + shift $$;

-- A search, as it comes from a node.
CREATE FUNCTION text_query(query text) RETURNS tsquery LANGUAGE sql IMMUTABLE STRICT AS
$$ SELECT query::tsquery $$;

-- The order of what is sent to a tenant's groups and of who comes to them and leaves them: whoever
-- writes such a record holds the row to its commit, so a record that can be seen has all before it.
CREATE TABLE tenants (
    tenant text COLLATE "C" PRIMARY KEY,
    pos bigint NOT NULL,                 -- of the latest record: 1, 2, 3 ...
    channels bigint NOT NULL DEFAULT 0   -- how many there are
) WITH (fillfactor = 50);

-- Everybody who is known. Counters are in no index and pages are half empty, so an update stays on
-- its page (HOT) and touches no index.
CREATE TABLE inboxes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    usr text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    born_pos bigint NOT NULL,            -- records for everyone after this one are for it
    group_pos bigint NOT NULL,           -- records of tenants.pos that it has taken over
    head bigint NOT NULL DEFAULT 0,      -- seq of the latest change: 1, 2, 3 ... without holes
    min_seq bigint NOT NULL DEFAULT 0,   -- changes up to this one are not kept any more
    kept bigint NOT NULL DEFAULT 0,      -- rows in messages
    unread bigint NOT NULL DEFAULT 0,    -- of them, by status
    read bigint NOT NULL DEFAULT 0,
    archived bigint NOT NULL DEFAULT 0,
    recalled bigint NOT NULL DEFAULT 0,
    next_expiry bigint,                  -- no message that is shown expires before
    UNIQUE (tenant, usr)
) WITH (fillfactor = 50);

-- The same counts for each channel of an inbox.
CREATE TABLE tallies (
    inbox bigint NOT NULL,
    channel text COLLATE "C" NOT NULL,
    unread bigint NOT NULL DEFAULT 0,
    read bigint NOT NULL DEFAULT 0,
    archived bigint NOT NULL DEFAULT 0,
    recalled bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (inbox, channel)
) WITH (fillfactor = 50);

-- Each message once, however many recipients; for its sender also what has become of it.
CREATE TABLE bodies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    message_id text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,    -- service:<id>, user:<id> or admin
    audience bytea NOT NULL,             -- MessagePack: users and groups, or everyone
    recipients integer NOT NULL,         -- users that are named
    state smallint NOT NULL,             -- 0 scheduled, 1 sent, 2 cancelled, 3 recalled
    priority smallint NOT NULL,          -- 1 to 10
    accepted_at bigint NOT NULL,
    scheduled_at bigint,
    sent_at bigint,
    expire_at bigint,
    service text COLLATE "C" NOT NULL,   -- what it is counted by; empty for none
    template text COLLATE "C" NOT NULL,
    pos bigint,                          -- its place in broadcasts, where it is for groups
    body text NOT NULL,                  -- JSON, as sent to clients
    -- What lists may ask for of its metadata: {"key": "value"}, all values as texts, so that 42 and "42"
    -- are found by the same words; null where there is nothing.
    metadata jsonb,
    UNIQUE (tenant, message_id)
);
CREATE INDEX bodies_due ON bodies (scheduled_at, priority DESC, id) WHERE state = 0;
CREATE INDEX bodies_metadata ON bodies USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL;

-- What was sent to groups and to everyone, and edits and recalls of it: inboxes take it over when they
-- are next touched.
CREATE TABLE broadcasts (
    tenant text COLLATE "C" NOT NULL,
    pos bigint NOT NULL,
    body bigint NOT NULL,
    target bigint,                       -- of an edit or recall: the message's pos
    recall boolean NOT NULL DEFAULT false,
    everyone boolean NOT NULL,
    at bigint NOT NULL,
    -- As the message or the edit said it. What the body says may be later, and whoever takes this over
    -- late must find the same as who did at once.
    expire_at bigint,
    sender text COLLATE "C" NOT NULL,
    collapse_key text COLLATE "C",
    PRIMARY KEY (tenant, pos)
);
CREATE INDEX broadcasts_everyone ON broadcasts (tenant, pos) WHERE everyone;
CREATE TABLE broadcast_groups (
    tenant text COLLATE "C" NOT NULL,
    grp text COLLATE "C" NOT NULL,       -- 'c:' and a channel's id, or 'r:' and a role
    pos bigint NOT NULL,
    place bigint NOT NULL,               -- for those who were members here: pos, of a rewrite its target
    PRIMARY KEY (tenant, grp, pos)
);
CREATE INDEX broadcast_groups_pos ON broadcast_groups (tenant, pos);

-- Who is and was in which group.
CREATE TABLE members (
    inbox bigint NOT NULL,
    grp text COLLATE "C" NOT NULL,
    since_pos bigint NOT NULL,           -- the record by which it began
    until_pos bigint,                    -- the record by which it ended
    joined_at bigint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    usr text COLLATE "C" NOT NULL,
    PRIMARY KEY (inbox, grp, since_pos)
);
CREATE INDEX members_now ON members (tenant, grp, usr) WHERE until_pos IS NULL;
CREATE INDEX members_past ON members (tenant, grp, usr) WHERE until_pos IS NOT NULL;
CREATE TABLE groups (
    tenant text COLLATE "C" NOT NULL,
    grp text COLLATE "C" NOT NULL,
    members bigint NOT NULL,
    PRIMARY KEY (tenant, grp)
) WITH (fillfactor = 50);
CREATE TABLE channels (
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    since_pos bigint NOT NULL,           -- the record that made it
    channel text NOT NULL,               -- JSON
    PRIMARY KEY (tenant, id)
);
CREATE TABLE users (                     -- of whom a token or an admin spoke
    inbox bigint PRIMARY KEY,
    version bigint NOT NULL,             -- 1, 2, 3 ... with each change
    issued_at bigint,                    -- when the latest token was made
    facts text NOT NULL                  -- JSON
) WITH (fillfactor = 80);

-- The messages of inboxes. A row's status is in no index: marking one stays on its page.
CREATE TABLE messages (
    inbox bigint NOT NULL,
    seq bigint NOT NULL,                 -- where the message was created in the inbox
    version bigint NOT NULL,             -- seq of its latest change
    body bigint NOT NULL,                -- bodies.id
    stored_at bigint NOT NULL,
    created_at bigint NOT NULL,          -- as in the body
    expire_at bigint,
    read_at bigint,
    gone_at bigint,                      -- when it was recalled or collapsed
    status smallint NOT NULL,            -- 0 unread, 1 read, 2 archived, 3 recalled, 4 expired, 5 collapsed
    priority smallint NOT NULL,
    reread boolean NOT NULL DEFAULT false, -- was read and made unread again: its reading was counted
    channel text COLLATE "C",
    message_type text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,
    collapse_key text COLLATE "C",
    PRIMARY KEY (inbox, seq)
) PARTITION BY HASH (inbox);
CREATE INDEX messages_body ON messages (body, inbox);
CREATE INDEX messages_channel ON messages (inbox, channel, seq) WHERE channel IS NOT NULL;
CREATE INDEX messages_expiring ON messages (inbox, expire_at) WHERE expire_at IS NOT NULL;
CREATE INDEX messages_collapsing ON messages (inbox, collapse_key, sender) WHERE collapse_key IS NOT NULL;

-- Every change of an inbox but the arrival of messages.
CREATE TABLE changes (
    inbox bigint NOT NULL,
    seq bigint NOT NULL,
    message_seq bigint NOT NULL,         -- 0 for a message that is not kept any more
    at bigint NOT NULL,
    kind smallint NOT NULL,              -- 0 marked, 1 a button pressed, 2 edited, 3 recalled
    status smallint NOT NULL,            -- what the message became, as in messages
    action_index smallint,               -- which button, from 0
    message_id text COLLATE "C" NOT NULL,
    device text COLLATE "C",
    action text COLLATE "C",             -- the button's callback word
    PRIMARY KEY (inbox, seq)
) PARTITION BY HASH (inbox);
CREATE INDEX changes_pressed ON changes (inbox, message_seq, action_index) WHERE action_index IS NOT NULL;

DO $$ BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE messages_%s PARTITION OF messages
            FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = 90)', n, n);
        EXECUTE format('CREATE TABLE changes_%s PARTITION OF changes
            FOR VALUES WITH (MODULUS 16, REMAINDER %s)', n, n);
    END LOOP;
END $$;

-- What devices have.
CREATE TABLE cursors (
    inbox bigint NOT NULL,
    device text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (inbox, device)
) WITH (fillfactor = 70);
CREATE TABLE receipts (
    inbox bigint NOT NULL,
    from_seq bigint NOT NULL,            -- the first of the changes; never over a multiple of 256
    kind smallint NOT NULL,              -- 0 went to the device, 1 confirmed by it
    device text COLLATE "C" NOT NULL,
    to_seq bigint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (inbox, from_seq, kind, device)
);
CREATE TABLE reached (                   -- the latest changes that any device got and confirmed
    inbox bigint PRIMARY KEY,
    delivered bigint NOT NULL,
    acked bigint NOT NULL
) WITH (fillfactor = 50);

-- Answers to requests with an Idempotency-Key.
CREATE TABLE answers (
    tenant text COLLATE "C" NOT NULL,
    sender text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    fingerprint bytea NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (key, sender, tenant)
);
CREATE INDEX answers_at ON answers (at);

-- Counts by the hour in which messages were sent. What is counted goes to stats_new in the transaction
-- of what is counted; one node at a time adds it up. Counters that all nodes update would make their
-- transactions wait for each other.
CREATE TABLE stats (
    hour bigint NOT NULL,                -- hours since 1970, UTC
    tenant text COLLATE "C" NOT NULL,
    service text COLLATE "C" NOT NULL,   -- of these four: empty for none
    template text COLLATE "C" NOT NULL,
    message_type text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    sent bigint NOT NULL,                -- messages
    delivered bigint NOT NULL,           -- recipients
    read bigint NOT NULL,                -- recipients
    read_ms bigint NOT NULL,             -- from sent to read, over those recipients
    PRIMARY KEY (hour, tenant, service, template, message_type, channel)
) WITH (fillfactor = 70);
CREATE TABLE stats_new (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hour bigint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    service text COLLATE "C" NOT NULL,
    template text COLLATE "C" NOT NULL,
    message_type text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    sent bigint NOT NULL,
    delivered bigint NOT NULL,
    read bigint NOT NULL,
    read_ms bigint NOT NULL
);

-- Which words stand in which messages, made when somebody searches. Each word begins with the inbox,
-- so that a search looks at one inbox's part of the index only.
CREATE TABLE search_texts (
    inbox bigint NOT NULL,
    seq bigint NOT NULL,
    inexact boolean NOT NULL,            -- too long to keep every place: matches are looked at again
    terms tsvector NOT NULL,
    PRIMARY KEY (inbox, seq)
);
CREATE INDEX search_terms ON search_texts USING gin (terms);
CREATE INDEX search_inexact ON search_texts (inbox) WHERE inexact;
CREATE TABLE search_states (
    inbox bigint PRIMARY KEY,
    seq bigint NOT NULL                  -- messages and edits up to this change are in search_texts
);

-- Storage folders of single nodes whose data was moved here, or is being moved: while it is, no node works
-- on this database.
CREATE TABLE moves (
    folder text COLLATE "C" PRIMARY KEY, -- its id
    began_at bigint NOT NULL,            -- the moment as of which it is moved
    finished_at bigint                   -- since when all of it is here
);
-- What of a folder that is being moved is here.
CREATE TABLE moved_parts (
    part text COLLATE "C" PRIMARY KEY
);
CREATE TABLE moved_inboxes (
    inbox bigint PRIMARY KEY
);
