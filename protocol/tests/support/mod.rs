//! Samples and strategies: one fixed frame per variant for the golden files, and random ones.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own half")]

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    ActionInfo, AttachmentInfo, ChannelId, ClientFrame, ConnectionId, DeviceId, DeviceInfo,
    DeviceType, ErrorType, Message, MessageFields, MessageId, MessageState, NodeId, PressedAction,
    ReadTarget, SenderInfo, Seq, ServerFrame, Status, StatusUpdate, Time, UserId, Welcome,
    client_frame::{Nothing, Token},
    limits::ID_BYTES_MAX,
};
use serde_json::{Map, Value, json};

pub fn time(text: &str) -> Time {
    Time::parse(text).unwrap()
}

fn id<T: std::str::FromStr<Err = protocol::IdError>>(text: &str) -> T {
    text.parse().unwrap()
}

/// A message with nothing optional in it.
pub fn plain_fields() -> MessageFields {
    MessageFields {
        id: id("msg-123"),
        channel_id: Some(id("channel-456")),
        title: "新消息".into(),
        content: "消息内容".into(),
        message_type: "text".into(),
        priority: 5,
        sender: "user-789".into(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: time("2025-01-15T10:30:00Z"),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: Map::new(),
        attachments: vec![],
        actions: vec![],
    }
}

/// A message with everything in it.
pub fn full_fields() -> MessageFields {
    MessageFields {
        sender_info: Some(SenderInfo {
            id: "netdrive".into(),
            kind: "service".into(),
            name: "企业网盘".into(),
            avatar: "https://drive.company.com/logo.png".into(),
            service_id: Some("netdrive".into()),
        }),
        on_behalf_of: Some(id("user456")),
        template_id: Some("file_share".into()),
        edited_at: Some(time("2025-01-15T10:45:00Z")),
        expire_at: Some(time("2025-02-15T10:30:00.25Z")),
        collapse_key: Some("build-42".into()),
        metadata: Map::from_iter([
            ("a".to_owned(), json!([1, -2, 3.5, null, true, "\"\\\u{1}\u{1f600}"])),
            ("b".to_owned(), json!({"deep": {"er": {}}, "max": u64::MAX})),
        ]),
        attachments: vec![AttachmentInfo {
            kind: "file".into(),
            name: "项目计划.pdf".into(),
            url: "https://drive.company.com/files/abc123".into(),
            size: 2_621_440,
            mime_type: "application/pdf".into(),
            thumbnail: String::new(),
        }],
        actions: vec![ActionInfo {
            kind: "link".into(),
            text: "查看文件".into(),
            url: "https://drive.company.com/files/abc123".into(),
            action: String::new(),
            style: "primary".into(),
        }],
        ..plain_fields()
    }
}

fn read_state() -> MessageState {
    MessageState {
        seq: Seq(300),
        version: Seq(70_000),
        is_read: true,
        status: Status::Archived,
        read_at: Some(time("2025-01-15T10:31:00.5Z")),
    }
}

/// One or two frames of every kind, with a name for the file.
pub fn server_samples() -> Vec<(&'static str, ServerFrame)> {
    vec![
        (
            "welcome",
            ServerFrame::Welcome(Welcome {
                connection_id: id("c-1"),
                user_id: id("张三"),
                device_id: id("device-789"),
                node_id: id("node-1"),
                seq: Seq(42),
                unread_count: 15,
                ping_interval_ms: 30_000,
                server_time: time("2025-01-15T10:30:00Z"),
            }),
        ),
        (
            "message",
            ServerFrame::Message {
                seq: Seq(7),
                silent: false,
                data: Message { state: MessageState::new(Seq(7)), fields: plain_fields() },
            },
        ),
        (
            "message_silent",
            ServerFrame::Message {
                seq: Seq(9),
                silent: true,
                data: Message { state: MessageState::new(Seq(9)), fields: plain_fields() },
            },
        ),
        (
            "message_full",
            ServerFrame::Message {
                seq: Seq(70_000),
                silent: false,
                data: Message { state: read_state(), fields: full_fields() },
            },
        ),
        (
            "status_update",
            ServerFrame::StatusUpdate {
                seq: Seq(8),
                data: StatusUpdate {
                    message_id: id("msg-123"),
                    status: Status::Read,
                    device_id: Some(id("device-789")),
                    at: time("2025-01-15T10:31:00Z"),
                    action: None,
                },
            },
        ),
        (
            "status_update_action",
            ServerFrame::StatusUpdate {
                seq: Seq(10),
                data: StatusUpdate {
                    message_id: id("msg-123"),
                    status: Status::Read,
                    device_id: Some(id("device-789")),
                    at: time("2025-01-15T10:31:00Z"),
                    action: Some(PressedAction { index: 1, action: "decline".into() }),
                },
            },
        ),
        (
            "status_update_by_server",
            ServerFrame::StatusUpdate {
                seq: Seq(9),
                data: StatusUpdate {
                    message_id: id("msg-123"),
                    status: Status::Expired,
                    device_id: None,
                    at: time("2025-01-15T10:31:00Z"),
                    action: None,
                },
            },
        ),
        ("sync_complete", ServerFrame::SyncComplete { seq: Seq(9) }),
        ("resync_required", ServerFrame::ResyncRequired { min_seq: Seq(5) }),
        (
            "presence",
            ServerFrame::Presence {
                channel_id: id("channel-456"),
                user_id: id("user-789"),
                online: true,
            },
        ),
        ("token_expiring", ServerFrame::TokenExpiring { expires_in_ms: 60_000 }),
        ("ping", ServerFrame::Ping),
        ("pong", ServerFrame::Pong),
        (
            "error",
            ServerFrame::Error {
                kind: ErrorType::Invalid,
                message: "up_to_seq must be at most 9".into(),
                reference: Some("read".into()),
            },
        ),
        (
            "error_without_ref",
            ServerFrame::Error {
                kind: ErrorType::MalformedRequest,
                message: "not a frame".into(),
                reference: None,
            },
        ),
        ("disconnect", ServerFrame::disconnect(protocol::CloseReason::Restarting, 1_250)),
    ]
}

/// One or two frames of every kind, with a name for the file.
pub fn client_samples() -> Vec<(&'static str, ClientFrame)> {
    vec![
        ("ping", ClientFrame::Ping(None)),
        ("ping_with_data", ClientFrame::Ping(Some(Nothing {}))),
        ("pong", ClientFrame::Pong(None)),
        (
            "device",
            ClientFrame::Device(DeviceInfo {
                device_type: DeviceType::Mobile,
                app_version: "3.1.4".into(),
                capabilities: vec!["app_ping".into()],
            }),
        ),
        ("ack", ClientFrame::Ack { seq: Seq(9) }),
        (
            "read_ids",
            ClientFrame::Read(ReadTarget::Ids { message_ids: vec![id("msg-123"), id("msg-124")] }),
        ),
        ("read_up_to", ClientFrame::Read(ReadTarget::UpTo { up_to_seq: Seq(9) })),
        ("sync", ClientFrame::Sync { since: Seq(0) }),
        ("join", ClientFrame::Join { channel_id: id("channel-456") }),
        ("leave", ClientFrame::Leave { channel_id: id("channel-456") }),
        ("refresh", ClientFrame::Refresh { token: Token("header.claims.signature".into()) }),
    ]
}

/// A legal id: any characters but control characters, 1–128 bytes.
pub fn id_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9_@.-]{1,40}",
        vec(any::<char>().prop_filter("no control characters", |c| !c.is_control()), 1..=32)
            .prop_map(String::from_iter),
        Just("界".repeat(ID_BYTES_MAX / 3)),
        Just("../../etc/passwd".to_owned()),
    ]
}

