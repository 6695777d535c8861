//! What the endpoints that delete users tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::Shown;
use crate::api::{
    auth,
    doc::{By, Doc, Example, Given, ID, Kind, Others, Reply, Who, must},
    users,
};

pub(crate) fn of_user() -> Doc {
    let seen = || Given::call(By::User, Method::GET, "/api/v3/messages/unread-count");
    Doc {
        tag: &users::docs::TAG,
        summary: "Delete a user with all data",
        about: "Cannot be undone, and needs an admin. Access ends at once: sessions, tokens that were made \
                before, sockets (4501), on all nodes. Then everything goes: the inbox with its messages, \
                marks and receipts, what the user has sent as senders see it, messages that wait, memberships, \
                profile, logins, and what services are to be told or were told of the user. What the user sent \
                stays in the inboxes of those who received it, and sums of statistics stay. Whoever is sent \
                something after it begins anew. Asking again is no error, and answers once all is gone; one \
                that takes longer than 5 s answers `deleting` and goes on, also after a restart.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![must("id", ID, "The user's id.")],
        query: users::QUERY,
        headers: vec![],
        answer: Reply::data::<Shown<'static>>("What became of the user."),
        more: vec![
            Reply::refusal(ErrorType::NotFound, "No user can have this id."),
            Reply::refusal(
                ErrorType::Unavailable,
                "Something cannot be written now. What was begun is finished as soon as it can.",
            ),
        ],
        examples: vec![
            Example::new("user", "A user who was here", By::Admin)
                .after(seen())
                .path("id", "user123"),
            Example::new(
                "again",
                "Nobody has heard of this one, or it was deleted before",
                By::Admin,
            )
            .path("id", "lisi"),
        ],
    }
}

pub(crate) fn own() -> Doc {
    Doc {
        tag: &auth::docs::TAG,
        summary: "Delete the own account",
        about: "With all data, as `DELETE /api/v3/admin/users/{id}` does; it cannot be undone. Needs the user id \
                in the body, and a login of the last 10 minutes: a token that was found or stolen is older, and \
                refreshing it makes no younger login of it.",
        who: Who::These(
            "Users, of themselves, by a token that may write.",
            &[Kind::User, Kind::DepartmentAdmin, Kind::SystemAdmin],
        ),
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Shown<'static>>("What became of the user."),
        more: vec![
            Reply::refusal(
                ErrorType::Forbidden,
                "The login is too old, or the token may only read.",
            ),
            Reply::refusal(
                ErrorType::Unavailable,
                "Something cannot be written now. What was begun is finished as soon as it can.",
            ),
        ],
        examples: vec![
            Example::new("own", "Whoever asks", By::User).body(r#"{"confirm": "user123"}"#),
            Example::new("mistake", "Another id", By::User)
                .body(r#"{"confirm": "lisi"}"#)
                .answers(422),
        ],
    }
}
