//! Into which tables rows go, and by which way.

use tokio_postgres::types::Type;

/// Where rows go.
pub(crate) struct Target {
    /// What makes the table for rows that are joined with others before they go where they belong.
    pub(super) before: &'static str,
    pub(super) copy: &'static str,
    pub(super) types: &'static [Type],
    /// What is done when all rows are in; `$place` is the latest of the folder's records.
    pub(super) after: &'static [&'static str],
}

/// Tenant, channels.
pub(crate) const TENANTS: Target = Target {
    before: "CREATE TEMP TABLE moving_tenants (tenant text, channels bigint) ON COMMIT DROP",
    copy: "COPY moving_tenants FROM STDIN BINARY",
    types: &[Type::TEXT, Type::INT8],
    after: &[
        "INSERT INTO tenants (tenant, pos, channels) SELECT tenant, $place, channels FROM moving_tenants",
    ],
};

/// Tenant, user, since when, since which record, when the latest token was made, what is known of them.
///
/// An inbox receives what was sent to everyone from its own record on, which is one more than `born_pos`.
pub(crate) const USERS: Target = Target {
    before: "CREATE TEMP TABLE moving_users (tenant text COLLATE \"C\", usr text COLLATE \"C\",
        created_at bigint, since bigint, issued_at bigint, facts text) ON COMMIT DROP",
    copy: "COPY moving_users FROM STDIN BINARY",
    types: &[Type::TEXT, Type::TEXT, Type::INT8, Type::INT8, Type::INT8, Type::TEXT],
    after: &[
        "INSERT INTO inboxes (tenant, usr, created_at, born_pos, group_pos)
            SELECT tenant, usr, created_at, greatest(since - 1, 0), $place
            FROM moving_users ORDER BY tenant, usr",
        "INSERT INTO users (inbox, version, issued_at, facts)
            SELECT i.id, 1, k.issued_at, k.facts FROM moving_users k
            JOIN inboxes i ON i.tenant = k.tenant AND i.usr = k.usr WHERE k.facts IS NOT NULL",
    ],
};

/// Tenant, user, group, since which record, until which, since when.
pub(crate) const MEMBERS: Target = Target {
    before: "CREATE TEMP TABLE moving_members (tenant text COLLATE \"C\", usr text COLLATE \"C\",
        grp text COLLATE \"C\", since bigint, until bigint, joined_at bigint) ON COMMIT DROP",
    copy: "COPY moving_members FROM STDIN BINARY",
    types: &[Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8, Type::INT8, Type::INT8],
    after: &[
        "INSERT INTO members (inbox, grp, since_pos, until_pos, joined_at, tenant, usr)
            SELECT i.id, k.grp, k.since, k.until, k.joined_at, k.tenant, k.usr FROM moving_members k
            JOIN inboxes i ON i.tenant = k.tenant AND i.usr = k.usr",
        "INSERT INTO groups (tenant, grp, members) SELECT tenant, grp, count(*)
            FROM moving_members WHERE until IS NULL GROUP BY tenant, grp",
    ],
};

/// Tenant, id, since which record, what it is.
pub(crate) const CHANNELS: Target = Target {
    before: "",
    copy: "COPY channels (tenant, id, since_pos, channel) FROM STDIN BINARY",
    types: &[Type::TEXT, Type::TEXT, Type::INT8, Type::TEXT],
    after: &[],
};

/// Tenant, place, message, target, whether it is a recall, whether it is for everyone, when, until when, sender,
/// key.
pub(crate) const RECORDS: Target = Target {
    before: "CREATE TEMP TABLE moving_records (tenant text COLLATE \"C\", pos bigint,
        message_id text COLLATE \"C\", target bigint, recall boolean, everyone boolean, at bigint,
        expire_at bigint, sender text, collapse_key text) ON COMMIT DROP",
    copy: "COPY moving_records FROM STDIN BINARY",
    types: &[
        Type::TEXT, Type::INT8, Type::TEXT, Type::INT8, Type::BOOL, Type::BOOL, Type::INT8, Type::INT8,
        Type::TEXT, Type::TEXT,
    ],
    after: &["INSERT INTO broadcasts (tenant, pos, body, target, recall, everyone, at, expire_at, sender,
            collapse_key)
        SELECT k.tenant, k.pos, b.id, k.target, k.recall, k.everyone, k.at, k.expire_at, k.sender,
            k.collapse_key
        FROM moving_records k JOIN bodies b ON b.tenant = k.tenant AND b.message_id = k.message_id"],
};

/// Tenant, group, place, the place by which its readers are found.
pub(crate) const RECORD_GROUPS: Target = Target {
    before: "",
    copy: "COPY broadcast_groups (tenant, grp, pos, place) FROM STDIN BINARY",
    types: &[Type::TEXT, Type::TEXT, Type::INT8, Type::INT8],
    after: &[],
};

/// Tenant, sender, key, when, fingerprint, data.
pub(crate) const ANSWERS: Target = Target {
    before: "",
    copy: "COPY answers (tenant, sender, key, at, fingerprint, data) FROM STDIN BINARY",
    types: &[Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8, Type::BYTEA, Type::TEXT],
    after: &[],
};

/// Hour, tenant, service, template, type, channel, and four counts.
pub(crate) const STATS: Target = Target {
    before: "",
    copy:
        "COPY stats (hour, tenant, service, template, message_type, channel, sent, delivered, read,
        read_ms) FROM STDIN BINARY",
    types: &[
        Type::INT8,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
    ],
    after: &[],
};

pub(super) const MESSAGES: Target = Target {
    before: "",
    copy: "COPY messages (inbox, seq, version, body, stored_at, created_at, expire_at, read_at, gone_at,
        status, priority, reread, channel, message_type, sender, collapse_key) FROM STDIN BINARY",
    types: &[
        Type::INT8, Type::INT8, Type::INT8, Type::INT8, Type::INT8, Type::INT8, Type::INT8, Type::INT8,
        Type::INT8, Type::INT2, Type::INT2, Type::BOOL, Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT,
    ],
    after: &[],
};

pub(super) const CHANGES: Target = Target {
    before: "",
    copy:
        "COPY changes (inbox, seq, message_seq, at, kind, status, action_index, message_id, device,
        action) FROM STDIN BINARY",
    types: &[
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT2,
        Type::INT2,
        Type::INT2,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
    ],
    after: &[],
};

pub(super) const RECEIPTS: Target = Target {
    before: "",
    copy: "COPY receipts (inbox, from_seq, kind, device, to_seq, at) FROM STDIN BINARY",
    types: &[Type::INT8, Type::INT8, Type::INT2, Type::TEXT, Type::INT8, Type::INT8],
    after: &[],
};
