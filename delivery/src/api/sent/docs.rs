//! What the endpoints for senders tell of themselves.

use protocol::ErrorType;

use super::{
    Edited, OF_MESSAGE, OF_MESSAGE_BY_ADMIN, RECEIPTS, RECEIPTS_BY_ADMIN, Receipts, Stands,
    WAITING, WaitingList,
};
use crate::api::{
    caller::Asker,
    doc::{By, Doc, Example, Field, Given, ID, Kind, Others, Reply, Tag, Who, must},
    messages::docs::{EXAMPLE_ID, MESSAGE_ID, sent},
};

const TAG: Tag = Tag {
    name: "After sending",
    about: "What a sender can still do about a message: change it, take it back, not let it be sent, see \
            what became of it. Whoever is neither its sender nor an admin is told that there is no such \
            message.",
};

/// Whoever may send, and so may have sent it.
const ITS_SENDER: Who = Who::These(
    "The sender of the message, and users with the role `system_admin`; not with a token whose scope says \
     `read` and not `write`.",
    &[
        Kind::User,
        Kind::DepartmentAdmin,
        Kind::SystemAdmin,
        Kind::ThirdParty,
        Kind::Business,
        Kind::System,
    ],
);

/// The same, and who only looks.
const ITS_READER: Who = Who::These(
    "The sender of the message, and users with the role `system_admin`.",
    Who::CALLERS.kinds(),
);

fn of_message<A: Asker>(doc: Doc) -> Doc {
    let by = by::<A>();
    let examples = doc.examples.into_iter().map(|example| Example { by, ..example }).collect();
    let (who, query, others) = if A::ADMIN {
        (Who::ADMINS, OF_MESSAGE_BY_ADMIN, Others::Same)
    } else {
        (ITS_SENDER, OF_MESSAGE, Others::Refused)
    };
    Doc { who, query, others, path: vec![must("id", ID, MESSAGE_ID)], examples, ..doc }
}

const fn by<A: Asker>() -> By {
    if A::ADMIN { By::Admin } else { By::Service }
}

fn none() -> Reply {
    Reply::refusal(
        ErrorType::NotFound,
        "There is no such message; whether another sender has it is not told.",
    )
}

fn too_late(about: &'static str) -> Reply {
    Reply::refusal(ErrorType::Conflict, about)
}

/// A message that waits, whose id is [`EXAMPLE_ID`].
fn scheduled() -> Given {
    Given::post(
        By::Service,
        "/api/v3/messages/send",
        r#"{"title": "周报提醒", "content": "请提交周报", "recipients": ["user123"],
           "scheduled_at": "2025-01-16T09:30:00Z"}"#,
    )
    .keep(EXAMPLE_ID, "/data/message_id")
}

pub(crate) fn edit<A: Asker>() -> Doc {
    of_message::<A>(Doc {
        tag: &TAG,
        summary: "Change a message",
        about: "For all who have it, on all their devices. What is left out stays; lists and `metadata` \
                are replaced whole. Who receives it, its type and its sender stand since it was sent.",
        who: ITS_SENDER,
        others: Others::Refused,
        path: vec![],
        query: OF_MESSAGE,
        headers: vec![],
        answer: Reply::data::<Edited>("The message as it is now."),
        more: vec![none(), too_late("It was recalled or cancelled, or it has expired.")],
        examples: vec![
            Example::new("title", "Another title", By::Service)
                .after(sent())
                .path("id", EXAMPLE_ID)
                .body(r#"{"title": "会议改到 16:00"}"#),
            Example::new("recipients", "Recipients cannot be changed", By::Service)
                .after(sent())
                .path("id", EXAMPLE_ID)
                .body(r#"{"recipients": ["user456"]}"#)
                .answers(422),
        ],
    })
}

pub(crate) fn recall<A: Asker>() -> Doc {
    of_message::<A>(Doc {
        summary: "Take a message back",
        about: "From all inboxes and devices, also those that are away now. Its place stays, without what \
                it said. Doing it twice is no change.",
        answer: Reply::data::<Stands>("It was taken back."),
        more: vec![none(), too_late("It was cancelled.")],
        examples: vec![
            Example::new("recall", "Taken back", By::Service).after(sent()).path("id", EXAMPLE_ID),
            Example::new("none", "One that is not there", By::Service)
                .path("id", "msg-123")
                .answers(404),
        ],
        ..edit::<A>()
    })
}

pub(crate) fn cancel<A: Asker>() -> Doc {
    of_message::<A>(Doc {
        summary: "Do not send a scheduled message",
        about: "Doing it twice is no change.",
        answer: Reply::data::<Stands>("It will not be sent."),
        more: vec![none(), too_late("It was sent already; it can be recalled.")],
        examples: vec![
            Example::new("cancel", "Not to be sent", By::Service)
                .after(scheduled())
                .path("id", EXAMPLE_ID),
            Example::new("late", "One that was sent", By::Service)
                .after(sent())
                .path("id", EXAMPLE_ID)
                .answers(409),
        ],
        ..edit::<A>()
    })
}

pub(crate) fn receipts<A: Asker>() -> Doc {
    let query: &'static [Field] = if A::ADMIN { RECEIPTS_BY_ADMIN } else { RECEIPTS };
    Doc {
        summary: "What became of a message",
        about: "For each recipient by id, and each of their devices: stored, delivered, acked, read, with \
                times. Recipients in channels and roles appear once something became of it at them.",
        who: if A::ADMIN { Who::ADMINS } else { ITS_READER },
        query,
        answer: Reply::page::<Receipts>("A page of receipts."),
        more: vec![none()],
        examples: vec![
            Example::new("receipts", "Stored, not read yet", by::<A>())
                .after(sent())
                .path("id", EXAMPLE_ID),
        ],
        ..edit::<A>()
    }
}

pub(crate) fn waiting() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List what waits for its time",
        about: "Of a tenant, soonest first. A page may be short or empty, and `next_cursor` lead on all the same: it looks \
                at so many messages of all tenants.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: WAITING,
        headers: vec![],
        answer: Reply::page::<WaitingList>("A page of what waits."),
        more: vec![],
        examples: vec![
            Example::new("soonest", "The first page", By::Admin)
                .after(scheduled())
                .query("size=50"),
        ],
    }
}
