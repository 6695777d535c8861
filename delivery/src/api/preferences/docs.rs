//! What the endpoints of preferences tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::Shown;
use crate::api::{
    auth::docs::TAG as AUTH,
    doc::{By, Doc, Example, Given, ID, Others, Reply, Who, must},
    users::{QUERY, docs::TAG as USERS},
};

const OWN: &str = r#"{
  "muted_channels": ["general"],
  "quiet_hours": {"start": "22:00", "end": "07:00", "days": ["mon", "tue", "wed", "thu", "fri"],
    "time_zone": "Asia/Shanghai"},
  "languages": ["zh-CN", "en"]
}"#;

const BAD: &str =
    r#"{"quiet_hours": {"start": "25:00", "end": "07:00", "time_zone": "Mars/Base"}}"#;

const MEANING: &str = "What a user does not want to hear is stored and delivered like everything else; its frame \
    says `silent`, so that clients neither ring nor pop up. A muted channel is always silent; in quiet hours what is \
    below `allow_priority` is. All of it takes effect on every node within a second.";

const REPLACED: &str = "They take the place of those that were: what is left out is as at the beginning. The same \
    ones again are no change.";

fn unavailable() -> Reply {
    Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now.")
}

fn conflict() -> Reply {
    Reply::state::<Shown>(
        ErrorType::VersionConflict,
        "They are not of the expected version; `data` is how they are.",
    )
}

pub(crate) fn own() -> Doc {
    Doc {
        tag: &AUTH,
        summary: "The own preferences",
        about: MEANING,
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Shown>("What the user prefers."),
        more: vec![unavailable()],
        examples: vec![Example::new("own", "Whoever asks", By::User)],
    }
}

pub(crate) fn update_own() -> Doc {
    Doc {
        summary: "Change the own preferences",
        about: REPLACED,
        more: vec![conflict(), unavailable()],
        examples: vec![
            Example::new("all", "A muted channel, quiet nights, two languages", By::User).body(OWN),
            Example::new("bad", "No such time, and no such zone", By::User).body(BAD).answers(422),
            Example::new("late", "Somebody else was quicker", By::User)
                .body(r#"{"languages": ["en"], "expected_version": 7}"#)
                .answers(409),
        ],
        ..own()
    }
}

/// The user of examples shows a token.
fn seen() -> Given {
    Given::call(By::User, Method::GET, "/api/v3/messages/unread-count")
}

pub(crate) fn of_user() -> Doc {
    Doc {
        tag: &USERS,
        summary: "A user's preferences",
        about: MEANING,
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![must("id", ID, "The user's id.")],
        query: QUERY,
        headers: vec![],
        answer: Reply::data::<Shown>("What the user prefers."),
        more: vec![Reply::refusal(ErrorType::NotFound, "There is no such user."), unavailable()],
        examples: vec![
            Example::new("one", "A user who has shown a token", By::Admin)
                .after(seen())
                .path("id", "user123"),
            Example::new("none", "Nobody has heard of this one", By::Admin)
                .path("id", "lisi")
                .answers(404),
        ],
    }
}

pub(crate) fn update_of_user() -> Doc {
    let mut more = of_user().more;
    more.push(conflict());
    Doc {
        summary: "Change a user's preferences",
        about: REPLACED,
        more,
        examples: vec![
            Example::new("languages", "A language for somebody", By::Admin)
                .after(seen())
                .path("id", "user123")
                .body(r#"{"languages": ["zh-CN"]}"#),
        ],
        ..of_user()
    }
}
