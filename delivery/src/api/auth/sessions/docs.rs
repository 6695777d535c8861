//! What the endpoints of sessions tell of themselves.

use protocol::ErrorType;

use super::{Ended, LIST_QUERY, List, ONE_QUERY, USER_QUERY};
use crate::{
    account::ShownPair,
    api::{
        auth::docs::{TAG, session},
        doc::{By, Doc, Example, ID, Others, Reply, Who, must},
    },
};

/// The session of examples.
const SESSION: &str = "01946c1b2f4a70418d0e2a7b0f3c9d55";

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List the own sessions",
        about: "On which devices the user is logged in.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<List<'static>>("All sessions that go on."),
        more: vec![Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now.")],
        examples: vec![
            Example::new("devices", "One device is logged in", By::User).after(session()),
        ],
    }
}

pub(crate) fn end() -> Doc {
    Doc {
        summary: "End a session",
        about: "A device that was lost, for example.",
        others: Others::Refused,
        path: vec![must("id", ID, "The session's id.")],
        answer: Reply::data::<Ended>("It has ended."),
        more: vec![
            Reply::refusal(ErrorType::NotFound, "The user has no such session."),
            Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now."),
        ],
        examples: vec![
            Example::new("phone", "A device that was lost", By::User)
                .after(session().keep(SESSION, "/data/session_id"))
                .path("id", SESSION),
            Example::new("none", "It has ended before", By::User).path("id", SESSION).answers(404),
        ],
        ..list()
    }
}

pub(crate) fn end_others() -> Doc {
    Doc {
        summary: "Log out everywhere else",
        about: "Ends all sessions of the user but the one that asks, and makes every other token void that \
                was made until now.",
        answer: Reply::data::<Ended>("How many have ended."),
        examples: vec![Example::new("others", "Another device", By::User).after(session())],
        ..list()
    }
}

pub(crate) fn list_all() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List sessions",
        about: "Those that go on, in the order in which they began.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: LIST_QUERY,
        headers: vec![],
        answer: Reply::page::<List<'static>>("A page of sessions."),
        more: vec![],
        examples: vec![
            Example::new("all", "The first page", By::Admin).after(session()).query("size=50"),
            Example::new("of_user", "Those of one user", By::Admin)
                .after(session())
                .query("user_id=user123"),
        ],
    }
}

pub(crate) fn create() -> Doc {
    Doc {
        summary: "Log a user in",
        about: "For companies with a login of their own: an admin vouches for the user, and the tokens are \
                handed to the device. A user who is not known yet is made.",
        query: ONE_QUERY,
        answer: Reply::data::<ShownPair<'static>>("The first pair of tokens."),
        more: vec![Reply::refusal(ErrorType::Forbidden, "The user is disabled.")],
        examples: vec![Example::new("phone", "A phone", By::Admin).body(
            r#"{"user_id": "user123", "device_id": "phone-1", "device_name": "小明的手机"}"#,
        )],
        ..list_all()
    }
}

pub(crate) fn end_any() -> Doc {
    Doc {
        summary: "End any session",
        about: "Forced logout of one device.",
        path: vec![must("id", ID, "The session's id.")],
        query: ONE_QUERY,
        answer: Reply::data::<Ended>("It has ended."),
        more: vec![Reply::refusal(ErrorType::NotFound, "There is no such session.")],
        examples: vec![
            Example::new("phone", "One device", By::Admin)
                .after(session().keep(SESSION, "/data/session_id"))
                .path("id", SESSION),
            Example::new("none", "It has ended before", By::Admin).path("id", SESSION).answers(404),
        ],
        ..list_all()
    }
}

pub(crate) fn end_of_user() -> Doc {
    Doc {
        summary: "Log a user out everywhere",
        about: "Ends all sessions of the user, and makes every token void that was made until now, whoever \
                made it. To keep the user out, disable them.",
        query: USER_QUERY,
        answer: Reply::data::<Ended>("How many have ended."),
        more: vec![],
        examples: vec![
            Example::new("user", "All devices of a user", By::Admin)
                .after(session())
                .query("user_id=user123&tenant_id=default"),
        ],
        ..list_all()
    }
}
