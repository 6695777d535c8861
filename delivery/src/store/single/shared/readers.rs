//! Connections that only read.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use rusqlite::Connection;

/// How many: the workers that load inboxes and the threads that answer requests each want one, for
/// some microseconds; a long list of names or members holds one for milliseconds.
const READERS: usize = 4;

/// A few connections to `shared.db`.
pub(super) struct Readers {
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
}

impl Readers {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connections =
            (0..READERS).map(|_| super::open(path).map(Mutex::new)).collect::<Result<_, _>>()?;
        Ok(Self { connections, next: AtomicUsize::new(0) })
    }

    /// Asks one that is free; waits where none is.
    pub(super) fn ask<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if let Some(free) = self.connections.iter().find_map(Mutex::try_lock) {
            return ask(&free);
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % READERS;
        ask(&self.connections[turn].lock())
    }
}
