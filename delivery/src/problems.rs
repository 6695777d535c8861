//! What is wrong with a request: all of it, not the first thing only.

use protocol::{FieldProblem, IdError};
use serde_json::{Map, Value};

use crate::{
    send::limits::{MESSAGE_TYPE_BYTES_MAX, METADATA_DEPTH_MAX, PROBLEMS_MAX, URL_BYTES_MAX},
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

    /// Free data, of at most so many bytes of JSON.
    pub(crate) fn metadata(&mut self, metadata: &Map<String, Value>, max: usize) {
        if metadata.values().any(|value| deeper_than(value, METADATA_DEPTH_MAX)) {
            let problem = format!("must be nested at most {METADATA_DEPTH_MAX} levels deep");
            self.say("metadata", problem);
        }
        let mut size = Counted(0);
        let counted = metadata.is_empty() || serde_json::to_writer(&mut size, metadata).is_ok();
        if !counted || size.0 > max {
            self.say("metadata", format!("must have at most {max} bytes as JSON"));
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

fn deeper_than(value: &Value, levels: usize) -> bool {
    let mut children: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return false,
    };
    levels == 0 || children.any(|child| deeper_than(child, levels - 1))
}

/// Counts bytes and keeps none.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0 += data.len();
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
