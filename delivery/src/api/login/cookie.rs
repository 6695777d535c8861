//! The cookie by which a browser is known again when it comes back from a provider.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

use crate::provider::{Begun, STATE_LIFE, is_secret};

/// Its name. Behind TLS it has the prefix by which browsers let nobody else set it (RFC 6265bis §4.1.3.2).
const NAME: &str = "pushhub_login";
const HOST_PREFIX: &str = "__Host-";

/// Most secrets of one browser that are tried: neighbours in the domain can set cookies of this name.
const SECRETS_MAX: usize = 4;

/// The secrets that a browser shows.
pub(super) fn secrets(headers: &HeaderMap) -> Vec<SecretString> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    // The one that only this host can have set comes first.
    let (sure, other): (Vec<_>, Vec<_>) = pairs
        .filter(|(name, secret)| {
            name.strip_prefix(HOST_PREFIX).unwrap_or(name) == NAME && is_secret(secret)
        })
        .partition(|(name, _)| name.starts_with(HOST_PREFIX));
    sure.into_iter().chain(other).take(SECRETS_MAX).map(|(_, secret)| secret.into()).collect()
}

/// The answer with the cookie of a login that was begun. `Lax`: it comes along when a provider sends the
/// browser back, and with no request that another site makes by itself.
pub(in crate::api) fn given(mut response: Response, begun: &Begun, origin: &str) -> Response {
    let is_tls = origin.starts_with("https://");
    let (prefix, secure) = if is_tls { (HOST_PREFIX, "; Secure") } else { ("", "") };
    let cookie = format!(
        "{prefix}{NAME}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
        begun.browser.expose_secret(),
        STATE_LIFE.as_secs(),
    );
    let mut cookie = HeaderValue::from_str(&cookie).expect("a secret is base64");
    cookie.set_sensitive(true);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browsers_secrets_are_found_among_others() {
        let (a, b) = ("a".repeat(43), "b".repeat(43));
        let mut headers = HeaderMap::new();
        let line = format!("x=1; {NAME}={a};{NAME}=short; other={b}; {HOST_PREFIX}{NAME}={b}");
        headers.append(header::COOKIE, HeaderValue::from_str(&line).unwrap());
        let found = secrets(&headers);
        let found: Vec<&str> = found.iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!(found, [&b, &a]);
        let many = vec![format!("{NAME}={a}"); 99].join("; ");
        headers.append(header::COOKIE, HeaderValue::from_str(&many).unwrap());
        assert_eq!(secrets(&headers).len(), SECRETS_MAX);
        assert!(secrets(&HeaderMap::new()).is_empty());
    }
}
