//! What `GET /sync` tells of itself.

use protocol::{ErrorType, Seq};
use schemars::JsonSchema;

use super::{Changes, QUERY};
use crate::api::{
    doc::{By, Doc, Example, Others, Reply, Tag, Who},
    messages::docs::sent,
};

pub(in crate::api) const TAG: Tag = Tag {
    name: "Changes",
    about: "An inbox is a log: every change has a `seq`, 1, 2, 3 … without holes. Sockets and event \
            streams push it, polling fetches it, and the frames are the same.",
};

/// Where an inbox can be resumed from.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "FailureData::Resync as it is on the wire")]
pub(crate) struct Resync {
    /// The oldest position that can be resumed from.
    min_seq: Seq,
    /// The inbox's latest position.
    head: Seq,
}

pub(crate) fn changes() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Changes after a position",
        about: "For clients that poll: ask with the last `seq` that was seen, until `more` is false.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: QUERY,
        headers: vec![],
        answer: Reply::data::<Changes>("Changes in order."),
        more: vec![Reply::state::<Resync>(
            ErrorType::ResyncRequired,
            "The position is older than what is kept, or ahead of the inbox: list the messages and go \
             on from `head`.",
        )],
        examples: vec![
            Example::new("all", "From the beginning", By::User)
                .after(sent())
                .query("since=0&limit=100"),
            Example::new("ahead", "A position of another inbox", By::User)
                .query("since=9")
                .answers(410),
        ],
    }
}
