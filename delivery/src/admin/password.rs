//! Passwords, as argon2id hashes (RFC 9106).

use std::{sync::Arc, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::{task::spawn_blocking, time::timeout};

use super::{AdminError, Admins};

/// Memory of one hash, in KiB, as OWASP's cheat sheet of passwords has it (19 MiB, two passes, one lane).
pub const MEMORY_KIB: u32 = 19_456;

/// Passes over it.
pub const PASSES: u32 = 2;

/// Lanes: one, because each hash has one thread.
const LANES: u32 = 1;

/// Most hashes at a time: 40 MiB and two cores. Further ones wait.
pub const HASHES_AT_ONCE_MAX: usize = 2;

/// How long they wait before they are refused.
const HASH_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a password is held against where there is no such admin, so that the delay does not tell who exists.
/// It is of no password that anybody knows.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IG9mIG5vYm9keQ$\
                      MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("constants are within limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &str) -> String {
    let hash = hasher().hash_password(password.as_bytes());
    hash.expect("a password of so few bytes and a random salt can be hashed").to_string()
}

/// By the parameters that the hash was made with.
fn matches(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| hasher().verify_password(password.as_bytes(), &hash).is_ok())
}

impl Admins {
    pub(super) async fn hash(&self, password: SecretString) -> Result<String, AdminError> {
        self.hashing(move || hash(password.expose_secret())).await
    }

    /// Whether it is the password of this hash. None is nobody's, an empty one of who has no password: both
    /// take as long.
    pub(super) async fn is_password(
        &self,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool, AdminError> {
        let hash = hash.filter(|hash| !hash.is_empty());
        self.hashing(move || {
            let right = matches(password.expose_secret(), hash.as_deref().unwrap_or(NOBODY));
            right && hash.is_some()
        })
        .await
    }

    /// Off the threads of the runtime, which would all stand still for some 20 ms.
    async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        let turn = timeout(HASH_WAIT_MAX, Arc::clone(&self.hashes).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(AdminError::Busy) };
        let done = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        // Ends early only with the process.
        done.await.map_err(|_| AdminError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_says_how_it_was_made_and_matches_one_password() {
        let made = hash("correct horse battery");
        assert!(made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{made}");
        assert!(matches("correct horse battery", &made));
        assert!(!matches("correct horse batterz", &made));
        assert_ne!(hash("correct horse battery"), made, "each has a salt of its own");
        assert!(PasswordHash::new(NOBODY).is_ok() && !matches("", NOBODY));
        assert!(!matches("x", "damaged"));
    }
}
