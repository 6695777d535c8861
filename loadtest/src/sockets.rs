//! All WebSocket connections, read in one loop over one buffer. A task per socket costs 1–2 µs per
//! frame more, and the server shares our cores.

mod frames;

use std::io::{ErrorKind, Read, Write};

use mio::{Interest, Registry, Token, net::TcpStream};
use protocol::Codec;

use crate::{
    checker::Checker,
    clock,
    scan::Scanner,
    target::{Targets, reset_on_close},
    timings::Timings,
    token::Minter,
    users::Users,
    ws_client,
};

/// Most bytes of pongs and acks that wait for a socket, before acks are left out.
const OUT_BYTES_MAX: usize = 16 << 10;

/// What happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It is through: `welcome`, or `sync_complete` where it asked for a backlog.
    Ready(u32),
    /// The handshake was answered with this status.
    Refused { socket: u32, status: u16, retry_after_s: Option<u64> },
    /// It could not connect, or ended; code 1006 without a close frame.
    Closed { socket: u32, was_ready: bool, code: u16, after_ms: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    Ready,
}

struct Socket {
    stream: TcpStream,
    phase: Phase,
    started: u64,
    since: Option<u64>,
    /// Bytes of a frame of which the rest has not come.
    partial: Vec<u8>,
    out: Vec<u8>,
    paused: bool,
    unacked: u64,
    after_ms: u64,
}

/// Counters of the wire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WireStats {
    /// Data frames.
    pub(crate) frames: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// `read` calls that brought something: frames per read shows the server's coalescing.
    pub(crate) reads: u64,
    /// Changes that came before `sync_complete`.
    pub(crate) replayed: u64,
    /// WebSocket pings answered.
    pub(crate) pings: u64,
    /// Frames decoded whole.
    pub(crate) decoded: u64,
    /// `error` frames.
    pub(crate) errors: u64,
}

/// What a socket's frames change besides the socket.
pub(crate) struct Desk<'a> {
    pub(crate) checker: &'a mut Checker,
    pub(crate) timings: &'a mut Timings,
    pub(crate) notices: &'a mut Vec<Notice>,
    pub(crate) buffer: &'a mut [u8],
}

/// All sockets; the number of a socket is `user * devices + device`.
pub(crate) struct Sockets {
    /// How often each was connected.
    tries: Vec<u32>,
    list: Vec<Option<Socket>>,
    /// How many are ready.
    pub(crate) ready: u32,
    /// How many are on their way.
    pub(crate) connecting: u32,
    /// Counters.
    pub(crate) stats: WireStats,
    codec: Codec,
    scanner: Scanner,
    minter: Minter,
    content_bytes: usize,
    ack_every: u64,
}

/// How a socket ends, when it does.
enum End {
    /// With this close code, or 1006.
    Code(u16),
    /// The handshake was refused.
    Refused { status: u16, retry_after_s: Option<u64> },
}

/// It ends without a close frame.
const LOST: End = End::Code(1006);

impl Sockets {
    pub(crate) fn new(
        count: u32,
        codec: Codec,
        minter: Minter,
        content_bytes: usize,
        ack_every: u64,
    ) -> Self {
        Self {
            tries: vec![0; count as usize],
            list: (0..count).map(|_| None).collect(),
            ready: 0,
            connecting: 0,
            stats: WireStats::default(),
            codec,
            scanner: Scanner::new(codec),
            minter,
            content_bytes,
            ack_every,
        }
    }

    /// Whether the socket exists, in whatever phase.
    pub(crate) fn is_there(&self, socket: u32) -> bool {
        self.list[socket as usize].is_some()
    }

