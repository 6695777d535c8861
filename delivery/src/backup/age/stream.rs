//! The content: chunks that are sealed each by itself, with their number and whether they are the last.

use std::io::{self, BufRead, Read, Write};

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use secrecy::ExposeSecret;

use super::{
    AgeError, FIXED, header,
    keys::{FileKey, Identity, Recipient, derive},
};

/// Bytes of a chunk.
const CHUNK: usize = 64 << 10;

/// Bytes of a chunk's tag.
const TAG: usize = 16;

/// Bytes of the number once for each file.
const SALT: usize = 16;

struct Cipher {
    key: LessSafeKey,
    number: u64,
}

impl Cipher {
    fn new(key: &FileKey, salt: &[u8; SALT]) -> Self {
        let derived = derive(key.expose_secret(), salt, b"payload");
        let key = UnboundKey::new(&CHACHA20_POLY1305, derived.expose_secret()).expect(FIXED);
        Self { key: LessSafeKey::new(key), number: 0 }
    }

    /// Eleven bytes of number and one that says whether it is the last. A number is used once.
    fn nonce(&mut self, last: bool) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[3..11].copy_from_slice(&self.number.to_be_bytes());
        nonce[11] = last.into();
        self.number += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Encrypts what is written to it. Nothing of it is whole before [`Encrypt::finish`].
pub(crate) struct Encrypt<W> {
    to: W,
    cipher: Cipher,
    chunk: Vec<u8>,
}

impl<W: Write> Encrypt<W> {
    /// Writes the header.
    pub(crate) fn new(mut to: W, recipient: &Recipient) -> io::Result<Self> {
        let key = header::write(&mut to, recipient)?;
        let mut salt = [0; SALT];
        rand::fill(&mut salt).expect(FIXED);
        to.write_all(&salt)?;
        Ok(Self { to, cipher: Cipher::new(&key, &salt), chunk: Vec::with_capacity(CHUNK + TAG) })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = self.cipher.nonce(last);
        self.cipher
            .key
            .seal_in_place_append_tag(nonce, Aad::empty(), &mut self.chunk)
            .expect(FIXED);
        self.to.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Writes the last chunk.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Encrypt<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits until more comes: the last one is another.
        if self.chunk.len() == CHUNK && !bytes.is_empty() {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Decrypts what it reads. What comes is as it was written; that all of it came is known at its end, which a cut
/// file does not have.
pub(crate) struct Decrypt<R> {
    from: R,
    cipher: Cipher,
    /// The sealed chunk after the one that is being handed out.
    ahead: Vec<u8>,
    open: Vec<u8>,
    given: usize,
}

impl<R: BufRead> Decrypt<R> {
    /// Reads the header.
    pub(crate) fn new(mut from: R, identity: &Identity) -> io::Result<Self> {
        let key = header::read(&mut from, identity)?;
        let mut salt = [0; SALT];
        from.read_exact(&mut salt).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(),
            _ => error,
        })?;
        let cipher = Cipher::new(&key, &salt);
        let mut decrypt = Self { from, cipher, ahead: Vec::new(), open: Vec::new(), given: 0 };
        decrypt.ahead = decrypt.sealed()?;
        if decrypt.ahead.is_empty() {
            return Err(damaged());
        }
        Ok(decrypt)
    }

    fn sealed(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = Vec::with_capacity(CHUNK + TAG);
        self.from.by_ref().take((CHUNK + TAG) as u64).read_to_end(&mut chunk)?;
        Ok(chunk)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, AgeError::Damaged)
}

impl<R: BufRead> Read for Decrypt<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.open.len() {
            if self.ahead.is_empty() {
                return Ok(0);
            }
            let next = self.sealed()?;
            let mut chunk = std::mem::replace(&mut self.ahead, next);
            let first = self.cipher.number == 0;
            let nonce = self.cipher.nonce(self.ahead.is_empty());
            let opened = self.cipher.key.open_in_place(nonce, Aad::empty(), &mut chunk);
            let length = opened.map_err(|_| damaged())?.len();
            // Only an empty file has an empty chunk.
            if length == 0 && !first {
                return Err(damaged());
            }
            chunk.truncate(length);
            (self.open, self.given) = (chunk, 0);
        }
        let taken = into.len().min(self.open.len() - self.given);
        into[..taken].copy_from_slice(&self.open[self.given..self.given + taken]);
        self.given += taken;
        Ok(taken)
    }
}
