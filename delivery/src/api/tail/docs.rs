//! What the tail tells of itself.

use protocol::ErrorType;

use super::QUERY;
use crate::api::doc::{By, Doc, Example, Others, Reply, Tag, Who};

const TAG: Tag = Tag {
    name: "Tail",
    about: "What a node sends and delivers, while it happens. Never what messages say, nor for whom they are.",
};

pub(crate) fn watch() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Watch sends and deliveries",
        about: "Server-sent events `tail` of this node, four a second at most: `data` is `{\"rows\": […], \"missed\": 0}`. A row \
                is what happened to a message since the last event: `at`, `tenant_id`, `message_id`, `message_type`, \
                `sender`; `accepted` where it became durable, with `scheduled` and the number of `recipients` that \
                were named; `users` connected here, connections that took it at once (`written`) or take it later \
                (`waiting`), and the longest time from the request to the socket, `took_ms`. `missed` counts what \
                happened faster than it could be told. The first event comes at once. The stream ends after `seconds`; \
                ask again to go on. 16 watch a node at most.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: QUERY,
        headers: vec![],
        answer: Reply::media(200, "text/event-stream", "The events."),
        more: vec![Reply::refusal(ErrorType::Unavailable, "As many watch this node as may.")],
        examples: vec![Example::new("now", "For a second", By::Admin).query("seconds=1")],
    }
}
