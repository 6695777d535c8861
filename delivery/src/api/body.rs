//! Request bodies: read with a limit and a deadline, decoded, and explained where they are wrong.

use std::{io::Cursor, pin::pin, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use protocol::Codec;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    ApiState,
    answer::media_codec,
    digest::Digest,
    error::ApiError,
    idempotency::{Key, Keyed},
    shape::{self, Shape},
};
use crate::object::Object;

/// Largest body, in bytes (contract §10).
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Largest body of `send-batch`, in bytes (contract §10).
pub const BATCH_BODY_BYTES_MAX: usize = 8 << 20;

/// Deepest nesting of a body. `metadata` may have 16 levels and stands three deep in a batch.
pub const BODY_DEPTH_MAX: usize = 32;

/// How much of a body that is too large is read and thrown away, in bytes, so that a client that
/// writes before it reads gets to see the 413 instead of a reset connection.
const DISCARD_BYTES_MAX: usize = 16 << 20;

/// A request's body.
pub(crate) trait Payload: DeserializeOwned {
    /// What it looks like.
    const SHAPE: Shape;
    /// Largest, in bytes.
    const BYTES_MAX: usize = BODY_BYTES_MAX;
    /// Whether an empty body means an empty object.
    const OPTIONAL: bool = false;
}

/// The body of a request that has nothing to say: left out, or an empty object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

impl Payload for Nothing {
    const SHAPE: Shape = Shape::Object(&[]);
    const OPTIONAL: bool = true;
}

/// A body as its struct.
pub(crate) struct Decoded<T>(pub(crate) T);

impl<T: Payload> FromRequest<ApiState> for Decoded<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let raw =
            Raw::read(request, T::BYTES_MAX, T::OPTIONAL, state.0.config.body_timeout).await?;
        raw.decode(&T::SHAPE).map(Self)
    }
}

/// A body that may be sent again with the same `Idempotency-Key`.
pub(crate) struct Repeatable<T> {
    pub(super) body: T,
    /// None for a request without a key.
    pub(super) keyed: Option<Keyed>,
}

impl<T> Repeatable<T> {
    /// Reads it; `decode` makes of the bytes what they say.
    pub(super) async fn read(
        request: Request,
        state: &ApiState,
        max: usize,
        decode: impl FnOnce(&Raw) -> Result<T, ApiError>,
    ) -> Result<Self, ApiError> {
        let key = Key::of(request.headers())?;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let raw = Raw::read(request, max, false, state.0.config.body_timeout).await?;
        let body = decode(&raw)?;
        let keyed = match key {
            Some(key) => Some(key.with(&method, uri.path(), raw.digest()?)),
            None => None,
        };
        Ok(Self { body, keyed })
    }
}

impl<T: Payload> FromRequest<ApiState> for Repeatable<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        Self::read(request, state, T::BYTES_MAX, |raw| raw.decode(&T::SHAPE)).await
    }
}

/// A body's bytes.
pub(crate) struct Raw {
    codec: Codec,
    bytes: Bytes,
}

