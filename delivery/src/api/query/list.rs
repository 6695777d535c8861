//! Lists of messages as they are asked for.

use http::Uri;
use protocol::{ChannelId, Seq};

use super::{PAGE, PageMeta, Parameters, SIZE, TENANT_ID};
use crate::{
    api::{
        error::ApiError,
        shape::{Field, Form, ID, Shape, formed, may, some_text},
    },
    search::{QUERY_BYTES_MAX, Terms},
    store::{
        ListPosition, ListQuery, METADATA_ASKED_MAX, METADATA_KEY_BYTES_MAX,
        METADATA_VALUE_BYTES_MAX, MetadataIs, Sort, StatusFilter,
    },
};

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

/// What lists begin with, what may stand in the middle, and what all of them have.
macro_rules! list {
    ([$($first:ident),*] $($of:ident)?) => {
        &[
            $($first,)* STATUS, IS_READ, MESSAGE_TYPE, $($of,)? PRIORITY_MIN, SENDER, SINCE, UNTIL,
            METADATA, SORT, TEXT, INCLUDE,
        ]
    };
}

/// The query of a list of messages.
pub(crate) const LIST: &[Field] = list!([PAGE, SIZE, CURSOR] CHANNEL);

/// The same of a user's inbox, for admins.
pub(crate) const LIST_OF_USER: &[Field] = list!([TENANT_ID, PAGE, SIZE, CURSOR] CHANNEL);

/// The query of a list of a channel's messages.
pub(crate) const LIST_OF_CHANNEL: &[Field] = list!([PAGE, SIZE, CHANNEL_CURSOR]);

const STATUS: Field = may(
    "status",
    Shape::Word(&["unread", "read", "archived", "all"]),
    "Only of this state; unread and read ones unless said.",
);
const IS_READ: Field =
    may("is_read", Shape::Word(&["true", "false"]), "The same as `status=read` or `unread`.");
const CHANNEL: Field = may("channel_id", ID, "Only of this channel.");
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
const METADATA: Field = may(
    "metadata",
    Shape::List(
        &formed(
            Form::Pattern(r"^([^:\u0000]+:[^\u0000]*)?$"),
            0,
            METADATA_KEY_BYTES_MAX + 1 + METADATA_VALUE_BYTES_MAX,
        ),
        0,
        METADATA_ASKED_MAX,
    ),
    "Only messages whose `metadata` has this member, as `key:value`: a text as it is, a number, `true`, \
     `false` and `null` by their JSON. Objects and lists are never found, nor keys with a colon. May be \
     given 4 times; all must hold. Key and value have at most 128 bytes each.",
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

/// What the cursor into a channel's history begins with.
const HISTORY_CURSOR: char = 'h';

impl ListRequest {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        Self::read(Parameters::new(uri, LIST)?, None)
    }

    /// Of a user's inbox as an admin asks for it; and what else the query says.
    pub(crate) fn parse_of_user<T>(
        uri: &Uri,
        more: impl FnOnce(&mut Parameters) -> T,
    ) -> Result<(T, Self), ApiError> {
        let mut parameters = Parameters::new(uri, LIST_OF_USER)?;
        let more = more(&mut parameters);
        Ok((more, Self::read(parameters, None)?))
    }

    /// Of one channel, which is in the path.
    pub(crate) fn parse_of_channel(uri: &Uri, channel: &ChannelId) -> Result<Self, ApiError> {
        Self::read(Parameters::new(uri, LIST_OF_CHANNEL)?, Some(channel))
    }

    fn read(mut parameters: Parameters, channel: Option<&ChannelId>) -> Result<Self, ApiError> {
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
        let metadata = parameters.several("metadata", METADATA_ASKED_MAX);
        let metadata = metadata.iter().filter_map(|text| {
            MetadataIs::parse(text)
                .map_err(|error| parameters.say("metadata", error.to_string()))
                .ok()
        });
        let metadata = metadata.collect();
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
            metadata,
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
