use std::{io::IoSlice, time::Duration};

use delivery::{
    clock::WallClock,
    store::{Change, Stored},
};
use metrics::NoopRecorder;
use proptest::prelude::*;
use protocol::{Codec, MessageState, Time};

use super::*;
use crate::live::{
    framing::Transport,
    queue::{Limits, Socket},
    tests::{
        pipe::Pipe,
        support::{body_until, stored},
    },
};

/// A store, an outbox and a socket, moved by hand.
struct Bench {
    outbox: Outbox,
    pipe: Pipe,
    metrics: LiveMetrics,
    limits: Limits,
    start: Instant,
    framing: Framing,
    head: u64,
    /// What was reported as delivered.
    delivered: Vec<Span>,
}

const WEBSOCKET: Framing = Framing::WebSocket(Codec::Json);

const FRAME: fn(u64) -> WireFrame = |seq| frame(seq, WEBSOCKET);

fn frame(seq: u64, framing: Framing) -> WireFrame {
    WireFrame::change(&stored("ann", seq, "content"), framing, Time::default(), false)
}

impl Bench {
    /// An outbox that is live at 0.
    fn live(room: usize) -> Self {
        Self::live_as(WEBSOCKET, room)
    }

    fn live_as(framing: Framing, room: usize) -> Self {
        let mut bench = Self {
            outbox: Outbox::new(),
            pipe: Pipe::with_room(room),
            metrics: LiveMetrics::new(&NoopRecorder),
            limits: Limits { queue_bytes: 10_000, write_bytes: 4_096 },
            start: Instant::now(),
            framing,
            head: 0,
            delivered: Vec::new(),
        };
        bench.outbox.start(Seq(0), Seq(0));
        bench.outbox.sync_owed = None;
        assert_eq!(bench.next(), Next::WentLive);
        bench
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Outbox, Io<'_>) -> T) -> T {
        let io = Io {
            socket: &self.pipe,
            limits: self.limits,
            metrics: &self.metrics,
            transport: self.framing.transport(),
            now: self.start,
            wall: &WallClock::default(),
        };
        act(&mut self.outbox, io)
    }

    fn offer(&mut self, seqs: std::ops::RangeInclusive<u64>) -> bool {
        self.head = self.head.max(*seqs.end());
        let frames: Vec<_> = seqs.map(|seq| frame(seq, self.framing)).collect();
        let (wake, delivered) = self.with(|outbox, io| outbox.offer(&frames, io));
        self.delivered.extend(delivered);
        wake
    }

    fn next(&mut self) -> Next {
        let framing = self.framing;
        self.with(|outbox, io| outbox.next(framing, io))
    }

    /// What the store answers now.
    fn page(&self, request: PageRequest, limit: u64) -> PageFrames {
        let end = self.head.min(request.since.0 + limit);
        let frames = (request.since.0 + 1..=end).map(|seq| frame(seq, self.framing)).collect();
        PageFrames { frames, head: Seq(self.head), min_seq: Seq(0) }
    }

    fn accept(&mut self, request: PageRequest, page: PageFrames) {
        let framing = self.framing;
        self.with(|outbox, io| outbox.accept_page(request, page, framing, io));
    }

    fn flush(&mut self) -> Flushed {
        let (flushed, delivered) = self.with(|outbox, io| outbox.flush(io)).unwrap();
        self.delivered.extend(delivered);
        flushed
    }

    fn give_room(&self, bytes: usize) {
        *self.pipe.room.lock() += bytes;
    }

    /// Plays the task with a socket that takes everything, until nothing is left to do.
    fn settle(&mut self) {
        *self.pipe.room.lock() = usize::MAX / 2;
        loop {
            while !matches!(self.flush(), Flushed::Empty { .. }) {}
            match self.next() {
                Next::Read(request) => {
                    let page = self.page(request, 3);
                    self.accept(request, page);
                }
                Next::WentLive => {}
                Next::Wait => break,
            }
        }
    }

    fn queued(&self) -> usize {
        self.outbox.queued_bytes()
    }
}

#[test]
fn a_live_frame_is_written_at_once_and_nothing_is_kept() {
    let mut bench = Bench::live(usize::MAX / 2);
    assert!(!bench.offer(1..=1));
    assert!(!bench.offer(2..=4), "several changes of one publish");
    assert_eq!(bench.pipe.seqs(), [1, 2, 3, 4]);
    assert_eq!(*bench.pipe.writes.lock(), 2, "one write each");
    assert!(bench.outbox.queue.is_none());
}

