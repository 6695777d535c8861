//! Secrets that nobody configured: made at the first start, kept in the storage folder.
//!
//! The server and the command line may both find a secret missing at the same moment. Each writes
//! its own candidate to a file of its own and links it to the final name; linking fails where the
//! name exists, so that the first one wins and both read the same secret. A half-written secret is
//! never seen under the final name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use delivery::{
    account::RefreshKey,
    backup::LinkKey,
    identity::signing::SealingKey,
    limit::BudgetSecret,
    store::single::{hub_dir, own_dir},
};
use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::{
    bus::Marks,
    config::{AuthConfig, StoreConfig},
};

/// Random bytes of a secret: as many as HS256's hash has (RFC 7518 §3.2).
const SECRET_BYTES: usize = 32;

/// Fewest bytes of a kept secret: less means that the file was cut.
const KEPT_BYTES_MIN: usize = 32;

/// The two secrets a process needs.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Key of user tokens.
    pub jwt_secret: SecretString,
    /// Bearer token of the admin API.
    pub admin_token: SecretString,
    /// Whether one of them was made now: the first start on this folder.
    pub first_start: bool,
}

/// A secret could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file system refuses.
    #[error("cannot use {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is there, but holds no secret.
    #[error("{} holds less than {KEPT_BYTES_MIN} bytes: it was cut; restore it, or delete it to make a new one, which ends all logins", .0.display())]
    Cut(PathBuf),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[source] io::Error),
}

impl Secrets {
    /// The configured secrets, and kept or new ones in place of those that are not.
    ///
    /// # Errors
    /// [`SecretError`] when a secret can neither be read nor kept.
    pub fn open(auth: &AuthConfig, store: &StoreConfig) -> Result<Self, SecretError> {
        let folder = folder(&store.path);
        let mut first_start = false;
        let mut open = |configured: &Option<SecretString>, name| match configured {
            Some(secret) => Ok(secret.clone()),
            None => {
                let (secret, new) = read_or_make(&folder, name)?;
                first_start |= new;
                Ok(secret)
            }
        };
        let jwt_secret = open(&auth.jwt_secret, "jwt_secret")?;
        let admin_token = open(&auth.admin_token, "admin_token")?;
        Ok(Self { jwt_secret, admin_token, first_start })
    }

    /// Numbers that nodes with the same secrets have in common, and from which the secrets cannot be had: a
    /// quarter of what HMAC-SHA256 makes of them. Both are made with the key of tokens, which has 32 bytes
    /// at least; an admin token may be so short that a mark of it alone would let it be guessed.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let admin = self.admin_token.expose_secret().as_bytes();
        let admin = [b"pushhub: nodes with the same ADMIN_TOKEN: ", admin].concat();
        Marks {
            tokens: u64::from_be_bytes(self.derived(b"pushhub: nodes with the same JWT_SECRET")),
            admin: u64::from_be_bytes(self.derived(&admin)),
        }
    }

    /// What nodes with the same key of tokens call the callers they limit by.
    #[must_use]
    pub fn of_budgets(&self) -> BudgetSecret {
        BudgetSecret(self.derived(b"pushhub: callers in rate limits"))
    }

    /// What makes refresh tokens.
    #[must_use]
    pub fn of_refresh_tokens(&self) -> RefreshKey {
        RefreshKey(self.derived(b"pushhub: refresh tokens"))
    }

    /// What links to backups are signed with.
    #[must_use]
    pub fn of_backup_links(&self) -> LinkKey {
        LinkKey(self.derived(b"pushhub: links to backups"))
    }

    /// What the private keys of tokens are sealed with in the control data, which nodes share.
    #[must_use]
    pub fn of_signing_keys(&self) -> SealingKey {
        SealingKey(self.derived(b"pushhub: signing keys at rest"))
    }

    /// The first bytes of what HMAC-SHA256 makes of the key of tokens, for one use.
    fn derived<const N: usize>(&self, used_for: &[u8]) -> [u8; N] {
        let mut derived =
            Hmac::<Sha256>::new_from_slice(self.jwt_secret.expose_secret().as_bytes())
                .expect("HMAC takes keys of any length");
        derived.update(used_for);
        *derived.finalize().into_bytes().first_chunk().expect("no more than its 32 bytes")
    }
}

