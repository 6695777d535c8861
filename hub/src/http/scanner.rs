//! Reads along with hyper for what hyper hides from handlers.
//!
//! hyper drops `Content-Length` where `Transfer-Encoding` is there too, and takes a bare LF for a
//! line's end; a handler sees neither. A proxy in front that decides otherwise makes request
//! smuggling of it (RFC 9112 §11.2). The scanner sees the bytes as they arrive, without copying
//! them; it knows just enough of framing to find the next head behind a body of a given length.

/// Bytes of a line that are looked at: enough for either header's name and a 20-digit length.
const LINE_BYTES_SEEN: usize = 64;

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndEncoding,
    /// A line that ends in LF without CR.
    BareLineFeed,
}

/// A fault and the request it belongs to: the first of a connection is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) request: u64,
    pub(super) fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before or in a head.
    Head,
    /// This many bytes of a body are to come.
    Body(u64),
    /// After a fault, a body of unknown length, or something hyper refuses: the connection is
    /// closed after the answer, so that nothing that follows is ever served.
    Done,
}

#[derive(Debug)]
pub(super) struct HeadScanner {
    state: State,
    request: u64,
    line: [u8; LINE_BYTES_SEEN],
    line_len: usize,
    /// The last byte, to see a CR before an LF across two reads.
    last: u8,
    in_fields: bool,
    length: Option<u64>,
    encoding: bool,
}

impl Default for HeadScanner {
    fn default() -> Self {
        Self {
            state: State::Head,
            request: 0,
            line: [0; LINE_BYTES_SEEN],
            line_len: 0,
            last: 0,
            in_fields: false,
            length: None,
            encoding: false,
        }
    }
}

impl HeadScanner {
    /// Takes the next bytes of the connection; answers the first fault, once.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Option<Found> {
        while !bytes.is_empty() {
            match self.state {
                State::Done => return None,
                State::Body(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::Head } else { State::Body(left) };
                }
                State::Head => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let piece = &bytes[..end.unwrap_or(bytes.len())];
                    self.keep(piece);
                    let end = end?;
                    bytes = &bytes[end + 1..];
                    if let Some(fault) = self.end_line() {
                        self.state = State::Done;
                        return Some(Found { request: self.request, fault });
                    }
                }
            }
        }
        None
    }

    /// Whether the rest of a head is still to come: some of it is there, or it is the first one.
    pub(super) fn awaits_head(&self) -> bool {
        let begun = self.in_fields || self.line_len > 0;
        self.state == State::Head && (begun || self.request == 0)
    }

    fn keep(&mut self, piece: &[u8]) {
        let free = LINE_BYTES_SEEN - self.line_len;
        let taken = piece.len().min(free);
        self.line[self.line_len..self.line_len + taken].copy_from_slice(&piece[..taken]);
        self.line_len += taken;
        if let Some(last) = piece.last() {
            self.last = *last;
        }
    }

    fn end_line(&mut self) -> Option<Fault> {
        let ended_well = self.last == b'\r';
        self.last = 0;
        let line_len = std::mem::take(&mut self.line_len);
        if !ended_well {
            return Some(Fault::BareLineFeed);
        }
        let seen = &self.line[..line_len];
        let line = seen.strip_suffix(b"\r").unwrap_or(seen);
        if !line.is_empty() {
            if self.in_fields {
                self.field();
            }
            self.in_fields = true;
            return None;
        }
        if !self.in_fields {
            // Empty lines before a request line are allowed (RFC 9112 §2.2).
            return None;
        }
        self.end_head()
    }

    fn field(&mut self) {
        let seen = &self.line;
        let Some(colon) = seen.iter().position(|byte| *byte == b':') else { return };
        let (name, rest) = (&seen[..colon], &seen[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encoding = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let value = rest.split(|byte| *byte == b'\r').next().unwrap_or(rest);
            let value = str::from_utf8(value.trim_ascii()).ok().and_then(|text| text.parse().ok());
            // A length that is no number is refused by hyper; nothing after it is served.
            self.length = Some(value.unwrap_or(u64::MAX));
        }
    }

    fn end_head(&mut self) -> Option<Fault> {
        let (length, encoding) = (self.length.take(), std::mem::take(&mut self.encoding));
        self.in_fields = false;
        if encoding && length.is_some() {
            return Some(Fault::LengthAndEncoding);
        }
        self.request += 1;
        self.state = match length {
            _ if encoding => State::Done,
            Some(0) | None => State::Head,
            Some(length) => State::Body(length),
        };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nline\nline\n\r\n";
    const BOTH: &[u8] =
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nCONTENT-LENGTH: 4\r\n\r\n";

    #[test]
    fn bytes_of_bodies_are_not_taken_for_heads() {
        let found = HeadScanner::default().feed(&[GOOD, GOOD, b"\r\n", GOOD].concat());
        assert_eq!(found, None);
    }

    #[test]
    fn a_fault_is_found_wherever_the_reads_are_cut() {
        let stream = [GOOD, GOOD, BOTH].concat();
        for cut in 1..stream.len() {
            let mut scanner = HeadScanner::default();
            let found: Vec<Found> =
                stream.chunks(cut).filter_map(|piece| scanner.feed(piece)).collect();
            assert_eq!(found, [Found { request: 2, fault: Fault::LengthAndEncoding }], "cut {cut}");
        }
    }

    #[test]
    fn a_head_is_awaited_from_its_first_byte_to_its_last_and_the_first_one_from_the_start() {
        let mut scanner = HeadScanner::default();
        assert!(scanner.awaits_head(), "the first");
        assert_eq!(scanner.feed(GOOD), None);
        assert!(!scanner.awaits_head(), "at rest");
        let (body, head) = (b"line\nline\n\r\n".len(), GOOD.len() - 12);
        for (index, byte) in GOOD.iter().enumerate() {
            assert_eq!(scanner.feed(&[*byte]), None);
            assert_eq!(scanner.awaits_head(), index + 1 < head, "byte {index} of {head} + {body}");
        }
    }

    #[test]
    fn bare_line_feeds_are_found_in_the_request_line_in_fields_and_at_the_end() {
        for bad in [
            &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        ] {
            let found = HeadScanner::default().feed(bad);
            assert_eq!(found, Some(Found { request: 0, fault: Fault::BareLineFeed }));
        }
    }
}
