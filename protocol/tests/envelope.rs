//! Envelopes: golden bytes, newer nodes, limits, and bytes that mean harm.
//!
//! `UPDATE_GOLDEN=1 cargo test -p protocol --test envelope` writes the files. A changed file is a
//! changed wire between nodes, and a rollout has old and new ones: see the module's doc.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use proptest::{collection::vec, prelude::*};
use protocol::{
    Body, Codec, DeviceType, IdError, MessageState, PressedAction, Seq, Status, StatusUpdate, Time,
    Transport, UserId,
    envelope::{
        BODY_BYTES_MAX, CHANGES_MAX, CONNECTIONS_MAX, Changes, Close, Connected, ConnectionFacts,
        DecodeError, ENVELOPE_BYTES_MAX, Envelope, Event, Findings, InboxChange, Inquiry,
        NodeAbout, NodeFacts, SPAN_BYTES, SPENT_MAX, Spent, Then, USERS_MAX, What, Which,
    },
    limits::{DEVICE_TEXT_BYTES_MAX, ID_BYTES_MAX},
};

fn id<T: std::str::FromStr<Err = IdError>>(text: &str) -> T {
    text.parse().unwrap()
}

fn message(seq: u64, body: &Arc<Body>) -> InboxChange {
    let state = MessageState::new(Seq(seq));
    InboxChange {
        seq: Seq(seq),
        what: What::Message { state, body: Arc::clone(body) },
        age: None,
        span: None,
    }
}

fn status(seq: u64, action: Option<PressedAction>) -> InboxChange {
    let update = StatusUpdate {
        message_id: id("msg-123"),
        status: Status::Archived,
        device_id: action.is_some().then(|| id("手机")),
        at: support::time("2025-01-15T10:30:00.25Z"),
        action,
    };
    InboxChange { seq: Seq(seq), what: What::Status(update), age: None, span: None }
}

fn changes(changes: Vec<InboxChange>) -> Event {
    Event::Changes(Changes { tenant: id("default"), user: id("王伟"), changes })
}

fn samples() -> Vec<(&'static str, Event)> {
    let plain = Arc::new(Body::new(&support::plain_fields()));
    let full = Arc::new(Body::new(&support::full_fields()));
    let mut edited = message(9, &plain);
    if let What::Message { state, .. } = &mut edited.what {
        *state = MessageState {
            seq: Seq(3),
            version: Seq(9),
            is_read: true,
            status: Status::Read,
            read_at: Some(support::time("2025-01-15T11:00:00Z")),
        };
    }
    let pressed = PressedAction { index: 1, action: "approve".into() };
    let facts = NodeFacts {
        node: id("node-1"),
        clock: 1_736_937_000_000,
        lost: 300,
        connections: Some(5_000),
        secrets: Some(0x0123_4567_89ab_cdef),
        about: Some(NodeAbout {
            role: "hub".into(),
            version: "3.1.0".into(),
            started_at: support::time("2025-01-15T10:00:00Z"),
            draining: true,
        }),
        admin: Some(0xfedc_ba98_7654_3210),
    };
    let users = || vec![id::<UserId>("ann"), id("bob")];
    let (tenant, channel) = (|| id("acme"), || id("channel-456"));
    vec![
        ("changes_message", changes(vec![message(7, &plain)])),
        (
            "changes_all",
            changes(vec![
                message(6, &full),
                status(7, None),
                status(8, Some(pressed)),
                edited,
                InboxChange { seq: Seq(10), what: What::InStore, age: None, span: None },
            ]),
        ),
        ("group", Event::Group { tenant: tenant(), pos: 70_000 }),
        (
            "connected",
            Event::Connected(Connected {
                tenant: tenant(),
                user: id("ann"),
                device: id("phone"),
                connection: id("01890a5d96ee7a3f8c1e2b3c4d5e6f70"),
                stamp: 1_736_937_000_001,
                again: true,
            }),
        ),
        (
            "presence",
            Event::Presence { tenant: tenant(), channel: channel(), joined: users(), left: vec![] },
        ),
        (
            "presence_list",
            Event::PresenceList {
                tenant: tenant(),
                channel: channel(),
                users: users(),
                more: false,
            },
        ),
        ("presence_ask", Event::PresenceAsk { tenant: tenant(), channel: channel() }),
        ("revoked", Event::Revoked),
        ("hello", Event::Hello(facts.clone())),
        ("heartbeat", Event::Heartbeat(facts)),
        ("goodbye", Event::Goodbye { node: id("node-1") }),
        ("ping", Event::Ping { count: 17 }),
        (
            "inquiry_list",
            Event::Inquiry(Inquiry {
                id: 0x1234,
                which: Which { tenant: Some(tenant()), user: Some(id("ann")), ..Which::default() },
                then: Then::List { after: Some(id("0189")), limit: 201 },
            }),
        ),
        (
            "inquiry_close",
            Event::Inquiry(Inquiry {
                id: 0x1235,
                which: Which {
                    node: Some(id("node-1")),
                    connection: Some(id("0189")),
                    ..Which::default()
                },
                then: Then::Close(Close::ComeBack),
            }),
        ),
        (
            "findings",
            Event::Findings(Findings {
                inquiry: 0x1234,
                node: id("node-1"),
                matching: 7_000,
                connections: vec![
                    connection(1),
                    ConnectionFacts {
                        device_type: DeviceType::Unknown,
                        app_version: String::new(),
                        transport: Transport::EventStream,
                        codec: Codec::Json,
                        address: None,
                        live: false,
                        ..connection(2)
                    },
                ],
            }),
        ),
        (
            "spent",
            Event::Spent(vec![
                Spent { scope: 2, key: 0xfedc_ba98_7654_3210, nanos: 50_000_000 },
                Spent { scope: 1, key: 7, nanos: u64::MAX },
            ]),
        ),
    ]
}