macro_rules! id_strategies {
    ($($name:ident: $type:ty;)*) => {
        $(pub fn $name() -> impl Strategy<Value = $type> {
            id_text().prop_map(|text| <$type>::new(text).unwrap())
        })*
    };
}

id_strategies! {
    user_id: UserId;
    device_id: DeviceId;
    message_id: MessageId;
    connection_id: ConnectionId;
    node_id: NodeId;
    channel_id: ChannelId;
}

pub fn any_seq() -> impl Strategy<Value = Seq> {
    // Every length of a MessagePack number, and its borders.
    prop_oneof![
        any::<u64>().prop_map(Seq),
        (0_u32..64, 0_u64..3).prop_map(|(bit, around)| Seq((1_u64 << bit).wrapping_sub(around))),
    ]
}

pub fn any_time() -> impl Strategy<Value = Time> {
    prop_oneof![
        any::<i64>().prop_map(Time::from_millis),
        (0_i64..4_102_444_800_000).prop_map(Time::from_millis),
    ]
}

pub fn any_status() -> impl Strategy<Value = Status> {
    proptest::sample::select(vec![
        Status::Unread,
        Status::Read,
        Status::Archived,
        Status::Recalled,
        Status::Expired,
        Status::Collapsed,
        Status::Collapsed,
    ])
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| if f.is_finite() { json!(f) } else { Value::Null }),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..20).prop_map(|entries| Map::from_iter(entries).into()),
        ]
    })
}

fn sender_info() -> impl Strategy<Value = SenderInfo> {
    (any::<String>(), "[a-z]{1,8}", any::<String>(), option::of(any::<String>())).prop_map(
        |(id, kind, name, service_id)| SenderInfo {
            id,
            kind,
            avatar: name.clone(),
            name,
            service_id,
        },
    )
}

fn attachment() -> impl Strategy<Value = AttachmentInfo> {
    (any::<String>(), any::<u64>()).prop_map(|(text, size)| AttachmentInfo {
        kind: "file".into(),
        name: text.clone(),
        url: text,
        size,
        mime_type: String::new(),
        thumbnail: String::new(),
    })
}

fn action() -> impl Strategy<Value = ActionInfo> {
    any::<String>().prop_map(|text| ActionInfo {
        kind: "button".into(),
        url: text.clone(),
        text,
        action: String::new(),
        style: String::new(),
    })
}

