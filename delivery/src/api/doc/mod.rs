//! What an endpoint tells of itself.
//!
//! A route cannot be registered without a [`Doc`]: the list of endpoints takes it from the function of
//! the handler's name in the `docs` module beside the handler, and a [`Doc`] has no field that may be
//! left out. What the handler's arguments say already (who may ask, the body, what can go wrong with
//! them) is not said again: see [`Part`]. From the list come the routes, their metrics, and the
//! description that is served (`openapi`); tests execute every example of it, try every endpoint as
//! everybody who may not call it, and compare answers with it.

mod answers;
mod endpoint;
mod example;
pub(crate) mod openapi;
mod part;
mod words;

pub use answers::{Body, Reply, SchemaOf};
pub(crate) use endpoint::endpoints;
pub use endpoint::{Endpoint, Operation, router};
pub use example::{ADMIN_PASSWORD, By, Call, Example, Given, TOMORROW, TOTP_NOW, TOTP_SECRET};
pub use part::{Part, Parts, Payloaded, Told};
pub use words::{Kind, Others, Tag, Who};

pub use super::shape::{
    Field, Form, ID, LINK, NO_OR_ID, NO_OR_LINK, POSITION, Shape, Text, formed, may, must,
    some_text, text,
};

/// What an endpoint is for those who call it.
pub struct Doc {
    /// The chapter it stands in.
    pub tag: &'static Tag,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What there is to know, as Markdown.
    pub about: &'static str,
    /// Who may call it.
    pub who: Who,
    /// What another of the same kind sees.
    pub others: Others,
    /// The parts of its path, in order.
    pub path: Vec<Field>,
    /// What may stand in its query.
    pub query: &'static [Field],
    /// Headers that mean something here, beside those that mean the same everywhere.
    pub headers: Vec<Field>,
    /// What it answers when all is well.
    pub answer: Reply,
    /// What else it may answer, beside what can happen to every request like it.
    pub more: Vec<Reply>,
    /// Requests to try. The first one is a success; the tests of permissions use it as well.
    pub examples: Vec<Example>,
}
