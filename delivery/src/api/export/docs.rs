//! What exports tell of themselves.

use http::Method;
use protocol::ErrorType;

use crate::api::{
    auth::docs::TAG as AUTH,
    doc::{By, Doc, Example, Given, ID, Others, Reply, Who, must},
    export::QUERY,
    users::docs::TAG as USERS,
};

const ABOUT: &str = "Lines of JSON, `{\"type\", \"data\"}`, written while they are read: `export`, `profile`, \
    `preferences`, `directory` (what tokens and admins said), `identity`, `session`, `membership`, `message` (of the inbox, oldest \
    first, in the state it is in; what has expired is not there), `sent` (what the user sent as far as it is kept, with \
    its recipients) and after each its `receipt`s; the last is `end`, with the number of lines before it. An answer \
    without it was broken off. What changes meanwhile may be in it or not. One at a time for a user, eight on a node.";

fn answer() -> Reply {
    Reply::media(200, "application/x-ndjson", "The lines.")
}

fn running() -> Reply {
    Reply::refusal(
        ErrorType::Unavailable,
        "An export of this user, or eight of others, are running; or a database cannot be asked now.",
    )
}

pub(crate) fn own() -> Doc {
    Doc {
        tag: &AUTH,
        summary: "Everything that is kept of oneself",
        about: ABOUT,
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: answer(),
        more: vec![running()],
        examples: vec![Example::new("own", "Whoever asks", By::User)],
    }
}

pub(crate) fn of_user() -> Doc {
    let seen = Given::call(By::User, Method::GET, "/api/v3/messages/unread-count");
    Doc {
        tag: &USERS,
        summary: "Everything that is kept of a user",
        about: ABOUT,
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![must("id", ID, "The user's id.")],
        query: QUERY,
        headers: vec![],
        answer: answer(),
        more: vec![Reply::refusal(ErrorType::NotFound, "There is no such user."), running()],
        examples: vec![
            Example::new("one", "A user who has shown a token", By::Admin)
                .after(seen)
                .path("id", "user123"),
            Example::new("none", "Nobody has heard of this one", By::Admin)
                .path("id", "lisi")
                .answers(404),
        ],
    }
}
