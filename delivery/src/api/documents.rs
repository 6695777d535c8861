//! The API's description of itself: OpenAPI, AsyncAPI, and a page to browse and try them. Made once,
//! at the start, from the list of endpoints.

mod docs;
mod page;

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    ApiState,
    doc::{
        Doc, Operation, Told,
        openapi::{self, Port},
    },
};

const OPENAPI_PATH: &str = "/api/v3/openapi.json";
const ASYNCAPI_PATH: &str = "/api/v3/asyncapi.json";
const PAGE_PATH: &str = "/api/v3/docs";

const USER_PORT: Port = Port {
    title: "pushhub",
    about: "Real-time push with a durable inbox for every user. This is the port of users and \
            services (`USER_SERVER_PORT`); admins have one of their own.\n\n\
            Every answer is `{\"code\":200,\"message\":\"success\",\"data\":…,\"meta\":…}`; every refusal has \
            the same status as its `code`, one sentence, and `error` with a stable `type` and the \
            `fields` at fault. JSON, or MessagePack with the same names by `Content-Type` and \
            `Accept`. `X-Request-Id` is taken and given back. HEAD is answered wherever GET is, and \
            a method that a path does not know with 405 and `Allow`.\n\n\
            The socket at `/ws` is described in [asyncapi.json](asyncapi.json).",
    base: "http://127.0.0.1:8080",
};

const ADMIN_PORT: Port = Port {
    title: "pushhub administration",
    about: "The port of admins, probes and scrapers (`ADMIN_SERVER_PORT`). Answers are as on the \
            port of users, but for health and metrics, which look as probes and scrapers expect.",
    base: "http://127.0.0.1:8081",
};

/// Which port is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    User,
    Admin,
}

/// The endpoints that serve the descriptions.
pub(super) fn operations(which: Which) -> Vec<Operation> {
    let of = |id: &str, path, doc: Doc| Operation {
        id: format!("documents_{id}"),
        method: Method::GET,
        path,
        doc,
        told: Told::default(),
        observed: true,
    };
    let mut operations =
        vec![of("openapi", OPENAPI_PATH, docs::openapi()), of("page", PAGE_PATH, docs::page())];
    if which == Which::User {
        operations.push(of("asyncapi", ASYNCAPI_PATH, docs::asyncapi()));
    }
    operations
}

/// The routes of the descriptions of `others` and of themselves.
pub(super) fn routes(which: Which, others: &[&Operation]) -> Router<ApiState> {
    let own = operations(which);
    let all: Vec<&Operation> = others.iter().copied().chain(&own).collect();
    let port = match which {
        Which::User => &USER_PORT,
        Which::Admin => &ADMIN_PORT,
    };
    let router = Router::new()
        .route(OPENAPI_PATH, serve(Document::json(&openapi::document(port, &all))))
        .route(PAGE_PATH, serve(page::document()));
    match which {
        Which::User => {
            router.route(ASYNCAPI_PATH, serve(Document::json(&protocol::asyncapi::document())))
        }
        Which::Admin => router,
    }
}

fn serve(document: Document) -> axum::routing::MethodRouter<ApiState> {
    get(async move |headers: HeaderMap| document.answer(&headers))
}

/// A document that does not change while the process runs.
#[derive(Clone)]
struct Document {
    bytes: Bytes,
    media: HeaderValue,
    etag: HeaderValue,
    policy: Option<HeaderValue>,
}

impl Document {
    fn new(bytes: Bytes, media: &'static str) -> Self {
        let hash = Sha256::digest(&bytes);
        let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{hex}\"")).expect("hexadecimal digits");
        Self { bytes, media: HeaderValue::from_static(media), etag, policy: None }
    }

    fn json(value: &Value) -> Self {
        let bytes = serde_json::to_vec(value).expect("a value has string keys");
        Self::new(bytes.into(), "application/json")
    }

    /// 200, or 304 to whoever has this version.
    fn answer(&self, request: &HeaderMap) -> Response {
        let mut response = if self.is_known(request) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Response::new(Body::from(self.bytes.clone()));
            response.headers_mut().insert(header::CONTENT_TYPE, self.media.clone());
            response
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        // Asked again each time: an upgrade must show at once, and the answer is then short.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(policy) = &self.policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        response
    }

    /// RFC 9110 §13.1.2.
    fn is_known(&self, request: &HeaderMap) -> bool {
        let values = request.get_all(header::IF_NONE_MATCH).iter();
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |tag| {
                let tag = tag.trim();
                tag == "*" || self.etag == tag.strip_prefix("W/").unwrap_or(tag)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_version_is_not_sent_again() {
        let document = Document::json(&serde_json::json!({"a": 1}));
        let ask = |tags: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(tags).unwrap());
            document.answer(&headers).status().as_u16()
        };
        let tag = document.etag.to_str().unwrap();
        assert_eq!(ask(tag), 304);
        assert_eq!(ask(&format!("\"x\", W/{tag}")), 304);
        assert_eq!(ask("*"), 304);
        assert_eq!(ask("\"x\""), 200);
        assert_eq!(document.answer(&HeaderMap::new()).status(), 200);
    }
}
