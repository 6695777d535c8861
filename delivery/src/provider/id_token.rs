//! Whether an `id_token` is to be believed (OpenID Connect Core §3.1.3.7).
//!
//! It comes over TLS from the provider itself, and its signature is checked all the same: where the API
//! address is a proxy of the operator's, or plain HTTP inside a network, it is all there is. Only key pairs
//! count ([`IssuerKeys`]): with HS256 the key would be the client's secret, which is typed into settings and
//! sent over the wire.

use std::{fmt, sync::Arc};

use protocol::Time;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::{ProviderError, error::Named, fields::Fields};
use crate::identity::{
    LEEWAY,
    jwks::{IssuerKeys, TokenProblem},
};

/// What a good one says.
pub(super) struct Expected<'a> {
    /// The issuer, in each way it writes itself.
    pub(super) issuers: &'a [&'a str],
    /// For whom.
    pub(super) client_id: &'a str,
    /// Of this login and no other.
    pub(super) nonce: &'a str,
    /// When.
    pub(super) now: Time,
}

/// Claims, each of which stands there once: which of two counts is anybody's guess.
struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Claims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim stands there twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// The claims of a good one.
pub(super) async fn verified(
    named: &Named,
    keys: &Arc<IssuerKeys>,
    token: &str,
    expected: &Expected<'_>,
) -> Result<Fields, ProviderError> {
    let Claims(claims) = keys.claims(token).await.map_err(|problem| match problem {
        TokenProblem::Bad(_) => {
            named.not_believed("its signature is wrong, or its key is not the issuer's")
        }
        TokenProblem::NoKeys(error) => named.unreachable(error),
    })?;
    let claims = Fields(claims);
    check(named, &claims, expected)?;
    Ok(claims)
}

/// Whether they are of this issuer, for this client, of this login and of now.
fn check(named: &Named, claims: &Fields, expected: &Expected<'_>) -> Result<(), ProviderError> {
    let bad = |why| Err(named.not_believed(why));
    if !claims.text("iss").is_some_and(|iss| expected.issuers.contains(&iss.as_str())) {
        return bad("it is another issuer's");
    }
    let (is_meant, several) = match claims.at("aud") {
        Some(Value::Array(all)) => {
            (all.iter().any(|audience| audience == expected.client_id), all.len() > 1)
        }
        Some(one) => (one == expected.client_id, false),
        None => (false, false),
    };
    if !is_meant {
        return bad("it is for another client");
    }
    let (now, leeway) = (expected.now.millis() / 1_000, LEEWAY.as_secs().cast_signed());
    // A NumericDate may have a fraction.
    let seconds = |name: &str| claims.at(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
    #[expect(clippy::cast_precision_loss, reason = "times of day have 53 bits")]
    let (early, late) = ((now - leeway) as f64, (now + leeway) as f64);
    if !seconds("exp").is_some_and(|exp| exp > early) {
        return bad("it has expired");
    }
    if !seconds("nbf").is_none_or(|nbf| nbf <= late) {
        return bad("it is not valid yet");
    }
    if !seconds("iat").is_some_and(|iat| iat <= late) {
        return bad("it was not made before now");
    }
    let nonce = claims.text("nonce").unwrap_or_default();
    // An empty one would be that of every token without.
    if expected.nonce.is_empty() || !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return bad("it is of another login");
    }
    // Of several audiences one has asked for it, which it must name.
    match claims.at("azp") {
        None if several => bad("it does not say which client it is for"),
        Some(azp) if azp != expected.client_id => bad("it is for another client"),
        _ => Ok(()),
    }
}