impl Raw {
    pub(crate) async fn read(
        request: Request,
        max: usize,
        optional: bool,
        timeout: Duration,
    ) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let codec = body_codec(&parts.headers);
        if !optional {
            codec.as_ref().map_err(|error| error.again())?;
        }
        let bytes = match tokio::time::timeout(timeout, collect(&parts.headers, body, max)).await {
            Ok(bytes) => bytes?,
            Err(_) => return Err(ApiError::Slow(timeout)),
        };
        if optional && bytes.is_empty() {
            return Ok(Self { codec: Codec::Json, bytes: Bytes::from_static(b"{}") });
        }
        Ok(Self { codec: codec.map_err(|error| error.again())?, bytes })
    }

    /// Reads it into a struct. The shape is only looked at when that fails.
    pub(crate) fn decode<T: DeserializeOwned>(&self, shape: &Shape) -> Result<T, ApiError> {
        match decode_as::<Object<T>>(self.codec, &self.bytes) {
            Ok(Object(value)) => Ok(value),
            Err(problem) => self.decode_again(problem, shape),
        }
    }

    /// Reads it into a tree.
    pub(crate) fn tree(&self) -> Result<Value, ApiError> {
        decode_as(self.codec, &self.bytes).map_err(|problem| self.malformed(problem))
    }

    /// A hash of what it says.
    fn digest(&self) -> Result<Digest, ApiError> {
        decode_as(self.codec, &self.bytes).map_err(|problem| self.malformed(problem))
    }

    /// What could not be read at once: with its whole numbers written as such, or else explained.
    fn decode_again<T: DeserializeOwned>(
        &self,
        problem: Unreadable,
        shape: &Shape,
    ) -> Result<T, ApiError> {
        let Ok(mut tree) = self.tree() else {
            return Err(self.malformed(problem));
        };
        let settled = shape::settle(&mut tree, shape);
        let found = shape::problems(&tree, shape);
        if !found.is_empty() {
            return Err(ApiError::Invalid(found));
        }
        if settled && let Ok(Object(value)) = serde_json::from_value(tree) {
            return Ok(value);
        }
        // A field given twice, or a number out of a type's range.
        Err(ApiError::field("body", problem.0))
    }

    fn malformed(&self, problem: Unreadable) -> ApiError {
        if self.codec == Codec::Json && deeper_than(&self.bytes, BODY_DEPTH_MAX) {
            return ApiError::TooDeep(BODY_DEPTH_MAX);
        }
        ApiError::Malformed(problem.0)
    }
}

/// Why a body could not be decoded, in the decoder's words.
struct Unreadable(String);

fn decode_as<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<T, Unreadable> {
    match codec {
        Codec::Json => serde_json::from_slice(bytes).map_err(|error| Unreadable(error.to_string())),
        Codec::MsgPack => {
            let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(bytes));
            deserializer.set_max_depth(BODY_DEPTH_MAX);
            let value =
                T::deserialize(&mut deserializer).map_err(|error| Unreadable(error.to_string()))?;
            if deserializer.position() == bytes.len() as u64 {
                Ok(value)
            } else {
                Err(Unreadable("data after the end of the value".to_owned()))
            }
        }
    }
}

/// Whether brackets outside strings nest deeper than `max`.
fn deeper_than(json: &[u8], max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn body_codec(headers: &HeaderMap) -> Result<Codec, BodyKind> {
    // Even `identity`: a body of another coding must not be read as if it had none, and nobody sends
    // this one.
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(BodyKind::Encoded);
    }
    match headers.get(header::CONTENT_TYPE) {
        None => Ok(Codec::Json),
        Some(media) => media.to_str().ok().and_then(media_codec).ok_or(BodyKind::UnknownType),
    }
}

/// Why a body is not read at all.
#[derive(Clone, Copy)]
enum BodyKind {
    Encoded,
    UnknownType,
}

impl BodyKind {
    fn again(self) -> ApiError {
        match self {
            Self::Encoded => ApiError::ContentEncoding,
            Self::UnknownType => ApiError::ContentType,
        }
    }
}

async fn collect(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0;
    if announced.is_some_and(|length| length > DISCARD_BYTES_MAX as u64) {
        return Err(ApiError::TooLarge(max));
    }
    let mut too_large = announced.is_some_and(|length| length > max as u64);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::BrokenBody)?.into_data() else {
            continue;
        };
        length += data.len();
        too_large |= length > max;
        if too_large {
            if length > DISCARD_BYTES_MAX {
                break;
            }
        } else if length == data.len() {
            // Most bodies come in one piece, which is taken over as it is.
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.map_or(length, |all| all as usize).min(max));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    if too_large {
        return Err(ApiError::TooLarge(max));
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        assert!(!deeper_than(br#"{"a":[1,{"b":"[[[[[[[{{{\"[["}]}"#, 3));
        assert!(deeper_than(br#"{"a":[1,{"b":2}]}"#, 2));
        assert!(!deeper_than(b"]]]][[", 2));
    }
}
