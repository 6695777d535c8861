//! Query strings: every parameter is known, every problem is told.

mod list;

use std::str::FromStr;

use axum::extract::Query;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Uri;
use protocol::{FieldProblem, IdError, MessageId, Time, limits::ID_BYTES_MAX};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    error::ApiError,
    shape::{self, Field, Form, ID, Shape, formed, may},
};

pub(crate) use list::{LIST, LIST_OF_CHANNEL, LIST_OF_USER, ListRequest};

/// Entries of a page unless asked otherwise (seed 003 §3.3).
pub const PAGE_SIZE_DEFAULT: usize = 20;

/// Most entries of a page (contract §5).
pub const PAGE_SIZE_MAX: usize = 200;

/// Highest page number; who goes further uses the cursor.
const PAGE_MAX: u64 = 1_000_000;

/// `page`, for the query of a list.
pub(crate) const PAGE: Field =
    may("page", Shape::Whole(1, PAGE_MAX), "Which page, from 1; 1 unless said.");

/// `size`, for the query of a list.
pub(crate) const SIZE: Field =
    may("size", Shape::Whole(1, PAGE_SIZE_MAX as u64), "Entries of a page; 20 unless said.");

/// The parameters of a request, taken out one by one.
pub(crate) struct Parameters {
    given: Vec<(String, String)>,
    /// What the description says there is.
    described: &'static [Field],
    taken: Vec<&'static str>,
    problems: Vec<FieldProblem>,
}

impl Parameters {
    /// Of a request to an endpoint whose description says that there are these.
    pub(crate) fn new(uri: &Uri, described: &'static [Field]) -> Result<Self, ApiError> {
        let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| ApiError::field("query", "must be name=value pairs in UTF-8"))?;
        Ok(Self { given, described, taken: Vec::new(), problems: Vec::new() })
    }

    pub(crate) fn say(&mut self, path: &str, problem: impl Into<String>) {
        self.problems.push(FieldProblem { path: path.to_owned(), problem: problem.into() });
    }

    /// A parameter's text; an empty one counts as left out.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.given(name).filter(|value| !value.is_empty())
    }

    /// A parameter's text, also an empty one.
    fn given(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.take(name);
        if values.len() > 1 {
            self.say(name, "must be given once");
        }
        values.pop()
    }

    /// The texts of a parameter that may be given several times; empty ones count as left out.
    fn several(&mut self, name: &'static str, most: usize) -> Vec<String> {
        let mut values = self.take(name);
        values.retain(|value| !value.is_empty());
        if values.len() > most {
            self.say(name, format!("must be given at most {most} times"));
            values.clear();
        }
        values
    }

    /// All texts of a parameter.
    fn take(&mut self, name: &'static str) -> Vec<String> {
        debug_assert!(self.described.iter().any(|field| field.name == name), "{name}: undescribed");
        self.taken.push(name);
        let mut values = Vec::new();
        self.given.retain_mut(|(given, value)| {
            if given == name {
                values.push(std::mem::take(value));
            }
            given != name
        });
        values
    }

    /// A parameter that can be parsed; `expected` says how it should look.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.say(name, format!("must be {expected}"));
        }
        parsed
    }

    pub(crate) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.say(name, format!("must be one of {}", words.join(", ")));
        }
        found
    }

    pub(crate) fn time(&mut self, name: &'static str) -> Option<Time> {
        let text = self.text(name)?;
        // The `+` of an offset that was not escaped arrives as a space.
        let parsed = Time::parse(&text).or_else(|_| Time::parse(&text.replace(' ', "+")));
        parsed.map_err(|error| self.say(name, error.to_string())).ok()
    }

    /// An id, or a word that is held to the same rules.
    fn id(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name)?;
        if let Err(error) = MessageId::new(&text) {
            self.say(name, error.to_string());
        }
        Some(text)
    }

    /// An id of one kind.
    pub(crate) fn an_id<T: FromStr<Err = IdError>>(&mut self, name: &'static str) -> Option<T> {
        let parsed = self.text(name)?.parse();
        parsed.map_err(|error: IdError| self.say(name, error.to_string())).ok()
    }

    /// `cursor` and `size` of a list in the order of ids.
    pub(crate) fn id_paging<T: FromStr>(&mut self) -> (Option<T>, usize) {
        let after = self.text("cursor").and_then(|text| {
            let id = read_id_cursor(&text);
            if id.is_none() {
                self.say("cursor", "must be the next_cursor of this list");
            }
            id
        });
        (after, self.size())
    }

    /// `page` and `size`.
    pub(crate) fn paging(&mut self) -> (Option<u64>, usize) {
        let page = self.parsed("page", "a number from 1");
        if page.is_some_and(|page| !(1..=PAGE_MAX).contains(&page)) {
            self.say("page", format!("must be 1 to {PAGE_MAX}; use the cursor to go further"));
        }
        (page, self.size())
    }

    /// `size`.
    pub(crate) fn size(&mut self) -> usize {
        let size = self.parsed("size", "a number from 1").unwrap_or(PAGE_SIZE_DEFAULT);
        if !(1..=PAGE_SIZE_MAX).contains(&size) {
            self.say("size", format!("must be 1 to {PAGE_SIZE_MAX}"));
        }
        size
    }

    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        for field in self.described {
            debug_assert!(self.taken.contains(&field.name), "{}: described only", field.name);
        }
        for (name, _) in std::mem::take(&mut self.given) {
            let problem = shape::unknown(&name, self.described.iter().map(|field| field.name));
            let shown: String = name.chars().take(64).collect();
            self.say(&shown, problem);
        }
        if self.problems.is_empty() { Ok(()) } else { Err(ApiError::Invalid(self.problems)) }
    }
}

