//! What a text is indexed under.

use std::ops::Range;

use super::fold::{Class, Fold, Folded};

/// Longest word, in characters; the rest of a longer one is not told apart. Words have up to 40, what is
/// longer is encoded data, and an index keeps each different one.
const WORD_CHARS_MAX: usize = 64;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two neighbours of a script without spaces.
    Pair,
    /// The last character of a row of such.
    Last,
    /// Letters, or digits.
    Word,
}

/// A token, and where it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Folded; has no space and no ASCII but `a-z0-9`.
    pub text: &'a str,
    /// What it is.
    pub kind: Kind,
    /// The bytes of the text it stands for.
    pub bytes: Range<usize>,
    /// Where its first character ends, in bytes of the text.
    pub first_end: usize,
}

/// The tokens of a text in order. Each character of a script without spaces begins one: `企业微信` is
/// `企业 业微 微信 信`, so that each piece of it is a row of tokens, and each character a beginning.
pub struct Tokens<'a> {
    fold: Fold<'a>,
    ahead: Option<Folded>,
    /// The character that begins the next token, inside a row of such.
    dense: Option<Folded>,
    text: String,
}

impl<'a> Tokens<'a> {
    /// Of this text.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { fold: Fold::new(text), ahead: None, dense: None, text: String::new() }
    }

    /// The next one. Not an iterator's: the token's text is lent from one buffer.
    pub fn next_token(&mut self) -> Option<Token<'_>> {
        let first = loop {
            if let Some(first) = self.dense.take() {
                return Some(self.dense_token(first));
            }
            let next = self.ahead.take().or_else(|| self.fold.next())?;
            match next.class {
                Class::Dense => self.dense = Some(next),
                Class::Letter | Class::Digit => break next,
                Class::Other => {}
            }
        };
        Some(self.word(first))
    }

    fn dense_token(&mut self, first: Folded) -> Token<'_> {
        let first_end = first.bytes.end;
        self.text.clear();
        self.text.push(first.char);
        match self.fold.next() {
            Some(second) if second.class == Class::Dense => {
                self.text.push(second.char);
                let bytes = first.bytes.start..second.bytes.end;
                self.dense = Some(second);
                Token { text: &self.text, kind: Kind::Pair, bytes, first_end }
            }
            other => {
                self.ahead = other;
                Token { text: &self.text, kind: Kind::Last, bytes: first.bytes, first_end }
            }
        }
    }

    fn word(&mut self, first: Folded) -> Token<'_> {
        let (class, first_end, mut bytes) = (first.class, first.bytes.end, first.bytes);
        self.text.clear();
        self.text.push(first.char);
        let mut chars = 1;
        for next in self.fold.by_ref() {
            if next.class != class {
                self.ahead = Some(next);
                break;
            }
            bytes.end = next.bytes.end;
            chars += 1;
            if chars <= WORD_CHARS_MAX {
                self.text.push(next.char);
            }
        }
        Token { text: &self.text, kind: Kind::Word, bytes, first_end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<String> {
        let (mut tokens, mut out) = (Tokens::new(text), vec![]);
        while let Some(token) = tokens.next_token() {
            out.push(token.text.to_owned());
        }
        out
    }

    #[test]
    fn chinese_is_pairs_and_the_last_character() {
        assert_eq!(tokens("企业微信"), ["企业", "业微", "微信", "信"]);
        assert_eq!(tokens("企业，微信"), ["企业", "业", "微信", "信"]);
        assert_eq!(tokens("企"), ["企"]);
    }

    #[test]
    fn words_are_letters_or_digits() {
        assert_eq!(tokens("Deploy v2.5 to prod!"), ["deploy", "v", "2", "5", "to", "prod"]);
        assert_eq!(tokens("INV2025001"), ["inv", "2025001"]);
        assert_eq!(tokens("ann@example.com"), ["ann", "example", "com"]);
        assert_eq!(tokens("не надо"), ["не", "надо"]);
        assert_eq!(tokens("  ... \u{0} -- "), Vec::<String>::new());
    }

    #[test]
    fn scripts_meet_without_a_space() {
        assert_eq!(tokens("使用iPhone15拍照"), ["使用", "用", "iphone", "15", "拍照", "照"]);
        assert_eq!(tokens("ＡＰＩ网关"), ["api", "网关", "关"]);
        assert_eq!(tokens("通过🎉！"), ["通过", "过🎉", "🎉"]);
    }

    #[test]
    fn the_end_of_a_long_word_is_not_told_apart() {
        let [token] = &tokens(&"x".repeat(1_000))[..] else { panic!("one word") };
        assert_eq!(token.len(), WORD_CHARS_MAX);
    }

    #[test]
    fn a_token_knows_its_place() {
        let text = "ｶﾞｽ Café";
        let mut tokens = Tokens::new(text);
        let mut places = vec![];
        while let Some(token) = tokens.next_token() {
            places.push((text[token.bytes.clone()].to_owned(), token.first_end, token.kind));
        }
        let ga = "ｶﾞ".len();
        assert_eq!(
            places,
            [
                ("ｶﾞｽ".to_owned(), ga, Kind::Pair),
                ("ｽ".to_owned(), "ｶﾞｽ".len(), Kind::Last),
                ("Café".to_owned(), "ｶﾞｽ C".len(), Kind::Word),
            ]
        );
    }
}
