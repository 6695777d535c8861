//! The header: for whom a file is, and its own checksum.

use std::io::{BufRead, Read, Write};

use aws_lc_rs::{hmac, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox};

use super::{
    AgeError, FIXED,
    keys::{FileKey, Identity, Recipient, derive},
};

/// What such a file begins with.
pub(crate) const MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// Most bytes of a header that is read: some hundred recipients.
const HEADER_BYTES_MAX: u64 = 64 << 10;

/// Columns of a stanza's body; a shorter line ends it.
const COLUMNS: usize = 64;

pub(super) fn base64(text: &str) -> Result<Vec<u8>, AgeError> {
    STANDARD_NO_PAD.decode(text).map_err(|_| AgeError::Header)
}

/// Writes a header for a recipient. Answers the file's key.
pub(super) fn write(to: &mut impl Write, recipient: &Recipient) -> std::io::Result<FileKey> {
    let mut key: FileKey = SecretBox::new(Box::new([0; 16]));
    rand::fill(key.expose_secret_mut()).expect(FIXED);
    let stanza = recipient.wrap(&key);
    let mut text = MAGIC.to_vec();
    let work = stanza.work.map(|work| format!(" {work}")).unwrap_or_default();
    // 32 bytes are 43 columns: one line, shorter than a full one.
    write!(
        text,
        "-> {} {}{work}\n{}\n---",
        stanza.kind,
        STANDARD_NO_PAD.encode(&stanza.argument),
        STANDARD_NO_PAD.encode(&stanza.body)
    )?;
    let mac = hmac::sign(&mac_key(&key), &text);
    writeln!(text, " {}", STANDARD_NO_PAD.encode(mac.as_ref()))?;
    to.write_all(&text)?;
    Ok(key)
}

fn mac_key(key: &FileKey) -> hmac::Key {
    let derived = derive(key.expose_secret(), &[], b"header");
    hmac::Key::new(hmac::HMAC_SHA256, derived.expose_secret())
}

/// Reads a header, and answers the file's key.
pub(super) fn read(from: &mut impl BufRead, identity: &Identity) -> Result<FileKey, Failed> {
    let mut from = from.take(HEADER_BYTES_MAX);
    let mut text = Vec::new();
    let mut line = |text: &mut Vec<u8>| -> Result<String, Failed> {
        let begin = text.len();
        from.read_until(b'\n', text)?;
        let line = text[begin..].strip_suffix(b"\n").ok_or(AgeError::Header)?;
        Ok(std::str::from_utf8(line).map_err(|_| AgeError::Header)?.to_owned())
    };
    line(&mut text)?;
    if text != MAGIC {
        return Err(AgeError::Header.into());
    }
    let (mut key, mut of_my_kind) = (None, false);
    let (mine, other) = identity.words();
    loop {
        let begin = text.len();
        let head = line(&mut text)?;
        if let Some(mac) = head.strip_prefix("--- ") {
            let Some(key) = key else {
                let error =
                    if of_my_kind { AgeError::OtherKey } else { AgeError::OtherKind(other) };
                return Err(error.into());
            };
            hmac::verify(&mac_key(&key), &text[..begin + 3], &base64(mac)?)
                .map_err(|_| AgeError::Header)?;
            return Ok(key);
        }
        let stanza = head.strip_prefix("-> ").ok_or(AgeError::Header)?;
        let mut words = stanza.split(' ');
        let kind = words.next().unwrap_or_default();
        let arguments: Vec<&str> = words.collect();
        let mut body = String::new();
        loop {
            let part = line(&mut text)?;
            body.push_str(&part);
            match part.len() {
                COLUMNS => {}
                0..COLUMNS => break,
                _ => return Err(AgeError::Header.into()),
            }
        }
        of_my_kind |= kind == mine;
        if key.is_none() {
            key = identity.unwrap(kind, &arguments, &base64(&body)?)?;
        }
    }
}

/// A file cannot be read, or not be decrypted.
pub(super) enum Failed {
    Io(std::io::Error),
    Age(AgeError),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<AgeError> for Failed {
    fn from(error: AgeError) -> Self {
        Self::Age(error)
    }
}

impl From<Failed> for std::io::Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Io(error) => error,
            Failed::Age(error) => Self::new(std::io::ErrorKind::InvalidData, error),
        }
    }
}