/// `cursor`, for the query of a list in the order of ids.
pub(crate) const ID_CURSOR_PARAMETER: Field = may(
    "cursor",
    formed(Form::Pattern("^(i[A-Za-z0-9_-]*)?$"), 0, 1 + ID_BYTES_MAX.div_ceil(3) * 4),
    "Where the page begins: `meta.next_cursor` of the page before.",
);

/// `tenant_id`, for the query of an endpoint of admins.
pub(crate) const TENANT_ID: Field = may(
    "tenant_id",
    ID,
    "Whose: any tenant for the bearer of `ADMIN_TOKEN`, `default` unless said; only the own one for a \
     user.",
);

/// The same where all tenants are meant unless one is said.
pub(crate) const ANY_TENANT: Field =
    may("tenant_id", ID, "Of one tenant; of all unless said. Of a user it is the own one.");

/// The `meta` of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PageMeta {
    /// Which page it is. Null where a cursor was used.
    pub(crate) page: Option<u64>,
    /// Most entries of a page.
    pub(crate) size: usize,
    /// How many pages there are. Null where a cursor is the only way through.
    pub(crate) total_pages: Option<u64>,
    /// Where the next page begins; null on the last one.
    pub(crate) next_cursor: Option<String>,
}

impl PageMeta {
    /// Of a page that has a number, of a list of so many.
    pub(crate) fn of_page(page: u64, size: usize, total: u64) -> Self {
        let total_pages = Some(total.div_ceil(size as u64));
        Self { page: Some(page), size, total_pages, next_cursor: None }
    }

    /// Of a list in the order of its entries' ids: `last` is the last entry's, where there are more.
    pub(crate) fn of_ids(size: usize, last: Option<&str>) -> Self {
        let next_cursor = last.map(|id| format!("{ID_CURSOR}{}", URL_SAFE_NO_PAD.encode(id)));
        Self { page: None, size, total_pages: None, next_cursor }
    }
}

/// The entries of a page, from 1; none beyond the last one.
pub(crate) fn on_page<T>(all: &[T], page: u64, size: usize) -> &[T] {
    let skipped = usize::try_from(page - 1).unwrap_or(usize::MAX).saturating_mul(size);
    let rest = all.get(skipped..).unwrap_or_default();
    &rest[..rest.len().min(size)]
}

/// What the cursor of a list in the order of ids begins with; the id follows in base64, because it
/// may have characters in it that mean something in a URL.
const ID_CURSOR: char = 'i';

fn read_id_cursor<T: FromStr>(text: &str) -> Option<T> {
    let id = URL_SAFE_NO_PAD.decode(text.strip_prefix(ID_CURSOR)?).ok()?;
    String::from_utf8(id).ok()?.parse().ok()
}
