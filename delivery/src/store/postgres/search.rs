//! Searches: which messages have some words.
//!
//! The index is made when somebody searches: a send does not pay for it. Each text is kept as the tokens of
//! [`crate::search`], each with its inbox in front, so that one GIN index serves all inboxes and a
//! search reads one inbox's part of it. A `tsvector` knows where a token stands up to a limit; texts
//! that go beyond it are marked, and what matches them is looked at again.

use std::{collections::BTreeMap, fmt::Write as _};

use protocol::Body;

use super::{
    columns::Columns as _,
    core::Core,
    errors::Failure,
    list::Conditions,
    pool::{self, Ask, Client, execute, row, rows},
    rows::Inbox,
};
use crate::{
    InboxKey,
    search::{Highlight, Kind, Term, Terms, Texts, Tokens},
};

/// Changes that are taken over in one transaction: how long another search of the inbox waits.
const CHUNK: i64 = 512;

/// Places and places of one token that a `tsvector` keeps (PostgreSQL, chapter 12.11).
const PLACE_MAX: usize = 16_383;
const PLACES_MAX: usize = 255;

/// Bytes of one text's tokens and places that are kept; a `tsvector` ends at a MiB.
const BYTES_MAX: usize = 900_000;

/// A text's tokens as a `tsvector`.
struct Indexed {
    terms: String,
    inexact: bool,
}

fn word(inbox: i64, token: &str) -> String {
    format!("'{inbox}~{token}'")
}

fn character(inbox: i64, char: char) -> String {
    format!("'{inbox}^{char}'")
}

fn index(inbox: i64, body: &str) -> Indexed {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let (mut place, mut inexact) = (0, false);
    // A body that is none is no reason to refuse a search: whoever lists it reports it.
    for text in Texts::of_body(body).unwrap_or_default().all() {
        let mut tokens = Tokens::new(text);
        while let Some(token) = tokens.next_token() {
            place += 1;
            let of = places.entry(word(inbox, token.text)).or_default();
            if place > PLACE_MAX || of.len() >= PLACES_MAX {
                inexact = true;
            } else {
                of.push(place);
            }
            if let (true, Some(first)) = (token.kind != Kind::Word, token.text.chars().next()) {
                places.entry(character(inbox, first)).or_default();
            }
        }
        // So that no row of tokens reaches from one text into the next.
        place += 1;
    }
    let bytes: usize = places.iter().map(|(token, at)| token.len() + 2 * at.len() + 8).sum();
    if bytes > BYTES_MAX {
        return Indexed { terms: String::new(), inexact: true };
    }
    let mut terms = String::new();
    for (token, places) in &places {
        terms.push_str(token);
        for (at, place) in places.iter().enumerate() {
            let _ = write!(terms, "{}{place}", if at == 0 { ':' } else { ',' });
        }
        terms.push(' ');
    }
    Indexed { terms, inexact }
}

/// Takes over what has come to an inbox, and what was edited.
pub(super) async fn catch_up(
    core: &Core,
    client: &mut Client,
    key: &InboxKey,
    strict: bool,
) -> Result<(), Failure> {
    let Some(inbox) = core.see(&*client, key, strict).await? else { return Ok(()) };
    let sql = "SELECT seq FROM search_states WHERE inbox = $1";
    let done = row(&*client, sql, &[&inbox.id]).await?;
    let mut done = done.map_or(Ok(0), |row| row.column(0))?;
    while done < inbox.head {
        let transaction = pool::begin(client).await?;
        // What came after an inbox went would stay for ever.
        let sql = "SELECT 1 FROM inboxes WHERE id = $1 FOR KEY SHARE";
        if row(&transaction, sql, &[&inbox.id]).await?.is_none() {
            return Err(Failure::Gone);
        }
        let sql = "INSERT INTO search_states (inbox, seq) VALUES ($1, 0)
            ON CONFLICT (inbox) DO UPDATE SET seq = search_states.seq RETURNING seq";
        let from: i64 =
            row(&transaction, sql, &[&inbox.id]).await?.map_or(Ok(0), |row| row.column(0))?;
        let to = inbox.head.min(from.max(inbox.min_seq) + CHUNK);
        let sql = "SELECT m.seq, b.body FROM messages m JOIN bodies b ON b.id = m.body
            WHERE m.inbox = $1 AND (m.seq > $2 AND m.seq <= $3 OR m.seq IN (
                SELECT message_seq FROM changes WHERE inbox = $1 AND seq > $2 AND seq <= $3 AND kind >= 2))";
        let (mut seqs, mut terms, mut inexact) = (vec![], vec![], vec![]);
        for row in rows(&transaction, sql, &[&inbox.id, &from, &to]).await? {
            let indexed = index(inbox.id, row.column(1)?);
            seqs.push(row.column::<i64>(0)?);
            terms.push(indexed.terms);
            inexact.push(indexed.inexact);
        }
        let sql = "INSERT INTO search_texts (inbox, seq, terms, inexact)
            SELECT $1, k.seq, k.terms::tsvector, k.inexact
            FROM unnest($2::bigint[], $3::text[], $4::boolean[]) AS k (seq, terms, inexact)
            ON CONFLICT (inbox, seq) DO UPDATE SET terms = excluded.terms, inexact = excluded.inexact";
        execute(&transaction, sql, &[&inbox.id, &seqs, &terms, &inexact]).await?;
        let sql = "UPDATE search_states SET seq = greatest(seq, $2) WHERE inbox = $1";
        execute(&transaction, sql, &[&inbox.id, &to]).await?;
        core.commit(transaction).await?;
        core.metrics.indexed.increment(seqs.len() as u64);
        done = to.max(from);
    }
    Ok(())
}