fn connection(number: u64) -> ConnectionFacts {
    ConnectionFacts {
        id: id(&format!("01890a5d96ee7a3f8c1e2b3c4d5e{number:04x}")),
        tenant: id("acme"),
        user: id("王伟"),
        device: id("手机"),
        device_type: DeviceType::Mobile,
        app_version: "2.4.1".into(),
        transport: Transport::WebSocket,
        codec: Codec::MsgPack,
        address: Some("2001:db8::7".parse().unwrap()),
        connected_at: support::time("2025-01-15T10:30:00Z"),
        last: Seq(70),
        acked: Seq(69),
        queued_bytes: 300,
        live: true,
    }
}

fn envelope(event: Event) -> Envelope {
    Envelope { sender: 0x0123_4567_89ab_cdef, number: 42, event }
}

/// As text, which has everything but the order of memory.
fn shown(envelope: &Envelope) -> String {
    let text = format!("{envelope:?}");
    // What a body has worked out of its bytes is not part of it.
    text.split("facts:")
        .map(|part| part.split_once("json_tail").map_or(part, |(_, rest)| rest))
        .collect()
}

#[test]
fn envelopes_are_the_golden_bytes_and_decode_to_the_same() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/envelope");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut names = BTreeSet::new();
    for (name, event) in samples() {
        let envelope = envelope(event);
        let bytes = envelope.encode();
        let path = folder.join(format!("{name}.msgpack"));
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let expected = fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1", path.display()));
        assert!(expected == bytes, "{name} is not what the code writes any more");
        let decoded = Envelope::decode(&bytes).unwrap();
        assert_eq!((decoded.sender, decoded.number), (envelope.sender, envelope.number));
        assert_eq!(decoded.encode(), bytes, "{name}");
        assert_eq!(decoded.event.label(), envelope.event.label());
        if !name.starts_with("changes") {
            assert_eq!(shown(&decoded), shown(&envelope), "{name}");
        }
        names.insert(format!("{name}.msgpack"));
    }
    let files: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, names);
}

#[test]
fn a_body_arrives_as_it_was_and_stands_once() {
    let body = Arc::new(Body::new(&support::full_fields()));
    let one = envelope(changes(vec![message(1, &body)])).encode().len();
    let bytes = envelope(changes((1..=20).map(|seq| message(seq, &body)).collect())).encode();
    assert!(bytes.len() < one + 20 * 24, "{one} bytes with one, {} with twenty", bytes.len());
    let Event::Changes(read) = Envelope::decode(&bytes).unwrap().event else { panic!() };
    for change in &read.changes {
        let What::Message { state, body: read } = &change.what else { panic!() };
        assert_eq!(*state, MessageState::new(change.seq));
        assert_eq!((read.id(), read.json()), (body.id(), body.json()));
        assert_eq!(read.fields().unwrap(), support::full_fields());
    }
}

#[test]
fn the_age_of_a_change_is_told_where_it_is_known_and_costs_nothing_else() {
    let body = Arc::new(Body::new(&support::plain_fields()));
    let without = envelope(changes(vec![message(1, &body), status(2, None)])).encode();
    let aged = |change, age| InboxChange { age: Some(age), ..change };
    let press = Some(PressedAction { index: 1, action: "ok".to_owned() });
    let all = vec![
        aged(message(1, &body), 0),
        aged(status(2, None), 1_500),
        InboxChange { span: Some([9; SPAN_BYTES]), ..aged(status(3, press), u64::MAX) },
        InboxChange { seq: Seq(4), what: What::InStore, age: Some(7), span: None },
    ];
    let bytes = envelope(changes(all)).encode();
    let Event::Changes(read) = Envelope::decode(&bytes).unwrap().event else { panic!() };
    let ages: Vec<_> = read.changes.iter().map(|change| change.age).collect();
    assert_eq!(ages, [Some(0), Some(1_500), Some(u64::MAX), None]);
    let spans: Vec<_> = read.changes.iter().map(|change| change.span).collect();
    assert_eq!(spans, [None, None, Some([9; SPAN_BYTES]), None]);
    let Event::Changes(read) = Envelope::decode(&without).unwrap().event else { panic!() };
    assert!(read.changes.iter().all(|change| change.age.is_none()), "an older node says none");
}

