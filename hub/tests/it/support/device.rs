//! A device that lives through crashes: it reads, writes down what it sees, and comes back with its
//! cursor.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use protocol::{ClientFrame, Codec, ReadTarget, ServerFrame};
use tokio::{sync::watch, time::timeout};

use super::{
    Token,
    history::{Event as Noted, History, Holding, READ, Register, op_of},
    socket::{Connect, Event, TestClient},
};

/// How long a handshake may take before another one is tried, perhaps elsewhere.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(3);

/// A device that hears nothing for this long asks whether somebody is there, and leaves when it hears
/// nothing for this long again.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Confirmations are written together, and may be lost with a node that dies before: a device that never had
/// one written would be taken for a new one, which begins at the head.
const CONFIRMED_FOR_GOOD: Duration = Duration::from_secs(5);

/// Where servers are now; they move with a restart.
#[derive(Clone)]
pub(crate) struct Addresses(Arc<Mutex<Vec<SocketAddr>>>);

impl Addresses {
    /// These, by their numbers.
    pub(crate) fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(Arc::new(Mutex::new(addresses.into_iter().collect())))
    }

    /// One has moved.
    pub(crate) fn set(&self, number: usize, address: SocketAddr) {
        self.0.lock().unwrap()[number] = address;
    }

    /// One of them.
    pub(crate) fn at(&self, number: usize) -> SocketAddr {
        self.0.lock().unwrap()[number]
    }

    /// Any of them.
    pub(crate) fn any(&self) -> SocketAddr {
        let addresses = self.0.lock().unwrap();
        addresses[rand::random_range(0..addresses.len())]
    }
}

/// What a device gets wrong, so that a test can prove that it would be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mischief {
    /// Its third change does not arrive.
    Drops,
    /// It gets its third change twice.
    Repeats,
    /// It gets its third change as if it were its neighbour's.
    Mixes,
}

/// How a device behaves.
#[derive(Clone)]
pub(crate) struct Habits {
    /// What its user is called in the history.
    pub(crate) inbox: String,
    pub(crate) token: Token,
    pub(crate) codec: Codec,
    /// Hangs up, without goodbye, after a random number of changes up to this; never, if none.
    pub(crate) hangs_up_within: Option<u64>,
    /// Confirms what arrives, and now and then reads a message over its socket.
    pub(crate) attentive: bool,
    pub(crate) mischief: Option<Mischief>,
}

impl Habits {
    /// One that listens for as long as it can.
    pub(crate) fn of(user: &str, device: &str, codec: Codec) -> Self {
        Self {
            inbox: user.to_owned(),
            token: Token::of(user).device(device),
            codec,
            hangs_up_within: None,
            attentive: false,
            mischief: None,
        }
    }
}

/// The handle on a device's task.
pub(crate) struct Device {
    /// As in its [`Habits`].
    pub(crate) inbox: String,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<Lived>,
    /// (connection, last seq).
    at: watch::Receiver<(u64, u64)>,
    history: Arc<History>,
}

/// What a device did and knows.
#[derive(Default)]
pub(crate) struct Lived {
    /// How often it connected.
    pub(crate) connects: u64,
    /// What it holds of its user's messages.
    pub(crate) holding: Holding,
}

impl Device {
    /// Lets it live. Its inbox must be empty.
    pub(crate) fn spawn(history: Arc<History>, addresses: Addresses, habits: Habits) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (moved, at) = watch::channel((0, 0));
        let inbox = habits.inbox.clone();
        let life =
            Life { history: history.clone(), addresses, habits, moved, seen: 0, confirmed: None };
        let task = tokio::spawn(life.live(stopped));
        Self { inbox, stop, task, at, history }
    }

    /// The seq it has seen.
    pub(crate) fn seq(&self) -> u64 {
        self.at.borrow().1
    }

    /// Whether it has been connected at all.
    pub(crate) fn has_begun(&self) -> bool {
        self.at.borrow().0 > 0
    }

    /// Notes where it stands, and ends it.
    pub(crate) async fn quiet(self) -> Lived {
        let (conn, seq) = *self.at.borrow();
        self.history.note(Noted::Quiet { conn, seq });
        self.stop.send(true).unwrap();
        self.task.await.unwrap()
    }
}

struct Life {
    history: Arc<History>,
    addresses: Addresses,
    habits: Habits,
    moved: watch::Sender<(u64, u64)>,
    /// Changes so far.
    seen: u64,
    /// When it first confirmed something.
    confirmed: Option<Instant>,
}

