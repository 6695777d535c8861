//! The tables that clients are written against: close codes, error types, frame names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use protocol::{ClientFrame, CloseReason, Codec, DeviceType, ErrorType, ServerFrame, Status};

/// Contract §6: "Reconnect with backoff: 4001 token expired, 4008 no heartbeat or no progress, 4029
/// too many, 1012 restarting, 1013 try later. Do not reconnect by yourself (4500–4999): 4500 bad
/// frame, 4501 logged out or revoked, 4503 not allowed, 4509 replaced by the same device, 1009 too
/// big."
#[test]
fn close_codes_are_the_contract() {
    let table: Vec<(CloseReason, u16, bool)> = CloseReason::ALL
        .iter()
        .map(|&reason| (reason, reason.code(), reason.reconnect()))
        .collect();
    assert_eq!(
        table,
        [
            (CloseReason::ClientClosed, 1000, false),
            (CloseReason::ConnectionLost, 1006, true),
            (CloseReason::TokenExpired, 4001, true),
            (CloseReason::NoHeartbeat, 4008, true),
            (CloseReason::NoProgress, 4008, true),
            (CloseReason::TooManyConnections, 4029, true),
            (CloseReason::TooManyFrames, 4029, true),
            (CloseReason::Restarting, 1012, true),
            (CloseReason::TryLater, 1013, true),
            (CloseReason::BadFrame, 4500, false),
            (CloseReason::TooBig, 1009, false),
            (CloseReason::Revoked, 4501, false),
            (CloseReason::NotAllowed, 4503, false),
            (CloseReason::Replaced, 4509, false),
            (CloseReason::Disconnected, 4502, false),
            (CloseReason::Moved, 1012, true),
            (CloseReason::Aged, 1012, true),
        ]
    );
}

#[test]
fn the_number_alone_tells_a_client_what_to_do() {
    for reason in CloseReason::ALL {
        let by_number = match reason.code() {
            4000..=4499 | 1006 | 1012 | 1013 => true,
            4500..=4999 | 1000 | 1009 => false,
            other => panic!("{reason:?}: {other} stands in no range"),
        };
        assert_eq!(reason.reconnect(), by_number, "{reason:?}");
        assert!(reason.text().len() <= 123, "{reason:?} does not fit a close frame");
        let ServerFrame::Disconnect { code, reason: text, reconnect, reconnect_after_ms } =
            ServerFrame::disconnect(reason, 7)
        else {
            panic!("no disconnect frame")
        };
        assert_eq!(
            (code, text.as_str(), reconnect, reconnect_after_ms),
            (reason.code(), reason.text(), reason.reconnect(), 7)
        );
    }
    let labels: BTreeSet<_> = CloseReason::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(labels.len(), CloseReason::ALL.len(), "labels are told apart");
    assert!(labels.iter().all(|label| snake(label)), "{labels:?}");
}

#[test]
fn error_types_keep_their_slug_and_status() {
    let table: Vec<(&str, u16)> =
        ErrorType::ALL.iter().map(|kind| (kind.slug(), kind.status())).collect();
    assert_eq!(
        table,
        [
            ("malformed_request", 400),
            ("unauthorized", 401),
            ("forbidden", 403),
            ("not_found", 404),
            ("method_not_allowed", 405),
            ("not_acceptable", 406),
            ("request_timeout", 408),
            ("conflict", 409),
            ("idempotency_in_progress", 409),
            ("version_conflict", 409),
            ("resync_required", 410),
            ("payload_too_large", 413),
            ("uri_too_long", 414),
            ("unsupported_media_type", 415),
            ("range_not_satisfiable", 416),
            ("invalid", 422),
            ("rate_limited", 429),
            ("quota_exceeded", 429),
            ("headers_too_large", 431),
            ("internal", 500),
            ("provider_failed", 502),
            ("unavailable", 503),
            ("insufficient_storage", 507),
        ],
        "add at will, never rename or renumber"
    );
    for kind in ErrorType::ALL {
        let json = serde_json::to_string(kind).unwrap();
        assert_eq!(json, format!("\"{}\"", kind.slug()));
        assert_eq!(serde_json::from_str::<ErrorType>(&json).unwrap(), *kind);
        assert!(snake(kind.slug()));
    }
}

#[test]
fn words_are_what_serde_writes() {
    for device_type in DeviceType::ALL {
        assert_eq!(
            serde_json::to_string(&device_type).unwrap(),
            format!("\"{}\"", device_type.as_str())
        );
    }
    for status in [
        Status::Unread,
        Status::Read,
        Status::Archived,
        Status::Recalled,
        Status::Expired,
        Status::Collapsed,
    ] {
        assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.as_str()));
        assert_eq!(status.is_read(), status != Status::Unread);
    }
    assert_eq!(ClientFrame::NAMES.len(), 9);
    for (name, codec) in Codec::SUBPROTOCOLS {
        assert_eq!(codec.subprotocol(), name);
        assert!(name.ends_with(codec.label()));
    }
}

fn snake(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}
