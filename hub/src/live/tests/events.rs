//! Server-sent events as a client reads them (WHATWG HTML §9.2.6), strictly: what is no field or
//! comment of ours fails.

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: String,
}

/// The whole events in `bytes`. Comments are passed over; an event that is cut off is none.
pub(crate) fn read_events(bytes: &[u8]) -> Vec<Event> {
    let text = str::from_utf8(bytes).unwrap();
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    whole
        .split("\n\n")
        .filter(|block| !block.is_empty() && !block.starts_with(':'))
        .map(read)
        .collect()
}

fn read(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.split('\n') {
        let (field, value) = line.split_once(": ").unwrap();
        match field {
            "id" => event.id = Some(value.to_owned()),
            "retry" => event.retry = Some(value.parse().unwrap()),
            "event" => event.name.push_str(value),
            "data" => event.data.push_str(value),
            other => panic!("{other:?} in {block:?}"),
        }
    }
    event
}
