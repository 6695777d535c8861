//! What `GET /stream` tells of itself.

use delivery::api::doc::{
    By, Doc, Example, Field, Others, POSITION, Reply, Shape, Tag, Who, may, text,
};
use protocol::{DeviceType, ErrorType};

const TAG: Tag = Tag {
    name: "Event stream",
    about: "The socket's frames as server-sent events, for networks that break WebSockets.",
};

const DEVICE_TYPES: [&str; DeviceType::ALL.len()] = {
    let mut words = [""; DeviceType::ALL.len()];
    let mut index = 0;
    while index < words.len() {
        words[index] = DeviceType::ALL[index].as_str();
        index += 1;
    }
    words
};

const QUERY: &[Field] = &[
    may(
        "token",
        text(usize::MAX),
        "The user's token, where headers cannot be set. URLs are logged without their query.",
    ),
    may("since", POSITION, "The last position that was seen; `Last-Event-ID` wins over it."),
    may("device_type", Shape::Word(&DEVICE_TYPES), "What kind of device it is."),
];

pub(super) fn open() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Frames as server-sent events",
        about: "`event` is the frame's type, `data` the frame on one line, `id` the position behind \
                it. The answer does not end by itself; a comment comes every `WS_PING_INTERVAL`. \
                Names in the query that are not known are passed over.",
        who: Who::USERS,
        others: Others::Theirs,
        path: vec![],
        query: QUERY,
        headers: vec![may(
            "Last-Event-ID",
            POSITION,
            "The `id` of the last event that was seen, as an `EventSource` sends it.",
        )],
        answer: Reply::media(200, "text/event-stream", "Events, from then on."),
        more: vec![
            Reply::refusal(
                ErrorType::MalformedRequest,
                "A parameter or `Last-Event-ID` cannot be read; `fields` names it.",
            ),
            Reply::refusal(ErrorType::Unauthorized, "No token, or not a good one."),
            Reply::refusal(ErrorType::Forbidden, "Pages of this origin may not connect."),
            Reply::refusal(
                ErrorType::RateLimited,
                "The user has as many connections as they may, or the address tries too often.",
            ),
            Reply::refusal(ErrorType::Unavailable, "The node is full, or goes down."),
        ],
        examples: vec![
            Example::new("beginning", "Everything there is", By::User).query("since=0"),
            Example::new("wrong", "A position is a number", By::User)
                .query("since=yesterday")
                .answers(400),
        ],
    }
}
