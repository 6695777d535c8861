//! What becomes of a message once it was sent: edits, recalls, receipts, buttons (contract §5, §11).

mod edits;
mod gone;
mod receipts;
mod rights;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, api::message_to};

fn path(id: &str, what: &str) -> String {
    format!("/api/v3/messages/{id}{what}")
}

async fn receipts(api: &Api, id: &str) -> Value {
    api.get(&path(id, "/receipts")).await.ok()
}

async fn recall(api: &Api, id: &str) -> Value {
    api.call(Method::POST, &path(id, "/recall"), None).await.ok()
}

fn with_buttons(user: &str) -> Value {
    let mut message = message_to(&[user], "approve?");
    message["actions"] = json!([
        {"type": "confirm", "text": "Yes", "action": "approve", "style": "primary"},
        {"type": "button", "text": "No", "action": "decline"},
        {"type": "link", "text": "Open", "url": "https://x/y"},
    ]);
    message
}

async fn send(api: &Api, message: Value) -> String {
    api.send(message).await.ok()["message_id"].as_str().unwrap().to_owned()
}