#[test]
fn a_burst_is_written_in_pieces_and_its_end_left_to_the_task() {
    let mut bench = Bench::live(usize::MAX / 2);
    assert!(!bench.offer(1..=20));
    assert!(*bench.pipe.writes.lock() > 1, "each write gathers what the limit allows");
    bench.limits.queue_bytes = usize::MAX;
    assert!(bench.offer(21..=1_000), "the task has the rest to write");
    assert!(bench.queued() > 0);
    assert!(
        matches!(bench.flush(), Flushed::More { unblocked: false }),
        "the socket was not full: that is no sign of life"
    );
    bench.settle();
    assert_eq!(bench.pipe.seqs(), (1..=1_000).collect::<Vec<_>>());
}

#[test]
fn what_the_socket_does_not_take_waits_in_order() {
    let mut bench = Bench::live(5);
    assert!(bench.offer(1..=2), "the task must wait for the socket");
    assert!(!bench.offer(3..=3), "it waits already");
    assert_eq!(bench.flush(), Flushed::Blocked);
    for _ in 0..2_000 {
        bench.give_room(3);
        bench.flush();
    }
    assert_eq!(bench.pipe.seqs(), [1, 2, 3]);
    assert!(bench.outbox.queue.is_none());
    assert_eq!(bench.flush(), Flushed::Empty { unblocked: false });
    let one_by_one = [(Seq(0), Seq(1)), (Seq(1), Seq(2)), (Seq(2), Seq(3))];
    assert_eq!(bench.delivered, one_by_one, "each when its last byte is out");
}

