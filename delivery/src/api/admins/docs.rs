//! What the endpoints of admins tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{Deleted, Ended, List, QUERY, Sessions};
use crate::{
    admin::AdminAccount,
    api::doc::{By, Doc, Example, Given, Kind, Others, Reply, Tag, Who, must, some_text},
};

const TAG: Tag = Tag {
    name: "Admins",
    about: "People who look after this installation. A `viewer` may look, an `operator` also change users, \
            sessions, connections, channels and messages, an `admin` everything. One with a `tenant_id` sees \
            that tenant only.",
};

pub(super) const WHO: Who =
    Who::These("The bearer of `ADMIN_TOKEN`, and admins of role `admin`.", &[Kind::Admin]);

pub(super) const MEI: &str = r#"{
  "username": "mei",
  "name": "小美",
  "role": "operator",
  "password": "a long one that nobody knows"
}"#;

/// An admin's id as examples write it.
const ADMIN_ID: &str = "adm-01946c1b2f4a70418d0e2a7b0f3c9d55";

/// Longest id that is looked for, in bytes. Longer ones are none of ours.
pub(super) const ID_BYTES_MAX: usize = 128;

pub(super) fn mei() -> Given {
    Given::post(By::Admin, "/api/v3/admin/admins", MEI).keep(ADMIN_ID, "/data/id")
}

/// Of one admin.
fn one(summary: &'static str, about: &'static str, answer: Reply, example: Example) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: WHO,
        others: Others::Same,
        path: vec![must("id", some_text(ID_BYTES_MAX), "The admin's id.")],
        query: &[],
        headers: vec![],
        answer,
        more: vec![Reply::refusal(ErrorType::NotFound, "There is no such admin.")],
        examples: vec![example.after(mei()).path("id", ADMIN_ID)],
    }
}

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List admins",
        about: "",
        who: WHO,
        others: Others::Same,
        path: vec![],
        query: QUERY,
        headers: vec![],
        answer: Reply::page::<List<'static>>("A page of admins."),
        more: vec![],
        examples: vec![
            Example::new("all", "The first page", By::Admin).after(mei()).query("page=1&size=50"),
        ],
    }
}

pub(crate) fn create() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Make an admin",
        about: "They log in with this password, and enrol their second factor with the first login.",
        who: WHO,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<AdminAccount>("The admin."),
        more: vec![Reply::refusal(
            ErrorType::Invalid,
            "A field is not valid, the username is taken, or there are as many admins as there may be.",
        )],
        examples: vec![Example::new("mei", "An operator for all tenants", By::Admin).body(MEI)],
    }
}

pub(crate) fn get() -> Doc {
    one(
        "One admin",
        "",
        Reply::data::<AdminAccount>("The admin."),
        Example::new("mei", "An admin", By::Admin),
    )
}

pub(crate) fn update() -> Doc {
    one(
        "Change an admin",
        "What is left out stays. What is taken from them is gone with their next request.",
        Reply::data::<AdminAccount>("How it stands now."),
        Example::new("mei", "Only to look", By::Admin).body(r#"{"role": "viewer"}"#),
    )
}

pub(crate) fn remove() -> Doc {
    one(
        "Delete an admin",
        "Their sessions end at once.",
        Reply::data::<Deleted>("Who is gone."),
        Example::new("mei", "For good", By::Admin),
    )
}

pub(crate) fn sessions() -> Doc {
    one(
        "Sessions of an admin",
        "",
        Reply::data::<Sessions>("Those that go on."),
        Example::new("mei", "Of somebody who has not logged in yet", By::Admin),
    )
}

pub(crate) fn end_sessions() -> Doc {
    one(
        "End all sessions of an admin",
        "Their tokens are refused from now on, by all nodes.",
        Reply::data::<Ended>("How many there were."),
        Example::new("mei", "All of them", By::Admin),
    )
}

pub(crate) fn end_session() -> Doc {
    let mut doc = one(
        "End a session of an admin",
        "Its token is refused from now on, by all nodes. One that has ended already is no mistake.",
        Reply::data::<Ended>("Whether there was one."),
        Example::new("mei", "One that has ended", By::Admin),
    );
    doc.path.push(must("session_id", some_text(ID_BYTES_MAX), "The session's id."));
    for example in &mut doc.examples {
        example.call.path.push(("session_id", "01946c1b2f4a70418d0e2a7b0f3c9d55"));
    }
    doc
}

/// Somebody has begun to log in.
pub(super) fn begun(challenge: &'static str, secret: &'static str) -> Given {
    const LOGIN: &str = r#"{"username": "mei", "password": "a long one that nobody knows"}"#;
    let mut begun = Given::call(By::Nobody, Method::POST, "/api/v3/admin/auth/login");
    begun.body = Some(LOGIN);
    begun.keep(challenge, "/data/challenge").keep(secret, "/data/enrolment/secret")
}
