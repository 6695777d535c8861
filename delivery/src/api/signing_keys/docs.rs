//! What the endpoint of the signing keys tells of itself.

use super::Published;
use crate::api::doc::{By, Doc, Example, Others, Reply, Tag, Who};

const TAG: Tag =
    Tag { name: "Tokens", about: "How other programs check the tokens of this service." };

pub(crate) fn published() -> Doc {
    Doc {
        tag: &TAG,
        summary: "The keys that tokens are signed with",
        about: "A JSON Web Key Set with the public halves of all keys whose tokens are believed, the next one \
                included. Empty where `JWT_SIGNING_ALGORITHM` is `HS256`: that secret is nobody else's. May be \
                kept for five minutes; a new key signs no earlier.",
        who: Who::Public,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::json::<Published>(200, "The keys."),
        more: vec![],
        examples: vec![Example::new("keys", "Fetch the keys", By::Nobody)],
    }
}
