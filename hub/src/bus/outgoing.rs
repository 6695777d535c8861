//! What waits to be published on one server.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::topic::Topic;

/// Most bytes of changes that wait. While the bus is away some 50,000 of 300 bytes, which go out within
/// a second once it is back; with more than that, reading the store is the cheaper way for others.
pub(super) const QUEUE_BYTES_MAX: usize = 16 << 20;

/// What is kept for words that nobody else can make good for (revocations, disconnects, who is
/// there), in bytes, beyond [`QUEUE_BYTES_MAX`]: some 20,000.
const RESERVE_BYTES: usize = 4 << 20;

/// Most messages in one pipeline: Redis takes a few hundred microseconds for them.
const BATCH_MAX: usize = 512;

/// Most bytes in one pipeline, roughly: one message may go beyond.
const BATCH_BYTES_MAX: usize = 512 << 10;

/// How often a message is tried that the server refused for a reason that passes (a slot that moves).
pub(super) const TRIES_MAX: u8 = 20;

/// Pause before such messages are tried again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What a message is to us once it is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The store has it too.
    Change,
    /// Only the bus has it.
    Word,
    /// Means something only in its place in the order: not repeated after a failure.
    Once,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    pub(super) class: Class,
    pub(super) tries: u8,
}

impl Message {
    fn weight(&self) -> usize {
        self.payload.len() + self.topic.name.len() + 64
    }
}

/// The queue. Order is kept; when a pipeline fails its messages go back to the front.
#[derive(Default)]
pub(super) struct Outgoing {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Message>,
    bytes: usize,
    /// Goes before everything else: its round trip is measured.
    ping: Option<Message>,
    not_before: Option<Instant>,
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outgoing {
    /// Adds at the end. Never waits.
    pub(super) fn push(&self, message: Message) -> Result<(), Full> {
        let weight = message.weight();
        let mut state = self.state.lock();
        let max = match message.class {
            Class::Change => QUEUE_BYTES_MAX,
            Class::Word | Class::Once => QUEUE_BYTES_MAX + RESERVE_BYTES,
        };
        if state.bytes + weight > max {
            return Err(Full);
        }
        state.bytes += weight;
        state.waiting.push_back(message);
        let first = state.waiting.len() == 1;
        drop(state);
        if first {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Goes next, in place of one that did not go.
    pub(super) fn ping(&self, message: Message) {
        self.state.lock().ping = Some(message);
        self.ready.notify_one();
    }

    /// Nothing that means something only in its place; it is said again in other words.
    pub(super) fn drop_once(&self) {
        let mut state = self.state.lock();
        let State { waiting, bytes, .. } = &mut *state;
        waiting.retain(|message| {
            let keep = message.class != Class::Once;
            if !keep {
                *bytes -= message.weight();
            }
            keep
        });
    }

    /// The next pipeline's messages, at least one. Those that the batch still has when it is dropped go
    /// back to the front.
    pub(super) async fn next(&self) -> Batch<'_> {
        loop {
            let pause = {
                let mut state = self.state.lock();
                let now = Instant::now();
                let pause = state.not_before.filter(|at| *at > now);
                let mut messages: Vec<Message> = state.ping.take().into_iter().collect();
                let pinged = messages.len();
                if pause.is_none() {
                    let mut bytes = 0;
                    while bytes < BATCH_BYTES_MAX
                        && messages.len() < BATCH_MAX
                        && let Some(message) = state.waiting.pop_front()
                    {
                        bytes += message.weight();
                        messages.push(message);
                    }
                    state.bytes -= bytes;
                }
                if !messages.is_empty() {
                    return Batch { queue: self, messages, pinged };
                }
                pause
            };
            match pause {
                Some(at) => {
                    tokio::select! {
                        () = self.ready.notified() => {}
                        () = tokio::time::sleep_until(at.into()) => {}
                    }
                }
                None => self.ready.notified().await,
            }
        }
    }

    /// Puts messages back to the front, in their order, to be tried after a pause.
    pub(super) fn retry(&self, messages: Vec<Message>) {
        if !messages.is_empty() {
            self.state.lock().not_before = Some(Instant::now() + RETRY_AFTER);
            self.put_back(messages);
        }
    }

    /// May go over the limit by one pipeline.
    fn put_back(&self, messages: Vec<Message>) {
        let mut state = self.state.lock();
        for message in messages.into_iter().rev() {
            state.bytes += message.weight();
            state.waiting.push_front(message);
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Takes everything out.
    pub(super) fn drain(&self) -> Vec<Message> {
        let mut state = self.state.lock();
        state.bytes = 0;
        std::mem::take(&mut state.waiting).into()
    }

    /// Messages and bytes that wait.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.waiting.len(), state.bytes)
    }
}

/// Messages of one pipeline.
pub(super) struct Batch<'a> {
    queue: &'a Outgoing,
    messages: Vec<Message>,
    /// How many of the first are pings, which are not repeated.
    pinged: usize,
}

impl Batch<'_> {
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Takes some out, in their order.
    pub(super) fn take_where(&mut self, which: impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut at = 0;
        let (taken, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.messages).into_iter().partition(|message| {
                at += 1;
                // A ping whose partition is gone is asked for anew.
                at > self.pinged && which(message)
            });
        self.messages = kept;
        taken
    }

    /// They are on the server, or are dealt with one by one.
    pub(super) fn done(mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        if !messages.is_empty() {
            messages.drain(..self.pinged);
            messages.retain(|message| message.class != Class::Once);
            self.queue.put_back(messages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, class: Class, bytes: usize) -> Message {
        let topic = super::super::topic::Topics::new("t").control();
        Message { topic, payload: Bytes::from(vec![number; bytes]), class, tries: 0 }
    }

    fn numbers(messages: &[Message]) -> Vec<u8> {
        messages.iter().map(|message| message.payload[0]).collect()
    }

    #[tokio::test]
    async fn what_failed_goes_first_and_in_order() {
        let queue = Outgoing::default();
        for number in 1..=3 {
            queue.push(message(number, Class::Change, 10)).unwrap();
        }
        queue.push(message(4, Class::Once, 10)).unwrap();
        queue.ping(message(9, Class::Once, 10));
        let batch = queue.next().await;
        queue.push(message(5, Class::Change, 10)).unwrap();
        assert_eq!(numbers(batch.messages()), [9, 1, 2, 3, 4]);
        drop(batch);
        let batch = queue.next().await;
        assert_eq!(numbers(batch.messages()), [1, 2, 3, 5]);
        queue.retry(batch.done().split_off(2));
        let began = Instant::now();
        let batch = queue.next().await;
        assert!(began.elapsed() >= RETRY_AFTER / 2);
        assert_eq!(numbers(&batch.done()), [3, 5]);
        assert_eq!(queue.size(), (0, 0));
    }

    #[tokio::test]
    async fn it_has_a_limit_and_a_reserve() {
        let queue = Outgoing::default();
        let mut count = 0;
        while queue.push(message(1, Class::Change, 1 << 20)).is_ok() {
            count += 1;
        }
        assert_eq!(count, 15);
        assert!(queue.push(message(2, Class::Word, 1 << 20)).is_ok());
        assert_eq!(queue.push(message(3, Class::Change, 1 << 20)), Err(Full));
        let first = queue.next().await.done();
        assert_eq!(numbers(&first), [1]);
        assert_eq!(queue.drain().len(), 15);
        assert_eq!(queue.size(), (0, 0));
    }
}
