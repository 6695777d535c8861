//! What the endpoints of a user's ways in tell of themselves.

use protocol::ErrorType;

use super::{List, REMOVE_QUERY};
use crate::api::{
    auth::docs::TAG,
    doc::{By, Doc, Example, Given, Others, Reply, Who},
    login::{
        ShownBegun, ShownLinked,
        docs::{SignedInAt, of_provider, provider, signed_in},
    },
};

/// The user of examples has signed in at a provider, and it is theirs.
fn linked(at: SignedInAt) -> [Given; 2] {
    const WITH_PKCE: &str = r#"{"code": "Zt2xS9h0Rk3nYw7QbUuJfGdVcLrXp4aEoM8iT1sNvHk", "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}"#;
    const CODE: &str = r#"{"code": "qX7mK2vTz9bW4cYp0RfLs6HdNj1uGe8aVo3IiQk5EwM"}"#;
    let add = match at {
        SignedInAt::GitHub => Given::post(By::User, "/api/v3/auth/identities/github", WITH_PKCE),
        SignedInAt::DingTalk => Given::post(By::User, "/api/v3/auth/identities/dingtalk", CODE),
    };
    [signed_in(at), add]
}

pub(crate) fn list() -> Doc {
    let [sign_in, add] = linked(SignedInAt::GitHub);
    Doc {
        tag: &TAG,
        summary: "Logins by which a user comes",
        about: "What providers know the user as. Nobody is recognised by an email address: providers give \
                those out anew.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<List>("The logins."),
        more: vec![Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now.")],
        examples: vec![Example::new("own", "All of them", By::User).after(sign_in).after(add)],
    }
}

pub(crate) fn add() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Add a login",
        about: "Another provider by which the same user comes. Without a body it begins a login as `GET \
                /auth/{provider}/login` does; the browser that made this request goes to `auth_url`, and when it \
                is back the login is added. An app logs in with a `redirect_uri` instead and sends the `code` \
                here in place of exchanging it.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![provider()],
        query: &[],
        headers: vec![],
        answer: Reply::either::<ShownBegun<'static>, ShownLinked<'static>>(
            "Where the browser goes now; or, with a code, what was added.",
        ),
        more: [
            Reply::refusal(ErrorType::Conflict, "The login belongs to another user."),
            Reply::refusal(ErrorType::Invalid, "The user has as many logins as can be."),
            Reply::refusal(
                ErrorType::Unauthorized,
                "No valid token; or the code is not the right one.",
            ),
        ]
        .into_iter()
        .chain(of_provider())
        .collect(),
        examples: vec![
            Example::new("begin", "In a browser", By::User).path("provider", "github"),
            Example::new("code", "With an app's code", By::User)
                .after(signed_in(SignedInAt::DingTalk))
                .path("provider", "dingtalk")
                .body(r#"{"code": "qX7mK2vTz9bW4cYp0RfLs6HdNj1uGe8aVo3IiQk5EwM"}"#),
            Example::new("bad", "With a code that is not valid", By::User)
                .path("provider", "github")
                .body(r#"{"code": "none"}"#)
                .answers(401),
        ],
    }
}

pub(crate) fn remove() -> Doc {
    let mut example = Example::new("github", "Come by GitHub no more", By::User);
    for given in linked(SignedInAt::GitHub).into_iter().chain(linked(SignedInAt::DingTalk)) {
        example = example.after(given);
    }
    let [sign_in, add] = linked(SignedInAt::GitHub);
    Doc {
        tag: &TAG,
        summary: "Take a login away",
        about: "Never the only one. Sessions that were begun by it go on: they are the user's.",
        who: Who::USERS,
        others: Others::Refused,
        path: vec![provider()],
        query: REMOVE_QUERY,
        headers: vec![],
        answer: Reply::data::<ShownLinked<'static>>("What was taken away."),
        more: vec![
            Reply::refusal(ErrorType::NotFound, "The user does not come by this provider."),
            Reply::refusal(ErrorType::Conflict, "It is the only login of the user."),
            Reply::refusal(
                ErrorType::Invalid,
                "There are several of this provider, and `subject` does not say which.",
            ),
            Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now."),
        ],
        examples: vec![
            example.path("provider", "github"),
            Example::new("last", "The only one", By::User)
                .after(sign_in)
                .after(add)
                .path("provider", "github")
                .answers(409),
        ],
    }
}
