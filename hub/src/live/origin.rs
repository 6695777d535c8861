//! Which web pages may open a socket or a stream. Browsers send no preflight for either, and a page
//! of any site can open one; only this check stands between it and a user's cookies or stored token.

use http::{HeaderMap, header};

/// Whether the request's `Origin` may connect. No `Origin`: not a browser.
pub(super) fn allowed(headers: &HeaderMap, allow_list: &[String]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if origins.next().is_some() {
        return false;
    }
    let listed = |allowed: &String| {
        allowed == "*" || allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)
    };
    allow_list.iter().any(listed) || same_host(headers, origin)
}

/// Whether the page came from the host it now connects to. The scheme is not compared: behind a
/// proxy that ends TLS the server does not know its own.
fn same_host(headers: &HeaderMap, origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origin: Option<&str>, list: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "hub.example:8080".parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let list: Vec<String> = list.iter().map(|&entry| entry.to_owned()).collect();
        allowed(&headers, &list)
    }

    #[test]
    fn same_host_and_programs_may_by_default_and_others_may_not() {
        assert!(check(None, &[]));
        assert!(check(Some("https://hub.example:8080"), &[]));
        assert!(check(Some("http://HUB.example:8080"), &[]));
        for foreign in [
            "https://evil.example",
            "https://hub.example",
            "null",
            "hub.example:8080",
            "https://hub.example:8080.evil.example",
        ] {
            assert!(!check(Some(foreign), &[]), "{foreign}");
        }
    }

    #[test]
    fn the_list_adds_origins_exactly() {
        let list = ["https://app.example", "https://other.example/"];
        assert!(check(Some("https://app.example"), &list));
        assert!(check(Some("https://other.example"), &list));
        assert!(!check(Some("http://app.example"), &list));
        assert!(!check(Some("https://app.example.evil"), &list));
        assert!(check(Some("https://evil.example"), &["*"]));
    }
}