#[test]
fn what_a_newer_node_says_is_passed_over() {
    // [1, 99, 5, 1, [...]]: a kind that is not known here.
    let unknown = [0x95, 1, 99, 5, 1, 0x92, 0xa1, b'x', 0x81, 0xa1, b'k', 0xc0];
    assert_eq!(Envelope::decode(&unknown).unwrap_err(), DecodeError::Kind(99));
    let version = [0x95, 2, 1, 5, 1, 0x90];
    assert_eq!(Envelope::decode(&version).unwrap_err(), DecodeError::Version(2));

    // A group record with one more element in the payload and two more in the envelope.
    let mut longer = vec![0x97, 1, 2, 5, 1, 0x93, 0xa1, b't', 9];
    longer.extend([0x92, 0xc3, 0xa0, 0xc4, 1, 0xff, 0x82, 1, 2, 3, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0]);
    let Event::Group { tenant, pos } = Envelope::decode(&longer).unwrap().event else { panic!() };
    assert_eq!((tenant.as_str(), pos), ("t", 9));

    // A change of an unknown form: the store knows.
    let change =
        [0x95, 1, 1, 5, 0, 0x94, 0xa1, b't', 0xa1, b'u', 0x90, 0x91, 0x94, 7, 50, 0xc3, 0xc0];
    let Event::Changes(read) = Envelope::decode(&change).unwrap().event else { panic!() };
    assert!(matches!(
        read.changes[..],
        [InboxChange { seq: Seq(7), what: What::InStore, age: None, span: None }]
    ));
}

