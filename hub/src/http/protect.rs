//! What every answer of both ports tells browsers and caches: that it is data for whoever asked, and
//! nothing to be shown, framed, guessed at, embedded or kept.
//!
//! `Strict-Transport-Security` is not here: it means something only over TLS, which ends at the proxy, and
//! only the proxy knows whether all of its host may be bound to it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Nothing loads, runs or is sent from an answer that is opened as a page. A page has a policy of its own.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Of every answer. Those that an answer has already stay: a page's policy, a document that may be kept.
pub(super) const PROTECTION: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    // For browsers from before `frame-ancestors`.
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    // Concerns what pages embed without asking; what they may read by CORS they still may.
    (CORP, HeaderValue::from_static("same-origin")),
];

/// Adds what is missing.
pub(super) fn protect(headers: &mut HeaderMap) {
    headers.reserve(PROTECTION.len());
    for (name, value) in PROTECTION {
        headers.entry(name).or_insert(value);
    }
}