    /// Begins to connect; `started` is where its latencies count from.
    #[expect(
        clippy::too_many_arguments,
        reason = "one caller; a struct would be built for one call"
    )]
    pub(crate) fn connect(
        &mut self,
        number: u32,
        since: Option<u64>,
        started: u64,
        receive_buffer: Option<usize>,
        targets: &Targets,
        users: &Users,
        registry: &Registry,
        notices: &mut Vec<Notice>,
    ) {
        let (user, device) = (number / users.devices, number % users.devices);
        let tries = &mut self.tries[number as usize];
        let target = targets.pick(number as usize, *tries);
        *tries = tries.wrapping_add(1);
        let connected = target.connect(number, receive_buffer).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Token(number as usize), interest)?;
            Ok(stream)
        });
        let Ok(stream) = connected else {
            let (was_ready, code, after_ms) = (false, 1006, 0);
            notices.push(Notice::Closed { socket: number, was_ready, code, after_ms });
            return;
        };
        let token = self.minter.user(&users.name(user), device);
        let mut socket = Socket {
            stream,
            phase: Phase::Handshake,
            started,
            since,
            partial: Vec::new(),
            out: ws_client::handshake(&target.authority, &token, self.codec, since),
            paused: false,
            unacked: 0,
            after_ms: 0,
        };
        // On loopback the connection often stands already; where it does not, the write is tried
        // again when the socket becomes writable.
        let _ = socket.flush();
        self.connecting += 1;
        self.list[number as usize] = Some(socket);
    }

    /// How many are at this one of so many nodes, by where they connected last.
    pub(crate) fn of_node(&self, node: usize, nodes: usize) -> u32 {
        let there = |number: &usize| {
            let tries = self.tries[*number].wrapping_sub(1);
            self.list[*number].is_some() && number.wrapping_add(tries as usize) % nodes == node
        };
        (0..self.list.len()).filter(there).count() as u32
    }

    /// Cuts a socket with a reset, without a word. Says nothing to the scenario, which did it.
    pub(crate) fn cut(&mut self, number: u32) {
        if let Some(socket) = self.list[number as usize].take() {
            self.count_out(socket.phase);
            let _ = reset_on_close(&socket.stream);
        }
    }

    /// Stops reading, as a phone in a tunnel does.
    pub(crate) fn pause(&mut self, number: u32) {
        if let Some(socket) = &mut self.list[number as usize] {
            socket.paused = true;
        }
    }

    /// Reads again.
    pub(crate) fn resume(&mut self, number: u32, desk: &mut Desk<'_>) {
        if let Some(socket) = &mut self.list[number as usize] {
            socket.paused = false;
            self.on_event(number, true, true, desk);
        }
    }

    fn count_out(&mut self, phase: Phase) {
        match phase {
            Phase::Ready => self.ready -= 1,
            Phase::Handshake | Phase::Open => self.connecting -= 1,
        }
    }

    /// The poll reported the socket. `until_end`: the peer has closed, so read to the end.
    pub(crate) fn on_event(
        &mut self,
        number: u32,
        readable: bool,
        until_end: bool,
        desk: &mut Desk<'_>,
    ) {
        // Taken out while it works, so that the pool's counters can be changed meanwhile.
        let Some(mut socket) = self.list[number as usize].take() else { return };
        let before = socket.phase;
        let end = match socket.flush() {
            Err(end) => Some(end),
            Ok(()) if readable && !socket.paused => {
                self.read(number, &mut socket, until_end, desk).err()
            }
            Ok(()) => None,
        };
        if socket.phase == Phase::Ready && before != Phase::Ready {
            self.connecting -= 1;
            self.ready += 1;
        }
        match end {
            None => self.list[number as usize] = Some(socket),
            Some(End::Code(code)) => {
                self.count_out(socket.phase);
                let (was_ready, after_ms) = (socket.phase == Phase::Ready, socket.after_ms);
                desk.notices.push(Notice::Closed { socket: number, was_ready, code, after_ms });
            }
            Some(End::Refused { status, retry_after_s }) => {
                self.count_out(socket.phase);
                desk.notices.push(Notice::Refused { socket: number, status, retry_after_s });
            }
        }
    }

    fn read(
        &mut self,
        number: u32,
        socket: &mut Socket,
        until_end: bool,
        desk: &mut Desk<'_>,
    ) -> Result<(), End> {
        loop {
            let kept = socket.partial.len();
            desk.buffer[..kept].copy_from_slice(&socket.partial);
            let read = match socket.stream.read(&mut desk.buffer[kept..]) {
                Ok(0) => return Err(LOST),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(LOST),
            };
            self.stats.bytes += read as u64;
            self.stats.reads += 1;
            let filled = kept + read;
            let now = clock::now();
            // The buffer leaves the desk so that frames in it and the desk can be used together.
            let buffer = std::mem::take(&mut desk.buffer);
            let result = self.take_all(number, socket, &buffer[..filled], now, desk);
            let room = buffer.len() - kept;
            if let Ok(taken) = result {
                socket.partial.clear();
                socket.partial.extend_from_slice(&buffer[taken..filled]);
            }
            desk.buffer = buffer;
            result?;
            // A short read has emptied the socket (epoll(7), edge triggered), so the read that
            // would say so is spared.
            if read < room && !until_end {
                return socket.flush();
            }
        }
    }
}

impl Socket {
    fn flush(&mut self) -> Result<(), End> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => {
                    self.out.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(_) => return Err(LOST),
            }
        }
        // 15,000 sockets that keep a written handshake's 600 bytes would be 9 MB of cold memory.
        if self.out.capacity() > 256 {
            self.out = Vec::new();
        }
        Ok(())
    }
}
