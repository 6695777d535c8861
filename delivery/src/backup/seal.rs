//! What is around a backup on its way out: a last line, gzip, age; and what is known of it on its way in.
//!
//! The last line stands behind the last page of the SQLite file, whose header says how many pages there are, so that
//! every reader of SQLite passes it over. It has the SHA-256 of all before it: a file that lost its end, or of
//! which a bit fell over on some disk, is told from a whole one without anything beside it.

use std::io::{self, Read, Write};

use flate2::{Compression, write::GzEncoder};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::age::{Encrypt, Identity, KeyError, Recipient};

/// How hard it is compressed. 1 takes a third of the time of the usual 6, for a tenth more bytes; who waits for a
/// download waits for this.
const LEVEL: Compression = Compression::new(1);

/// Bytes that are read and written at a time.
pub(crate) const PIECE: usize = 256 << 10;

/// What the last line begins with.
pub(super) const LAST: &str = "\npushhub-backup-1 sha256=";

/// Bytes of the last line: the beginning, 64 digits, the end of line.
pub(crate) const LAST_BYTES: usize = LAST.len() + 64 + 1;

/// A key that backups are encrypted with, or opened.
#[derive(Clone)]
pub struct Key {
    recipient: Recipient,
    /// Who opens them, where the key says it.
    identity: Option<Identity>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// An age recipient (encrypts only), an age identity, or a passphrase.
    ///
    /// # Errors
    /// [`KeyError`] for a text that is none.
    pub fn parse(text: &SecretString) -> Result<Self, KeyError> {
        let text = text.expose_secret().trim();
        let recipient = Recipient::parse(text)?;
        // What is only a recipient is no identity, and too long for a passphrase that anybody means.
        let is_recipient = text.to_ascii_lowercase().starts_with("age1");
        let identity = if is_recipient { None } else { Some(Identity::parse(text)?) };
        Ok(Self { recipient, identity })
    }

    /// Who opens what was encrypted with it.
    pub(super) const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

/// What is around a backup.
#[derive(Clone, Debug, Default)]
pub struct Outer {
    /// Compressed with gzip.
    pub compress: bool,
    /// Encrypted, after that.
    pub key: Option<Key>,
}

impl Outer {
    /// What a file's name ends with, behind `.db`.
    #[must_use]
    pub const fn suffix(&self) -> &'static str {
        match (self.compress, &self.key) {
            (false, None) => "",
            (true, None) => ".gz",
            (false, Some(_)) => ".age",
            (true, Some(_)) => ".gz.age",
        }
    }

    /// Reads a backup's file and writes what leaves.
    pub(super) fn write(&self, from: &mut impl Read, to: impl Write) -> io::Result<()> {
        match (self.compress, &self.key) {
            (false, None) => copy(from, to).map(drop),
            (true, None) => copy(from, GzEncoder::new(to, LEVEL))?.finish().map(drop),
            (false, Some(key)) => copy(from, Encrypt::new(to, &key.recipient)?)?.finish().map(drop),
            (true, Some(key)) => {
                let age = Encrypt::new(to, &key.recipient)?;
                copy(from, GzEncoder::new(age, LEVEL))?.finish()?.finish().map(drop)
            }
        }
    }
}

/// Copies all of a file, and the last line.
fn copy<W: Write>(from: &mut impl Read, mut to: W) -> io::Result<W> {
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hash.update(&piece[..count]);
        to.write_all(&piece[..count])?;
    }
    to.write_all(format!("{LAST}{}\n", hex(&hash.finalize())).as_bytes())?;
    Ok(to)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}
