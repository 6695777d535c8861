//! Frames on their way in.
//!
//! tungstenite knows masking, fragments, UTF-8 and control frames; but it is only kept while a frame
//! or a message is incomplete: an idle connection keeps nothing of it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use protocol::{CloseReason, limits::CLIENT_FRAME_BYTES_MAX};
use smallvec::SmallVec;
use tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

/// Messages of one read; more than this many at once go to the heap.
pub(super) type Messages = SmallVec<[Message; 2]>;

/// Takes bytes, gives messages. Holds memory only while a frame or message is incomplete.
#[derive(Default)]
pub(super) struct FrameReader {
    partial: Option<Box<Partial>>,
}

struct Partial {
    context: WebSocketContext,
    boundary: Boundary,
}

impl FrameReader {
    /// Reads `chunk`; `messages` gets what is complete, and the answer is the frames that must go
    /// back (pongs, the answer to a close).
    ///
    /// # Errors
    /// [`CloseReason::TooBig`] and [`CloseReason::BadFrame`]; nothing can be read after that.
    pub(super) fn read(
        &mut self,
        chunk: &[u8],
        messages: &mut Messages,
    ) -> Result<Bytes, CloseReason> {
        let mut adapter = Adapter { input: chunk, output: Vec::new() };
        let result = match self.partial.as_mut() {
            Some(partial) => {
                partial.boundary.advance(chunk);
                drain(&mut partial.context, &mut adapter, messages)
            }
            None => {
                let mut boundary = Boundary::default();
                boundary.advance(chunk);
                let mut context = new_context(chunk.len());
                let result = drain(&mut context, &mut adapter, messages);
                if !boundary.is_whole() {
                    self.partial = Some(Box::new(Partial { context, boundary }));
                }
                result
            }
        };
        if self.partial.as_ref().is_some_and(|partial| partial.boundary.is_whole()) {
            self.partial = None;
        }
        result.map(|()| adapter.output.into())
    }
}

/// Smallest buffer of an incomplete frame, in bytes: a longer one grows to what its header says.
const PARTIAL_BYTES_MIN: usize = 256;

fn new_context(chunk_bytes: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(chunk_bytes.max(PARTIAL_BYTES_MIN))
        .write_buffer_size(0)
        // Only pongs and one close are written through it, of 127 bytes at most.
        .max_write_buffer_size(1 << 10)
        .max_message_size(Some(CLIENT_FRAME_BYTES_MAX))
        .max_frame_size(Some(CLIENT_FRAME_BYTES_MAX));
    WebSocketContext::new(Role::Server, Some(config))
}

fn drain(
    context: &mut WebSocketContext,
    adapter: &mut Adapter<'_>,
    messages: &mut Messages,
) -> Result<(), CloseReason> {
    loop {
        match context.read(adapter) {
            Ok(message) => messages.push(message),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The close was answered; what follows it is nobody's business.
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(Error::Capacity(_)) => return Err(CloseReason::TooBig),
            Err(_) => return Err(CloseReason::BadFrame),
        }
    }
}

/// Shows one chunk to tungstenite as a non-blocking socket.
struct Adapter<'a> {
    input: &'a [u8],
    output: Vec<u8>,
}

impl Read for Adapter<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buf)
    }
}

impl Write for Adapter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows frame headers only, to know whether anything is incomplete: then tungstenite's state
/// (some 500 bytes) must be kept until the rest comes.
#[derive(Default)]
struct Boundary {
    header: [u8; 14],
    have: u8,
    fragmented: bool,
    payload_left: u64,
}

impl Boundary {
    fn advance(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            if self.payload_left > 0 {
                let taken =
                    chunk.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= taken as u64;
                chunk = &chunk[taken..];
                continue;
            }
            self.header[usize::from(self.have)] = chunk[0];
            self.have += 1;
            chunk = &chunk[1..];
            if let Some(payload) = self.complete_header() {
                // Control frames may stand between the fragments of a message.
                if self.header[0] & 0x08 == 0 {
                    self.fragmented = self.header[0] & 0x80 == 0;
                }
                self.have = 0;
                self.payload_left = payload;
            }
        }
    }

    /// The payload's length, once the header is complete.
    fn complete_header(&self) -> Option<u64> {
        if self.have < 2 {
            return None;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = self.header[1] & 0x7f;
        let extended = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.have < 2 + extended + mask {
            return None;
        }
        Some(match extended {
            0 => u64::from(length),
            count => self.header[2..2 + usize::from(count)]
                .iter()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        })
    }

    fn is_whole(&self) -> bool {
        self.have == 0 && self.payload_left == 0 && !self.fragmented
    }
}

#[cfg(test)]
#[path = "tests/frame_reader.rs"]
mod tests;
