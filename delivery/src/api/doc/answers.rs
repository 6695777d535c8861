//! What an endpoint answers.

use protocol::ErrorType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::api::query::PageMeta;

/// Makes the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn either<T: JsonSchema, U: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let (one, other) = (of::<T>(generator), of::<U>(generator));
    json_schema!({ "anyOf": [one, other] })
}

/// An answer.
pub struct Reply {
    /// Its HTTP status.
    pub status: u16,
    /// When it comes, and what it is.
    pub about: &'static str,
    /// What is in it.
    pub body: Body,
}

/// What is in an answer.
pub enum Body {
    /// The envelope of a success with this data.
    Data(SchemaOf),
    /// The same with paging in `meta`.
    Page(SchemaOf, SchemaOf),
    /// The envelope of a refusal of this type; data only where it says how things stand.
    Refusal(ErrorType, Option<SchemaOf>),
    /// JSON without the envelope.
    Json(SchemaOf),
    /// Something of this media type.
    Media(&'static str),
    /// Nothing.
    Empty,
}

impl Reply {
    /// 200 with data, which is documented by its type.
    #[must_use]
    pub fn data<T: JsonSchema>(about: &'static str) -> Self {
        Self { status: 200, about, body: Body::Data(of::<T>) }
    }

    /// 200 with data of one type or the other, by what was asked for.
    #[must_use]
    pub fn either<T: JsonSchema, U: JsonSchema>(about: &'static str) -> Self {
        Self { status: 200, about, body: Body::Data(either::<T, U>) }
    }

    /// 200 with data and paging.
    #[must_use]
    pub fn page<T: JsonSchema>(about: &'static str) -> Self {
        Self { status: 200, about, body: Body::Page(of::<T>, of::<PageMeta>) }
    }

    /// The same with more in `meta` than paging.
    #[must_use]
    pub fn page_with<T: JsonSchema, M: JsonSchema>(about: &'static str) -> Self {
        Self { status: 200, about, body: Body::Page(of::<T>, of::<M>) }
    }

    /// A refusal with the status of its type.
    #[must_use]
    pub const fn refusal(kind: ErrorType, about: &'static str) -> Self {
        Self { status: kind.status(), about, body: Body::Refusal(kind, None) }
    }

    /// A refusal that says how things stand.
    #[must_use]
    pub fn state<T: JsonSchema>(kind: ErrorType, about: &'static str) -> Self {
        Self { status: kind.status(), about, body: Body::Refusal(kind, Some(of::<T>)) }
    }

    /// JSON that has no envelope, because others decided what it looks like.
    #[must_use]
    pub fn json<T: JsonSchema>(status: u16, about: &'static str) -> Self {
        Self { status, about, body: Body::Json(of::<T>) }
    }

    /// Something that is no JSON of ours.
    #[must_use]
    pub const fn media(status: u16, media: &'static str, about: &'static str) -> Self {
        Self { status, about, body: Body::Media(media) }
    }

    /// A status that says it all.
    #[must_use]
    pub const fn empty(status: u16, about: &'static str) -> Self {
        Self { status, about, body: Body::Empty }
    }
}
