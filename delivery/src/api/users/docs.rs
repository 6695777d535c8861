//! What the endpoints of users tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{Known, LIST_QUERY, List, QUERY};
use crate::api::{
    channels::Members,
    doc::{By, Doc, Example, Given, ID, Others, Reply, Tag, Who, must},
};

pub(crate) const TAG: Tag = Tag {
    name: "Users",
    about: "Who there is, and the roles and departments they carry. Those of a user's latest token \
            count, and beside them those that an admin added. Messages can be sent to a role, and to a \
            department as the role `department:<name>`.",
};

const ROLES: &str = r#"{"roles": ["oncall", "财务"]}"#;
const DEPARTMENT: &str = r#"{"department": "销售部"}"#;

/// The user of examples shows a token.
fn seen() -> Given {
    Given::call(By::User, Method::GET, "/api/v3/messages/unread-count")
}

fn put(path: &'static str, body: &'static str) -> Given {
    Given { by: By::Admin, method: Method::PUT, path, body: Some(body), keep: vec![] }
}

/// Of one user.
fn one(
    summary: &'static str,
    about: &'static str,
    about_none: &'static str,
    examples: Vec<Example>,
) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![must("id", ID, "The user's id.")],
        query: QUERY,
        headers: vec![],
        answer: Reply::data::<Known<'static>>("The user."),
        more: vec![Reply::refusal(ErrorType::NotFound, about_none)],
        examples,
    }
}

/// A change of a user who may not be there yet.
fn change(summary: &'static str, about: &'static str, examples: Vec<Example>) -> Doc {
    one(summary, about, "No user can have this id.", examples)
}

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List users",
        about: "Everybody who showed a token, was sent a message, or was spoken of by an admin.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: LIST_QUERY,
        headers: vec![],
        answer: Reply::page::<List<'static>>("A page of users."),
        more: vec![],
        examples: vec![
            Example::new("first_page", "The first page", By::Admin).after(seen()).query("size=50"),
            Example::new("of_tenant", "Those of another tenant", By::Admin)
                .after(put("/api/v3/admin/users/zhangsan/roles?tenant_id=acme", ROLES))
                .query("tenant_id=acme"),
        ],
    }
}

pub(crate) fn get() -> Doc {
    one(
        "One user",
        "",
        "There is no such user: nobody has heard of this id so far.",
        vec![
            Example::new("one", "A user who has shown a token", By::Admin)
                .after(seen())
                .path("id", "user123"),
            Example::new("none", "Nobody has heard of this one", By::Admin)
                .path("id", "lisi")
                .answers(404),
        ],
    )
}

pub(crate) fn set_roles() -> Doc {
    change(
        "Set added roles",
        "The added roles become these; those of tokens stay. Whoever was never here can be given roles \
         beforehand. An added `system_admin` may send to everybody, and is none on the admin port: \
         there the token decides.",
        vec![
            Example::new("oncall", "Two roles", By::Admin).path("id", "user123").body(ROLES),
            Example::new("department", "A department is set by itself", By::Admin)
                .path("id", "user123")
                .body(r#"{"roles": ["department:销售部"]}"#)
                .answers(422),
        ],
    )
}

pub(crate) fn set_department() -> Doc {
    change(
        "Set the department",
        "It is this one from now on, whatever tokens say.",
        vec![
            Example::new("sales", "Another department", By::Admin)
                .path("id", "user123")
                .body(DEPARTMENT),
            Example::new("as_token", "As tokens say, again", By::Admin)
                .after(put("/api/v3/admin/users/user123/department", DEPARTMENT))
                .path("id", "user123")
                .body(r#"{"department": null}"#),
        ],
    )
}

pub(crate) fn role_members() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Members of a role",
        about: "Users who carry it, by a token or because an admin added it. A role that nobody \
                carries has none.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![must("role", ID, "The role, or `department:<name>` for a department.")],
        query: LIST_QUERY,
        headers: vec![],
        answer: Reply::page::<Members>("A page of members, by id."),
        more: vec![],
        examples: vec![
            Example::new("oncall", "Who is on call", By::Admin)
                .after(put("/api/v3/admin/users/user123/roles", ROLES))
                .path("role", "oncall"),
            Example::new("department", "Who is in sales", By::Admin)
                .after(put("/api/v3/admin/users/user123/department", r#"{"department": "sales"}"#))
                .path("role", "department:sales"),
        ],
    }
}

pub(crate) fn disable() -> Doc {
    change(
        "Disable a user",
        "Ends all sessions, closes all sockets (4501), and refuses every token of theirs with 403, here at \
         once and on other nodes within two seconds. What is sent to them goes on to be stored.",
        vec![
            Example::new("leaver", "One who left the company", By::Admin)
                .after(seen())
                .path("id", "user123"),
        ],
    )
}

pub(crate) fn enable() -> Doc {
    change(
        "Let a disabled user in again",
        "Tokens that were made before are believed again, unless they were revoked besides; sessions have \
         ended for good.",
        vec![
            Example::new("back", "One who came back", By::Admin)
                .after(Given::call(By::Admin, Method::POST, "/api/v3/admin/users/user123/disable"))
                .path("id", "user123"),
        ],
    )
}
