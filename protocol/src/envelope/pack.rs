//! The few forms of MessagePack that envelopes use. Written by hand because the reader must not
//! trust lengths, must pass over what it does not know, and runs once for each change that crosses
//! nodes.

use super::DecodeError;

/// Deepest nesting that is passed over: the deepest envelope has five levels.
const DEPTH_MAX: usize = 16;

/// Writes at the end of a buffer.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn array(&mut self, length: usize) {
        match u16::try_from(length) {
            Ok(short @ 0..=15) => self.0.push(0x90 | short as u8),
            Ok(length) => self.long(0xdc, &length.to_be_bytes()),
            Err(_) => self.long(0xdd, &(length as u32).to_be_bytes()),
        }
    }

    pub(super) fn uint(&mut self, value: u64) {
        let bytes = value.to_be_bytes();
        match value {
            0..=0x7f => self.0.push(bytes[7]),
            0x80..=0xff => self.long(0xcc, &bytes[7..]),
            0x100..=0xffff => self.long(0xcd, &bytes[6..]),
            0x1_0000..=0xffff_ffff => self.long(0xce, &bytes[4..]),
            _ => self.long(0xcf, &bytes),
        }
    }

    pub(super) fn int(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.uint(value),
            Err(_) => self.long(0xd3, &value.to_be_bytes()),
        }
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.0.push(if value { 0xc3 } else { 0xc2 });
    }

    pub(super) fn nil(&mut self) {
        self.0.push(0xc0);
    }

    pub(super) fn str(&mut self, text: &str) {
        match text.len() {
            short @ 0..=31 => self.0.push(0xa0 | short as u8),
            medium @ 32..=0xff => self.long(0xd9, &[medium as u8]),
            long @ 0x100..=0xffff => self.long(0xda, &(long as u16).to_be_bytes()),
            longer => self.long(0xdb, &(longer as u32).to_be_bytes()),
        }
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A text, or nil.
    pub(super) fn maybe(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.str(text),
            None => self.nil(),
        }
    }

    pub(super) fn bin(&mut self, bytes: &[u8]) {
        match bytes.len() {
            short @ 0..=0xff => self.long(0xc4, &[short as u8]),
            medium @ 0x100..=0xffff => self.long(0xc5, &(medium as u16).to_be_bytes()),
            long => self.long(0xc6, &(long as u32).to_be_bytes()),
        }
        self.0.extend_from_slice(bytes);
    }

    fn long(&mut self, marker: u8, rest: &[u8]) {
        self.0.push(marker);
        self.0.extend_from_slice(rest);
    }
}

/// Reads from the front of a buffer. Nothing is allocated for a claimed length.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

const CUT: DecodeError = DecodeError::Malformed("it is cut off");

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// The next `width` bytes as a number; at most eight.
    fn number(&mut self, width: usize) -> Result<u64, DecodeError> {
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, width: usize) -> Result<usize, DecodeError> {
        usize::try_from(self.number(width)?).map_err(|_| CUT)
    }

    /// The length of an array.
    pub(super) fn array(&mut self) -> Result<usize, DecodeError> {
        match self.byte()? {
            short @ 0x90..=0x9f => Ok(usize::from(short & 0x0f)),
            0xdc => self.length(2),
            0xdd => self.length(4),
            _ => Err(DecodeError::Malformed("an array was expected")),
        }
    }

    /// An array of at least `known` elements; answers how many more there are, which
    /// [`Reader::rest`] passes over.
    pub(super) fn fields(&mut self, known: usize) -> Result<usize, DecodeError> {
        let short = DecodeError::Malformed("an array is too short");
        self.array()?.checked_sub(known).ok_or(short)
    }

    pub(super) fn uint(&mut self) -> Result<u64, DecodeError> {
        match self.byte()? {
            short @ 0..=0x7f => Ok(u64::from(short)),
            marker @ 0xcc..=0xcf => self.number(1 << (marker - 0xcc)),
            _ => Err(DecodeError::Malformed("a number was expected")),
        }
    }

    pub(super) fn int(&mut self) -> Result<i64, DecodeError> {
        if self.0.first() == Some(&0xd3) {
            self.byte()?;
            return Ok(self.number(8)?.cast_signed());
        }
        let large = DecodeError::Malformed("a number is too large");
        i64::try_from(self.uint()?).map_err(|_| large)
    }

    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(DecodeError::Malformed("true or false was expected")),
        }
    }

    /// Passes over a nil if that is next.
    pub(super) fn nil(&mut self) -> bool {
        let nil = self.0.first() == Some(&0xc0);
        if nil {
            self.0 = &self.0[1..];
        }
        nil
    }

    pub(super) fn str(&mut self) -> Result<&'a str, DecodeError> {
        let length = match self.byte()? {
            short @ 0xa0..=0xbf => usize::from(short & 0x1f),
            marker @ 0xd9..=0xdb => self.length(1 << (marker - 0xd9))?,
            _ => return Err(DecodeError::Malformed("a text was expected")),
        };
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| DecodeError::Malformed("a text is not UTF-8"))
    }

    pub(super) fn bin(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = match self.byte()? {
            marker @ 0xc4..=0xc6 => self.length(1 << (marker - 0xc4))?,
            _ => return Err(DecodeError::Malformed("bytes were expected")),
        };
        self.take(length)
    }

    /// Passes over `count` values.
    pub(super) fn rest(&mut self, count: usize) -> Result<(), DecodeError> {
        (0..count).try_for_each(|_| self.skip(DEPTH_MAX))
    }

    fn skip(&mut self, depth: usize) -> Result<(), DecodeError> {
        if depth == 0 {
            return Err(DecodeError::Malformed("it is nested too deep"));
        }
        let (bytes, values) = match self.byte()? {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            map @ 0x80..=0x8f => (0, 2 * usize::from(map & 0x0f)),
            array @ 0x90..=0x9f => (0, usize::from(array & 0x0f)),
            text @ 0xa0..=0xbf => (usize::from(text & 0x1f), 0),
            0xc1 => return Err(DecodeError::Malformed("a byte that MessagePack does not use")),
            bin @ 0xc4..=0xc6 => (self.length(1 << (bin - 0xc4))?, 0),
            ext @ 0xc7..=0xc9 => (self.length(1 << (ext - 0xc7))?.saturating_add(1), 0),
            0xca => (4, 0),
            0xcb => (8, 0),
            number @ 0xcc..=0xcf => (1 << (number - 0xcc), 0),
            number @ 0xd0..=0xd3 => (1 << (number - 0xd0), 0),
            ext @ 0xd4..=0xd8 => (1 + (1 << (ext - 0xd4)), 0),
            text @ 0xd9..=0xdb => (self.length(1 << (text - 0xd9))?, 0),
            array @ 0xdc..=0xdd => (0, self.length(2 << (array - 0xdc))?),
            map @ 0xde..=0xdf => (0, self.length(2 << (map - 0xde))?.saturating_mul(2)),
        };
        self.take(bytes)?;
        (0..values).try_for_each(|_| self.skip(depth - 1))
    }
}
