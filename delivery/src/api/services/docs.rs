//! What the endpoints of services tell of themselves.

use protocol::ErrorType;

use super::{Created, CreatedKey, KeyList, QUERY, RevokedKey, ServiceList};
use crate::{
    api::doc::{By, Doc, Example, Given, ID, Others, Reply, Tag, Who, must, text},
    control::{ApiKey, Service},
};

const TAG: Tag = Tag { name: "Services", about: "Backends that may send, and their keys." };

const SHOP: &str = r#"{
  "id": "shop",
  "name": "商城",
  "type": "internal",
  "level": "business",
  "permissions": ["on_behalf_of"],
  "scope": {"templates": [], "channels": [], "message_types": ["order"]},
  "rate_limit": {"per_second": 100, "burst": 1000},
  "owner": "shop-team@company.com"
}"#;

const PARTNER: &str = r#"{
  "id": "partner",
  "name": "合作方",
  "type": "external",
  "level": "third_party",
  "scope": {"message_types": ["text"]}
}"#;

/// A key's id as examples write it.
const KEY_ID: &str = "Ab3dEf6hIj9k";

/// Longest key id that is looked for, in bytes. Longer ones are none of ours.
const KEY_ID_BYTES_MAX: usize = 128;

fn shop() -> Given {
    Given::post(By::Admin, "/api/v3/admin/services", SHOP).keep(KEY_ID, "/data/key/id")
}

fn partner() -> Given {
    Given::post(By::Admin, "/api/v3/admin/services", PARTNER)
}

/// Of one service.
fn one(summary: &'static str, about: &'static str, answer: Reply, example: Example) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![must("id", ID, "The service's id.")],
        query: &[],
        headers: vec![],
        answer,
        more: vec![Reply::refusal(ErrorType::NotFound, "There is no such service.")],
        examples: vec![example],
    }
}

/// A change of its status.
fn change(summary: &'static str, about: &'static str, example: Example) -> Doc {
    let mut doc = one(summary, about, Reply::data::<Service>("How it stands now."), example);
    doc.more.push(Reply::refusal(
        ErrorType::Invalid,
        "A service of this status cannot become that one; `fields` names `status`.",
    ));
    doc
}

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List services",
        about: "",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: QUERY,
        headers: vec![],
        answer: Reply::page::<ServiceList<'static>>("A page of services."),
        more: vec![],
        examples: vec![
            Example::new("all", "The first page", By::Admin).after(shop()).query("page=1&size=50"),
        ],
    }
}

pub(crate) fn create() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Register a service",
        about: "Answers its first key in `api_key`, here and never again.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Created<'static>>("The service and its first key."),
        more: vec![Reply::refusal(
            ErrorType::Invalid,
            "A field is not valid, the id is taken, or there are as many services as there may be.",
        )],
        examples: vec![
            Example::new("shop", "A backend of ours", By::Admin).body(SHOP),
            Example::new("partner", "A partner, who waits for approval", By::Admin).body(PARTNER),
        ],
    }
}

pub(crate) fn get() -> Doc {
    one(
        "One service",
        "",
        Reply::data::<Service>("The service."),
        Example::new("shop", "A service", By::Admin).after(shop()).path("id", "shop"),
    )
}

pub(crate) fn update() -> Doc {
    one(
        "Change a service",
        "What is left out stays; its status has calls of its own.",
        Reply::data::<Service>("How it stands now."),
        Example::new("shop", "Only from our network", By::Admin)
            .after(shop())
            .path("id", "shop")
            .body(r#"{"allowed_networks": ["10.0.0.0/8"]}"#),
    )
}

pub(crate) fn approve() -> Doc {
    change(
        "Approve a service",
        "A third-party service may send from now on, within its scope.",
        Example::new("partner", "A partner", By::Admin).after(partner()).path("id", "partner"),
    )
}

pub(crate) fn suspend() -> Doc {
    change(
        "Suspend a service",
        "Its keys are refused with 403 until it is activated again.",
        Example::new("shop", "For a while", By::Admin).after(shop()).path("id", "shop"),
    )
}

pub(crate) fn activate() -> Doc {
    change(
        "Activate a service",
        "One that was suspended or disabled.",
        Example::new("shop", "Again", By::Admin)
            .after(shop())
            .after(Given::call(
                By::Admin,
                http::Method::POST,
                "/api/v3/admin/services/shop/suspend",
            ))
            .path("id", "shop"),
    )
}

pub(crate) fn disable() -> Doc {
    change(
        "Disable a service",
        "Its keys are refused with 403.",
        Example::new("shop", "For good", By::Admin).after(shop()).path("id", "shop"),
    )
}

pub(crate) fn list_keys() -> Doc {
    one(
        "Keys of a service",
        "Without their secrets, which are not kept.",
        Reply::data::<KeyList>("Its keys."),
        Example::new("shop", "The one there is", By::Admin).after(shop()).path("id", "shop"),
    )
}

pub(crate) fn create_key() -> Doc {
    one(
        "Make a key",
        "Answers the key in `api_key`, here and never again. Older ones go on: a service that changes \
         its key has both for a while.",
        Reply::data::<CreatedKey<'static>>("The new key."),
        Example::new("rotation", "With an end", By::Admin)
            .after(shop())
            .path("id", "shop")
            .body(r#"{"name": "nightly jobs", "expires_at": "2999-01-01T00:00:00Z"}"#),
    )
}

/// Of one key.
fn one_key(summary: &'static str, about: &'static str, answer: Reply, example: Example) -> Doc {
    let example = example.after(shop()).path("id", "shop").path("key_id", KEY_ID);
    let mut doc = one(summary, about, answer, example);
    doc.path.push(must(
        "key_id",
        text(KEY_ID_BYTES_MAX),
        "The key's id: the part between its first and second `_`.",
    ));
    doc.more = vec![Reply::refusal(ErrorType::NotFound, "There is no such service or key.")];
    doc
}

pub(crate) fn revoke_key() -> Doc {
    one_key(
        "Revoke a key",
        "It is refused from now on.",
        Reply::data::<RevokedKey>("What was revoked."),
        Example::new("shop", "The first one", By::Admin),
    )
}

pub(crate) fn update_key() -> Doc {
    one_key(
        "Change a key",
        "What is left out stays. A request from elsewhere is refused with 403 from now on.",
        Reply::data::<ApiKey>("How it stands now."),
        Example::new("shop", "For the machines of one network", By::Admin)
            .body(r#"{"name": "order workers", "allowed_networks": ["10.20.0.0/16", "fd00::/8"]}"#),
    )
}

pub(crate) fn rotate_key() -> Doc {
    let mut doc = one_key(
        "Replace a key",
        "Answers a new key in `api_key`, here and never again, with the old one's name and networks. The \
         old one ends after `overlap_seconds`; both are good until then.",
        Reply::data::<CreatedKey<'static>>("The new key."),
        Example::new("shop", "Within an hour", By::Admin).body(r#"{"overlap_seconds": 3600}"#),
    );
    doc.more.push(Reply::refusal(
        ErrorType::Invalid,
        "The key has expired, or was replaced already; the sentence names its successor.",
    ));
    doc
}