/// Whether all that an inbox has is in its index, as it is seen here.
pub(super) async fn is_whole(client: &impl Ask, inbox: &Inbox) -> Result<bool, Failure> {
    let sql = "SELECT seq FROM search_states WHERE inbox = $1";
    let done = row(client, sql, &[&inbox.id]).await?;
    Ok(done.map_or(Ok(0), |row| row.column::<i64>(0))? >= inbox.head)
}

/// Adds to the conditions on `messages m` and `search_texts s` that a message has these words.
pub(super) async fn add(
    conditions: &mut Conditions,
    client: &impl Ask,
    inbox: i64,
    terms: &Terms,
) -> Result<(), Failure> {
    let sql = "SELECT s.seq, b.body FROM search_texts s
        JOIN messages m ON m.inbox = s.inbox AND m.seq = s.seq JOIN bodies b ON b.id = m.body
        WHERE s.inbox = $1 AND s.inexact AND (s.terms = ''::tsvector OR s.terms @@ $2::text::tsquery)";
    let mut matching: Vec<i64> = Vec::new();
    for row in rows(client, sql, &[&inbox, &expression(inbox, terms, " & ")]).await? {
        if terms.are_in(&Texts::of_body(row.column(1)?).unwrap_or_default()) {
            matching.push(row.column(0)?);
        }
    }
    if matching.is_empty() {
        conditions.sql.push_str(" AND NOT s.inexact");
        conditions.add("s.terms @@ text_query", Box::new(expression(inbox, terms, " <-> ")));
    } else {
        conditions.either(
            (
                "NOT s.inexact AND s.terms @@ text_query",
                Box::new(expression(inbox, terms, " <-> ")),
            ),
            ("m.seq = ANY", Box::new(matching)),
        );
    }
    Ok(())
}

/// Terms in the language of `tsquery`. Every token stands in quotes, and none has one: they are
/// letters, digits and symbols.
fn expression(inbox: i64, terms: &Terms, then: &str) -> String {
    let term = |term: &Term| match term {
        Term::Character(char) => character(inbox, *char),
        Term::Row { tokens, open } => {
            let row: Vec<String> = tokens.iter().map(|token| word(inbox, token)).collect();
            format!("({}{})", row.join(then), if *open { ":*" } else { "" })
        }
    };
    terms.terms().iter().map(term).collect::<Vec<_>>().join(" & ")
}

/// How a match is shown.
pub(super) fn highlight(terms: &Terms, body: &Body) -> Highlight {
    let json = body.json();
    let body = std::str::from_utf8(&json).unwrap_or_default();
    Highlight::new(terms, &Texts::of_body(body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_looked_at_again() {
        let body = |content: &str| format!(r#"{{"title":"t","content":"{content}"}}"#);
        let short = index(7, &body("企微 a"));
        assert_eq!(short.terms, "'7^企' '7^微' '7~a':5 '7~t':1 '7~企微':3 '7~微':4 ");
        assert!(!short.inexact);
        assert!(index(7, &body(&"a ".repeat(300))).inexact);
        let long: String = (0..20_000).map(|n| format!("a{n} ")).collect();
        assert!(index(7, &body(&long)).inexact);
        assert!(index(7, &body(&"x ".repeat(400_000))).inexact);
    }
}