#[test]
fn limits_are_kept_on_the_way_out() {
    let mut fields = support::plain_fields();
    fields.content = "x".repeat(BODY_BYTES_MAX);
    let large = Arc::new(Body::new(&fields));
    let bytes = envelope(changes(vec![message(1, &large)])).encode();
    assert!(bytes.len() < 100);
    let Event::Changes(read) = Envelope::decode(&bytes).unwrap().event else { panic!() };
    assert!(matches!(read.changes[0].what, What::InStore));

    fields.content = "x".repeat(BODY_BYTES_MAX / 2);
    let many = (1..=2_000).map(|seq| message(seq, &Arc::new(Body::new(&fields)))).collect();
    let Event::Changes(many) = changes(many) else { panic!() };
    let pieces = many.split();
    let mut next = 1;
    for piece in pieces {
        assert!(piece.changes.len() <= CHANGES_MAX);
        let bytes = envelope(Event::Changes(piece)).encode();
        assert!(bytes.len() <= ENVELOPE_BYTES_MAX, "{}", bytes.len());
        let Event::Changes(read) = Envelope::decode(&bytes).unwrap().event else { panic!() };
        for change in read.changes {
            assert_eq!(change.seq, Seq(next));
            next += 1;
        }
    }
    assert_eq!(next, 2_001);

    let most = Spent { scope: 4, key: u64::MAX, nanos: u64::MAX };
    let bytes = envelope(Event::Spent(vec![most; SPENT_MAX])).encode();
    assert!(bytes.len() <= 64 << 10, "{}", bytes.len());
    let Event::Spent(read) = Envelope::decode(&bytes).unwrap().event else { panic!() };
    assert_eq!(read, vec![most; SPENT_MAX]);

    let users: Vec<UserId> = (0..USERS_MAX + 1).map(|n| id(&format!("user-{n}"))).collect();
    let list =
        |users| Event::PresenceList { tenant: id("t"), channel: id("c"), users, more: false };
    let bytes = envelope(list(users)).encode();
    let Event::PresenceList { users, more, .. } = Envelope::decode(&bytes).unwrap().event else {
        panic!()
    };
    assert_eq!((users.len(), more), (USERS_MAX, true));

    // The longest that all texts may be.
    let long = "x".repeat(ID_BYTES_MAX);
    let largest = ConnectionFacts {
        tenant: id(&long),
        user: id(&long),
        device: id(&long),
        id: id(&long),
        app_version: "x".repeat(DEVICE_TEXT_BYTES_MAX),
        address: Some("2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap()),
        last: Seq(u64::MAX),
        acked: Seq(u64::MAX),
        queued_bytes: u64::MAX,
        ..connection(1)
    };
    let findings = Findings {
        inquiry: u64::MAX,
        node: id(&long),
        matching: u64::MAX,
        connections: vec![largest; CONNECTIONS_MAX + 1],
    };
    let bytes = envelope(Event::Findings(findings)).encode();
    assert!(bytes.len() <= ENVELOPE_BYTES_MAX, "{}", bytes.len());
    let Event::Findings(read) = Envelope::decode(&bytes).unwrap().event else { panic!() };
    assert_eq!(read.connections.len(), CONNECTIONS_MAX);
}

#[test]
fn facts_of_older_nodes_are_read() {
    // Of a node that did not say what operators want to know, and of one that said less still.
    let tail = [0xcd, 0x13, 0x88, 7];
    let facts = |length: u8, tail: &[u8]| {
        let bytes = [&[0x95, 1, 10, 5, 1, 0x90 | length, 0xa1, b'n', 9, 0][..], tail].concat();
        let Event::Heartbeat(facts) = Envelope::decode(&bytes).unwrap().event else { panic!() };
        facts
    };
    let read = facts(5, &tail);
    assert_eq!((read.connections, read.secrets, read.about), (Some(5_000), Some(7), None));
    assert_eq!(facts(3, &[]).connections, None);
}

#[test]
fn bytes_that_mean_harm_are_refused() {
    let refused = |bytes: &[u8]| match Envelope::decode(bytes) {
        Err(DecodeError::Malformed(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        Envelope::decode(&vec![0x90; ENVELOPE_BYTES_MAX + 1]).unwrap_err(),
        DecodeError::TooBig
    );
    // A list that claims four thousand million users.
    let claims = [0x95, 1, 5, 5, 0, 0x94, 0xa1, b't', 0xa1, b'c', 0xdd, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(refused(&claims), "a list is too long");
    let mut claims = vec![0x95, 1, 20, 5, 0, 0x91, 0xdd];
    claims.extend((SPENT_MAX as u32 + 1).to_be_bytes());
    assert_eq!(refused(&claims), "a list is too long");
    // An unknown element that is nested a thousand deep.
    let mut deep = vec![0x96, 1, 12, 5, 0, 0x91, 1];
    deep.extend([0x91; 1_000]);
    assert_eq!(refused(&deep), "it is nested too deep");
    // Bodies that would break, or break out of, a client's frame.
    for tail in [
        "",
        "}",
        "}}",
        "\"a\":1}",
        "\"a\":1}}x",
        "\"a\":1},{}}",
        "\"a\":\u{0}}}",
        "1}}",
        "\"a\":1}} ",
    ] {
        let mut bytes =
            vec![0x95, 1, 1, 5, 0, 0x94, 0xa1, b't', 0xa1, b'u', 0x91, 0x93, 0xa1, b'm', 0xc0];
        bytes.extend([0xc4, tail.len() as u8]);
        bytes.extend(tail.as_bytes());
        bytes.extend([0x91, 0x98, 1, 0, 0, 1, 1, 0xc2, 0, 0xc0]);
        assert_eq!(refused(&bytes), "a body is not a JSON object", "{tail:?}");
    }
    let hole = changes(vec![status(1, None), status(3, None)]);
    assert_eq!(refused(&envelope(hole).encode()), "its changes are not contiguous");
}

/// Whatever is accepted can be written and read again, to the same bytes.
fn decode(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::decode(bytes) {
        let written = envelope.encode();
        assert_eq!(Envelope::decode(&written).unwrap().encode(), written);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..300)) {
        decode(&bytes);
        // Past the first checks.
        decode(&[&[0x95, 1, bytes.first().copied().unwrap_or(0) % 24, 5, 0], &bytes[..]].concat());
    }

    #[test]
    fn envelopes_with_bytes_changed(
        which in any::<prop::sample::Index>(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = samples();
        let mut bytes = envelope(which.get(&samples).1.clone()).encode().to_vec();
        for (at, byte) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        decode(&bytes);
        decode(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_change_arrives(seq in 1u64..u64::MAX, millis in any::<i64>(), read in any::<bool>()) {
        let body = Arc::new(Body::new(&support::plain_fields()));
        let state = MessageState {
            seq: Seq(seq / 2),
            version: Seq(seq),
            is_read: read,
            status: if read { Status::Read } else { Status::Unread },
            read_at: read.then(|| Time::from_millis(millis)),
        };
        let change = InboxChange { seq: Seq(seq), what: What::Message { state, body }, age: None, span: None };
        let bytes = envelope(changes(vec![change])).encode();
        let Event::Changes(back) = Envelope::decode(&bytes).unwrap().event else { panic!() };
        let What::Message { state: back, .. } = &back.changes[0].what else { panic!() };
        prop_assert_eq!(*back, state);
    }
}
