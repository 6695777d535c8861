//! A search too simple to be wrong: pieces of plain strings, over a small alphabet.

use proptest::prelude::*;

/// A text as a string in which a piece is looked for: one bar between words, none inside a row of
/// characters.
fn bars(text: &str) -> String {
    let class = |char: char| match char {
        'a'..='z' => 'l',
        '0'..='9' => 'd',
        '企' | '微' | '通' | '👍' => 'c',
        _ => ' ',
    };
    let mut out = "|".to_owned();
    let mut last = ' ';
    for char in text.chars() {
        let char = match char {
            'A' | 'Ａ' | 'á' => 'a',
            '２' => '2',
            other => other,
        };
        let now = class(char);
        if now != last && !out.ends_with('|') {
            out.push('|');
        }
        if now != ' ' {
            out.push(char);
        }
        last = now;
    }
    if !out.ends_with('|') {
        out.push('|');
    }
    out
}

/// Whether one text has one word or phrase, by that string.
pub(crate) fn model(text: &str, query: &str, quoted: bool) -> bool {
    let mut piece = bars(query);
    if piece == "|" {
        return true;
    }
    let ends = |char: Option<char>| char.is_some_and(|char| !char.is_ascii());
    let inner = piece.trim_matches('|').to_owned();
    if ends(inner.chars().next()) {
        piece.remove(0);
    }
    let word = inner.rsplit(|char: char| char == '|' || !char.is_ascii()).next().unwrap();
    if ends(inner.chars().last()) || (!quoted && word.len() >= 3) {
        piece.pop();
    }
    bars(text).contains(&piece)
}

pub(crate) fn text(parts_max: usize) -> impl Strategy<Value = String> {
    let chars =
        ["企", "微", "通", "👍", "a", "A", "Ａ", "á", "b", "aab", "1", "２", "12", " ", "，", "-"];
    prop::collection::vec(prop::sample::select(chars.to_vec()), 0..=parts_max)
        .prop_map(|parts| parts.concat())
}
