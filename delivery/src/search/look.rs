//! Whether a text has what a query asks for, looked at without an index.

use super::{
    terms::{Term, Terms},
    texts::Texts,
    tokens::{Kind, Tokens},
};

impl Terms {
    /// Whether a message has all of the terms, each in any of its texts.
    #[must_use]
    pub fn are_in(&self, texts: &Texts<'_>) -> bool {
        let read = |text: &str| {
            let (mut tokens, mut read) = (Tokens::new(text), Vec::new());
            while let Some(token) = tokens.next_token() {
                read.push((token.text.to_owned(), token.kind));
            }
            read
        };
        let texts: Vec<Vec<(String, Kind)>> = texts.all().map(read).collect();
        let in_text = |term: &Term, text: &[(String, Kind)]| match term {
            Term::Character(char) => {
                text.iter().any(|(token, kind)| *kind != Kind::Word && token.starts_with(*char))
            }
            Term::Row { tokens, open } => text.windows(tokens.len()).any(|row| {
                row.iter().zip(tokens).enumerate().all(|(at, ((token, _), wanted))| {
                    let last = at + 1 == tokens.len();
                    if last && *open { token.starts_with(&**wanted) } else { **token == **wanted }
                })
            }),
        };
        self.terms().iter().all(|term| texts.iter().any(|text| in_text(term, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_found_in_texts() {
        let body = r#"{"title":"周报","content":"API 网关 v2 rows"}"#;
        let texts = Texts::of_body(body).unwrap();
        for (query, found) in [
            ("网关", true),
            ("报", true),
            ("api网", true),
            ("row", true),
            ("\"row\"", false),
            ("报api", false),
            ("v2", true),
            ("v2 周", true),
        ] {
            assert_eq!(Terms::parse(query).unwrap().are_in(&texts), found, "{query}");
        }
    }
}
