//! What health and metrics tell of themselves.

use delivery::api::doc::{By, Doc, Example, Others, Reply, Tag, Who};

use super::{Alive, Report};

const TAG: Tag = Tag {
    name: "Operation",
    about: "For orchestrators and scrapers. Nobody is asked who they are: keep this port inside.",
};

fn public(summary: &'static str, about: &'static str, answer: Reply, more: Vec<Reply>) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::Public,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer,
        more,
        examples: vec![Example::new("now", "Ask", By::Nobody)],
    }
}

pub(super) fn live() -> Doc {
    public(
        "Whether the process turns",
        "Nothing else: a restart does not mend a full disk.",
        Reply::json::<Alive>(200, "It does."),
        vec![],
    )
}

pub(super) fn ready() -> Doc {
    public(
        "Whether to send it work",
        "The store has just proved a write, the node is not draining, and one of the role `hub` has room for sockets. `/health` is the same.",
        Reply::json::<Report>(200, "Yes."),
        vec![Reply::json::<Report>(503, "No, and why.")],
    )
}

pub(super) fn metrics() -> Doc {
    public(
        "Metrics",
        "Prometheus text format. The README lists them.",
        Reply::media(200, "text/plain", "All of them."),
        vec![],
    )
}
