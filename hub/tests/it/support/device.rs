//! A device that lives through crashes: it reads, writes down what it sees, and comes back with its
//! cursor.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::{Codec, ServerFrame};
use tokio::sync::watch;

use super::{
    history::{Event as Noted, History, op_of},
    socket::{Connect, Event},
};

/// Where the server is now; it moves with a restart.
pub(crate) type Address = Arc<Mutex<SocketAddr>>;

/// How a device behaves.
#[derive(Clone)]
pub(crate) struct Habits {
    pub(crate) user: String,
    pub(crate) device: String,
    pub(crate) codec: Codec,
    /// Hangs up, without goodbye, after a random number of changes up to this; never, if none.
    pub(crate) hangs_up_within: Option<u64>,
}

/// The handle on a device's task.
pub(crate) struct Device {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<u64>,
    /// (connection, last seq).
    at: watch::Receiver<(u64, u64)>,
    history: Arc<History>,
}

impl Device {
    /// Lets it live. Its inbox must be empty.
    pub(crate) fn spawn(history: Arc<History>, address: Address, habits: Habits) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (moved, at) = watch::channel((0, 0));
        let task = tokio::spawn(live(history.clone(), address, habits, stopped, moved));
        Self { stop, task, at, history }
    }

    /// The seq it has seen.
    pub(crate) fn seq(&self) -> u64 {
        self.at.borrow().1
    }

    /// Notes where it stands, ends it, and says how often it connected.
    pub(crate) async fn quiet(self) -> u64 {
        let (conn, seq) = *self.at.borrow();
        self.history.note(Noted::Quiet { conn, seq });
        self.stop.send(true).unwrap();
        self.task.await.unwrap()
    }
}

async fn live(
    history: Arc<History>,
    address: Address,
    habits: Habits,
    mut stopped: watch::Receiver<bool>,
    moved: watch::Sender<(u64, u64)>,
) -> u64 {
    let (mut last, mut connects) = (0_u64, 0_u64);
    loop {
        let target = *address.lock().unwrap();
        let connect = Connect::new(target, &habits.user)
            .device(&habits.device)
            .codec(habits.codec)
            .since(last)
            .try_connect();
        let client = tokio::select! {
            client = connect => client,
            _ = stopped.wait_for(|stop| *stop) => return connects,
        };
        let Ok(mut client) = client else {
            // The server is away; a client in the wild would wait longer, and with jitter.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        connects += 1;
        let conn = history.conn();
        history.note(Noted::Connected { conn, user: habits.user.clone(), since: last });
        let mut patience = habits.hangs_up_within.map(|most| rand::random_range(1..=most));
        loop {
            if patience == Some(0) {
                break;
            }
            let event = tokio::select! {
                event = client.event_within(Duration::from_secs(120)) => event,
                _ = stopped.wait_for(|stop| *stop) => return connects,
            };
            let (seq, op) = match event {
                Event::Closed(_) => break,
                Event::Frame(ServerFrame::Message { seq, data }) => {
                    (seq.0, Some(op_of(&data.fields.title)))
                }
                Event::Frame(ServerFrame::StatusUpdate { seq, .. }) => (seq.0, None),
                Event::Frame(ServerFrame::ResyncRequired { .. }) => {
                    history.note(Noted::Reset { conn });
                    continue;
                }
                // A quiet inbox must not keep a device from hanging up.
                Event::Frame(ServerFrame::SyncComplete { .. }) if patience.is_some() => {
                    patience = patience.map(|left| left.saturating_sub(1));
                    continue;
                }
                Event::Frame(_) => continue,
            };
            history.note(Noted::Received { conn, seq, op });
            last = seq;
            moved.send_replace((conn, seq));
            client.frames.clear();
            patience = patience.map(|left| left.saturating_sub(1));
        }
    }
}
