//! What the endpoints of tenants tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{List, QUERY};
use crate::{
    api::{
        doc::{By, Doc, Example, Field, Given, ID, Kind, Others, Reply, Tag, Who, must},
        messages::docs::sent,
    },
    control::Tenant,
};

const TAG: Tag = Tag {
    name: "Tenants",
    about: "Walls between customers: what each may use, and what it has used today. A tenant is a name \
            in tokens and services; there is none that is not there.",
};

const ADMINS: Who = Who::These(
    "The bearer of `ADMIN_TOKEN`, and users with the role `system_admin` for their own tenant.",
    &[Kind::SystemAdmin, Kind::Admin],
);

const QUOTAS: &str = r#"{
  "quotas": {"messages_per_day": 100000, "recipients_per_day": 1000000, "channels": 500}
}"#;

/// A tenant with quotas.
fn limited() -> Given {
    let path = "/api/v3/admin/tenants/acme";
    Given { by: By::Admin, method: Method::PUT, path, body: Some(QUOTAS), keep: vec![] }
}

/// Of one tenant.
fn one(summary: &'static str, about: &'static str, who: Who, examples: Vec<Example>) -> Doc {
    let query: &[Field] = &[];
    Doc {
        tag: &TAG,
        summary,
        about,
        who,
        others: Others::Same,
        path: vec![must("id", ID, "The tenant's id; `default` for what names none.")],
        query,
        headers: vec![],
        answer: Reply::data::<Tenant>("The tenant."),
        more: vec![],
        examples,
    }
}

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List tenants",
        about: "Those with quotas and those that used something today. A system admin sees the own \
                one.",
        who: ADMINS,
        others: Others::Same,
        path: vec![],
        query: QUERY,
        headers: vec![],
        answer: Reply::page::<List<'static>>("A page of tenants."),
        more: vec![],
        examples: vec![
            Example::new("all", "The first page", By::Admin)
                .after(limited())
                .after(sent())
                .query("page=1&size=50"),
        ],
    }
}

pub(crate) fn get() -> Doc {
    let mut doc = one(
        "One tenant",
        "",
        ADMINS,
        vec![
            Example::new("default", "Who is not told apart", By::Admin)
                .after(sent())
                .path("id", "default"),
            Example::new("acme", "One with quotas", By::Admin).after(limited()).path("id", "acme"),
        ],
    );
    doc.more = vec![
        Reply::refusal(
            ErrorType::Forbidden,
            "The caller is no admin, or asks for another tenant than the own one.",
        ),
        Reply::refusal(ErrorType::Invalid, "No tenant can have this id; `fields` names `id`."),
    ];
    doc
}

pub(crate) fn update() -> Doc {
    let mut doc = one(
        "Set quotas",
        "All of them: what is left out is not limited. What a day used is counted by each node for \
         itself.",
        Who::These("The bearer of `ADMIN_TOKEN`. Nobody sets limits to oneself.", &[Kind::Admin]),
        vec![
            Example::new("acme", "So much a day", By::Admin).path("id", "acme").body(QUOTAS),
            Example::new("unlimited", "No limits", By::Admin)
                .after(limited())
                .path("id", "acme")
                .body(r#"{"quotas": {}}"#),
            Example::new("misspelt", "What is not known is refused by name", By::Admin)
                .path("id", "acme")
                .body(r#"{"quotas": {"channel": 500}}"#)
                .answers(422),
        ],
    );
    doc.more = vec![Reply::refusal(
        ErrorType::Invalid,
        "The id or a field is not valid, or there are as many tenants with quotas as there may be.",
    )];
    doc
}
