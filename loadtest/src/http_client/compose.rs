//! Writes requests from prepared parts: a stamp, a slice of names and a length are all that changes.

use std::io::Write;

use super::{Job, Shape};
use crate::{
    checker::Checker,
    scan::{STAMP_BYTES, Stamp},
    users::Users,
};

/// Writes requests.
pub(super) struct Composer {
    /// Heads up to the length, of `send` and of `send-batch`.
    heads: [String; 2],
    run: u32,
    padding: String,
    body: Vec<u8>,
}

impl Composer {
    pub(super) fn new(
        authority: &str,
        authorization: &str,
        run: u32,
        content_bytes: usize,
    ) -> Self {
        let head = |path: &str| {
            format!(
                "POST /api/v3/messages/{path} HTTP/1.1\r\nHost: {authority}\r\n\
                 Authorization: {authorization}\r\nContent-Type: application/json\r\n\
                 Content-Length: "
            )
        };
        let padding = "x".repeat(content_bytes.saturating_sub(STAMP_BYTES));
        Self { heads: [head("send"), head("send-batch")], run, padding, body: Vec::new() }
    }

    /// Writes the job's request.
    pub(super) fn compose(
        &mut self,
        job: Job,
        users: &Users,
        checker: &Checker,
        out: &mut Vec<u8>,
    ) {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        if job.shape == Shape::Batch {
            body.extend_from_slice(br#"{"messages":["#);
        }
        for send in job.first..job.first + u64::from(job.count) {
            if send > job.first {
                body.push(b',');
            }
            self.message(job.shape, send, users, checker, &mut body);
        }
        if job.shape == Shape::Batch {
            body.extend_from_slice(b"]}");
        }
        let head = &self.heads[usize::from(job.shape == Shape::Batch)];
        out.extend_from_slice(head.as_bytes());
        write!(out, "{}\r\n\r\n", body.len()).expect("writing into memory");
        out.extend_from_slice(&body);
        self.body = body;
    }

    fn message(
        &self,
        shape: Shape,
        send: u64,
        users: &Users,
        checker: &Checker,
        body: &mut Vec<u8>,
    ) {
        let record = checker.send(send);
        if shape == Shape::All {
            body.extend_from_slice(br#"{"recipient_type":"all","recipients":["#);
        } else {
            body.extend_from_slice(br#"{"recipient_type":"user","recipients":["#);
            users.list(record.first, record.count, body);
        }
        body.extend_from_slice(
            br#"],"title":"load test","message_type":"text","priority":5,"content":""#,
        );
        Stamp { run: self.run, send, first: record.first, count: record.count }.write(body);
        body.extend_from_slice(self.padding.as_bytes());
        body.extend_from_slice(br#""}"#);
    }
}
