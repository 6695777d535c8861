//! What the endpoints of the audit log tell of themselves.

use super::{List, QUERY, VERIFY_QUERY};
use crate::{
    api::doc::{By, Doc, Example, Given, Kind, Others, Reply, Tag, Who},
    audit::Verified,
};

const TAG: Tag = Tag {
    name: "Audit",
    about: "What admins have changed: who, what, when, from where, before and after. Every request by an admin \
            that changes something leaves an entry, also one that was refused for who asked; so does reading \
            all of a user. Entries are never changed or deleted, and each holds all before it by a hash: \
            SHA-256 of the hash before it as 64 hexadecimal digits (zeros before the first), a line feed, and \
            the entry as a JSON array without white space: `[seq, id, at in milliseconds, tenant_id, actor \
            kind, actor id, actor name, address, request_id, action, target, status, detail as a text]`.",
};

fn changed() -> Given {
    Given::post(
        By::Admin,
        "/api/v3/admin/services",
        r#"{"id": "shop", "name": "商城", "type": "internal", "level": "business"}"#,
    )
}

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "What admins have changed",
        about: "An admin of a tenant sees that tenant's entries.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: QUERY,
        headers: vec![],
        answer: Reply::page::<List>("A page of entries, latest first."),
        more: vec![],
        examples: vec![
            Example::new("shop", "What was done to a service", By::Admin)
                .after(changed())
                .query("target=services&size=5"),
        ],
    }
}

pub(crate) fn verify() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Whether the audit log is whole",
        about: "Goes through all of it: about a second for 100,000 entries. `hash` of the answer, kept \
                elsewhere with `entries` as its `seq`, shows the next time that nothing before it was written \
                anew; each entry's is in the security log as well (`event=audited`).",
        who: Who::These("The bearer of `ADMIN_TOKEN`, and admins for all tenants.", &[Kind::Admin]),
        others: Others::Same,
        path: vec![],
        query: VERIFY_QUERY,
        headers: vec![],
        answer: Reply::data::<Verified>("How it stands."),
        more: vec![],
        examples: vec![Example::new("whole", "Nothing is wrong", By::Admin).after(changed())],
    }
}
