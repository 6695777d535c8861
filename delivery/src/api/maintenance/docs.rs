//! What the endpoints for maintenance tell of themselves.

use super::Pruned;
use crate::api::doc::{By, Doc, Example, Others, Reply, Tag, Who};

const TAG: Tag =
    Tag { name: "Maintenance", about: "Work on the store that goes on by itself, done now." };

pub(crate) fn prune() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Forget what need not be kept",
        about: "What is older than `RETENTION_MAX_AGE` and what is beyond `RETENTION_MAX_MESSAGES`, in one \
                inbox or, for the bearer of `ADMIN_TOKEN`, in all. Clients that come back from before \
                that are told `resync_required`.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Pruned>("How many messages were forgotten."),
        more: vec![],
        examples: vec![
            Example::new("one", "One inbox", By::Admin)
                .body(r#"{"tenant_id": "default", "user_id": "user123"}"#),
            Example::new("all", "All of them", By::Admin),
        ],
    }
}
