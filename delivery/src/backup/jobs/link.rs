//! Links to files of jobs that open them without a token, until they expire.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use protocol::Time;
use sha2::Sha256;

use super::JobError;

/// What links are signed with: derived from the key of tokens, so that a link is good after a restart.
#[derive(Clone)]
pub struct LinkKey(pub [u8; 32]);

impl LinkKey {
    fn signed(&self, name: &str, expires: i64) -> Hmac<Sha256> {
        let mut signed =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        // No name has an end of line: nobody can move the border between the two.
        signed.update(format!("{expires}\n{name}").as_bytes());
        signed
    }

    /// The query that opens a file of this name until then.
    pub(crate) fn query(&self, name: &str, until: Time) -> String {
        let expires = until.millis().div_euclid(1_000);
        let signature = self.signed(name, expires).finalize().into_bytes();
        format!("expires={expires}&signature={}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whether a link is one of ours and still good; else why not.
    pub(crate) fn check(
        &self,
        name: &str,
        expires: i64,
        signature: &str,
        now: Time,
    ) -> Result<(), JobError> {
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JobError::Forged)?;
        self.signed(name, expires).verify_slice(&signature).map_err(|_| JobError::Forged)?;
        if now.millis() >= expires.saturating_mul(1_000) {
            return Err(JobError::LinkExpired);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_opens_what_it_names_until_it_says() {
        let key = LinkKey([7; 32]);
        let query = key.query("a.db.gz", Time::from_millis(90_500));
        let signature = query.strip_prefix("expires=90&signature=").unwrap();
        let at = |millis| Time::from_millis(millis);
        assert!(key.check("a.db.gz", 90, signature, at(89_999)).is_ok());
        assert!(matches!(
            key.check("a.db.gz", 90, signature, at(90_000)),
            Err(JobError::LinkExpired)
        ));
        for (name, expires) in [("b.db.gz", 90), ("a.db.gz", 91)] {
            let checked = key.check(name, expires, signature, at(0));
            assert!(matches!(checked, Err(JobError::Forged)));
        }
        let other = LinkKey([8; 32]).check("a.db.gz", 90, signature, at(0));
        assert!(matches!(other, Err(JobError::Forged)));
        assert!(matches!(key.check("a.db.gz", 90, "", at(0)), Err(JobError::Forged)));
    }
}
