//! Query strings: every parameter is known, every problem is told.

use std::str::FromStr;

use axum::extract::Query;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Uri;
use protocol::{ChannelId, FieldProblem, MessageId, Seq, Time, limits::ID_BYTES_MAX};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    error::ApiError,
    shape::{self, Field, Form, ID, Shape, formed, may, some_text},
};
use crate::{
    search::{QUERY_BYTES_MAX, Terms},
    store::{ListPosition, ListQuery, Sort, StatusFilter},
};

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
        debug_assert!(self.described.iter().any(|field| field.name == name), "{name}: undescribed");
        self.taken.push(name);
        let mut values = Vec::new();
        self.given.retain_mut(|(given, value)| {
            if given == name {
                values.push(std::mem::take(value));
            }
            given != name
        });
        if values.len() > 1 {
            self.say(name, "must be given once");
        }
        values.pop()
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

const CURSOR: Field = may(
    "cursor",
    formed(Form::Pattern("^([no][0-9]{1,19})?$"), 0, 20),
    "Where the page begins: `meta.next_cursor` of the page before, which stays right while new \
     messages arrive. Instead of `page`, and not with `sort=priority`.",
);

/// The same of a channel's messages.
const CHANNEL_CURSOR: Field = may(
    "cursor",
    formed(Form::Pattern("^([no][0-9]{1,19}|h[0-9]{0,19})?$"), 0, 20),
    "Where the page begins: `meta.next_cursor` of the page before, which stays right while new \
     messages arrive, and leads on into the channel's history. Instead of `page`, and not with \
     `sort=priority`.",
);

/// The query of a list of messages.
pub(crate) const LIST: &[Field] = &[
    PAGE,
    SIZE,
    CURSOR,
    STATUS,
    IS_READ,
    MESSAGE_TYPE,
    may("channel_id", ID, "Only of this channel."),
    PRIORITY_MIN,
    SENDER,
    SINCE,
    UNTIL,
    SORT,
    TEXT,
    INCLUDE,
];

/// The query of a list of a channel's messages.
pub(crate) const LIST_OF_CHANNEL: &[Field] = &[
    PAGE,
    SIZE,
    CHANNEL_CURSOR,
    STATUS,
    IS_READ,
    MESSAGE_TYPE,
    PRIORITY_MIN,
    SENDER,
    SINCE,
    UNTIL,
    SORT,
    TEXT,
    INCLUDE,
];

const STATUS: Field = may(
    "status",
    Shape::Word(&["unread", "read", "archived", "all"]),
    "Only of this state; unread and read ones unless said.",
);
const IS_READ: Field =
    may("is_read", Shape::Word(&["true", "false"]), "The same as `status=read` or `unread`.");
const MESSAGE_TYPE: Field = may("message_type", ID, "Only of this type.");
const PRIORITY_MIN: Field =
    may("priority_min", Shape::Whole(1, 10), "Only of this priority or higher.");
const SENDER: Field = may("sender", ID, "Only of this sender.");
const SINCE: Field = may("since", Shape::Time, "Only created at or after this moment.");
const UNTIL: Field = may("until", Shape::Time, "Only created before this moment.");
const SORT: Field = may(
    "sort",
    Shape::Word(&["newest", "oldest", "priority"]),
    "The order; newest first unless said.",
);
const TEXT: Field = may(
    "q",
    some_text(QUERY_BYTES_MAX),
    "Only messages in which all these words are: in the title, the content, the sender's name or the \
     attachments' names. Chinese is found from one character on. `highlight` says where.",
);
const INCLUDE: Field = may(
    "include",
    Shape::Word(&["recalled"]),
    "Also messages that were taken back, without what they said.",
);

/// A list as it was asked for.
#[derive(Debug)]
pub(crate) struct ListRequest {
    pub(crate) query: ListQuery,
    /// None where a cursor was given.
    pub(crate) page: Option<u64>,
    /// Where in a channel's history, where the cursor says so: before a position, or from the latest
    /// on.
    pub(crate) history: Option<Option<u64>>,
}

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
    /// Of a list in the order of its entries' ids: `last` is the last entry's, where there are more.
    pub(crate) fn of_ids(size: usize, last: Option<&str>) -> Self {
        let next_cursor = last.map(|id| format!("{ID_CURSOR}{}", URL_SAFE_NO_PAD.encode(id)));
        Self { page: None, size, total_pages: None, next_cursor }
    }
}

/// What the cursor of a list in the order of ids begins with; the id follows in base64, because it
/// may have characters in it that mean something in a URL.
const ID_CURSOR: char = 'i';

/// What the cursor into a channel's history begins with.
const HISTORY_CURSOR: char = 'h';

fn read_id_cursor<T: FromStr>(text: &str) -> Option<T> {
    let id = URL_SAFE_NO_PAD.decode(text.strip_prefix(ID_CURSOR)?).ok()?;
    String::from_utf8(id).ok()?.parse().ok()
}

