//! Characters as they are compared: without case, width, accents and what cannot be seen.

use std::{collections::VecDeque, ops::Range};

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Most characters that are folded as one: a base and its marks. Normal text has up to four; Unicode
/// calls text with at most 30 "stream-safe" (UAX #15 §13). Without a limit a text of nothing but marks
/// would be sorted as one.
const CLUSTER_CHARS_MAX: usize = 32;

/// What a character is for the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Of a script without spaces between words; also emoji.
    Dense,
    Letter,
    Digit,
    /// Between words.
    Other,
}

/// A folded character and the bytes of the text it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) char: char,
    pub(super) class: Class,
    pub(super) bytes: Range<usize>,
}

/// The folded characters of a text. One character may fold to several (`㈱` to `(株)`), several to one
/// (`ｶﾞ` to `ガ`), and some to none.
pub(super) struct Fold<'a> {
    text: &'a str,
    at: usize,
    waiting: VecDeque<Folded>,
}

impl<'a> Fold<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, waiting: VecDeque::new() }
    }
}

impl Iterator for Fold<'_> {
    type Item = Folded;

    fn next(&mut self) -> Option<Folded> {
        loop {
            if let Some(folded) = self.waiting.pop_front() {
                return Some(folded);
            }
            let rest = self.text.get(self.at..)?;
            let mut chars = rest.char_indices();
            let (_, base) = chars.next()?;
            let end = chars
                .take(CLUSTER_CHARS_MAX - 1)
                .find(|(_, next)| !joins(*next))
                .map_or_else(|| cluster_end(rest), |(end, _)| end);
            let bytes = self.at..self.at + end;
            self.at = bytes.end;
            if end == base.len_utf8() && (base.is_ascii() || is_plain(base)) {
                let char = base.to_ascii_lowercase();
                return Some(Folded { char, class: class(char), bytes });
            }
            for composed in rest[..end].nfkc() {
                if !is_ignored(composed) {
                    fold_composed(composed, &bytes, &mut self.waiting);
                }
            }
        }
    }
}

/// Where a cluster of the greatest length ends.
fn cluster_end(rest: &str) -> usize {
    rest.char_indices().nth(CLUSTER_CHARS_MAX).map_or(rest.len(), |(end, _)| end)
}

fn fold_composed(composed: char, bytes: &Range<usize>, out: &mut VecDeque<Folded>) {
    let mut push = |char| out.push_back(Folded { char, class: class(char), bytes: bytes.clone() });
    // Taken apart, a Hangul syllable would be letters, and が would be か.
    if class(composed) == Class::Dense {
        push(composed);
        return;
    }
    for part in std::iter::once(composed).nfd().filter(|part| !is_accent(*part)) {
        for lower in part.to_lowercase() {
            // At the end of a word the small sigma has another form.
            push(if lower == 'ς' { 'σ' } else { lower });
        }
    }
}

/// Characters without marks that fold to themselves: nearly all of Chinese, Japanese and Korean text.
fn is_plain(char: char) -> bool {
    matches!(char,
        '\u{3001}'..='\u{3029}' | '\u{3041}'..='\u{3096}' | '\u{30A1}'..='\u{30FE}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}')
}

/// Whether a character belongs to the one before it.
pub(super) fn joins(char: char) -> bool {
    char >= '\u{300}'
        && (is_combining_mark(char)
            || matches!(char,
                '\u{1160}'..='\u{11FF}' // vowels and finals of a Hangul syllable
                | '\u{200C}' | '\u{200D}' // joiners
                | '\u{FF9E}' | '\u{FF9F}' // half-width voiced sound marks
                | '\u{1F3FB}'..='\u{1F3FF}' // skin tones
                | '\u{E0020}'..='\u{E007F}' // tags of flags
            ))
}

/// What cannot be seen, or changes only how something looks: no part of a word and no end of one.
fn is_ignored(char: char) -> bool {
    matches!(char,
        '\u{AD}' | '\u{34F}' | '\u{640}' | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}'
        | '\u{1F3FB}'..='\u{1F3FF}' | '\u{E0020}'..='\u{E007F}' | '\u{E0100}'..='\u{E01EF}')
}

/// Marks without which a word is still the same to who looks for it: Latin, Greek and Cyrillic accents,
/// Hebrew and Arabic points. Not the vowel signs of Indian scripts.
fn is_accent(char: char) -> bool {
    matches!(char,
        '\u{300}'..='\u{36F}' | '\u{483}'..='\u{487}' | '\u{591}'..='\u{5BD}' | '\u{5BF}'
        | '\u{5C1}' | '\u{5C2}' | '\u{5C4}' | '\u{5C5}' | '\u{5C7}' | '\u{610}'..='\u{61A}'
        | '\u{64B}'..='\u{65F}' | '\u{670}' | '\u{6D6}'..='\u{6DC}' | '\u{6DF}'..='\u{6E4}'
        | '\u{6E7}' | '\u{6E8}' | '\u{6EA}'..='\u{6ED}' | '\u{1AB0}'..='\u{1AFF}'
        | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}')
}

