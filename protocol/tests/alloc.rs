//! What a decoder asks of the allocator, whatever lengths a frame claims. A binary of its own: it
//! counts every allocation of the process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use protocol::{
    Codec,
    limits::{CLIENT_FRAME_BYTES_MAX, DECODE_ALLOC_BYTES_MAX},
};

struct Counting;

thread_local! {
    /// (in use now, most in use, largest single request), in bytes.
    static BYTES: Cell<(isize, isize, usize)> = const { Cell::new((0, 0, 0)) };
}

fn count(change: isize, asked: usize) {
    // The cell is gone while a thread ends; nothing is measured then.
    let _ = BYTES.try_with(|bytes| {
        let (now, most, largest) = bytes.get();
        let now = now + change;
        bytes.set((now, most.max(now), largest.max(asked)));
    });
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed(), layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed(), 0);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed(), size);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes, and says how much was held at most.
fn cost(codec: Codec, bytes: &[u8]) -> (usize, usize) {
    BYTES.set((0, 0, 0));
    let result = codec.decode_client(bytes);
    let (_, most, largest) = BYTES.get();
    drop(result);
    (most.cast_unsigned(), largest)
}

fn assert_bounded(what: &str, codec: Codec, bytes: &[u8]) {
    let (most, largest) = cost(codec, bytes);
    assert!(
        largest <= DECODE_ALLOC_BYTES_MAX && most <= DECODE_ALLOC_BYTES_MAX,
        "{what} ({codec:?}, {} bytes): {most} bytes in all, {largest} at once",
        bytes.len()
    );
}

#[test]
fn claimed_lengths_allocate_nothing() {
    let huge: [(&str, &[u8]); 6] = [
        ("str32", b"\xdb\xff\xff\xff\xff"),
        ("bin32", b"\xc6\xff\xff\xff\xff"),
        ("array32", b"\xdd\xff\xff\xff\xff"),
        ("map32", b"\xdf\xff\xff\xff\xff"),
        ("ext32", b"\xc9\xff\xff\xff\xff\x01"),
        ("array16", b"\xdc\xff\xff"),
    ];
    let places: [(&str, &[u8]); 9] = [
        ("the frame", b""),
        ("type", b"\x82\xa4type"),
        ("a key", b"\x82"),
        ("data before type", b"\x82\xa4data"),
        ("data of read", b"\x82\xa4type\xa4read\xa4data"),
        ("message_ids", b"\x82\xa4type\xa4read\xa4data\x81\xabmessage_ids"),
        ("message_ids before type", b"\x82\xa4data\x81\xabmessage_ids"),
        ("capabilities", b"\x82\xa4type\xa6device\xa4data\x81\xaccapabilities"),
        ("token", b"\x82\xa4type\xa7refresh\xa4data\x81\xa5token"),
    ];
    for (place, before) in places {
        for (header, claim) in huge {
            for nested in 1..=20 {
                let bytes = [before, &claim.repeat(nested)].concat();
                assert_bounded(&format!("{nested} × {header} as {place}"), Codec::MsgPack, &bytes);
            }
        }
    }
}

#[test]
fn full_frames_cost_what_they_hold() {
    let fill = |open: &str, item: &str, close: &str| {
        let room = CLIENT_FRAME_BYTES_MAX - open.len() - close.len();
        let items = item.repeat(room / item.len());
        format!("{open}{}{close}", items.trim_end_matches(','))
    };
    for (what, text) in [
        ("numbers before type", fill(r#"{"data":["#, "1,", r#"],"type":"ack"}"#)),
        ("objects before type", fill(r#"{"data":["#, "{},", r#"],"type":"ack"}"#)),
        ("members before type", fill(r#"{"data":{"#, r#""a":1,"#, r#"},"type":"ack"}"#)),
        ("numbers as ids", fill(r#"{"type":"read","data":{"message_ids":["#, "1,", "]}}")),
        ("ids", fill(r#"{"type":"read","data":{"message_ids":["#, r#""1","#, "]}}")),
        ("ids before type", fill(r#"{"data":{"message_ids":["#, r#""1","#, r#"]},"type":"read"}"#)),
        ("unknown members", fill(r#"{"type":"ping","x":["#, "[],", "]}")),
        ("a type", fill(r#"{"type":""#, "x", r#""}"#)),
        ("an escaped type", fill(r#"{"type":""#, "\\n", r#""}"#)),
        ("a key", fill(r#"{""#, "x", r#"":1}"#)),
        ("an escaped token", fill(r#"{"type":"refresh","data":{"token":""#, "\\u0041", r#""}}"#)),
        ("a capability", fill(r#"{"type":"device","data":{"capabilities":[""#, "x", r#""]}}"#)),
        ("a device type", fill(r#"{"type":"device","data":{"device_type":""#, "x", r#""}}"#)),
        ("a member of device", fill(r#"{"type":"device","data":{""#, "x", r#"":1}}"#)),
    ] {
        assert!(text.len() <= CLIENT_FRAME_BYTES_MAX);
        assert_bounded(what, Codec::Json, text.as_bytes());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let bytes = rmp_serde::to_vec_named(&value).unwrap();
        assert_bounded(what, Codec::MsgPack, &bytes);
    }
}

#[test]
fn the_counter_counts() {
    BYTES.set((0, 0, 0));
    let bytes = std::hint::black_box(vec![1_u8; 1 << 20]);
    let (_, most, largest) = BYTES.get();
    assert!(most >= bytes.len().cast_signed() && largest >= bytes.len());
}
