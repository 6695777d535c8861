//! What the endpoints of the inbox tell of themselves.

use protocol::ErrorType;

use super::{List, UNREAD_COUNT, Unread, UnreadIn};
use crate::api::{
    doc::{By, Doc, Example, Given, ID, Others, Reply, Tag, Who, must},
    error::Shown,
    query,
    users::docs::TAG as USERS,
};

pub(in crate::api) const TAG: Tag = Tag {
    name: "Inbox",
    about: "A user's messages and what was read of them. What one device does here is told to the \
            user's other devices at once.",
};

/// A message id as examples write it.
pub(in crate::api) const EXAMPLE_ID: &str = "msg-0194691a2f40704180bd2a7b0f3c9d11";

/// A message to `user123`, whose id is [`EXAMPLE_ID`].
pub(in crate::api) fn sent() -> Given {
    Given::post(
        By::Service,
        "/api/v3/messages/send",
        r#"{"title": "消息标题", "content": "消息内容", "message_type": "text", "priority": 5,
           "channel_id": "channel-456", "recipients": ["user123"], "metadata": {}}"#,
    )
    .keep(EXAMPLE_ID, "/data/message_id")
}

pub(in crate::api) const MESSAGE_ID: &str = "The message's id.";

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List messages",
        about: "Newest first. Pages by `page` and `size` move when messages arrive; `cursor` \
                (`meta.next_cursor` of the page before) does not.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: query::LIST,
        headers: vec![],
        answer: Reply::page::<List>("A page of the inbox."),
        more: vec![],
        examples: vec![
            Example::new("first_page", "The newest messages", By::User)
                .after(sent())
                .query("page=1&size=20"),
            Example::new("unread", "Unread ones of a channel, most urgent first", By::User)
                .after(sent())
                .query("status=unread&channel_id=channel-456&sort=priority"),
            Example::new("search", "Words in it, and where", By::User)
                .after(sent())
                .query("q=%E6%B6%88%E6%81%AF"),
            Example::new("metadata", "What a sender marked so", By::User)
                .after(Given::post(
                    By::Service,
                    "/api/v3/messages/send",
                    r#"{"title": "订单已发货", "content": "快递正在路上", "recipients": ["user123"],
                       "metadata": {"order": 1042, "carrier": "顺丰"}}"#,
                ))
                .query("metadata=order:1042&metadata=carrier:%E9%A1%BA%E4%B8%B0"),
            Example::new("wrong", "What is not known is refused by name", By::User)
                .query("pages=1")
                .answers(422),
        ],
    }
}

pub(crate) fn get() -> Doc {
    Doc {
        tag: &TAG,
        summary: "One message",
        about: "",
        who: Who::USERS,
        others: Others::Refused,
        path: vec![must("id", ID, MESSAGE_ID)],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Shown>("The message."),
        more: vec![Reply::refusal(
            ErrorType::NotFound,
            "There is no such message in this inbox; whether another's has it is not told.",
        )],
        examples: vec![
            Example::new("one", "A message", By::User).after(sent()).path("id", EXAMPLE_ID),
            Example::new("none", "One that is not there", By::User)
                .path("id", "msg-123")
                .answers(404),
        ],
    }
}

pub(crate) fn unread_count() -> Doc {
    Doc {
        tag: &TAG,
        summary: "How many are unread",
        about: "",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: UNREAD_COUNT,
        headers: vec![],
        answer: Reply::either::<Unread, UnreadIn>("The counts; the second with `channel_id`."),
        more: vec![],
        examples: vec![
            Example::new("all", "In all, and by channel", By::User).after(sent()),
            Example::new("channel", "Of one channel", By::User)
                .after(sent())
                .query("channel_id=channel-456"),
        ],
    }
}

pub(crate) fn of_user() -> Doc {
    Doc {
        tag: &USERS,
        summary: "A user's inbox",
        about: "As the user sees it. That an admin has looked is in the log.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![must("id", ID, "The user's id.")],
        query: query::LIST_OF_USER,
        more: vec![Reply::refusal(ErrorType::NotFound, "There is no such user.")],
        examples: vec![
            Example::new("first_page", "The newest messages", By::Admin)
                .after(sent())
                .path("id", "user123")
                .query("size=20&status=all"),
        ],
        ..list()
    }
}
