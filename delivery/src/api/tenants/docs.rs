//! What the endpoints of tenants tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{DELETE_QUERY, Deleted, List, QUERY};
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

/// Somebody is in it.
fn service_there() -> Given {
    Given::post(
        By::Admin,
        "/api/v3/admin/services",
        r#"{"id": "acme-shop", "name": "商城", "type": "internal", "level": "business", "tenant_id": "acme"}"#,
    )
}

pub(crate) fn remove() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Delete a tenant with everything",
        about: "Users with all their data, services and their keys, webhooks, channels, templates, quotas, sessions, \
                admins of the tenant, statistics, what was sent. It cannot be undone. Tokens and keys are refused \
                before anything else, sockets are closed; the rest goes on where it takes longer than 5 s, also after a \
                kill, on whatever node. What stays is the audit log.",
        who: Who::These("The bearer of `ADMIN_TOKEN`, and admins for all tenants.", &[Kind::Admin]),
        others: Others::Same,
        path: vec![must("id", ID, "The tenant's id; not `default`.")],
        query: DELETE_QUERY,
        headers: vec![],
        answer: Reply::data::<Deleted<'static>>("What became of it."),
        more: vec![
            Reply::refusal(
                ErrorType::Invalid,
                "The id is not valid, is `default`, or is not the one of `confirm`; nothing is deleted.",
            ),
            Reply::refusal(
                ErrorType::Unavailable,
                "It was begun and goes on later, or not begun: ask again.",
            ),
        ],
        examples: vec![
            Example::new("acme", "All of it", By::Admin)
                .after(limited())
                .after(service_there())
                .path("id", "acme")
                .query("confirm=acme"),
            Example::new("slip", "Another one than was meant", By::Admin)
                .after(limited())
                .path("id", "acme")
                .query("confirm=acne")
                .answers(422),
        ],
    }
}
