//! A template's text, cut into what stays and what is put in.

/// Longest name between braces, in bytes; longer ones are plain text.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// A part of a cut text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Variable(String),
}

impl Piece {
    /// The variable's name, if it is one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Variable(name) => Some(name),
        }
    }
}

/// Cuts `a {{b}} c` into text, variable, text. Braces without a name between them are text.
pub(super) fn cut(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(open) = rest.find("{{") {
        let (before, inside) = (&rest[..open], &rest[open + 2..]);
        text.push_str(before);
        match split_name(inside) {
            Some((name, after)) if is_name(name.trim()) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Variable(name.trim().to_owned()));
                rest = after;
            }
            // One brace is text; the next one may begin a real placeholder, as in `{{{name}}`.
            _ => {
                text.push('{');
                rest = &rest[open + 1..];
            }
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// Looks for the closing braces as far as a name can reach, not to the end: a text of nothing but
/// opening braces must not be read once per brace.
fn split_name(inside: &str) -> Option<(&str, &str)> {
    const SPACES: usize = 8;
    let near = &inside.as_bytes()[..inside.len().min(NAME_BYTES_MAX + SPACES)];
    let close = near.windows(2).position(|pair| pair == b"}}")?;
    Some((&inside[..close], &inside[close + 2..]))
}

/// What a variable may be called.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}
