//! Refusals in the words of contract §5, from the accept loop, the service, and in hyper's place.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use protocol::{Envelope, ErrorBody, ErrorType};
use uuid::Uuid;

use super::{
    HEAD_BYTES_MAX, HEADERS_MAX, RETRY_AFTER_SECONDS, URI_BYTES_MAX,
    protect::{PROTECTION, protect},
    scanner::Fault,
};

/// In and out (contract §5).
pub(super) const REQUEST_ID: &str = "x-request-id";

/// Longest request id taken over from a client, in bytes: two UUIDs and a word.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Why a request is refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Fault(Fault),
    HostMissing,
    HostRepeated,
    UriTooLong,
    HeadTooLarge,
    Malformed,
    BodyTooSlow,
    ForeignPage,
    Full,
}

impl Refusal {
    pub(super) const ALL: [Self; 10] = [
        Self::Fault(Fault::LengthAndEncoding),
        Self::Fault(Fault::BareLineFeed),
        Self::HostMissing,
        Self::HostRepeated,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::Malformed,
        Self::BodyTooSlow,
        Self::ForeignPage,
        Self::Full,
    ];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Fault(Fault::LengthAndEncoding) => "length_and_encoding",
            Self::Fault(Fault::BareLineFeed) => "bare_line_feed",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::UriTooLong => "uri_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::Malformed => "malformed",
            Self::BodyTooSlow => "body_too_slow",
            Self::ForeignPage => "foreign_page",
            Self::Full => "full",
        }
    }

    const fn kind(self) -> ErrorType {
        match self {
            Self::Fault(_) | Self::HostMissing | Self::HostRepeated | Self::Malformed => {
                ErrorType::MalformedRequest
            }
            Self::UriTooLong => ErrorType::UriTooLong,
            Self::HeadTooLarge => ErrorType::HeadersTooLarge,
            Self::BodyTooSlow => ErrorType::RequestTimeout,
            Self::ForeignPage => ErrorType::Forbidden,
            Self::Full => ErrorType::Unavailable,
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::Fault(Fault::LengthAndEncoding) => {
                "a request has either Content-Length or Transfer-Encoding, not both".to_owned()
            }
            Self::Fault(Fault::BareLineFeed) => {
                "lines of a request's head end in CR LF, not in LF alone".to_owned()
            }
            Self::HostMissing => "a request has a Host header".to_owned(),
            Self::HostRepeated => "a request has one Host header".to_owned(),
            Self::UriTooLong => format!("a request target has at most {URI_BYTES_MAX} bytes"),
            Self::HeadTooLarge => format!(
                "a request's head has at most {HEAD_BYTES_MAX} bytes and {HEADERS_MAX} header fields"
            ),
            Self::Malformed => "the request is not HTTP/1.1".to_owned(),
            Self::BodyTooSlow => "the request's body came too slowly".to_owned(),
            Self::ForeignPage => {
                "pages of this origin may not ask for this; CORS_ALLOWED_ORIGINS says which may"
                    .to_owned()
            }
            Self::Full => "this port has as many connections as it may; come back".to_owned(),
        }
    }

    fn body(self, request_id: &str) -> Vec<u8> {
        let envelope: Envelope<()> = Envelope {
            code: self.kind().status(),
            message: self.sentence(),
            data: None,
            meta: None,
            error: Some(ErrorBody {
                kind: self.kind(),
                fields: Vec::new(),
                request_id: request_id.to_owned(),
            }),
        };
        serde_json::to_vec(&envelope).expect("an envelope of plain texts is JSON")
    }

    /// The answer; the connection is closed after it, for what follows on it cannot be trusted.
    pub(super) fn response(self, headers: &HeaderMap) -> Response<Body> {
        let request_id = request_id(headers);
        let mut response = Response::new(Body::from(self.body(&request_id)));
        *response.status_mut() = StatusCode::from_u16(self.kind().status())
            .expect("error types have statuses between 400 and 599");
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            fields.insert(REQUEST_ID, value);
        }
        protect(fields);
        response
    }

    /// The answer as bytes, for where there is no request.
    pub(super) fn bytes(self) -> Bytes {
        let status = StatusCode::from_u16(self.kind().status())
            .expect("error types have statuses between 400 and 599");
        let request_id = new_request_id();
        let body = self.body(&request_id);
        let retry = match self {
            Self::Full => format!("retry-after: {RETRY_AFTER_SECONDS}\r\n"),
            _ => String::new(),
        };
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n{retry}{REQUEST_ID}: {request_id}\r\ncontent-length: {}\r\n",
            body.len()
        )
        .into_bytes();
        for (name, value) in PROTECTION {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        bytes.into()
    }
}

/// Our words for a refusal that hyper writes by itself, which has no body; `None` for anything else.
///
/// Such a refusal is one short write: a head of status 400, 414 or 431 with `content-length: 0` and
/// without the request id that every answer of the service has.
pub(super) fn in_words(bytes: &[u8]) -> Option<Bytes> {
    /// Longest head hyper makes for a refusal, in bytes: about 100, with room.
    const BARE_REFUSAL_BYTES_MAX: usize = 256;

    if bytes.len() > BARE_REFUSAL_BYTES_MAX {
        return None;
    }
    let rest = bytes.strip_prefix(b"HTTP/1.1 ")?;
    let text = str::from_utf8(rest).ok()?;
    let refusal = match text.get(..4)? {
        "400 " => Refusal::Malformed,
        "414 " => Refusal::UriTooLong,
        "431 " => Refusal::HeadTooLarge,
        _ => return None,
    };
    let bare = text.contains("\r\ncontent-length: 0\r\n")
        && text.ends_with("\r\n\r\n")
        && !text.contains(REQUEST_ID);
    bare.then(|| refusal.bytes())
}

/// The client's request id where it is one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX)
        .map_or_else(new_request_id, str::to_owned)
}

pub(super) fn new_request_id() -> String {
    Uuid::now_v7().to_string()
}