pub fn any_fields() -> impl Strategy<Value = MessageFields> {
    let who = (message_id(), option::of(channel_id()), option::of(user_id()), any::<String>());
    let what = (any::<String>(), any::<String>(), any::<String>(), any::<u8>());
    let more = (
        option::of(sender_info()),
        option::of(any::<String>()),
        any_time(),
        (option::of(any_time()), option::of(any_time()), option::of(any::<String>())),
        vec((any::<String>(), any_json()), 0..20).prop_map(Map::from_iter),
        vec(attachment(), 0..3),
        vec(action(), 0..3),
    );
    (who, what, more).prop_map(
        |(
            (id, channel_id, on_behalf_of, sender),
            (title, content, message_type, priority),
            (
                sender_info,
                template_id,
                created_at,
                (edited_at, expire_at, collapse_key),
                metadata,
                attachments,
                actions,
            ),
        )| MessageFields {
            id,
            channel_id,
            title,
            content,
            message_type,
            priority,
            sender,
            sender_info,
            on_behalf_of,
            template_id,
            created_at,
            edited_at,
            expire_at,
            collapse_key,
            metadata,
            attachments,
            actions,
        },
    )
}

pub fn any_state() -> impl Strategy<Value = MessageState> {
    (any_seq(), any_seq(), any::<bool>(), any_status(), option::of(any_time())).prop_map(
        |(seq, version, is_read, status, read_at)| MessageState {
            seq,
            version,
            is_read,
            status,
            read_at,
        },
    )
}

pub fn server_frame() -> impl Strategy<Value = ServerFrame> {
    let welcome = (
        connection_id(),
        user_id(),
        device_id(),
        node_id(),
        any_seq(),
        any::<u64>(),
        any::<u64>(),
        any_time(),
    )
        .prop_map(
            |(
                connection_id,
                user_id,
                device_id,
                node_id,
                seq,
                unread_count,
                ping_interval_ms,
                server_time,
            )| {
                ServerFrame::Welcome(Welcome {
                    connection_id,
                    user_id,
                    device_id,
                    node_id,
                    seq,
                    unread_count,
                    ping_interval_ms,
                    server_time,
                })
            },
        );
    prop_oneof![
        welcome,
        (any_seq(), any::<bool>(), any_state(), any_fields()).prop_map(
            |(seq, silent, state, fields)| {
                ServerFrame::Message { seq, silent, data: Message { state, fields } }
            }
        ),
        (
            any_seq(),
            message_id(),
            any_status(),
            option::of(device_id()),
            any_time(),
            option::of((any::<u8>(), any::<String>())),
        )
            .prop_map(|(seq, message_id, status, device_id, at, action)| {
                let action = action.map(|(index, action)| PressedAction { index, action });
                ServerFrame::StatusUpdate {
                    seq,
                    data: StatusUpdate { message_id, status, device_id, at, action },
                }
            }),
        any_seq().prop_map(|seq| ServerFrame::SyncComplete { seq }),
        any_seq().prop_map(|min_seq| ServerFrame::ResyncRequired { min_seq }),
        (channel_id(), user_id(), any::<bool>()).prop_map(|(channel_id, user_id, online)| {
            ServerFrame::Presence { channel_id, user_id, online }
        }),
        Just(ServerFrame::Ping),
        Just(ServerFrame::Pong),
        (proptest::sample::select(ErrorType::ALL), any::<String>(), option::of(any::<String>()))
            .prop_map(|(kind, message, reference)| ServerFrame::Error { kind, message, reference }),
        (any::<u16>(), any::<String>(), any::<bool>(), any::<u64>()).prop_map(
            |(code, reason, reconnect, reconnect_after_ms)| ServerFrame::Disconnect {
                code,
                reason,
                reconnect,
                reconnect_after_ms,
            }
        ),
    ]
}

pub fn client_frame() -> impl Strategy<Value = ClientFrame> {
    let short = || "\\PC{0,30}";
    prop_oneof![
        Just(ClientFrame::Ping(None)),
        Just(ClientFrame::Pong(Some(Nothing {}))),
        (proptest::sample::select(&DeviceType::ALL[..]), short(), vec(short(), 0..=32)).prop_map(
            |(device_type, app_version, capabilities)| ClientFrame::Device(DeviceInfo {
                device_type,
                app_version,
                capabilities,
            })
        ),
        any_seq().prop_map(|seq| ClientFrame::Ack { seq }),
        vec(message_id(), 0..40)
            .prop_map(|message_ids| ClientFrame::Read(ReadTarget::Ids { message_ids })),
        any_seq().prop_map(|up_to_seq| ClientFrame::Read(ReadTarget::UpTo { up_to_seq })),
        any_seq().prop_map(|since| ClientFrame::Sync { since }),
        channel_id().prop_map(|channel_id| ClientFrame::Join { channel_id }),
        channel_id().prop_map(|channel_id| ClientFrame::Leave { channel_id }),
        any::<String>().prop_map(|token| ClientFrame::Refresh { token: Token(token) }),
    ]
}
