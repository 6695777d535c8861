//! A refused handshake as an HTTP answer, in the envelope of the REST API (contract §5).

use axum::response::{IntoResponse, Response};
use delivery::limit::{Limited, Reading};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use protocol::{Envelope, ErrorBody, ErrorType, FieldProblem};

use super::metrics::Rejection;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over from the client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Why a handshake is refused, and what the client is told.
pub(super) struct Refused {
    pub(super) rejection: Rejection,
    pub(super) kind: ErrorType,
    pub(super) message: String,
    pub(super) fields: Vec<FieldProblem>,
    pub(super) retry_after_s: Option<u32>,
    /// How the address's limit stands, where that is why.
    pub(super) reading: Option<Box<Reading>>,
}

impl Refused {
    pub(super) fn new(rejection: Rejection, kind: ErrorType, message: impl Into<String>) -> Self {
        Self {
            rejection,
            kind,
            message: message.into(),
            fields: Vec::new(),
            retry_after_s: None,
            reading: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Rejection::BadRequest, ErrorType::MalformedRequest, message)
    }

    pub(super) fn field(path: &str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        let mut refused = Self::bad_request(format!("{path} {problem}"));
        refused.fields.push(FieldProblem { path: path.to_owned(), problem });
        refused
    }

    pub(super) fn limited(limited: Limited) -> Self {
        let seconds = u32::try_from(limited.retry_after_seconds()).unwrap_or(u32::MAX);
        let refused = Self::new(Rejection::Rate, ErrorType::RateLimited, limited.to_string());
        Self { reading: Some(Box::new(limited.reading)), ..refused.retry_after(seconds) }
    }

    pub(super) const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(super) fn into_response(self, request: &HeaderMap) -> Response {
        let given = request.get(&REQUEST_ID).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX);
        let id = match given.and_then(|id| id.to_str().ok()) {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => uuid::Uuid::now_v7().to_string(),
        };
        let status = self.kind.status();
        let envelope = Envelope::<()> {
            code: status,
            message: self.message,
            data: None,
            meta: None,
            error: Some(ErrorBody { kind: self.kind, fields: self.fields, request_id: id.clone() }),
        };
        let status = StatusCode::from_u16(status).expect("error types have HTTP statuses");
        let mut response = (status, axum::Json(envelope)).into_response();
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(reading) = &self.reading {
            reading.write(headers);
        }
        match self.kind {
            ErrorType::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            ErrorType::MethodNotAllowed => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            // RFC 6455 §4.2.2: tell which version would do.
            ErrorType::MalformedRequest => {
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        response
    }
}
