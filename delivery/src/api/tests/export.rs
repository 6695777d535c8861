//! Exports over a store that fails.

use axum::body::Body;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use super::harness::{Api, request};
use crate::store::StoreError;

async fn begin(api: &Api, caller: &str) -> Response<Body> {
    api.answer(request("GET", caller, "/auth/export").body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn an_export_that_cannot_go_on_is_broken_off_and_never_looks_whole() {
    let api = Api::new();
    let chief = api.user("chief", &["system_admin"]);
    let one = json!({"title": "t", "content": "c", "message_type": "text", "recipients": ["bob"]});
    for _ in 0..4 {
        let batch = json!({"messages": vec![one.clone(); 100]});
        api.post(&chief, "/messages/send-batch", batch).await.data();
    }
    let bob = api.user("bob", &[]);
    let mut response = begin(&api, &bob).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut text = String::new();
    let mut ended = None;
    while let Some(frame) = response.frame().await {
        // What was read ahead still comes.
        api.store.fail_with(|| StoreError::Busy("for now"));
        match frame {
            Ok(frame) => text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap(),
            Err(error) => ended = Some(error),
        }
    }
    assert!(ended.is_some(), "it ends like a whole one");
    let lines = text.lines().count();
    assert!((1..400).contains(&lines) && !text.contains("\"end\""), "{lines} lines");
    // At its beginning it is refused like anything else.
    assert_eq!(begin(&api, &bob).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    // Both have given their places up.
    api.store.work_again();
    let response = begin(&api, &bob).await;
    assert_eq!(begin(&api, &bob).await.status(), StatusCode::SERVICE_UNAVAILABLE, "a second one");
    let whole = response.into_body().collect().await.unwrap().to_bytes();
    let whole = std::str::from_utf8(&whole).unwrap();
    let last = whole.lines().last().unwrap();
    assert_eq!(
        last,
        format!("{{\"type\":\"end\",\"data\":{{\"lines\":{}}}}}", whole.lines().count() - 1)
    );
    assert_eq!(whole.matches("{\"type\":\"message\"").count(), 400);
    assert_eq!(api.counts.of("pushhub_exports_total{result=whole}"), 1);
    assert_eq!(api.counts.of("pushhub_exports_total{result=refused}"), 1);
}
