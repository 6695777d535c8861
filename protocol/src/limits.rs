//! Limits of the wire, each with its unit and its reason. What is over a limit is refused by name.

/// Longest id of any kind, in bytes of UTF-8: fits a file name after escaping (255 bytes hold
/// 128 bytes of which every second one is escaped) and an index key of any store.
pub const ID_BYTES_MAX: usize = 128;

/// Largest frame a client may send, in bytes. Client frames carry ids and marks, never content.
pub const CLIENT_FRAME_BYTES_MAX: usize = 64 << 10;

/// Most message ids in one `read` frame or `read-batch` call: 1,000 ids of 36 bytes fit a frame.
pub const READ_IDS_MAX: usize = 1_000;

/// Most capabilities a device may name: some ten exist, the rest is room to grow.
pub const CAPABILITIES_MAX: usize = 32;

/// Longest free text a device may say of itself (version, one capability), in bytes: a version with a
/// commit hash has 60.
pub const DEVICE_TEXT_BYTES_MAX: usize = 128;

/// Deepest nesting of a client frame. The deepest legal frame has three levels.
pub const FRAME_DEPTH_MAX: usize = 16;

/// Most memory a decoder holds, in bytes, whatever lengths a frame claims. Four times the largest
/// frame: owned strings and vectors of what the frame really holds, while they grow by doubling.
pub const DECODE_ALLOC_BYTES_MAX: usize = 4 * CLIENT_FRAME_BYTES_MAX;
