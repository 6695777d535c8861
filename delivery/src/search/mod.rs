//! Full-text search without a store: what the words of a text are, what a query asks for, and how a
//! match is shown. Each store indexes and asks with the same tokens, so all of them find the same.
//!
//! ```text
//! text ─▶ fold (case, width, accents) ─▶ tokens ─▶ a store's index
//! ?q=  ─▶ terms, each a row of tokens  ─▶ a store's query, and highlight: where they stand in a text
//! ```
//!
//! **What is found.** Scripts that are written without spaces (Chinese, Japanese, Korean, Thai …) and
//! emoji are found by any piece, from one character on. Other words are found by their beginning
//! from three characters on, shorter ones and those in quotes whole. Letters and digits are words
//! apart, so `2025001` finds `INV2025001`. Whatever stands between two words does not count: `10GB`
//! finds `10 GB`, `企微API` finds `企微 API`. Case, full and half width, accents and vowel points do
//! not count either. A message is found when it has every term of the query.
//!
//! **Why pairs of characters.** Nobody says where a Chinese word ends. A dictionary guesses, wrongly
//! for names and new words, and costs 39 MB and 95 ms to load; SQLite's `trigram` tokenizer finds
//! nothing shorter than three characters, and most Chinese words have two. Pairs that overlap find
//! every piece exactly.

mod fold;
mod highlight;
mod look;
#[cfg(test)]
pub(crate) mod model;
mod terms;
mod texts;
mod tokens;

pub use highlight::{Highlight, SNIPPET_CHARS};
pub use terms::{QUERY_BYTES_MAX, QUERY_TERMS_MAX, Term, Terms, TermsError};
pub use texts::Texts;
pub use tokens::{Kind, Token, Tokens};
