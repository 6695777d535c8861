//! How a match is shown.

use std::ops::Range;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    fold,
    terms::{Term, Terms},
    texts::Texts,
    tokens::{Kind, Token, Tokens},
};

/// About how many characters of the content are shown. Three lines of a phone.
pub const SNIPPET_CHARS: usize = 120;

/// How many of them stand before the first match.
const LEAD_CHARS: usize = 30;

/// A found message's title and the part of its content with the first match, as HTML: escaped, and
/// matches between `<em>` and `</em>`. A match in the names of sender or attachments alone shows
/// neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Highlight {
    /// All of the title.
    pub title: String,
    /// About [`SNIPPET_CHARS`] characters of the content, `…` where something is left out.
    pub content: String,
}

impl Highlight {
    /// Of a message.
    #[must_use]
    pub fn new(terms: &Terms, texts: &Texts<'_>) -> Self {
        let (title, content) = (&*texts.title, &*texts.content);
        let whole = |_| 0..title.len();
        let (_, in_title) = matches(terms, title, whole);
        let (window, in_content) = matches(terms, content, |at| window(content, at));
        Self {
            title: html(title, 0..title.len(), &in_title),
            content: html(content, window, &in_content),
        }
    }
}

/// Where the terms stand in a text, in order and without overlaps, inside a window around the first
/// place; reading ends with the window. Without a match the window is that at the beginning.
fn matches(
    terms: &Terms,
    text: &str,
    window: impl Fn(usize) -> Range<usize>,
) -> (Range<usize>, Vec<Range<usize>>) {
    let mut rows: Vec<Row<'_>> = terms.terms().iter().map(Row::new).collect();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut shown = None;
    let mut tokens = Tokens::new(text);
    while let Some(token) = tokens.next_token() {
        if shown.as_ref().is_some_and(|shown: &Range<usize>| token.bytes.start >= shown.end) {
            break;
        }
        for place in rows.iter_mut().filter_map(|row| row.step(&token)) {
            shown.get_or_insert_with(|| window(place.start));
            found.push(place);
        }
    }
    let shown = shown.unwrap_or_else(|| window(0));
    found.sort_unstable_by_key(|place| place.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
    for place in found {
        let place = place.start.max(shown.start)..place.end.min(shown.end);
        match merged.last_mut() {
            Some(last) if place.start <= last.end => last.end = last.end.max(place.end),
            _ if place.is_empty() => {}
            _ => merged.push(place),
        }
    }
    (shown, merged)
}

/// A term on its way through a text.
struct Row<'t> {
    term: &'t Term,
    /// How many tokens have matched so far and where the first began, for each place at which the row
    /// may have begun.
    begun: Vec<(usize, usize)>,
}

impl<'t> Row<'t> {
    fn new(term: &'t Term) -> Self {
        Self { term, begun: Vec::new() }
    }

    /// Takes the next token; gives the place of a whole match that ends with it.
    fn step(&mut self, token: &Token<'_>) -> Option<Range<usize>> {
        let (tokens, open) = match self.term {
            Term::Character(char) => {
                let here = token.kind != Kind::Word && token.text.starts_with(*char);
                return here.then_some(token.bytes.start..token.first_end);
            }
            Term::Row { tokens, open } => (tokens, *open),
        };
        let mut place = None;
        self.begun.push((0, token.bytes.start));
        self.begun.retain_mut(|(matched, start)| {
            let wanted = &*tokens[*matched];
            *matched += 1;
            let last = *matched == tokens.len();
            let fits =
                if last && open { token.text.starts_with(wanted) } else { token.text == wanted };
            if fits && last && place.is_none() {
                // Of a pair that was asked for by its first character only that is meant.
                let half = token.kind == Kind::Pair && token.text != wanted;
                place = Some(*start..if half { token.first_end } else { token.bytes.end });
            }
            fits && !last
        });
        place
    }
}

/// The bytes of a text around a match at `at`, whole characters with their marks.
fn window(text: &str, at: usize) -> Range<usize> {
    let before = text[..at].char_indices().rev().take(LEAD_CHARS).last();
    let start = whole_from(text, before.map_or(at, |(start, _)| start));
    let mut after = text[start..].char_indices().skip(SNIPPET_CHARS);
    let end = after.find(|(_, char)| !fold::joins(*char));
    start..end.map_or(text.len(), |(end, _)| start + end)
}

/// The beginning of the character with its marks that `start` is in.
fn whole_from(text: &str, start: usize) -> usize {
    if !text[start..].starts_with(fold::joins) {
        return start;
    }
    let base = text[..start].char_indices().rev().find(|(_, char)| !fold::joins(*char));
    base.map_or(start, |(base, _)| base)
}

fn html(text: &str, shown: Range<usize>, places: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(shown.len() + shown.len() / 4 + 16 * places.len());
    if shown.start > 0 {
        out.push('…');
    }
    let mut at = shown.start;
    for place in places {
        escape(&text[at..place.start], &mut out);
        out.push_str("<em>");
        escape(&text[place.clone()], &mut out);
        out.push_str("</em>");
        at = place.end;
    }
    escape(&text[at..shown.end], &mut out);
    if shown.end < text.len() {
        out.push('…');
    }
    out
}

fn escape(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests;
