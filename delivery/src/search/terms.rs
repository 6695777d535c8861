//! What a query asks for.

use super::tokens::{Kind, Tokens};

/// Longest query, in bytes: 85 Chinese characters. Whoever pastes a whole message means something else,
/// and every token of a row costs a look into the index.
pub const QUERY_BYTES_MAX: usize = 256;

/// Most words and quoted phrases of a query. People type up to five; each is a look into the index.
pub const QUERY_TERMS_MAX: usize = 16;

/// Fewest characters of a word of which other words may begin: `a` or `re` begin too many.
const PREFIX_CHARS_MIN: usize = 3;

/// A text cannot be searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// It is longer than [`QUERY_BYTES_MAX`].
    #[error("must have at most {QUERY_BYTES_MAX} bytes, has {0}")]
    TooLong(usize),
    /// It has more than [`QUERY_TERMS_MAX`] words and phrases.
    #[error("must have at most {QUERY_TERMS_MAX} words and phrases")]
    TooMany,
    /// It is empty, or nothing but spaces and punctuation.
    #[error("must have at least one letter, digit or character to look for")]
    Nothing,
}

/// One thing that a message must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// A character of a script without spaces: it begins a token.
    Character(char),
    /// Tokens one after the other in one text.
    Row {
        /// At least one.
        tokens: Vec<Box<str>>,
        /// Whether the last one may be only the beginning of what stands there.
        open: bool,
    },
}

/// What a query asks for: a message must have every term, each in any of its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms(Vec<Term>);

impl Terms {
    /// Reads a query as people type it: words separated by spaces, phrases in quotes (`"` or `“ ”`; one
    /// that is not closed goes to the end). Nothing else has a meaning: no operator, no wildcard.
    ///
    /// # Errors
    /// [`TermsError`].
    pub fn parse(query: &str) -> Result<Self, TermsError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(TermsError::TooLong(query.len()));
        }
        let mut terms = Vec::new();
        for (index, part) in query.split(is_quote).enumerate() {
            let quoted = index % 2 == 1;
            let words = part.split(|char: char| !quoted && char.is_whitespace());
            for term in words.filter_map(|word| Term::of(word, quoted)) {
                if !terms.contains(&term) {
                    terms.push(term);
                }
            }
        }
        match terms.len() {
            0 => Err(TermsError::Nothing),
            1..=QUERY_TERMS_MAX => Ok(Self(terms)),
            _ => Err(TermsError::TooMany),
        }
    }

    /// The terms, at least one.
    #[must_use]
    pub fn terms(&self) -> &[Term] {
        &self.0
    }
}

fn is_quote(char: char) -> bool {
    matches!(char, '"' | '\u{201C}' | '\u{201D}' | '\u{FF02}')
}

impl Term {
    fn of(text: &str, quoted: bool) -> Option<Self> {
        let (mut found, mut kinds) = (Vec::<Box<str>>::new(), Vec::new());
        let mut tokens = Tokens::new(text);
        while let Some(token) = tokens.next_token() {
            found.push(token.text.into());
            kinds.push(token.kind);
        }
        let open = match kinds[..] {
            [] => return None,
            [Kind::Last] => return found[0].chars().next().map(Self::Character),
            // What follows the last character is not known, and the pair before it has it already.
            [.., Kind::Pair, Kind::Last] => {
                found.pop();
                false
            }
            [.., Kind::Last] => true,
            [.., Kind::Word] => {
                !quoted && found.last().is_some_and(|word| word.chars().count() >= PREFIX_CHARS_MIN)
            }
            [.., Kind::Pair] => unreachable!("a pair is followed by its second character's token"),
        };
        Some(Self::Row { tokens: found, open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In words: a row's tokens by spaces, `*` behind an open one.
    fn parsed(query: &str) -> Result<Vec<String>, TermsError> {
        Ok(Terms::parse(query)?
            .terms()
            .iter()
            .map(|term| match term {
                Term::Character(char) => format!("={char}"),
                Term::Row { tokens, open } => tokens.join(" ") + if *open { "*" } else { "" },
            })
            .collect())
    }

    #[test]
    fn words_phrases_and_characters() {
        for (query, expected) in [
            ("企微", &["企微"][..]),
            ("企业微信", &["企业 业微 微信"]),
            ("企", &["=企"]),
            ("企微 通知", &["企微", "通知"]),
            ("企微　通知", &["企微", "通知"]),
            ("企微API", &["企微 微 api*"]),
            ("API企", &["api 企*"]),
            ("deploy", &["deploy*"]),
            ("\"deploy\"", &["deploy"]),
            ("v2", &["v 2"]),
            ("AI", &["ai"]),
            ("2025-01-15", &["2025 01 15"]),
            ("\"release notes\" v2.5", &["release notes", "v 2 5"]),
            ("“企业 微信”", &["企业 业 微信"]),
            ("say \"not closed", &["say*", "not closed"]),
            ("企微 企微 ＡＰＩ api", &["企微", "api*"]),
            ("- 企微 !!", &["企微"]),
            ("👍", &["=👍"]),
        ] {
            assert_eq!(parsed(query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn operators_are_words_or_nothing() {
        for (query, expected) in [
            ("cpu AND NOT disk", &["cpu*", "and*", "not*", "disk*"][..]),
            ("title:x OR *", &["title x", "or"]),
            ("NEAR(a b, 3)", &["near a", "b", "3"]),
            ("^start -minus +plus", &["start*", "minus*", "plus*"]),
            ("'; DROP TABLE x;--", &["drop*", "table*", "x"]),
            ("a\"b\"\"c", &["a", "b", "c"]),
        ] {
            assert_eq!(parsed(query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn limits_are_told() {
        for nothing in ["", "   ", "?!,。", "\"\"", "\" \"", "\u{200B}", "\u{301}"] {
            assert_eq!(parsed(nothing), Err(TermsError::Nothing), "{nothing:?}");
        }
        assert!(parsed(&"企".repeat(85)).is_ok());
        assert_eq!(parsed(&"企".repeat(86)), Err(TermsError::TooLong(258)));
        let words = |count: usize| (0..count).map(|n| format!("{n} ")).collect::<String>();
        assert_eq!(parsed(&words(16)).unwrap().len(), 16);
        assert_eq!(parsed(&words(17)), Err(TermsError::TooMany));
        assert!(TermsError::TooMany.to_string().contains("16"));
        assert!(TermsError::TooLong(300).to_string().contains("256"));
    }
}
