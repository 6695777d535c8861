//! What the endpoint of a channel's messages tells of itself.

use protocol::ErrorType;

use super::List;
use crate::api::{
    channels::docs::{CHANNEL_ID, project, project_members},
    doc::{By, Doc, Example, Given, Others, Reply, Who},
    messages::docs::TAG,
    query,
};

/// A message to [`project`].
fn sent() -> Given {
    Given::post(
        By::Service,
        "/api/v3/messages/send",
        r#"{"title": "项目周报", "content": "本周的进展见附件", "recipients": ["channel-456"],
           "recipient_type": "channel"}"#,
    )
}

/// One member comes.
fn comes(body: &'static str) -> Given {
    Given::post(By::Service, "/api/v3/channels/channel-456/members", body)
}

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List a channel's messages",
        about: "Those of the inbox, with the filters of `GET /api/v3/messages`. They are there as well \
                for who has left the channel. A member of a channel with `history` goes on by \
                `meta.next_cursor` into what was sent to it before, newest first; `cursor=h` begins \
                there. What is shown of the history has `seq` 0 and counts as read.",
        who: Who::USERS,
        others: Others::Refused,
        path: vec![CHANNEL_ID],
        query: query::LIST_OF_CHANNEL,
        headers: vec![],
        answer: Reply::page::<List>("A page of the channel's messages."),
        more: vec![Reply::refusal(
            ErrorType::NotFound,
            "The user is not in such a channel, and has no message of it.",
        )],
        examples: vec![
            Example::new("first_page", "The newest messages", By::User)
                .after(project())
                .after(project_members())
                .after(sent())
                .path("id", "channel-456")
                .query("page=1&size=20"),
            Example::new("history", "What was sent before one came", By::User)
                .after(project())
                .after(comes(r#"{"join": ["user456"]}"#))
                .after(sent())
                .after(comes(r#"{"join": ["user123"]}"#))
                .path("id", "channel-456")
                .query("cursor=h"),
            Example::new("outside", "Not for who is not in it", By::User)
                .after(project())
                .path("id", "channel-456")
                .answers(404),
        ],
    }
}