impl Life {
    async fn live(mut self, mut stopped: watch::Receiver<bool>) -> Lived {
        let mut lived = Lived::default();
        loop {
            tokio::select! {
                () = self.visit(&mut lived) => {}
                _ = stopped.wait_for(|stop| *stop) => return lived,
            }
        }
    }

    /// One connection, from its begin to its end.
    async fn visit(&mut self, lived: &mut Lived) {
        let last = self.moved.borrow().1;
        // Where the server has kept for seconds what was confirmed, it may be asked where to go on.
        let resumes = self.confirmed.is_some_and(|at| at.elapsed() > CONFIRMED_FOR_GOOD)
            && rand::random_ratio(1, 4);
        let connect = Connect::new(self.addresses.any(), "")
            .token(self.habits.token.clone())
            .codec(self.habits.codec);
        let connect = if resumes { connect } else { connect.since(last) };
        let Ok(Ok(mut client)) = timeout(HANDSHAKE_PATIENCE, connect.try_connect()).await else {
            // The server is away; a client in the wild would wait longer, and with jitter.
            tokio::time::sleep(Duration::from_millis(rand::random_range(5..50))).await;
            return;
        };
        lived.connects += 1;
        let conn = self.history.conn();
        let user = self.habits.inbox.clone();
        self.history.note(if resumes {
            Noted::Resumed { conn, user, device: self.name() }
        } else {
            Noted::Connected { conn, user, since: last }
        });
        self.moved.send_replace((conn, last));
        let mut patience = self.habits.hangs_up_within.map(|most| rand::random_range(1..=most));
        while patience != Some(0) {
            let Some(frame) = next_frame(&mut client).await else { return };
            if let ServerFrame::ResyncRequired { .. } = frame {
                self.history.note(Noted::Reset { conn });
            }
            if let Some(seq) = frame.seq() {
                self.note(conn, &frame);
                lived.holding.take(&frame);
                self.moved.send_replace((conn, seq.0));
                if self.habits.attentive && !self.attend(&mut client, &frame).await {
                    return;
                }
            }
            client.frames.clear();
            // A quiet inbox must not keep a device from hanging up.
            if frame.seq().is_some() || matches!(frame, ServerFrame::SyncComplete { .. }) {
                patience = patience.map(|left| left.saturating_sub(1));
            }
        }
    }

    /// What its device is called in the history.
    fn name(&self) -> String {
        let device = self.habits.token.claims["device_id"].as_str().unwrap_or_default();
        format!("{}/{device}", self.habits.inbox)
    }

    fn note(&mut self, conn: u64, frame: &ServerFrame) {
        let change = self.history.change(frame).expect("it has a seq");
        self.seen += 1;
        let mischief = self.habits.mischief.filter(|_| self.seen == 3);
        let received = |change| self.history.note(Noted::Received { conn, change });
        match mischief {
            None => received(change),
            Some(Mischief::Drops) => {}
            Some(Mischief::Repeats) => (0..2).for_each(|_| received(change)),
            Some(Mischief::Mixes) => {
                let user = format!("neighbour of {}", self.habits.inbox);
                self.history.note(Noted::Connected { conn, user, since: change.seq - 1 });
                received(change);
            }
        }
    }

    /// Confirms and reads; whether the connection is still there.
    async fn attend(&mut self, client: &mut TestClient, frame: &ServerFrame) -> bool {
        let seq = frame.seq().expect("it has a seq");
        if rand::random_ratio(1, 4) {
            self.history.note(Noted::Confirmed { device: self.name(), seq: seq.0 });
            self.confirmed.get_or_insert_with(Instant::now);
            if !client.try_send(ClientFrame::Ack { seq }).await {
                return false;
            }
        }
        if let ServerFrame::Message { data, .. } = frame
            && rand::random_ratio(1, 20)
        {
            let op = op_of(&data.fields.title);
            // Nobody says whether it was done.
            self.history.write(Register::Mark { user: self.habits.inbox.clone(), op }, READ);
            let message_ids = vec![data.fields.id.clone()];
            return client.try_send(ClientFrame::Read(ReadTarget::Ids { message_ids })).await;
        }
        true
    }
}

/// The next frame; none when the connection is gone, or nobody is there.
async fn next_frame(client: &mut TestClient) -> Option<ServerFrame> {
    for _ in 0..2 {
        match timeout(SILENCE, client.event()).await {
            Ok(Event::Frame(frame)) => return Some(frame),
            Ok(Event::Closed(_)) => return None,
            Err(_) => {
                if !client.try_send(ClientFrame::Ping(None)).await {
                    return None;
                }
            }
        }
    }
    None
}
