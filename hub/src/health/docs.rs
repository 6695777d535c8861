//! What health and metrics tell of themselves.

use delivery::api::doc::{By, Doc, Example, Field, Others, Reply, Shape, Tag, Who, may, some_text};

use super::{Alive, NAMES, Report};

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

const METRICS_QUERY: &[Field] = &[may(
    NAMES,
    Shape::List(&some_text(NAME_BYTES_MAX), 0, METRICS_MAX),
    "Only the metric of this name, with all its series. May be given several times.",
)];

/// Longest name and most names that are described. More are no mistake, they find nothing.
const NAME_BYTES_MAX: usize = 128;
const METRICS_MAX: usize = 64;

pub(super) fn metrics() -> Doc {
    let examples = vec![
        Example::new("now", "All", By::Nobody),
        Example::new("some", "One of them", By::Nobody).query("name%5B%5D=pushhub_connections"),
    ];
    Doc {
        query: METRICS_QUERY,
        examples,
        ..public(
            "Metrics",
            "Prometheus text format. The README lists them.",
            Reply::media(200, "text/plain", "Those that were asked for, or all."),
            vec![],
        )
    }
}
