//! Others whose tokens are believed, by their own keys.

use std::{fs, path::PathBuf, str::FromStr, sync::Arc};

use super::jwks::{IssuerKeys, KeySet, KeySetError, KeysError};
use crate::outbound::{Outbound, OutboundUrl};

/// Most issuers beside this service: they are walked for each token that is not in memory.
pub const ISSUERS_MAX: usize = 16;

/// Longest name of an issuer, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// Largest file of keys, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At the issuer, which says where (OpenID Connect Discovery 1.0).
    Discovery(OutboundUrl),
    /// At this URL.
    Url(OutboundUrl),
    /// In this file: a JSON Web Key Set, or a public key in PEM.
    File(PathBuf),
}

/// Somebody else whose tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TrustedIssuer {
    name: String,
    place: Place,
}

/// A list of them, as `JWT_ISSUERS` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedIssuers(Vec<TrustedIssuer>);

/// The text is no list of issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "up to {ISSUERS_MAX} issuers separated by commas, each an https URL that has its keys by OpenID Connect Discovery, or `iss=URL of its JWKS`, or `iss=path of a JWKS or of a public key in PEM`"
)]
pub struct NoIssuers;

/// An issuer's keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The file cannot be read.
    #[error("JWT_ISSUERS: cannot read {}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no key in the file.
    #[error("JWT_ISSUERS: {} has no keys", path.display())]
    Keys {
        /// Where.
        path: PathBuf,
        /// Why.
        source: KeySetError,
    },
}

impl FromStr for TrustedIssuers {
    type Err = NoIssuers;
    fn from_str(text: &str) -> Result<Self, NoIssuers> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let issuers = items.map(str::parse).collect::<Result<Vec<TrustedIssuer>, _>>()?;
        let twice = |(at, issuer): (usize, &TrustedIssuer)| {
            issuers[..at].iter().any(|other| other.name == issuer.name)
        };
        if issuers.len() > ISSUERS_MAX || issuers.iter().enumerate().any(twice) {
            return Err(NoIssuers);
        }
        Ok(Self(issuers))
    }
}

impl FromStr for TrustedIssuer {
    type Err = NoIssuers;
    fn from_str(text: &str) -> Result<Self, NoIssuers> {
        let url = |text: &str| OutboundUrl::configured(text).map_err(|_| NoIssuers);
        let (name, place) = match text.split_once('=') {
            None => (text, Place::Discovery(url(text)?)),
            Some((name, place)) if place.contains("://") => (name, Place::Url(url(place)?)),
            Some((name, place)) => (name, Place::File(place.into())),
        };
        let bad_name =
            name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control);
        if bad_name || place == Place::File(PathBuf::new()) {
            return Err(NoIssuers);
        }
        Ok(Self { name: name.to_owned(), place })
    }
}

impl TrustedIssuers {
    /// Makes their keys ready to be asked. Files are read now; what is elsewhere is fetched when it is
    /// needed, so that no issuer that is down keeps this service from starting.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn open(self, outbound: &Outbound) -> Result<Issuers, IssuerError> {
        let open = |TrustedIssuer { name, place }: TrustedIssuer| {
            let keys = match place {
                Place::Discovery(url) => {
                    IssuerKeys::discovered(name.clone(), url, outbound.clone())
                }
                Place::Url(url) => IssuerKeys::at(url, outbound.clone()),
                Place::File(path) => IssuerKeys::fixed(read(path)?),
            };
            Ok(Issuer { name, keys: Arc::new(keys) })
        };
        Ok(Issuers(self.0.into_iter().map(open).collect::<Result<_, _>>()?))
    }
}

fn read(path: PathBuf) -> Result<KeySet, IssuerError> {
    let text = fs::metadata(&path).and_then(|meta| {
        if meta.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::other("it is too large to be a set of keys"));
        }
        fs::read(&path)
    });
    let text = match text {
        Ok(text) => text,
        Err(source) => return Err(IssuerError::Read { path, source }),
    };
    KeySet::of_file(&text).map_err(|source| IssuerError::Keys { path, source })
}

/// An issuer with its keys. A key counts for its issuer only, whatever it is called.
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) keys: Arc<IssuerKeys>,
}

/// Those whose tokens are believed, with their keys.
#[derive(Default)]
pub struct Issuers(pub(super) Vec<Issuer>);

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|issuer| &issuer.name)).finish()
    }
}

impl Issuers {
    /// Fetches the keys of each, and says of which that cannot be done.
    pub async fn look(&self) -> Vec<(&str, Result<(), KeysError>)> {
        let mut looked = Vec::new();
        for issuer in &self.0 {
            looked.push((&*issuer.name, issuer.keys.make_known().await));
        }
        looked
    }

    /// The keys of an issuer, by the exact text of `iss`.
    pub(super) fn keys(&self, name: &str) -> Option<&Arc<IssuerKeys>> {
        self.0.iter().find(|issuer| issuer.name == name).map(|issuer| &issuer.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_issuers_are_checked() {
        for good in [
            "",
            "https://login.example.com",
            "https://login.example.com/, https://other.example.com/realms/a",
            "message-service=https://login.example.com/jwks.json",
            "a=http://127.0.0.1:9000/keys,b=/etc/pushhub/b.pem,c=c.json",
        ] {
            assert!(good.parse::<TrustedIssuers>().is_ok(), "{good}");
        }
        let many: Vec<String> = (0..=ISSUERS_MAX).map(|n| format!("i{n}=k.pem")).collect();
        for bad in [
            "message-service",
            "http://login.example.com@evil.example/",
            "ftp://login.example.com",
            "http://8.8.8.8/",
            "a=",
            "=k.pem",
            "a=k.pem,a=l.pem",
            "a=ftp://example.com/keys",
            "a=https://user:word@example.com/keys",
            &many.join(","),
        ] {
            assert!(bad.parse::<TrustedIssuers>().is_err(), "{bad}");
        }
    }
}
