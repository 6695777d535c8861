//! Answers: the envelope of contract §5, in JSON or MessagePack.

use axum::{body::Body, extract::FromRequestParts, response::Response};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use protocol::{Codec, ErrorType, FieldProblem};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::error::{ApiError, Failure, FailureData};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const MSGPACK: HeaderValue = HeaderValue::from_static("application/msgpack");

/// Writes the answers of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer(pub(crate) Codec);

impl<S: Sync> FromRequestParts<S> for Answer {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        negotiate(&parts.headers).map(Self)
    }
}

#[derive(Serialize)]
struct Success<'a, T: ?Sized, M> {
    code: u16,
    message: &'static str,
    data: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a M>,
}

#[derive(Serialize)]
struct Refusal<'a> {
    code: u16,
    message: &'a str,
    data: Option<&'a FailureData>,
    error: ErrorPart<'a>,
}

#[derive(Serialize)]
struct ErrorPart<'a> {
    #[serde(rename = "type")]
    kind: ErrorType,
    fields: &'a [FieldProblem],
    request_id: &'a str,
}

impl Answer {
    /// 200 with data.
    pub(crate) fn success<T: Serialize + ?Sized>(self, data: &T) -> Response {
        self.encode(
            StatusCode::OK,
            &Success::<T, ()> { code: 200, message: "success", data, meta: None },
        )
    }

    /// 200 with data that was written as JSON before.
    pub(crate) fn stored(self, json: &str) -> Result<Response, ApiError> {
        let data: &RawValue = serde_json::from_str(json).map_err(ApiError::StoredAnswer)?;
        if self.0 == Codec::Json {
            return Ok(self.success(data));
        }
        let data: Value = serde_json::from_str(json).map_err(ApiError::StoredAnswer)?;
        Ok(self.success(&data))
    }

    /// 200 with data and paging.
    pub(crate) fn page<T: Serialize, M: Serialize>(self, data: &T, meta: &M) -> Response {
        let meta = Some(meta);
        self.encode(StatusCode::OK, &Success { code: 200, message: "success", data, meta })
    }

    /// Anything but 200.
    pub(crate) fn failure(self, failure: &Failure, request_id: &str) -> Response {
        let envelope = Refusal {
            code: failure.kind.status(),
            message: &failure.message,
            data: failure.data.as_ref(),
            error: ErrorPart { kind: failure.kind, fields: &failure.fields, request_id },
        };
        let mut response = self.encode(failure.status(), &envelope);
        failure.headers(response.headers_mut());
        response
    }

    fn encode<T: Serialize>(self, status: StatusCode, envelope: &T) -> Response {
        let (content_type, bytes) = match self.0 {
            Codec::Json => (JSON, serde_json::to_vec(envelope).expect("answers have string keys")),
            Codec::MsgPack => {
                (MSGPACK, rmp_serde::to_vec_named(envelope).expect("answers have string keys"))
            }
        };
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response
    }
}

/// The codec of a media type; `None` for one that is not ours.
pub(crate) fn media_codec(media: &str) -> Option<Codec> {
    let media = media.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| media.eq_ignore_ascii_case(name);
    if is("application/json") {
        Some(Codec::Json)
    } else if is("application/msgpack")
        || is("application/x-msgpack")
        || is("application/vnd.msgpack")
    {
        Some(Codec::MsgPack)
    } else {
        None
    }
}

/// The codec of the answer: what `Accept` likes best; where it does not say, that of the request's
/// body; else JSON.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Codec, ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let of_body = || text(header::CONTENT_TYPE).and_then(media_codec).unwrap_or(Codec::Json);
    let Some(accept) = headers.get(header::ACCEPT) else {
        return Ok(of_body());
    };
    let accept = accept.to_str().map_err(|_| ApiError::NotAcceptable)?;
    if accept.trim().is_empty() {
        return Ok(of_body());
    }
    let mut best: Option<(f32, Codec)> = None;
    for range in accept.split(',') {
        let media = range.split(';').next().unwrap_or_default().trim();
        let weight = range
            .split(';')
            .skip(1)
            .find_map(|parameter| parameter.trim().strip_prefix("q="))
            .map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
        let codec = match media {
            "*/*" | "application/*" => Some(of_body()),
            _ => media_codec(media),
        };
        if let (Some(codec), Some(weight)) = (codec, weight)
            && weight > best.map_or(0.0, |(weight, _)| weight)
        {
            best = Some((weight, codec));
        }
    }
    best.map(|(_, codec)| codec).ok_or(ApiError::NotAcceptable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(accept: Option<&'static str>, content_type: Option<&'static str>) -> Option<Codec> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::ACCEPT, accept), (header::CONTENT_TYPE, content_type)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        negotiate(&headers).ok()
    }

    #[test]
    fn the_answer_comes_in_what_accept_likes_best() {
        use Codec::{Json, MsgPack};
        let msgpack = Some("application/msgpack");
        assert_eq!(codec(None, None), Some(Json));
        assert_eq!(codec(None, msgpack), Some(MsgPack));
        assert_eq!(codec(Some("*/*"), msgpack), Some(MsgPack));
        assert_eq!(codec(Some("application/json"), msgpack), Some(Json));
        assert_eq!(codec(msgpack, Some("application/json")), Some(MsgPack));
        assert_eq!(codec(Some("text/html, application/*;q=0.8"), None), Some(Json));
        assert_eq!(
            codec(Some("application/json;q=0.5,application/x-msgpack;q=0.9"), None),
            Some(MsgPack)
        );
        assert_eq!(codec(Some("application/json;q=0, */*;q=0.1"), None), Some(Json));
        assert_eq!(codec(Some("text/html"), None), None);
    }
}
