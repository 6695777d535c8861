//! What backups tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{DATABASE, DATABASE_OF, MESSAGES, MESSAGES_OF};
use crate::api::{
    doc::{By, Doc, Example, Field, Given, ID, Others, Reply, Tag, Who, may, must, text},
    sync::docs::Resync,
    users::docs::TAG as USERS,
};

pub(crate) const TAG: Tag = Tag {
    name: "backup",
    about: "An inbox as one SQLite file, made as of one moment while sends go on. `pushhub restore` brings it back, and \
        `pushhub verify` tells a whole one from a damaged one.",
};

const ABOUT: &str = "One SQLite file, which any `sqlite3` opens; `.schema` explains itself. Behind its last page stands a \
    line with the SHA-256 of all before it. `X-Backup-Head` is the position up to which it has everything, for the next \
    incremental one. An encrypted one is in the age format, which the `age` tool opens. It is made before the first byte \
    comes, and then read as fast as it is taken; an answer that cannot be finished is broken off. One at a time for a user, \
    four on a node.";

pub(in crate::api) fn key() -> Field {
    may(
        "X-Backup-Key",
        text(usize::MAX),
        "With `encrypt=true`: an age recipient (`age1…`), or a passphrase of 12 bytes or more. Not kept anywhere.",
    )
}

fn answer() -> Reply {
    Reply::media(200, "application/octet-stream", "The backup.")
}

fn refusals() -> Vec<Reply> {
    vec![
        Reply::refusal(
            ErrorType::RateLimited,
            "A backup of this user, or four of others, are being made.",
        ),
        Reply::refusal(
            ErrorType::InsufficientStorage,
            "It is larger than `BACKUP_SIZE_MAX`, or the disk is full.",
        ),
    ]
}

fn with_since() -> Vec<Reply> {
    let mut all = refusals();
    all.push(Reply::state::<Resync>(
        ErrorType::ResyncRequired,
        "Changes after `since` are not all kept, or it is ahead of the inbox: take a full backup.",
    ));
    all
}

fn doc(summary: &'static str, query: &'static [Field], more: Vec<Reply>) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about: ABOUT,
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query,
        headers: vec![key()],
        answer: answer(),
        more,
        examples: vec![],
    }
}

pub(crate) fn database() -> Doc {
    let examples = vec![
        Example::new("full", "The whole inbox", By::User).query("compress=false"),
        Example::new("incremental", "What changed after a position", By::User)
            .query("type=incremental&since=0&compress=false"),
        Example::new("no_since", "Since when?", By::User).query("type=incremental").answers(422),
    ];
    Doc { examples, ..doc("Back up the own inbox", DATABASE, with_since()) }
}

pub(crate) fn messages() -> Doc {
    let examples =
        vec![Example::new("own", "Only what the messages say", By::User).query("compress=false")];
    Doc { examples, ..doc("Back up the own messages", MESSAGES, refusals()) }
}

fn of_user(summary: &'static str, query: &'static [Field], mut more: Vec<Reply>) -> Doc {
    more.push(Reply::refusal(ErrorType::NotFound, "There is no such user."));
    let seen = Given::call(By::User, Method::GET, "/api/v3/messages/unread-count");
    Doc {
        tag: &USERS,
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![must("id", ID, "The user's id.")],
        examples: vec![
            Example::new("one", "A user who has shown a token", By::Admin)
                .after(seen)
                .path("id", "user123")
                .query("compress=false"),
            Example::new("none", "Nobody has heard of this one", By::Admin)
                .path("id", "lisi")
                .answers(404),
        ],
        ..doc(summary, query, more)
    }
}

pub(crate) fn database_of() -> Doc {
    of_user("Back up a user's inbox", DATABASE_OF, with_since())
}

pub(crate) fn messages_of() -> Doc {
    of_user("Back up a user's messages", MESSAGES_OF, refusals())
}
