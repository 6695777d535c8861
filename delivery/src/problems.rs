//! What is wrong with a request: all of it, not the first thing only.

use protocol::{FieldProblem, IdError};

use crate::{
    send::limits::{MESSAGE_TYPE_BYTES_MAX, PROBLEMS_MAX, URL_BYTES_MAX},
    template::link_problem,
};

/// Collects what is wrong, up to a limit.
#[derive(Default)]
pub(crate) struct Problems(pub(crate) Vec<FieldProblem>);

impl Problems {
    pub(crate) fn say(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(FieldProblem { path: path.into(), problem: problem.into() });
        }
    }

    pub(crate) fn id<T>(&mut self, path: &str, id: Result<T, IdError>) -> Option<T> {
        id.map_err(|error| self.say(path, error.to_string())).ok()
    }

    pub(crate) fn at_most(&mut self, path: impl Into<String>, count: usize, max: usize) {
        if count > max {
            self.say(path, format!("must have at most {max} entries, has {count}"));
        }
    }

    pub(crate) fn bytes(&mut self, path: impl Into<String>, text: &str, max: usize) {
        if text.len() > max {
            self.say(path, format!("must have at most {max} bytes, has {}", text.len()));
        }
    }

    pub(crate) fn one_of(&mut self, path: impl Into<String>, word: &str, words: &[&str]) {
        if !words.contains(&word) {
            self.say(path, format!("must be one of {}", words.join(", ")));
        }
    }

    pub(crate) fn link(&mut self, path: String, url: &str) {
        if url.len() > URL_BYTES_MAX {
            self.bytes(path, url, URL_BYTES_MAX);
        } else if let Some(problem) = link_problem(url) {
            self.say(path, problem);
        }
    }

    pub(crate) fn message_type(&mut self, message_type: &str) {
        self.bytes("message_type", message_type, MESSAGE_TYPE_BYTES_MAX);
        // ASCII only: permissions are given by type, and two types must not look alike.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if !message_type.chars().all(plain) {
            self.say("message_type", "must consist of letters, digits and _ - . :");
        }
    }
}
