//! Links: which are allowed, and how a value is put into one.

use std::{borrow::Cow, fmt::Write};

use super::pieces::Piece;

/// What is wrong with a link, if anything: it is an absolute URL, or a path beginning with one `/`.
/// Schemes that run code or read local files in a client are refused.
#[must_use]
pub fn link_problem(url: &str) -> Option<&'static str> {
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Some("must be a URL without spaces and control characters");
    }
    if url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\") {
        return None;
    }
    let Some((scheme, rest)) = url.split_once(':') else {
        return Some("must be an absolute URL such as https://example.com/a, or a path such as /a");
    };
    let plain = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !plain || rest.is_empty() {
        return Some("must be an absolute URL such as https://example.com/a, or a path such as /a");
    }
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "javascript" | "data" | "vbscript" | "file" | "blob" => {
            Some("must not use the scheme javascript, data, vbscript, file or blob")
        }
        "http" | "https" => {
            let host = rest.strip_prefix("//").unwrap_or_default();
            let host = host.split(['/', '?', '#']).next().unwrap_or_default();
            host.is_empty().then_some("must name a host, as in https://example.com/a")
        }
        _ => None,
    }
}

/// A value in the middle of a link, percent-encoded as by a simple expansion of RFC 6570 §3.2.2: it
/// can begin no query, no parameter, no fragment and no other folder. (A link that begins with the
/// variable takes it as it is: there the value is the link.)
pub(super) fn encoded(value: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if value.bytes().all(plain) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
    }
    Cow::Owned(out)
}

/// What is wrong with a link that has variables, as far as that can be said without their values.
pub(super) fn pattern_problem(pieces: &[Piece]) -> Option<&'static str> {
    if matches!(pieces.first(), None | Some(Piece::Variable(_))) {
        return None;
    }
    let example: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Variable(_) => "x",
        })
        .collect();
    link_problem(&example).or_else(|| host_problem(pieces))
}

/// In `https://example.com{{path}}`, the value `.evil.example` would be another host.
fn host_problem(pieces: &[Piece]) -> Option<&'static str> {
    let (mut host, mut in_host) = (Vec::new(), false);
    for piece in pieces {
        let Piece::Text(text) = piece else {
            if in_host {
                host.push(piece.clone());
            }
            continue;
        };
        let text = if in_host {
            text.as_str()
        } else {
            let (_, after) = text.split_once("://")?;
            in_host = true;
            after
        };
        let end = text.find(['/', '?', '#']);
        let part = &text[..end.unwrap_or(text.len())];
        if !part.is_empty() {
            host.push(Piece::Text(part.to_owned()));
        }
        if end.is_some() {
            break;
        }
    }
    match host.as_slice() {
        [] | [_] | [.., Piece::Text(_)] => None,
        [.., Piece::Variable(_)] => {
            Some("must not have a variable at the end of the host; write / before it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::pieces::cut;

    #[test]
    fn values_cannot_move_a_link_to_another_host() {
        for good in [
            "https://a.example/{{p}}",
            "https://{{tenant}}.a.example/x",
            "https://{{host}}/x",
            "https://a.example?x={{p}}",
            "https://a.example#{{p}}",
            "/orders/{{id}}",
            "mailto:{{who}}",
            "{{base}}/x",
            "{{url}}",
        ] {
            assert_eq!(pattern_problem(&cut(good)), None, "{good}");
        }
        for bad in [
            "https://a.example{{p}}",
            "https://a.{{p}}",
            "https://a.{{p}}{{q}}/x",
            "javascript:{{code}}",
            "//{{host}}/x",
            "www.a.example/{{p}}",
            "https://a b/{{p}}",
        ] {
            assert!(pattern_problem(&cut(bad)).is_some(), "{bad}");
        }
    }

    #[test]
    fn values_are_encoded_in_the_middle_of_a_link() {
        assert_eq!(encoded("a-b_c.9~"), "a-b_c.9~");
        assert_eq!(encoded("a/b?c=d&e#f %"), "a%2Fb%3Fc%3Dd%26e%23f%20%25");
        assert_eq!(encoded("单"), "%E5%8D%95");
    }
}
