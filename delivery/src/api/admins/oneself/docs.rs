//! What the endpoints of an admin's own login tell of themselves.

use super::{Ended, ShownCodes};
use crate::api::{
    admins::logins::{ShownChallenge, docs::TAG},
    doc::{ADMIN_PASSWORD, By, Doc, Example, Given, Others, Reply, TOTP_NOW, TOTP_SECRET, Who},
};
use http::Method;
use protocol::ErrorType;

/// A challenge as examples write it.
const CHALLENGE: &str = "phe_V3mB8tYq1LxRz6KfWc0dHjNs9EuGa4TiPo7QyXkCv2M";

const PASSWORD: &str = r#"{"password": "correct horse battery staple"}"#;
const _: () = assert!(matches!(ADMIN_PASSWORD.as_bytes(), b"correct horse battery staple"));

fn own(summary: &'static str, about: &'static str, answer: Reply, examples: Vec<Example>) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::SIGNED_IN,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer,
        more: vec![
            Reply::refusal(
                ErrorType::Forbidden,
                "Whoever asks is no admin who has logged in, or has no password.",
            ),
            Reply::refusal(ErrorType::Invalid, "The password is not right."),
        ],
        examples,
    }
}

fn wrong() -> Example {
    Example::new("wrong", "A wrong password", By::SignedIn)
        .body(r#"{"password": "a guess"}"#)
        .answers(422)
}

pub(crate) fn change_password() -> Doc {
    own(
        "Change the own password",
        "The other sessions end. Wrong old ones make the next one wait, as wrong logins do.",
        Reply::data::<Ended>("How many other sessions there were."),
        vec![
            Example::new("mei", "For a new one", By::SignedIn).body(
                r#"{"old_password": "correct horse battery staple", "new_password": "a longer one that nobody knows"}"#,
            ),
            Example::new("wrong", "A wrong old one", By::SignedIn)
                .body(r#"{"old_password": "a guess", "new_password": "a longer one that nobody knows"}"#)
                .answers(422),
        ],
    )
}

pub(crate) fn enrol() -> Doc {
    own(
        "Begin to take another second factor",
        "Answers what an authenticator app needs. The one before stays in force until the first code of the \
         new one is confirmed.",
        Reply::data::<ShownChallenge<'static>>("What is missing is a code."),
        vec![Example::new("mei", "A new phone", By::SignedIn).body(PASSWORD), wrong()],
    )
}

pub(crate) fn confirm() -> Doc {
    const BODY: &str =
        r#"{"challenge": "phe_V3mB8tYq1LxRz6KfWc0dHjNs9EuGa4TiPo7QyXkCv2M", "code": "287082"}"#;
    const _: () = assert!(matches!(TOTP_NOW.as_bytes(), b"287082"));
    let mut begun = Given::call(By::SignedIn, Method::POST, "/api/v3/admin/me/totp");
    begun.body = Some(PASSWORD);
    let begun = begun.keep(CHALLENGE, "/data/challenge");
    let begun = begun.keep(TOTP_SECRET, "/data/enrolment/secret");
    let mut doc = own(
        "Take another second factor",
        "By its first code. The recovery codes are new as well, and the other sessions end. A challenge takes \
         five wrong codes.",
        Reply::data::<ShownCodes<'static>>("It is in force."),
        vec![
            Example::new("mei", "The first code", By::SignedIn).after(begun).body(BODY),
            Example::new("over", "A challenge that has ended", By::SignedIn)
                .body(BODY)
                .answers(422),
        ],
    );
    doc.more = vec![
        Reply::refusal(ErrorType::Invalid, "The challenge or the code is not right."),
        Reply::refusal(ErrorType::Forbidden, "Whoever asks is no admin who has logged in."),
    ];
    doc
}

pub(crate) fn recovery_codes() -> Doc {
    own(
        "Make new recovery codes",
        "Those before are good no more.",
        Reply::data::<ShownCodes<'static>>("The new ones."),
        vec![Example::new("mei", "Ten new ones", By::SignedIn).body(PASSWORD), wrong()],
    )
}

pub(crate) fn remove() -> Doc {
    own(
        "Give up the second factor",
        "Another one is enrolled with the next login. The other sessions end.",
        Reply::data::<Ended>("How many other sessions there were."),
        vec![Example::new("mei", "Before a new phone", By::SignedIn).body(PASSWORD), wrong()],
    )
}
