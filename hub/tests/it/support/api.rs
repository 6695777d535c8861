//! REST, as a caller sees it.

use std::{net::SocketAddr, time::Duration};

use protocol::ServerFrame;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use super::{SOON, document::Documents, eventually_within};

/// A caller with one identity.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    authorization: Option<String>,
    headers: Vec<(String, String)>,
    port: Port,
}

/// Which port of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    User,
    Admin,
}

/// An answer: the envelope of contract §5.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    what: String,
}

impl Api {
    /// One pool of connections for a test server.
    pub(crate) fn http() -> reqwest::Client {
        reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap()
    }

    pub(crate) fn new(http: reqwest::Client, address: SocketAddr, port: Port) -> Self {
        let base = format!("http://{address}");
        Self { http, base, authorization: None, headers: vec![], port }
    }

    /// The same caller at a server that was started again.
    pub(crate) fn moved_to(&self, address: SocketAddr) -> Self {
        Self { base: format!("http://{address}"), ..self.clone() }
    }

    /// With a bearer token.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.authorization(&format!("Bearer {token}"))
    }

    /// With a service key.
    pub(crate) fn service_key(self, key: &str) -> Self {
        self.authorization(&format!("Service {key}"))
    }

    /// With this `Authorization`.
    pub(crate) fn authorization(mut self, value: &str) -> Self {
        self.authorization = Some(value.to_owned());
        self
    }

    /// As nobody.
    pub(crate) fn without_credentials(mut self) -> Self {
        self.authorization = None;
        self
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this `Idempotency-Key`.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.clone().header("Idempotency-Key", key)
    }

    /// The `Authorization` it sends.
    pub(crate) fn credentials(&self) -> &str {
        self.authorization.as_deref().unwrap_or("")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let what = format!("{method} {path}");
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// For tests in which the server may be gone: the error then means "maybe".
    pub(crate) async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<Answer> {
        let body = body.map(|body| body.to_string().into_bytes());
        self.try_raw(method, path, "application/json", body).await
    }

    /// With any body.
    pub(crate) async fn raw(&self, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
        let answer = self.try_raw(Method::POST, path, content_type, Some(body)).await;
        answer.unwrap_or_else(|error| panic!("POST {path}: {error:?}"))
    }

    /// A GET of which only the head is read, and the first bytes: the answer may never end.
    pub(crate) async fn head_of(&self, path: &str) -> Answer {
        let mut response = self.request(Method::GET, path).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let first = response.chunk().await.unwrap().unwrap_or_default();
        let body = serde_json::from_slice(&first)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&first).into_owned()));
        self.answered(&Method::GET, path, status, headers, body)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    /// Holds an answer against the description.
    fn answered(
        &self,
        method: &Method,
        path: &str,
        status: u16,
        headers: HeaderMap,
        body: Value,
    ) -> Answer {
        if let Some(documents) = Documents::get() {
            documents.of(self.port).check(method, path, status, &headers, &body);
        }
        Answer { status, headers, body, what: format!("{method} {path}") }
    }

    async fn try_raw(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.request(method.clone(), path);
        if let Some(body) = body {
            request = request.header("Content-Type", content_type).body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(self.answered(&method, path, status, headers, body))
    }

    /// `POST /api/v3/messages/send`.
    pub(crate) async fn send(&self, message: Value) -> Answer {
        self.post("/api/v3/messages/send", message).await
    }

    /// The shortest message to one user; its title is `text`.
    pub(crate) async fn send_to(&self, user: &str, text: &str) -> Answer {
        self.send(message_to(&[user], text)).await
    }

    /// As [`Api::send_to`], answering the message's id.
    pub(crate) async fn sent(&self, user: &str, text: &str) -> String {
        let data = self.send_to(user, text).await.ok();
        data["message_id"].as_str().expect("data.message_id").to_owned()
    }

    /// The caller's list, whole, oldest first.
    pub(crate) async fn all_messages(&self) -> Vec<Value> {
        self.listed("status=all").await
    }

    /// A list of the caller's messages, whole, oldest first.
    pub(crate) async fn listed(&self, filter: &str) -> Vec<Value> {
        let mut messages = vec![];
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v3/messages?sort=oldest&size=200&{filter}{cursor}");
            let answer = self.get(&path).await;
            let page = answer.data();
            messages.extend(page["messages"].as_array().expect("data.messages").iter().cloned());
            match answer.body["meta"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return messages,
            }
        }
    }

    /// The caller's changes after a position, all of them, by polling. A node that cannot read its database at the
    /// moment says so, and is asked again as clients do.
    pub(crate) async fn changes_after(&self, mut since: u64) -> Vec<ServerFrame> {
        let mut changes = vec![];
        loop {
            let path = format!("/api/v3/sync?since={since}&limit=500");
            let data = eventually_within("the inbox can be read", SOON, async || {
                let answer = self.get(&path).await;
                (answer.status != 503).then_some(answer)
            })
            .await
            .ok();
            let page = data["changes"].as_array().expect("data.changes").clone();
            if page.is_empty() {
                return changes;
            }
            for change in page {
                let frame: ServerFrame = serde_json::from_value(change).unwrap();
                since = frame.seq().expect("a change has a seq").0;
                changes.push(frame);
            }
        }
    }

    /// The caller's unread count.
    pub(crate) async fn unread(&self) -> u64 {
        let data = self.get("/api/v3/messages/unread-count").await.ok();
        data["unread_count"].as_u64().expect("data.unread_count")
    }
}

/// The shortest message.
pub(crate) fn message_to(users: &[&str], text: &str) -> Value {
    json!({
        "title": text, "content": text, "message_type": "text",
        "recipients": users, "recipient_type": "user",
    })
}

impl Answer {
    /// The data of a success.
    pub(crate) fn ok(self) -> Value {
        self.data().clone()
    }

    /// The data of a success.
    pub(crate) fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{}: {}", self.what, self.body);
        assert_eq!(self.body["code"], 200, "{}: {}", self.what, self.body);
        assert_eq!(self.body["message"], "success", "{}: {}", self.what, self.body);
        &self.body["data"]
    }

    /// A refusal of this status and type, in the envelope, without data: gives the sentence and the
    /// fields as one text.
    pub(crate) fn refused(&self, status: u16, kind: &str) -> String {
        assert!(self.body["data"].is_null(), "{}: {}", self.what, self.body);
        self.refused_with_data(status, kind)
    }

    /// As [`Answer::refused`], for the refusals that carry data.
    pub(crate) fn refused_with_data(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{}: {}", self.what, self.body);
        assert_eq!(self.body["code"], status, "{}: {}", self.what, self.body);
        assert_eq!(self.body["error"]["type"], kind, "{}: {}", self.what, self.body);
        let request_id = self.body["error"]["request_id"].as_str().expect("error.request_id");
        assert_eq!(self.header("x-request-id"), request_id, "{}", self.what);
        let sentence = self.body["message"].as_str().expect("message");
        assert!(sentence.contains(' '), "{}: {sentence:?} is no sentence", self.what);
        format!("{sentence} {}", self.body["error"]["fields"])
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
