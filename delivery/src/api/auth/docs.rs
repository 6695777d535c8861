//! What the endpoints of logins tell of themselves.

use protocol::ErrorType;

use super::{LoggedOut, ShownTicket};
use crate::{
    account::ShownPair,
    api::doc::{By, Doc, Example, Given, Others, Reply, Tag, Who},
};

pub(in crate::api) const TAG: Tag = Tag {
    name: "Logins",
    about: "Sessions, their tokens and the users' profiles. A session is one login of one device. Its access \
            token lives for `JWT_EXPIRE_TIME`, its refresh token for `REFRESH_TOKEN_EXPIRE_TIME` and until it \
            is used. What is ended here is refused by REST at once, and its sockets are closed with 4501, on \
            other nodes within two seconds.",
};

/// The refresh token of examples.
const REFRESH_TOKEN: &str =
    "phr_01946c1b2f4a70418d0e2a7b0f3c9d55_1_sHvSIsm3mdG6YfRQ1dPN1VN0hzr2pKDvqZ0GJVvHiI0";

/// A session that is there.
pub(super) fn session() -> Given {
    const BODY: &str =
        r#"{"user_id": "user123", "device_id": "phone-1", "device_name": "小明的手机"}"#;
    Given::post(By::Admin, "/api/v3/admin/sessions", BODY)
        .keep(REFRESH_TOKEN, "/data/refresh_token")
}

pub(crate) fn refresh() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Get new tokens",
        about: "A refresh token is used up by this: the answer has the next one. The same token again within \
                10 s gives the same pair (two tabs, or an answer that was lost); later it ends the session, \
                because somebody has a copy.",
        who: Who::Public,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<ShownPair<'static>>("The next pair."),
        more: vec![
            Reply::refusal(
                ErrorType::Unauthorized,
                "The refresh token is not valid, has expired, or was used before.",
            ),
            Reply::refusal(ErrorType::Forbidden, "An admin has disabled the user."),
            Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now."),
        ],
        examples: vec![
            Example::new("next", "The next pair", By::Nobody).after(session()).body(
                r#"{"refresh_token": "phr_01946c1b2f4a70418d0e2a7b0f3c9d55_1_sHvSIsm3mdG6YfRQ1dPN1VN0hzr2pKDvqZ0GJVvHiI0", "device_id": "phone-1"}"#,
            ),
            Example::new("bad", "One that is not valid", By::Nobody)
                .body(r#"{"refresh_token": "phr_none"}"#)
                .answers(401),
        ],
    }
}

pub(crate) fn logout() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Log out",
        about: "Ends the session of the token that is shown: its tokens are void and its sockets are closed. \
                A token of another login service is made void too, by its `session_id` or else its `jti`.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<LoggedOut<'static>>("It has ended."),
        more: vec![
            Reply::refusal(ErrorType::Invalid, "The token has neither a `session_id` nor a `jti`."),
            Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now."),
        ],
        examples: vec![Example::new("device", "This device", By::User)],
    }
}

pub(crate) fn ticket() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Get a ticket for a socket",
        about: "Opens one socket or event stream, `/ws?ticket=…`, within 30 s, on whichever node: for \
                browsers, which can send no header there, so that no token need stand in a URL. The \
                connection belongs to the session of the token that is shown, and lives as long.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<ShownTicket<'static>>("The ticket."),
        more: vec![Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now.")],
        examples: vec![Example::new("socket", "For one socket", By::User)],
    }
}
