//! The page that a browser sees where a login goes no further.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};

use crate::api::error::{ApiError, Failure};

/// On an answer that is to be a page.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct AsPage;

/// Whether a browser asks that shows what it gets to a person. Programs ask for JSON, or for anything.
pub(in crate::api) fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let ranges = accept.unwrap_or_default().split(',');
    let mut media = ranges.map(|range| range.split(';').next().unwrap_or_default().trim());
    media.clone().any(|media| media == "text/html") && !media.any(|media| media.ends_with("json"))
}

/// The error, as a page where a person looks at it.
pub(in crate::api) fn refused(error: ApiError, as_page: bool) -> Response {
    let mut response = error.into_response();
    if as_page {
        response.extensions_mut().insert(AsPage);
    }
    response
}

fn escaped(text: &str) -> String {
    let mut made = String::new();
    for c in text.chars() {
        match c {
            '&' => made.push_str("&amp;"),
            '<' => made.push_str("&lt;"),
            '>' => made.push_str("&gt;"),
            '"' => made.push_str("&quot;"),
            '\'' => made.push_str("&#39;"),
            c => made.push(c),
        }
    }
    made
}

impl AsPage {
    /// A failure in words for a person. Nothing in it can run or be loaded.
    pub(in crate::api) fn show(self, failure: &Failure, request_id: &str) -> Response {
        let mut sentence = escaped(&failure.message);
        for field in &failure.fields {
            sentence += &format!("<br>{}: {}", escaped(&field.path), escaped(&field.problem));
        }
        let html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>Login failed · 登录失败</title></head><body>\
             <h1>Login failed · 登录失败</h1>\n<p>{sentence}</p>\n\
             <p><small>{} · {}</small></p></body></html>\n",
            failure.kind.slug(),
            escaped(request_id),
        );
        let mut response = Response::new(Body::from(html));
        *response.status_mut() = failure.status();
        let headers = response.headers_mut();
        failure.headers(headers);
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_pages_and_programs_do_not() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            wants_page(&headers)
        };
        assert!(wants("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(wants("text/html"));
        for program in ["*/*", "application/json", "application/json, text/html;q=0.1", ""] {
            assert!(!wants(program), "{program}");
        }
        assert!(!wants_page(&HeaderMap::new()));
    }
}
