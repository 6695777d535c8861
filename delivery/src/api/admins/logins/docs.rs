//! What the endpoints of admins' logins tell of themselves.

use protocol::ErrorType;

use super::{LoggedOut, Me, ShownChallenge, ShownLogin};
use crate::api::{
    admins::docs::{begun, mei},
    auth::USER_AGENT,
    doc::{By, Doc, Example, Others, Reply, TOTP_NOW, TOTP_SECRET, Tag, Who},
};

pub(in crate::api) const TAG: Tag = Tag {
    name: "Logins of admins",
    about: "A password gives a challenge, the challenge and a code a session: 30 minutes without a request, \
            12 hours at most. Wrong passwords and codes make the next one wait, by address and name.",
};

/// A challenge as examples write it.
const CHALLENGE: &str = "phc_4Tq0h2mDLrYkM1oHcWzXw0mIYdJ3sNfYbYc3YV6yqkM";

fn login(summary: &'static str, about: &'static str, answer: Reply, refused: &'static str) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::Public,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer,
        more: vec![
            Reply::refusal(ErrorType::Unauthorized, refused),
            Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now."),
        ],
        examples: vec![],
    }
}

pub(crate) fn log_in() -> Doc {
    Doc {
        examples: vec![
            Example::new("mei", "For the first time", By::Nobody)
                .after(mei())
                .body(r#"{"username": "mei", "password": "a long one that nobody knows"}"#),
            Example::new("wrong", "A wrong password", By::Nobody)
                .body(r#"{"username": "mei", "password": "a guess"}"#)
                .answers(401),
        ],
        ..login(
            "Begin a login",
            "Answers a challenge for the second step and, who has no second factor yet, what an \
             authenticator app needs to be one.",
            Reply::data::<ShownChallenge<'static>>("What is missing is a code."),
            "The username or password is not right, or the admin is disabled.",
        )
    }
}

pub(crate) fn second_step() -> Doc {
    const BODY: &str =
        r#"{"challenge": "phc_4Tq0h2mDLrYkM1oHcWzXw0mIYdJ3sNfYbYc3YV6yqkM", "code": "287082"}"#;
    const _: () = assert!(matches!(TOTP_NOW.as_bytes(), b"287082"));
    Doc {
        headers: vec![USER_AGENT],
        examples: vec![
            Example::new("first", "The first code of a new authenticator", By::Nobody)
                .after(mei())
                .after(begun(CHALLENGE, TOTP_SECRET))
                .body(BODY),
            Example::new("wrong", "A challenge that has ended", By::Nobody).body(BODY).answers(401),
        ],
        ..login(
            "End a login",
            "Each code is good once. A challenge takes five wrong ones. Who enrols with it gets ten recovery \
             codes, each good once in place of a code.",
            Reply::data::<ShownLogin<'static>>("The admin is in."),
            "The challenge or the code is not right, or was used before.",
        )
    }
}

fn own(summary: &'static str, about: &'static str, answer: Reply, example: Example) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::ADMINS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer,
        more: vec![],
        examples: vec![example],
    }
}

pub(crate) fn log_out() -> Doc {
    own(
        "Log an admin out",
        "The session of the token that is shown ends. Whoever shows `ADMIN_TOKEN` has none.",
        Reply::data::<LoggedOut>("Whether a session has ended."),
        Example::new("token", "Without a session", By::Admin),
    )
}

pub(crate) fn me() -> Doc {
    own(
        "Who I am",
        "And what I may do.",
        Reply::data::<Me<'static>>("The one who asks."),
        Example::new("token", "The bearer of the admin token", By::Admin),
    )
}
