//! Codes of six digits that change every 30 seconds (RFC 6238), as authenticator apps make them.
//!
//! The secret is an HMAC of a random seed by a key that is not in the database: who reads the database alone
//! cannot make codes. SHA-1, because most apps know nothing else whatever the URI says.

use protocol::Time;
use secrecy::SecretString;
use totp_rs::{Algorithm, Builder, Secret, Totp};

use super::{AdminError, Enrolment};
use crate::{account::RefreshKey, control::ControlError};

/// Bytes of the secret (RFC 4226 §4 R6 recommends 160 bits).
const SECRET_BYTES: usize = 20;

const DIGITS: u8 = 6;

const STEP_SECONDS: u64 = 30;

/// How many steps the phone's clock may be off, either way.
const SKEW: u16 = 1;

/// What apps show above the code.
const ISSUER: &str = "pushhub";

/// The codes of an admin.
pub(super) fn codes(key: &RefreshKey, seed: &str, username: &str) -> Result<Totp, AdminError> {
    let secret = key.derive("second factor", &[seed.as_bytes()]);
    let built = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_skew(SKEW)
        .with_step_duration(STEP_SECONDS)
        .with_secret(Secret::new(secret[..SECRET_BYTES].into()))
        .with_issuer(Some(ISSUER))
        .with_account_name(username)
        .build();
    built.map_err(|error| ControlError::Damaged(error.to_string().into()).into())
}

/// The step that a code is of, if it is one of now; spaces in it do not count.
pub(super) fn step(codes: &Totp, code: &str, now: Time) -> Option<i64> {
    let digits: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let seconds = u64::try_from(now.millis() / 1_000).unwrap_or_default();
    let step = codes.check(&digits, seconds)?;
    Some(i64::try_from(step).unwrap_or(i64::MAX))
}

/// What an app needs to make these codes.
pub(super) fn enrolment(codes: &Totp) -> Result<Enrolment, AdminError> {
    let uri = codes.to_url();
    let uri = uri.map_err(|error| ControlError::Damaged(error.to_string().into()))?;
    Ok(Enrolment {
        secret: SecretString::from(codes.secret().to_base32()),
        otpauth_uri: SecretString::from(uri),
    })
}
