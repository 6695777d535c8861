//! A socket without a network.

use std::{io, io::IoSlice};

use parking_lot::Mutex;
use protocol::{Codec, ServerFrame};

use super::{events::read_events, support::client_reads};
use crate::live::queue::Socket;

/// A socket that takes what it is given room for.
#[derive(Default)]
pub(crate) struct Pipe {
    pub(crate) room: Mutex<usize>,
    pub(crate) taken: Mutex<Vec<u8>>,
    pub(crate) writes: Mutex<usize>,
}

impl Pipe {
    pub(crate) fn with_room(room: usize) -> Self {
        Self { room: Mutex::new(room), ..Self::default() }
    }

    /// The seqs of the whole frames that came through, 0 for a `sync_complete`.
    pub(crate) fn seqs(&self) -> Vec<u64> {
        let messages = client_reads(&self.taken.lock());
        seqs(messages.into_iter().map(|message| message.into_text().unwrap().to_string()))
    }

    /// The same of a stream of events.
    pub(crate) fn seqs_of_events(&self) -> Vec<u64> {
        seqs(read_events(&self.taken.lock()).into_iter().map(|event| event.data))
    }
}

fn seqs(frames: impl Iterator<Item = String>) -> Vec<u64> {
    let mut seqs = Vec::new();
    for frame in frames {
        match Codec::Json.decode_server(frame.as_bytes()).unwrap() {
            ServerFrame::SyncComplete { .. } => seqs.push(0),
            frame => seqs.extend(frame.seq().map(|seq| seq.0)),
        }
    }
    seqs
}

impl Socket for Pipe {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        *self.writes.lock() += 1;
        let mut room = self.room.lock();
        if *room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = *room;
        for slice in slices {
            let taken = slice.len().min(*room);
            self.taken.lock().extend_from_slice(&slice[..taken]);
            *room -= taken;
        }
        Ok(before - *room)
    }
}
