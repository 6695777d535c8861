//! What the descriptions say of themselves.

use crate::api::doc::{By, Doc, Example, Field, Others, Reply, Tag, Who, may, text};

const TAG: Tag = Tag {
    name: "Descriptions",
    about: "The API in a form for programs, and a page to browse and try it.",
};

fn if_none_match() -> Field {
    may(
        "If-None-Match",
        text(usize::MAX),
        "The `ETag` that is there already; if it still fits, the answer is 304.",
    )
}

fn not_modified() -> Reply {
    Reply::empty(304, "What `If-None-Match` names is still right.")
}

fn document(summary: &'static str, about: &'static str, answer: Reply, example: Example) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::Public,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![if_none_match()],
        answer,
        more: vec![not_modified()],
        examples: vec![example],
    }
}

pub(super) fn openapi() -> Doc {
    document(
        "This document",
        "OpenAPI 3.1 of this port.",
        Reply::media(200, "application/json", "The document, with an `ETag`."),
        Example::new("document", "Fetch this document", By::Nobody),
    )
}

pub(super) fn asyncapi() -> Doc {
    document(
        "The socket's document",
        "AsyncAPI 3.0 of the socket at `/ws`. Its examples are the bytes that clients are tested with.",
        Reply::media(200, "application/json", "The document, with an `ETag`."),
        Example::new("document", "Fetch the socket's document", By::Nobody),
    )
}

pub(super) fn page() -> Doc {
    document(
        "A page to browse and try the API",
        "One page of HTML that loads nothing from outside.",
        Reply::media(200, "text/html", "The page, with an `ETag`."),
        Example::new("page", "Fetch the page", By::Nobody),
    )
}