fn class(char: char) -> Class {
    if char.is_ascii() {
        return match char {
            'a'..='z' => Class::Letter,
            '0'..='9' => Class::Digit,
            _ => Class::Other,
        };
    }
    if is_dense(char) {
        Class::Dense
    } else if char.is_numeric() {
        Class::Digit
    } else if char.is_alphabetic() || is_combining_mark(char) {
        Class::Letter
    } else {
        Class::Other
    }
}

fn is_dense(char: char) -> bool {
    matches!(char,
        '\u{E01}'..='\u{E3A}' | '\u{E40}'..='\u{E59}' // Thai
        | '\u{E81}'..='\u{EDF}' // Lao
        | '\u{1000}'..='\u{1049}' | '\u{1050}'..='\u{109F}' // Myanmar
        | '\u{1100}'..='\u{11FF}' | '\u{3131}'..='\u{318E}' | '\u{AC00}'..='\u{D7A3}' // Hangul
        | '\u{1780}'..='\u{17D3}' | '\u{17E0}'..='\u{17E9}' // Khmer
        | '\u{2E80}'..='\u{2FD5}' | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{3029}'
        | '\u{3031}'..='\u{3035}' | '\u{3038}'..='\u{303C}' | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFD}' // Han
        | '\u{3041}'..='\u{309F}' | '\u{30A1}'..='\u{30FA}' | '\u{30FC}'..='\u{30FF}'
        | '\u{31F0}'..='\u{31FF}' | '\u{1B000}'..='\u{1B16F}' // Kana
        | '\u{3105}'..='\u{312F}' | '\u{31A0}'..='\u{31BF}' // Bopomofo
        | '\u{A000}'..='\u{A48C}' // Yi
        | '\u{2300}'..='\u{23FF}' | '\u{2600}'..='\u{27BF}' | '\u{2B00}'..='\u{2BFF}'
        | '\u{1F000}'..='\u{1FAFF}' // symbols and emoji
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(text: &str) -> String {
        Fold::new(text).map(|folded| folded.char).collect()
    }

    #[test]
    fn case_width_and_accents_do_not_count() {
        for (text, expected) in [
            ("Hello", "hello"),
            ("ＡＰＩ１２３", "api123"),
            ("ｶﾞｲﾄﾞ", "ガイド"),
            ("Crème BRÛLÉE", "creme brulee"),
            ("cre\u{300}me", "creme"),
            ("ΟΔΟΣ", "οδοσ"),
            ("İstanbul", "istanbul"),
            ("ﬁle", "file"),
            ("㈱テスト", "(株)テスト"),
            ("Ёлка", "елка"),
            ("שָׁלוֹם", "שלום"),
            ("مُحَمَّد", "محمد"),
            ("tiếng Việt", "tieng viet"),
            ("①②", "12"),
        ] {
            assert_eq!(folded(text), expected, "{text}");
        }
    }

    #[test]
    fn what_carries_meaning_stays() {
        for text in ["が", "한국어", "企业微信", "हिन्दी", "ไทยที่"]
        {
            let composed: String = text.nfkc().collect();
            assert_eq!(folded(text), composed, "{text}");
        }
        assert_ne!(folded("が"), folded("か"));
    }

    #[test]
    fn composed_and_decomposed_are_the_same() {
        for text in ["がぎぐ", "한국어", "é", "Việt", "ガ"] {
            let apart: String = text.nfd().collect();
            assert_eq!(folded(&apart), folded(text), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_there() {
        assert_eq!(folded("企\u{200B}微\u{FEFF}"), "企微");
        assert_eq!(folded("re\u{AD}port"), "report");
        assert_eq!(folded("👍🏽"), "👍");
        assert_eq!(folded("❤\u{FE0F}"), "❤");
        assert_eq!(folded("👨\u{200D}👩"), "👨👩");
        assert_eq!(folded("\u{202E}abc\u{202C}"), "abc");
    }

    #[test]
    fn each_folded_character_knows_its_bytes() {
        let text = "ｶﾞ㈱é";
        let places: Vec<_> = Fold::new(text).map(|f| (f.char, &text[f.bytes])).collect();
        assert_eq!(places, [('ガ', "ｶﾞ"), ('(', "㈱"), ('株', "㈱"), (')', "㈱"), ('e', "é")]);
    }

    #[test]
    fn a_pile_of_marks_is_cut() {
        let text = format!("a{}b", "\u{301}".repeat(10_000));
        assert_eq!(folded(&text), "ab");
        assert!(Fold::new(&text).all(|f| f.bytes.len() <= CLUSTER_CHARS_MAX * 4));
    }

    proptest! {
        #[test]
        fn places_are_whole_characters_in_order(text in any::<String>()) {
            let mut last = 0;
            for piece in Fold::new(&text) {
                prop_assert!(text.get(piece.bytes.clone()).is_some_and(|piece| !piece.is_empty()));
                prop_assert!(piece.bytes.end >= last);
                last = piece.bytes.end;
            }
        }
    }
}
