//! Asks an index that is caught up.

use std::fmt::Write as _;

use rusqlite::{OptionalExtension, ToSql, params_from_iter};

use super::{
    super::queries::{self, Page, Said},
    index::Index,
};
use crate::{
    search::{Highlight, Term, Terms, Texts},
    store::{InboxMessage, ListQuery, Sort, StatusFilter},
};

/// What a search found.
#[derive(Default)]
pub(super) struct Found {
    /// Without the times at which they were read.
    pub(super) messages: Vec<InboxMessage>,
    pub(super) highlights: Vec<Highlight>,
    pub(super) total: u64,
    pub(super) more: bool,
}

impl Index {
    /// The page of a list of what has these words; inside the transaction of a turn.
    pub(super) fn find(&self, terms: &Terms, query: &ListQuery) -> rusqlite::Result<Found> {
        if let Some(by_state) = by_state(query)
            && let Some(found) = self.page(terms, query, by_state)?
        {
            return Ok(found);
        }
        let found = self.page(terms, query, by_facts(query))?;
        Ok(found.expect("what was merged with the inbox's messages is one of them"))
    }

    /// The page that a statement gives; none if the index has a message that the inbox has not.
    fn page(
        &self,
        terms: &Terms,
        query: &ListQuery,
        statement: Statement,
    ) -> rusqlite::Result<Option<Found>> {
        let (page, total, more) = self.select(terms, query, statement)?;
        let mut found = Found { total, more, ..Found::default() };
        let mut select = self.db.prepare_cached(&format!(
            "SELECT {} FROM inbox.message WHERE seq = ?1",
            queries::COLUMNS
        ))?;
        for seq in page {
            let Some(message) = select.query_row([seq], queries::message).optional()? else {
                return Ok(None);
            };
            let json = message.body.json();
            let body = std::str::from_utf8(&json).unwrap_or_default();
            let texts = Texts::of_body(body).unwrap_or_default();
            found.highlights.push(Highlight::new(terms, &texts));
            found.messages.push(message);
        }
        Ok(Some(found))
    }

    /// The seqs of the page, how many match in all, whether more follow. Every match is looked at, for
    /// the total; only those of the page are kept.
    fn select(
        &self,
        terms: &Terms,
        query: &ListQuery,
        (sql, mut values): Statement,
    ) -> rusqlite::Result<(Vec<i64>, u64, bool)> {
        values.insert(0, Box::new(expression(terms)));
        let mut select = self.db.prepare_cached(&sql)?;
        let mut rows = select.query(params_from_iter(values.iter().map(AsRef::as_ref)))?;
        let mut page = Page::of(query);
        let mut said = Said::new(&self.db, query)?;
        // Eight bytes each for the length of a turn.
        let mut matches: Vec<i64> = Vec::new();
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            if !said.fits(seq)? {
                continue;
            }
            match query.sort {
                Sort::Newest | Sort::Oldest => page.offer(seq),
                Sort::Priority => matches.push(seq),
            }
        }
        if query.sort == Sort::Priority {
            return self.by_priority(page, &matches);
        }
        Ok((page.seqs, page.total, page.more))
    }

    /// The page of matches, given in the order of arrival, by priority. The messages are walked in the
    /// order of the list until the page is full: sorting the matches needs the row of each, which took
    /// 20 ms for 30,000.
    fn by_priority(
        &self,
        mut page: Page<'_>,
        matches: &[i64],
    ) -> rusqlite::Result<(Vec<i64>, u64, bool)> {
        let mut select = self.db.prepare_cached(&format!(
            "SELECT seq FROM message WHERE status < 4 ORDER BY {}",
            queries::order(Sort::Priority)
        ))?;
        let mut rows = select.query([])?;
        while !page.more
            && let Some(row) = rows.next()?
        {
            let seq = row.get(0)?;
            if matches.binary_search(&seq).is_ok() {
                page.offer(seq);
            }
        }
        Ok((page.seqs, matches.len() as u64, page.more))
    }
}

type Statement = (String, Vec<Box<dyn ToSql>>);

/// Where nothing but archiving and the like decides: the matches, without or only with those of the
/// small index of such messages, in the same order, so that SQLite merges them. A message that is only
/// in the index would be counted; retention takes the oldest, and those are dropped from the index
/// first. Measured with 100,000 matches: 11 ms, where looking at each of their rows takes 35.
fn by_state(query: &ListQuery) -> Option<Statement> {
    let ListQuery {
        status,
        recalled: false,
        channel_id: None,
        message_type: None,
        priority_min: None,
        sender: None,
        since: None,
        until: None,
        text: _,
        metadata,
        sort,
        at: _,
        size: _,
    } = query
    else {
        return None;
    };
    if !metadata.is_empty() {
        return None;
    }
    let state = match status {
        StatusFilter::Inbox => "EXCEPT SELECT seq FROM message WHERE status > 1",
        StatusFilter::Archived => {
            "INTERSECT SELECT seq FROM message WHERE status > 1 AND status = 2"
        }
        StatusFilter::All => "EXCEPT SELECT seq FROM message WHERE status > 1 AND status > 2",
        StatusFilter::Unread | StatusFilter::Read => return None,
    };
    let order = arrival(*sort);
    let sql = format!("SELECT rowid FROM text WHERE text MATCH ? {state} ORDER BY 1 {order}");
    Some((sql, Vec::new()))
}

/// Any filter: the matches, merged with what fulfils it in the index that has all that filters ask for.
/// Reading that index costs 4 ms for 100,000 messages, however few match; looking at the rows of as
/// many matches took 35.
fn by_facts(query: &ListQuery) -> Statement {
    let (conditions, values) = queries::conditions(query);
    let order = arrival(query.sort);
    let sql = format!(
        "SELECT rowid FROM text WHERE text MATCH ?
         INTERSECT SELECT seq FROM message INDEXED BY message_facts WHERE {conditions}
         ORDER BY 1 {order}"
    );
    (sql, values)
}

/// In which order of arrival matches are needed.
const fn arrival(sort: Sort) -> &'static str {
    match sort {
        Sort::Newest => "DESC",
        Sort::Oldest | Sort::Priority => "ASC",
    }
}

/// The terms in FTS5's language. Every token stands in quotes, and none has one: they are letters,
/// digits and symbols.
fn expression(terms: &Terms) -> String {
    let mut out = String::new();
    for term in terms.terms() {
        if !out.is_empty() {
            out.push_str(" AND ");
        }
        let written = match term {
            Term::Character(char) => write!(out, "chars : \"{char}\""),
            Term::Row { tokens, open } => {
                write!(out, "words : \"{}\"{}", tokens.join(" "), if *open { " *" } else { "" })
            }
        };
        written.expect("writing to a String does not fail");
    }
    out
}
