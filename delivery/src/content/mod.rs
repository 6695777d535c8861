//! The content of messages at rest, encrypted where keys are given (`DATA_ENCRYPTION_KEYS`).
//!
//! ```text
//! send ─▶ ContentStore::append: seal ─▶ a store: journal, files, rows, logs ─▶ Fanout: open ─▶ sockets, bus
//!                                        │            └▶ Witness: facts only ─▶ webhooks, statistics
//!         ContentStore::list, get …: open ◀┘
//! ```
//! **One seam.** What a store is given is a [`protocol::Body`] in its sealed form: all of the message as one
//! encrypted text, and beside it, readable, what the store itself has to look at. So neither store knows of keys,
//! and whatever they write anywhere (journal, `-wal`, inboxes, `shared.db`, `ledger.db`, messages that wait, rows
//! and the database's own log) is sealed, and goes from one store to the other as it is. [`ContentStore`] seals
//! what goes in and opens what comes out, [`Opening`] what is published. Without keys both pass everything on,
//! but for what is sealed, which nobody is ever given.
//!
//! **What is content.** Title, content, metadata, attachments, and texts and links of buttons. Readable stays what
//! messages are found, routed, counted and replaced by: ids, channel, type, priority, sender, template, times,
//! `collapse_key`, and the callback words of buttons, which the log of presses and webhooks have too. Names of
//! senders stay, as in the directory.
//!
//! **Searches.** An index would say what the words are, and one of hashed words how often each occurs, which for
//! pairs of characters is nearly the same. So with keys there is none: [`scan`] reads the inbox, for words and for
//! metadata, as long as [`scan::WITHIN`] allows.
//!
//! **Backups** are readable, and have an encryption of their own: they are opened when they are made, and sealed
//! when they are brought back, so that one goes from one set of keys to another.

mod backup;
mod fanout;
mod keys;
mod metrics;
mod rewrite;
mod scan;
mod store;

pub(crate) use self::backup::{RewriteError, body_of, rewrite_messages, text_of};
pub use self::{
    fanout::Opening,
    keys::{ContentError, ContentKeys, KEYS_MAX, KeysError, PLAIN},
    metrics::METRICS,
    rewrite::{Census, Rewriting},
    store::ContentStore,
};
