//! What the endpoints of profiles tell of themselves.

use protocol::ErrorType;

use super::Shown;
use crate::api::{
    auth::docs::TAG,
    doc::{By, Doc, Example, Others, Reply, Who},
};

pub(crate) fn get() -> Doc {
    Doc {
        tag: &TAG,
        summary: "The own profile",
        about: "What logins, tokens, admins and the user have said.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Shown<'static>>("The user."),
        more: vec![Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now.")],
        examples: vec![Example::new("own", "Whoever asks", By::User)],
    }
}

pub(crate) fn update() -> Doc {
    Doc {
        summary: "Change the own profile",
        about: "What is left out stays; an empty text takes it away.",
        examples: vec![
            Example::new("name", "A name, a language and a time zone", By::User)
                .body(r#"{"name": "小明", "locale": "zh-CN", "time_zone": "Asia/Shanghai"}"#),
        ],
        ..get()
    }
}
