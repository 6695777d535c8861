//! What the endpoints of settings tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{Changed, List, QUERY, SHOWN_QUERY, Shown};
use crate::api::{
    doc::{By, Doc, Example, Given, Kind, Others, Reply, Tag, Who, must},
    shape::some_text,
};

const TAG: Tag = Tag {
    name: "Settings",
    about: "What the hub was started with, and changes of it while it runs. A live value wins over the \
            environment and the file, on every node, also after a restart, until it is taken away (`unset`). \
            Each change is a version, and any version can be brought back; version 0 is what was given at the \
            start. A node whose build cannot use a live value says so in its log and in `warnings`, and goes by \
            what it was started with.",
};

const WHO: Who =
    Who::These("The bearer of `ADMIN_TOKEN`, and admins for all tenants.", &[Kind::Admin]);

const BURST: &str = r#"{
  "set": {"RATE_LIMIT_USER": "500/s:5000", "LOG_LEVEL": "info,access=warn"},
  "reason": "too much was asked by a loop in the app of last night"
}"#;

/// There is a version.
fn changed() -> Given {
    let path = "/api/v3/admin/config";
    Given { by: By::Admin, method: Method::PUT, path, body: Some(BURST), keep: vec![] }
}

fn conflict() -> Reply {
    Reply::refusal(
        ErrorType::VersionConflict,
        "The settings are not of the expected version any more; the sentence says of which they are.",
    )
}

fn invalid() -> Reply {
    Reply::refusal(
        ErrorType::Invalid,
        "A setting cannot be so, by itself or beside the others, or not while the hub runs; `fields` names each.",
    )
}

pub(crate) fn get() -> Doc {
    Doc {
        tag: &TAG,
        summary: "The settings in force",
        about: "Of the node that is asked, each with whose word it is. Secrets are `***`.",
        who: WHO,
        others: Others::Same,
        path: vec![],
        query: SHOWN_QUERY,
        headers: vec![],
        answer: Reply::data::<Shown>("All settings."),
        more: vec![],
        examples: vec![
            Example::new("rates", "Some of them", By::Admin)
                .after(changed())
                .query("name=RATE_LIMIT"),
        ],
    }
}

pub(crate) fn update() -> Doc {
    Doc {
        summary: "Change settings while the hub runs",
        about: "Those in `set` and `unset`; the others stay. All settings are judged together, as at a start: either \
                all of it is in force, on this node when the answer comes and on the others within a second, or \
                nothing of it.",
        query: &[],
        answer: Reply::data::<Changed>("What is different now."),
        more: vec![invalid(), conflict()],
        examples: vec![
            Example::new("burst", "A rate and a level", By::Admin).body(BURST),
            Example::new("dry", "What would be", By::Admin)
                .body(r#"{"set": {"RETENTION_MAX_AGE": "720h"}, "dry_run": true}"#),
            Example::new("back", "As it was given at the start", By::Admin)
                .after(changed())
                .body(r#"{"unset": ["LOG_LEVEL"], "expected_version": 1}"#),
            Example::new("late", "Somebody else was quicker", By::Admin)
                .body(r#"{"unset": ["LOG_LEVEL"], "expected_version": 7}"#)
                .answers(409),
            Example::new("bad", "No rate, and nothing that can change now", By::Admin)
                .body(r#"{"set": {"RATE_LIMIT_USER": "fast", "USER_SERVER_PORT": "9090"}}"#)
                .answers(422),
        ],
        ..get()
    }
}

pub(crate) fn versions() -> Doc {
    Doc {
        summary: "Versions of the live settings",
        about: "Who changed what, when and why; the latest thousand are kept.",
        query: QUERY,
        answer: Reply::page::<List>("A page of versions, latest first."),
        examples: vec![Example::new("all", "The first page", By::Admin).after(changed())],
        ..get()
    }
}

pub(crate) fn restore() -> Doc {
    Doc {
        summary: "Bring a version back",
        about: "Its live values are in force again, as a new version.",
        query: &[],
        path: vec![must("version", some_text(20), "Which; 0 for what was given at the start.")],
        answer: Reply::data::<Changed>("What is different now."),
        more: vec![
            Reply::refusal(ErrorType::NotFound, "There is no such version, or not any more."),
            invalid(),
            conflict(),
        ],
        examples: vec![
            Example::new("start", "Without anything live", By::Admin)
                .after(changed())
                .path("version", "0")
                .body(r#"{"reason": "the app is mended"}"#),
            Example::new("none", "There is no such version", By::Admin)
                .path("version", "99")
                .answers(404),
        ],
        ..get()
    }
}
