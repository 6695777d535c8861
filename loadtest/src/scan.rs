//! Reads `seq` and our stamp from a frame without parsing it: at 100,000 frames per second a JSON
//! parse of each would make the generator the slower half of the test.

use memchr::memmem::Finder;
use protocol::Codec;

const MARK: &[u8] = b"~lt.";
/// Length of a stamp in bytes.
pub(crate) const STAMP_BYTES: usize = MARK.len() + 8 + 1 + 10 + 1 + 8 + 1 + 8 + 1;

/// What stands at the start of every content we send. Fixed width and ASCII, so that it looks the
/// same in JSON and MessagePack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which run sent it.
    pub(crate) run: u32,
    /// Running number of the send.
    pub(crate) send: u64,
    /// First recipient.
    pub(crate) first: u32,
    /// How many neighbours receive it.
    pub(crate) count: u32,
}

impl Stamp {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(MARK);
        hex(out, u64::from(self.run), 8, b'.');
        hex(out, self.send, 10, b'.');
        hex(out, u64::from(self.first), 8, b'.');
        hex(out, u64::from(self.count), 8, b'~');
    }

    /// Reads a stamp at the start of `text`.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let text = text.get(MARK.len()..STAMP_BYTES)?;
        let number = |range: std::ops::Range<usize>| {
            text[range].iter().try_fold(0_u64, |sum, byte| {
                Some(sum << 4 | u64::from((*byte as char).to_digit(16)?))
            })
        };
        Some(Self {
            run: u32::try_from(number(0..8)?).ok()?,
            send: number(9..19)?,
            first: u32::try_from(number(20..28)?).ok()?,
            count: u32::try_from(number(29..37)?).ok()?,
        })
    }
}

fn hex(out: &mut Vec<u8>, value: u64, width: u32, end: u8) {
    for place in (0..width).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * place) & 15) as usize]);
    }
    out.push(end);
}

/// A frame that took a place in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its place.
    pub(crate) seq: u64,
    /// Our stamp, where the frame is a message of a load test.
    pub(crate) stamp: Option<Stamp>,
}

/// Finds what the checker needs.
pub(crate) struct Scanner {
    codec: Codec,
    mark: Finder<'static>,
}

impl Scanner {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, mark: Finder::new(MARK) }
    }

    /// `None` for a frame that does not begin like a change: it is decoded whole by the caller, so
    /// that another order of members costs time, not correctness.
    pub(crate) fn change(&self, frame: &[u8]) -> Option<Change> {
        const JSON: &[&[u8]] =
            &[br#"{"type":"message","seq":"#, br#"{"type":"status_update","seq":"#];
        // With four entries the message is silent.
        const MSGPACK: &[&[u8]] = &[
            b"\x83\xa4type\xa7message\xa3seq",
            b"\x84\xa4type\xa7message\xa3seq",
            b"\x83\xa4type\xadstatus_update\xa3seq",
        ];
        let heads = match self.codec {
            Codec::Json => JSON,
            Codec::MsgPack => MSGPACK,
        };
        let rest = heads.iter().find_map(|head| frame.strip_prefix(*head))?;
        let seq = match self.codec {
            Codec::Json => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?
            }
            Codec::MsgPack => msgpack_uint(rest)?,
        };
        Some(Change { seq, stamp: self.stamp(rest) })
    }

    /// Our stamp, anywhere in the frame.
    pub(crate) fn stamp(&self, bytes: &[u8]) -> Option<Stamp> {
        self.mark.find(bytes).and_then(|at| Stamp::read(&bytes[at..]))
    }
}

fn msgpack_uint(bytes: &[u8]) -> Option<u64> {
    let (&head, rest) = bytes.split_first()?;
    let width = match head {
        0..=0x7f => return Some(u64::from(head)),
        0xcc => 1,
        0xcd => 2,
        0xce => 4,
        0xcf => 8,
        _ => return None,
    };
    Some(rest.get(..width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use protocol::{
        Message, MessageFields, MessageId, MessageState, Seq, ServerFrame, StatusUpdate, Time,
    };

    use super::*;

    fn message(seq: u64, content: &str) -> ServerFrame {
        let fields = MessageFields {
            id: MessageId::new("m1").unwrap(),
            channel_id: None,
            title: "t".to_owned(),
            content: content.to_owned(),
            message_type: "text".to_owned(),
            priority: 5,
            sender: "s".to_owned(),
            sender_info: None,
            on_behalf_of: None,
            template_id: None,
            created_at: Time::from_millis(0),
            edited_at: None,
            expire_at: None,
            collapse_key: None,
            metadata: serde_json::Map::new(),
            attachments: vec![],
            actions: vec![],
        };
        let data = Message { state: MessageState::new(Seq(seq)), fields };
        ServerFrame::Message { seq: Seq(seq), silent: false, data }
    }

    #[test]
    fn seq_and_stamp_are_found_in_both_codecs() {
        let stamp = Stamp { run: 0xdead_beef, send: 77, first: 12, count: 10_000 };
        let mut content = Vec::new();
        stamp.write(&mut content);
        assert_eq!(content.len(), STAMP_BYTES);
        let content = String::from_utf8(content).unwrap() + "padding";
        for codec in [Codec::Json, Codec::MsgPack] {
            for seq in [1, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX) + 1] {
                let frame = codec.encode(&message(seq, &content));
                let found = Scanner::new(codec).change(&frame);
                assert_eq!(found, Some(Change { seq, stamp: Some(stamp) }), "{codec:?} {seq}");
                let ServerFrame::Message { seq: at, data, .. } = message(seq, &content) else {
                    unreachable!("it is one");
                };
                let silent = ServerFrame::Message { seq: at, silent: true, data };
                assert_eq!(Scanner::new(codec).change(&codec.encode(&silent)), found);
            }
        }
    }

    #[test]
    fn other_frames_are_told_apart() {
        for codec in [Codec::Json, Codec::MsgPack] {
            let scanner = Scanner::new(codec);
            let plain = codec.encode(&message(9, "not ours"));
            assert_eq!(scanner.change(&plain), Some(Change { seq: 9, stamp: None }));
            assert_eq!(scanner.change(&codec.encode(&ServerFrame::Pong)), None);
            let status = ServerFrame::StatusUpdate {
                seq: Seq(4),
                data: StatusUpdate {
                    message_id: MessageId::new("m").unwrap(),
                    status: protocol::Status::Read,
                    device_id: None,
                    at: Time::from_millis(0),
                    action: None,
                },
            };
            let change = scanner.change(&codec.encode(&status));
            assert_eq!(change, Some(Change { seq: 4, stamp: None }));
            let cut = codec.encode(&message(300, "~lt.dead"));
            assert_eq!(scanner.change(&cut).unwrap().stamp, None);
        }
    }
}
