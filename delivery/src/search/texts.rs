//! Which texts of a message are searched.

use std::borrow::Cow;

use serde::Deserialize;

/// What is searched of a message: title, content, and the names of the sender and of attachments.
/// Read from the stored body without the rest of it.
#[derive(Debug, Default, Deserialize)]
pub struct Texts<'a> {
    /// Title.
    #[serde(borrow)]
    pub title: Cow<'a, str>,
    /// Content.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) sender_info: Option<Named<'a>>,
    #[serde(borrow, default)]
    pub(super) attachments: Vec<Named<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
}

impl<'a> Texts<'a> {
    /// Of a stored body, see [`protocol::Body::json`].
    ///
    /// # Errors
    /// What serde says of a body that is none.
    pub fn of_body(json: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// All of them, title first. A row of tokens never reaches from one into the next.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        [&*self.title, &*self.content].into_iter().chain(self.names())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let sender = self.sender_info.as_ref();
        sender.into_iter().chain(&self.attachments).map(|named| &*named.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_body_the_searched_texts_are_read() {
        let body = r#"{"id":"m","title":"周\"报\"","content":"内容","sender":"u1","sender_info":
            {"id":"u1","type":"user","name":"张三","avatar":"x"},"priority":5,"metadata":{"title":"no"},
            "attachments":[{"type":"file","name":"计划.pdf","url":"u"},{"type":"link","url":"u"}]}"#;
        let texts = Texts::of_body(body).unwrap();
        assert_eq!(texts.all().collect::<Vec<_>>(), ["周\"报\"", "内容", "张三", "计划.pdf", ""]);
    }
}
