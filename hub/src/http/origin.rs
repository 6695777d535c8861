//! Which web pages may ask: the one place that decides it, for REST, sockets and streams. Browsers send
//! no preflight for a socket or a stream, and a page of any site can open one; only this check stands
//! between it and a user's stored token.

use http::{HeaderMap, header};

/// From where a request came, by its `Origin` and `CORS_ALLOWED_ORIGINS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It has no `Origin`: a program, or a browser that was sent here.
    Program,
    /// A page of the host that it asks. The scheme is not compared: behind a proxy that ends TLS the
    /// server does not know its own.
    SameHost,
    /// A page of an origin that is named in the list.
    Listed,
    /// A page of any other origin, while the list has `*`.
    Anywhere,
    /// A page that may not ask.
    Foreign,
}

impl Source {
    /// Judges a request; `allow_list` is in lower case.
    pub(crate) fn of(headers: &HeaderMap, allow_list: &[String]) -> Self {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return Self::Program };
        let Ok(origin) = origin.to_str() else { return Self::Foreign };
        if origins.next().is_some() {
            return Self::Foreign;
        }
        let is_it = |allowed: &String| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin);
        if allow_list.iter().any(is_it) {
            Self::Listed
        } else if same_host(headers, origin) {
            Self::SameHost
        } else if allow_list.iter().any(|allowed| allowed == "*") {
            Self::Anywhere
        } else {
            Self::Foreign
        }
    }
}

fn same_host(headers: &HeaderMap, origin: &str) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origin: Option<&str>, list: &[&str]) -> Source {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "hub.example:8080".parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let list: Vec<String> = list.iter().map(|&entry| entry.to_owned()).collect();
        Source::of(&headers, &list)
    }

    #[test]
    fn same_host_and_programs_may_by_default_and_others_may_not() {
        assert_eq!(check(None, &[]), Source::Program);
        assert_eq!(check(Some("https://hub.example:8080"), &[]), Source::SameHost);
        assert_eq!(check(Some("http://HUB.example:8080"), &[]), Source::SameHost);
        for foreign in [
            "https://evil.example",
            "https://hub.example",
            "null",
            "",
            "hub.example:8080",
            "https://hub.example:8080.evil.example",
        ] {
            assert_eq!(check(Some(foreign), &[]), Source::Foreign, "{foreign}");
        }
    }

    #[test]
    fn the_list_adds_origins_exactly() {
        let list = ["https://app.example", "https://other.example/"];
        assert_eq!(check(Some("https://app.example"), &list), Source::Listed);
        assert_eq!(check(Some("https://other.example"), &list), Source::Listed);
        for foreign in
            ["http://app.example", "https://app.example.evil", "https://app.example:444", "null"]
        {
            assert_eq!(check(Some(foreign), &list), Source::Foreign, "{foreign}");
        }
        assert_eq!(check(Some("https://evil.example"), &["*"]), Source::Anywhere);
        let both = ["*", "https://app.example"];
        assert_eq!(check(Some("https://app.example"), &both), Source::Listed);
    }

    #[test]
    fn two_origins_are_none_that_may_ask() {
        let mut headers = HeaderMap::new();
        headers.append(header::ORIGIN, "https://app.example".parse().unwrap());
        headers.append(header::ORIGIN, "https://evil.example".parse().unwrap());
        let list = ["https://app.example".to_owned()];
        assert_eq!(Source::of(&headers, &list), Source::Foreign);
    }
}