#[test]
fn what_expires_while_it_waits_is_not_shown() {
    let mut bench = Bench::live(5);
    let until = |seq: u64, at: i64| {
        let body = body_until(&format!("m{seq}"), "secret", Some(Time::from_millis(at)));
        let change = Change::Message { state: MessageState::new(Seq(seq)), body };
        let stored = Stored { change, ..stored("ann", seq, "") };
        // Made before any of them expires.
        WireFrame::change(&stored, WEBSOCKET, Time::from_millis(0), false)
    };
    let frames = [until(1, 1_000), until(2, 1_000), until(3, Time::MAX.millis())];
    bench.head = 3;
    bench.with(|outbox, io| outbox.offer(&frames, io));
    bench.settle();
    let text = String::from_utf8_lossy(&bench.pipe.taken.lock()).into_owned();
    assert_eq!(bench.pipe.seqs(), [1, 2, 3]);
    // The first had begun to go out and goes out whole; the second has not.
    assert_eq!(text.matches("secret").count(), 2, "{text}");
    assert_eq!(text.matches(r#""message_id":"m2","status":"expired""#).count(), 1, "{text}");
    assert_eq!(bench.outbox.queued_bytes(), 0);
}

#[test]
fn presence_waits_within_its_limit_and_is_no_reply() {
    let mut bench = Bench::live(0);
    let frames: Vec<_> = (0..1_000)
        .map(|n| {
            let frame = ServerFrame::Presence {
                channel_id: "team".parse().unwrap(),
                user_id: format!("user{n}").parse().unwrap(),
                online: true,
            };
            WireFrame::server(&frame, WEBSOCKET)
        })
        .collect();
    assert!(bench.with(|outbox, io| outbox.offer_presence(&frames, true, io)), "a list fits");
    let waiting = bench.queued();
    assert!(!bench.with(|outbox, io| outbox.offer_presence(&frames, true, io)));
    assert!(!bench.with(|outbox, io| outbox.offer_presence(&frames[..1], false, io)));
    assert_eq!(bench.queued(), waiting, "nothing of what was not taken is there");
    let pong = WireFrame::server(&ServerFrame::Pong, WEBSOCKET);
    assert_eq!(bench.with(|outbox, io| outbox.reply(pong, io)), Ok(()));
    bench.settle();
    assert!(bench.with(|outbox, io| outbox.offer_presence(&frames[..1], false, io)));
}

#[test]
fn room_after_a_full_socket_is_a_sign_of_life_and_a_first_write_is_not() {
    let mut bench = Bench::live(usize::MAX / 2);
    bench.with(|outbox, io| outbox.reply(WireFrame::ping(WEBSOCKET), io)).unwrap();
    assert_eq!(bench.flush(), Flushed::Empty { unblocked: false });
    let mut bench = Bench::live(0);
    bench.offer(1..=1);
    assert_eq!(bench.outbox.waiting_since(), Some(bench.start));
    bench.give_room(1);
    assert_eq!(bench.flush(), Flushed::More { unblocked: true });
    bench.give_room(1_000);
    assert_eq!(bench.flush(), Flushed::Empty { unblocked: false });
    assert_eq!(bench.outbox.waiting_since(), None);
}

#[test]
fn repeats_are_passed_over() {
    let mut bench = Bench::live(usize::MAX / 2);
    bench.offer(1..=3);
    bench.offer(2..=3);
    bench.offer(2..=5);
    assert_eq!(bench.pipe.seqs(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_hole_is_read_from_the_store() {
    let mut bench = Bench::live(usize::MAX / 2);
    bench.offer(1..=1);
    assert!(bench.offer(4..=4));
    assert_eq!(bench.outbox.mode(), Mode::CatchingUp);
    bench.settle();
    bench.offer(5..=5);
    assert_eq!(bench.pipe.seqs(), [1, 2, 3, 4, 5]);
    assert_eq!(bench.outbox.mode(), Mode::Live);
}

#[test]
fn an_overflow_drops_what_waits_and_reads_it_later() {
    let mut bench = Bench::live(10);
    for seq in 1..=1_000 {
        bench.offer(seq..=seq);
        assert!(bench.queued() <= bench.limits.queue_bytes + FRAME(1).weight());
    }
    assert_eq!(bench.outbox.mode(), Mode::CatchingUp);
    assert_eq!(bench.outbox.last(), Seq(1), "the first is half written and must be finished");
    bench.settle();
    assert_eq!(bench.pipe.seqs(), (1..=1_000).collect::<Vec<_>>());
    assert_eq!(bench.outbox.mode(), Mode::Live);
}

#[test]
fn pages_are_not_read_while_enough_waits() {
    let mut bench = Bench::live(usize::MAX / 2);
    bench.head = 200;
    bench.outbox.fell_behind(Seq(200));
    let Next::Read(request) = bench.next() else { panic!("nothing waits: read") };
    let page = bench.page(request, 100);
    bench.accept(request, page);
    assert_eq!(bench.next(), Next::Wait, "a page waits");
    let mut stuck = Bench::live(0);
    stuck.offer(1..=200);
    assert_eq!(stuck.next(), Next::Wait, "the socket is full");
    assert!(stuck.queued() <= 2 * FRAME(1).weight(), "a stuck reader costs one frame, not a page");
}

#[test]
fn a_change_between_the_page_and_going_live_is_not_lost() {
    // Published before the read, after it, and after its page was taken: each with and without the
    // page having seen it.
    for published_at in 0..3 {
        for seen in [false, true] {
            let mut bench = Bench::live(usize::MAX / 2);
            bench.head = 2;
            bench.outbox.start(Seq(0), Seq(2));
            bench.outbox.mode = Mode::CatchingUp;
            if published_at == 0 {
                bench.offer(3..=3);
            }
            let Next::Read(request) = bench.next() else { panic!("there is a backlog") };
            if seen {
                bench.head = 3;
            }
            let page = bench.page(request, 100);
            if published_at == 1 {
                bench.offer(3..=3);
            }
            bench.accept(request, page);
            if published_at == 2 {
                bench.offer(3..=3);
            }
            bench.settle();
            bench.offer(4..=4);
            let seqs = bench.pipe.seqs();
            assert_eq!(seqs, [1, 2, 3, 0, 4], "published at {published_at}, seen: {seen}");
        }
    }
}

#[test]
fn sync_complete_is_not_said_before_what_was_dropped_is_sent() {
    let mut bench = Bench::live(1);
    bench.offer(1..=1);
    bench.with(|outbox, io| outbox.sync(Seq(0), io.metrics));
    bench.settle();
    assert_eq!(bench.pipe.seqs(), [1, 1, 0]);
    let mut bench = Bench::live(0);
    bench.with(|outbox, io| outbox.sync(Seq(0), io.metrics));
    assert_eq!(bench.next(), Next::WentLive);
    for seq in 1..=100 {
        bench.offer(seq..=seq);
    }
    assert_eq!(bench.outbox.mode(), Mode::CatchingUp, "too much");
    bench.settle();
    let expected: Vec<u64> = (1..=100).chain([0]).collect();
    assert_eq!(bench.pipe.seqs(), expected, "dropped together with the changes, and said at last");
}

#[test]
fn a_page_for_an_older_position_is_passed_over() {
    let mut bench = Bench::live(usize::MAX / 2);
    bench.head = 5;
    bench.outbox.fell_behind(Seq(5));
    let Next::Read(request) = bench.next() else { panic!("behind") };
    bench.with(|outbox, io| outbox.sync(Seq(3), io.metrics));
    let page = bench.page(request, 100);
    bench.accept(request, page);
    bench.settle();
    assert_eq!(bench.pipe.seqs(), [4, 5, 0]);
}

#[test]
fn whoever_is_ahead_of_the_store_is_told_to_start_again() {
    let mut bench = Bench::live(usize::MAX / 2);
    bench.offer(1..=3);
    // It was published just now: the store is asked, and says so.
    bench.head = 3;
    assert!(bench.outbox.went_ahead(Seq(2)));
    bench.settle();
    assert_eq!(bench.outbox.mode(), Mode::Live);
    assert_eq!(bench.pipe.seqs(), [1, 2, 3]);
    assert!(!bench.outbox.went_ahead(Seq(3)));
    // Another one took over, without the last.
    bench.head = 1;
    assert!(bench.outbox.went_ahead(Seq(1)));
    bench.settle();
    assert_eq!(bench.outbox.last(), Seq(1));
    bench.offer(2..=2);
    assert_eq!(bench.pipe.seqs(), [1, 2, 3, 0, 2], "sync_complete of what is there, and on");
}

#[test]
fn a_store_that_never_shows_what_it_published_is_no_endless_loop() {
    let mut bench = Bench::live(usize::MAX / 2);
    bench.outbox.fell_behind(Seq(5));
    bench.settle();
    assert_eq!(bench.outbox.mode(), Mode::Live);
    assert_eq!(bench.outbox.last(), Seq(0));
}

#[test]
fn replies_have_a_limit() {
    let mut bench = Bench::live(0);
    let pong = WireFrame::server(&ServerFrame::Pong, WEBSOCKET);
    let refused = (0..1_000).position(|_| {
        bench.with(|outbox, io| outbox.reply(pong.clone(), io)) == Err(TooManyReplies)
    });
    assert_eq!(refused, Some(REPLY_BYTES_MAX / pong.weight()));
}

#[test]
fn closing_finishes_the_half_written_frame_first() {
    let mut bench = Bench::live(7);
    bench.offer(1..=3);
    let close = WireFrame::server(&ServerFrame::SyncComplete { seq: Seq(9) }, WEBSOCKET);
    bench.with(|outbox, io| outbox.close(false, [close], io));
    assert!(!bench.offer(4..=4), "nothing enters any more");
    bench.give_room(10_000);
    bench.flush();
    assert_eq!(bench.pipe.seqs(), [1, 0]);
}

#[test]
fn a_broken_socket_asks_for_the_end() {
    struct Broken;
    impl Socket for Broken {
        fn try_write_vectored(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut bench = Bench::live(0);
    let io = Io {
        socket: &Broken,
        limits: bench.limits,
        metrics: &bench.metrics,
        transport: Transport::WebSocket,
        now: bench.start + Duration::from_secs(1),
        wall: &WallClock::default(),
    };
    assert!(bench.outbox.offer(&[FRAME(1)], io).0);
    assert_eq!(bench.outbox.close_requested(), Some(CloseReason::ConnectionLost));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Store,
    StoreAndLose,
    Room(usize),
    Flush,
    Next,
    PageArrives,
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Store),
        1 => Just(Step::StoreAndLose),
        3 => (1_usize..3_000).prop_map(Step::Room),
        3 => Just(Step::Flush),
        2 => Just(Step::Next),
        2 => Just(Step::PageArrives),
        1 => Just(Step::Check),
    ]
}

proptest! {
    /// Whatever the order of events, the client sees every seq once and in order, and what waits
    /// is bounded; of either transport.
    #[test]
    fn any_order_of_events_delivers_every_change_once(
        steps in prop::collection::vec(step(), 1..300),
        framing in prop::sample::select(vec![WEBSOCKET, Framing::EventStream]),
    ) {
        let mut bench = Bench::live_as(framing, 0);
        bench.limits.queue_bytes = 3_000;
        // Read from the store, but not yet brought to the outbox.
        let mut in_flight: Option<(PageRequest, PageFrames)> = None;
        for step in steps {
            match step {
                Step::Store => {
                    let seq = bench.head + 1;
                    bench.offer(seq..=seq);
                }
                Step::StoreAndLose => bench.head += 1,
                Step::Room(bytes) => bench.give_room(bytes),
                Step::Flush => {
                    bench.flush();
                }
                Step::Next => {
                    if in_flight.is_none() && let Next::Read(request) = bench.next() {
                        in_flight = Some((request, bench.page(request, 4)));
                    }
                }
                Step::PageArrives => {
                    if let Some((request, page)) = in_flight.take() {
                        bench.accept(request, page);
                    }
                }
                Step::Check => {
                    let head = Seq(bench.head);
                    bench.outbox.fell_behind(head);
                }
            }
            prop_assert!(bench.queued() <= 3_000 + 5 * FRAME(1).weight());
        }
        if let Some((request, page)) = in_flight.take() {
            bench.accept(request, page);
        }
        // The check passes over connections that catch up; the next one finds them live.
        bench.settle();
        let head = Seq(bench.head);
        bench.outbox.fell_behind(head);
        bench.settle();
        let seqs = match framing {
            Framing::WebSocket(_) => bench.pipe.seqs(),
            Framing::EventStream => bench.pipe.seqs_of_events(),
        };
        prop_assert_eq!(seqs, (1..=bench.head).collect::<Vec<_>>());
        prop_assert_eq!(bench.outbox.mode(), Mode::Live);
    }
}
