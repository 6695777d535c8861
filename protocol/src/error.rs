//! Errors as clients see them: a stable slug, an HTTP status, one sentence, the fields at fault.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! error_types {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $status:literal;)*) => {
        /// A stable slug (contract §5), shared by REST bodies and `error` frames.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema,
        )]
        pub enum ErrorType {
            $($(#[$doc])* #[serde(rename = $slug)] $name,)*
        }

        impl ErrorType {
            /// All of them, for docs and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The slug.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug),* }
            }

            /// The HTTP status it goes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }
        }
    };
}

error_types! {
    /// The request is not HTTP as we speak it, or its body is not JSON or MessagePack.
    MalformedRequest = "malformed_request", 400;
    /// No header, unknown scheme, bad or expired token, bad key.
    Unauthorized = "unauthorized", 401;
    /// Known, but not allowed.
    Forbidden = "forbidden", 403;
    /// Not there, or not yours.
    NotFound = "not_found", 404;
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405;
    /// No codec we can answer in.
    NotAcceptable = "not_acceptable", 406;
    /// The headers or the body came too slowly.
    RequestTimeout = "request_timeout", 408;
    /// It cannot be done as things stand: it is there already, or it is too late.
    Conflict = "conflict", 409;
    /// A request with the same `Idempotency-Key` is still under way.
    IdempotencyInProgress = "idempotency_in_progress", 409;
    /// `expected_version` is not the current one; the current state is in `data`.
    VersionConflict = "version_conflict", 409;
    /// Older than what is kept: start again from a list.
    ResyncRequired = "resync_required", 410;
    /// The body is over its limit.
    PayloadTooLarge = "payload_too_large", 413;
    /// The request target is over its limit.
    UriTooLong = "uri_too_long", 414;
    /// A `Content-Type` or `Content-Encoding` we do not read.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// No byte of the `Range` that was asked for is there.
    RangeNotSatisfiable = "range_not_satisfiable", 416;
    /// The request is well formed, its content is not; `fields` says where.
    Invalid = "invalid", 422;
    /// Slower, please.
    RateLimited = "rate_limited", 429;
    /// The tenant has used up what it may send today.
    QuotaExceeded = "quota_exceeded", 429;
    /// Header fields too large.
    HeadersTooLarge = "headers_too_large", 431;
    /// Our fault.
    Internal = "internal", 500;
    /// A login provider answers nonsense, is not to be believed, or does not accept this hub.
    ProviderFailed = "provider_failed", 502;
    /// The store cannot take it now, or the node is going down; nothing was accepted.
    Unavailable = "unavailable", 503;
    /// What was asked for takes more room than there is or than it may.
    InsufficientStorage = "insufficient_storage", 507;
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldProblem {
    /// Where, as `recipients[3]` or `actions[0].url`.
    pub path: String,
    /// What, with the limit.
    pub problem: String,
}

/// The `error` member of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// Stable slug.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// The fields at fault.
    #[serde(default)]
    pub fields: Vec<FieldProblem>,
    /// Also in `X-Request-Id` and in the logs.
    pub request_id: String,
}

/// Every REST answer (contract §5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// 200, or the HTTP status.
    pub code: u16,
    /// `success`, or one sentence.
    pub message: String,
    /// The answer.
    pub data: Option<T>,
    /// Paging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<serde_json::Value>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

impl<T> Envelope<T> {
    /// A success.
    pub fn success(data: T) -> Self {
        Self { code: 200, message: "success".to_owned(), data: Some(data), meta: None, error: None }
    }

    /// Adds paging.
    #[must_use]
    pub fn with_meta(mut self, meta: serde_json::Value) -> Self {
        self.meta = Some(meta);
        self
    }
}