/// Where secrets are kept below a storage folder.
fn folder(storage: &Path) -> PathBuf {
    hub_dir(storage).join("secrets")
}

fn read_or_make(folder: &Path, name: &str) -> Result<(SecretString, bool), SecretError> {
    let path = folder.join(name);
    if let Some(secret) = read(&path)? {
        return Ok((secret, false));
    }
    let candidate = folder.join(format!(".{name}.{}", uuid::Uuid::now_v7()));
    let made = make(folder, &candidate, &path);
    // Whoever won, the candidate's own name is not needed any more.
    let removed = fs::remove_file(&candidate);
    let new = made?;
    removed.map_err(|source| SecretError::Io { path: candidate, source })?;
    match read(&path)? {
        Some(secret) => Ok((secret, new)),
        None => Err(SecretError::Io { path, source: io::ErrorKind::NotFound.into() }),
    }
}

fn read(path: &Path) -> Result<Option<SecretString>, SecretError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = text.trim_end();
            if text.len() < KEPT_BYTES_MIN {
                return Err(SecretError::Cut(path.to_path_buf()));
            }
            Ok(Some(text.to_owned().into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SecretError::Io { path: path.to_path_buf(), source }),
    }
}

/// Writes a new secret and gives it its name; false where another process was faster.
fn make(folder: &Path, candidate: &Path, path: &Path) -> Result<bool, SecretError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| SecretError::Io { path, source }
    };
    own_dir(folder).map_err(at(folder))?;
    let mut random = [0; SECRET_BYTES];
    rand::rngs::SysRng
        .try_fill_bytes(&mut random)
        .map_err(|error| SecretError::Random(io::Error::other(error)))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(candidate)
        .map_err(at(candidate))?;
    file.write_all(URL_SAFE_NO_PAD.encode(random).as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(at(candidate))?;
    match fs::hard_link(candidate, path) {
        Ok(()) => {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(SecretError::Io { path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn made_once_private_and_read_again() {
        let storage = tempfile::tempdir().unwrap();
        let folder = folder(storage.path());
        let (first, new) = read_or_make(&folder, "jwt_secret").unwrap();
        assert!(new);
        assert_eq!(URL_SAFE_NO_PAD.decode(first.expose_secret()).unwrap().len(), SECRET_BYTES);
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("jwt_secret")), 0o600);
        let (second, new) = read_or_make(&folder, "jwt_secret").unwrap();
        assert!(!new);
        assert_eq!(first.expose_secret(), second.expose_secret());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no candidate is left behind");
    }

    #[test]
    fn many_that_start_at_once_agree() {
        let storage = tempfile::tempdir().unwrap();
        let folder = folder(storage.path());
        let made: Vec<(String, bool)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let (secret, new) = read_or_make(&folder, "admin_token").unwrap();
                        (secret.expose_secret().to_owned(), new)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|(secret, _)| *secret == made[0].0));
        assert_eq!(made.iter().filter(|(_, new)| *new).count(), 1);
    }

    #[test]
    fn marks_differ_with_what_they_are_of() {
        let marks = |jwt: &str, admin: &str| {
            let (jwt_secret, admin_token) = (jwt.to_owned().into(), admin.to_owned().into());
            Secrets { jwt_secret, admin_token, first_start: false }.marks()
        };
        let (one, same) = (marks("key", "admin"), marks("key", "admin"));
        assert_eq!(one, same);
        assert_ne!(one.tokens, one.admin);
        let other = marks("key", "other");
        assert!(other.tokens == one.tokens && other.admin != one.admin);
        let other = marks("other", "admin");
        assert!(other.tokens != one.tokens && other.admin != one.admin);
    }

    #[test]
    fn a_cut_secret_is_refused() {
        let storage = tempfile::tempdir().unwrap();
        let folder = folder(storage.path());
        read_or_make(&folder, "jwt_secret").unwrap();
        fs::write(folder.join("jwt_secret"), "short").unwrap();
        assert!(matches!(read_or_make(&folder, "jwt_secret"), Err(SecretError::Cut(_))));
    }
}