impl ListRequest {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        Self::read(uri, None)
    }

    /// Of one channel, which is in the path.
    pub(crate) fn parse_of_channel(uri: &Uri, channel: &ChannelId) -> Result<Self, ApiError> {
        Self::read(uri, Some(channel))
    }

    fn read(uri: &Uri, channel: Option<&ChannelId>) -> Result<Self, ApiError> {
        let known = if channel.is_some() { LIST_OF_CHANNEL } else { LIST };
        let mut parameters = Parameters::new(uri, known)?;
        let status = parameters.word(
            "status",
            &[
                ("unread", StatusFilter::Unread),
                ("read", StatusFilter::Read),
                ("archived", StatusFilter::Archived),
                ("all", StatusFilter::All),
            ],
        );
        let is_read = parameters
            .word("is_read", &[("true", StatusFilter::Read), ("false", StatusFilter::Unread)]);
        let status = match (status, is_read) {
            (Some(status), Some(is_read)) if status != is_read => {
                parameters.say("is_read", "contradicts status; give one of them");
                status
            }
            (status, is_read) => status.or(is_read).unwrap_or_default(),
        };
        let priority_min = parameters.parsed("priority_min", "a number from 1 to 10");
        if priority_min.is_some_and(|priority| !(1..=10).contains(&priority)) {
            parameters.say("priority_min", "must be 1 to 10");
        }
        let sort = parameters
            .word(
                "sort",
                &[("newest", Sort::Newest), ("oldest", Sort::Oldest), ("priority", Sort::Priority)],
            )
            .unwrap_or_default();
        let text = parameters.given("q").and_then(|text| {
            Terms::parse(&text).map_err(|error| parameters.say("q", error.to_string())).ok()
        });
        let (page, size) = parameters.paging();
        let cursor_text = parameters.text("cursor");
        let history = cursor_text
            .as_deref()
            .filter(|_| channel.is_some() && sort == Sort::Newest)
            .and_then(read_history_cursor);
        let cursor = cursor_text.filter(|_| history.is_none()).and_then(|text| {
            let cursor = read_cursor(&text, sort);
            if cursor.is_none() {
                parameters.say("cursor", "must be the next_cursor of a list of the same sort");
            }
            cursor
        });
        if (cursor.is_some() || history.is_some()) && page.is_some() {
            parameters.say("page", "cannot be combined with cursor");
        }
        let channel_id = match channel {
            Some(channel) => Some(channel.as_str().to_owned()),
            None => parameters.id("channel_id"),
        };
        let query = ListQuery {
            status,
            recalled: parameters.word("include", &[("recalled", ())]).is_some(),
            channel_id,
            message_type: parameters.id("message_type"),
            priority_min,
            sender: parameters.id("sender"),
            since: parameters.time("since"),
            until: parameters.time("until"),
            text,
            sort,
            at: match cursor {
                Some(seq) => ListPosition::After(seq),
                None => ListPosition::Offset((page.unwrap_or(1).max(1) - 1) * size as u64),
            },
            size,
        };
        parameters.finish()?;
        let paged = cursor.is_none() && history.is_none();
        Ok(Self { query, page: paged.then(|| page.unwrap_or(1)), history })
    }

    /// The `meta` of a page of a channel's history; `next` is where the next one begins.
    pub(crate) fn meta_of_history(&self, next: Option<Option<u64>>) -> PageMeta {
        let next_cursor = next.map(|before| match before {
            Some(before) => format!("{HISTORY_CURSOR}{before}"),
            None => HISTORY_CURSOR.to_string(),
        });
        PageMeta { page: None, size: self.query.size, total_pages: None, next_cursor }
    }

    /// The `meta` of what was found; `last` is the last message's seq where there are more.
    pub(crate) fn meta(&self, total: u64, last: Option<Seq>) -> PageMeta {
        PageMeta {
            page: self.page,
            size: self.query.size,
            total_pages: Some(total.div_ceil(self.query.size as u64)),
            next_cursor: last.and_then(|seq| write_cursor(seq, self.query.sort)),
        }
    }
}

/// A cursor is a position and the order it was made in; priorities have no position that stays.
fn write_cursor(seq: Seq, sort: Sort) -> Option<String> {
    match sort {
        Sort::Newest => Some(format!("n{seq}")),
        Sort::Oldest => Some(format!("o{seq}")),
        Sort::Priority => None,
    }
}

fn read_cursor(text: &str, sort: Sort) -> Option<Seq> {
    let digits = match sort {
        Sort::Newest => text.strip_prefix('n'),
        Sort::Oldest => text.strip_prefix('o'),
        Sort::Priority => None,
    }?;
    digits.parse().ok().map(Seq)
}

fn read_history_cursor(text: &str) -> Option<Option<u64>> {
    match text.strip_prefix(HISTORY_CURSOR)? {
        "" => Some(None),
        digits => digits.parse().ok().map(Some),
    }
}
