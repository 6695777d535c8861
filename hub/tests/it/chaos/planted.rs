//! What goes wrong on purpose, between the database and the recorder, is found.

use super::{campaign::Campaign, site::Form};
use crate::support::{
    device::Mischief,
    history::{Register, Violation},
};

/// An acknowledged message goes away.
const DELETES: &str = "DELETE FROM messages m USING inboxes i WHERE m.inbox = i.id
    AND (i.tenant, i.usr) = ('default', 'user-3')
    AND m.seq = (SELECT max(seq) FROM messages WHERE inbox = i.id)";

/// A message appears in the inbox of the same name in the other tenant.
const LEAKS: &str = "
    CREATE TABLE planted AS SELECT m.* FROM messages m JOIN inboxes i ON i.id = m.inbox
        WHERE (i.tenant, i.usr) = ('default', 'user-4') LIMIT 1;
    UPDATE inboxes SET head = head + 1 WHERE (tenant, usr) = ('acme', 'user-4');
    UPDATE planted SET (inbox, seq, version) =
        (SELECT id, head, head FROM inboxes WHERE (tenant, usr) = ('acme', 'user-4'));
    INSERT INTO messages SELECT * FROM planted";

/// Counts drift. By more than [`FORGETS`] can make good by chance.
const MISCOUNTS: &str =
    "UPDATE inboxes SET unread = unread + 1000 WHERE (tenant, usr) = ('acme', 'user-3')";

/// What was read or archived is not any more.
const FORGETS: &str = "UPDATE messages SET status = 0 WHERE status IN (1, 2)";

/// Edits are undone.
const UNDOES: &str =
    "UPDATE bodies SET body = regexp_replace(body, '\"content\":\"[0-9]+ ', '\"content\":\"0 ')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_on_purpose_is_found() {
    let campaign = Campaign {
        calm: 1_500,
        mischief: vec![Mischief::Drops, Mischief::Repeats, Mischief::Mixes],
        tampering: vec![DELETES, LEAKS, MISCOUNTS, FORGETS, UNDOES],
        ..Campaign::short(Form::Single, &[])
    };
    let report = campaign.run().await;
    type Kind = (&'static str, fn(&Violation) -> bool);
    let wanted: [Kind; 8] = [
        ("a lost frame", |v| matches!(v, Violation::Gap { after, found, .. } if found > after)),
        (
            "a repeated frame",
            |v| matches!(v, Violation::Gap { after, found, .. } if found == after),
        ),
        (
            "a frame of another user",
            |v| matches!(v, Violation::Foreign { user, .. } if user.starts_with("neighbour")),
        ),
        (
            "a lost message",
            |v| matches!(v, Violation::Lost { user, .. } | Violation::Hole { user, .. } if user == "default/user-3"),
        ),
        (
            "a message of another tenant",
            |v| matches!(v, Violation::Foreign { user, .. } if user == "acme/user-4"),
        ),
        (
            "a wrong count",
            |v| matches!(v, Violation::Miscounted { user, .. } if user == "acme/user-3"),
        ),
        ("a lost mark", |v| {
            matches!(v, Violation::Stale { register: Register::Mark { .. }, value: 0, .. })
        }),
        ("a lost edit", |v| {
            matches!(v, Violation::Stale { register: Register::Text { .. }, value: 0, .. })
        }),
    ];
    for (what, kind) in wanted {
        assert!(
            report.violations.iter().any(kind),
            "{what} is not found in {:#?}",
            report.violations
        );
    }
}
