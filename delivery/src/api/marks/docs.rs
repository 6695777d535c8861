//! What the endpoints that mark messages tell of themselves.

use protocol::ErrorType;

use super::{MarkedMany, MarkedOne};
use crate::api::{
    doc::{By, Doc, Example, ID, Others, Reply, Who, must},
    error::Shown,
    messages::docs::{EXAMPLE_ID, MESSAGE_ID, TAG, sent},
};

fn mark_one(summary: &'static str, about: &'static str, examples: Vec<Example>) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::USERS,
        others: Others::Refused,
        path: vec![must("id", ID, MESSAGE_ID)],
        query: &[],
        headers: vec![],
        answer: Reply::data::<MarkedOne>("How the message stands now."),
        more: vec![
            Reply::refusal(ErrorType::NotFound, "There is no such message in this inbox."),
            Reply::state::<Shown>(
                ErrorType::VersionConflict,
                "`expected_version` is not the current one; `data` is how the message stands.",
            ),
        ],
        examples,
    }
}

pub(crate) fn read() -> Doc {
    mark_one(
        "Mark as read",
        "Reading twice is no change.",
        vec![
            Example::new("read", "From a device", By::User)
                .after(sent())
                .path("id", EXAMPLE_ID)
                .body(r#"{"device_id": "device-789"}"#),
            Example::new("stale", "Only if nothing has changed since", By::User)
                .after(sent())
                .path("id", EXAMPLE_ID)
                .body(r#"{"expected_version": 1000}"#)
                .answers(409),
        ],
    )
}

pub(crate) fn unread() -> Doc {
    mark_one(
        "Mark as unread",
        "",
        vec![Example::new("unread", "Again", By::User).after(sent()).path("id", EXAMPLE_ID)],
    )
}

pub(crate) fn archive() -> Doc {
    mark_one(
        "Archive",
        "An archived message counts as read and is listed with `status=archived`.",
        vec![Example::new("archive", "Put away", By::User).after(sent()).path("id", EXAMPLE_ID)],
    )
}

pub(crate) fn read_batch() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Mark many as read",
        about: "Exactly one of `message_ids`, `up_to_seq` and `channel_id`.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<MarkedMany>("How many were changed."),
        more: vec![],
        examples: vec![
            Example::new("ids", "By id", By::User)
                .after(sent())
                .body(r#"{"message_ids": ["msg-0194691a2f40704180bd2a7b0f3c9d11"]}"#),
            Example::new("up_to", "All up to a position", By::User)
                .after(sent())
                .body(r#"{"up_to_seq": 1}"#),
            Example::new("channel", "All of a channel", By::User)
                .after(sent())
                .body(r#"{"channel_id": "channel-456"}"#),
        ],
    }
}
