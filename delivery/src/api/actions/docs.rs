//! What the endpoint for buttons tells of itself.

use protocol::{ErrorType, limits::ID_BYTES_MAX};

use super::Done;
use crate::{
    api::{
        doc::{By, Doc, Example, Form, Given, ID, Others, Reply, Who, formed, must},
        messages::docs::{EXAMPLE_ID, MESSAGE_ID, TAG},
    },
    send::limits::ACTIONS_MAX,
};

/// A message with buttons, whose id is [`EXAMPLE_ID`].
fn with_buttons() -> Given {
    Given::post(
        By::Service,
        "/api/v3/messages/send",
        r#"{"title": "报销审批", "content": "张三申请报销 320 元", "recipients": ["user123"],
           "actions": [{"type": "button", "text": "同意", "action": "approve", "style": "primary"},
                       {"type": "button", "text": "拒绝", "action": "reject", "style": "danger"}]}"#,
    )
    .keep(EXAMPLE_ID, "/data/message_id")
}

pub(crate) fn press() -> Doc {
    const _: () = assert!(ACTIONS_MAX == 10, "the pattern of the index says so");
    Doc {
        tag: &TAG,
        summary: "Press a button",
        about: "The first press counts, whichever device it comes from; every later one is answered with \
                it. The user's other devices see it, and the sender's webhooks hear of it.",
        who: Who::USERS,
        others: Others::Refused,
        path: vec![
            must("id", ID, MESSAGE_ID),
            must(
                "index",
                formed(Form::Pattern("^[0-9]$"), 1, ID_BYTES_MAX),
                "Which of the message's `actions`, from 0.",
            ),
        ],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Done>("The press that counts, and how the message stands now."),
        more: vec![
            Reply::refusal(
                ErrorType::NotFound,
                "There is no such message in this inbox, or no such button of it.",
            ),
            Reply::refusal(ErrorType::Conflict, "The message was recalled or has expired."),
        ],
        examples: vec![
            Example::new("press", "同意", By::User)
                .after(with_buttons())
                .path("id", EXAMPLE_ID)
                .path("index", "0")
                .body(r#"{"device_id": "device-789"}"#),
            Example::new("none", "A button that is not there", By::User)
                .after(with_buttons())
                .path("id", EXAMPLE_ID)
                .path("index", "7")
                .answers(404),
        ],
    }
}
