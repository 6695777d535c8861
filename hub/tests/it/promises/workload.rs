//! Senders that write down what they did, and the look into the store afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::ServerFrame;
use reqwest::Method;
use tokio::task::JoinSet;

use crate::support::{
    Api, SOON, TestServer,
    api::message_to,
    device::Device,
    eventually_within,
    history::{Event, History, title},
};

/// Senders at work; they end when the server goes away, or when told.
pub(crate) struct Senders {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Senders {
    /// Lets `count` senders send to one or several of the users, as fast as they are answered.
    pub(crate) fn spawn(history: &Arc<History>, api: &Api, users: &[String], count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (history, api, users) = (history.clone(), api.clone(), users.to_vec());
            let stop = stop.clone();
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) && send_one(&history, &api, &users).await {}
            });
        }
        Self { tasks, stop }
    }

    /// Lets the requests that run come to their end, and waits for it.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ended_within(Duration::from_secs(40)).await;
    }

    /// Waits until they noticed that the server is gone.
    pub(crate) async fn ended(mut self) {
        self.ended_within(Duration::from_secs(40)).await;
    }

    async fn ended_within(&mut self, deadline: Duration) {
        let all = async { while self.tasks.join_next().await.transpose().unwrap().is_some() {} };
        tokio::time::timeout(deadline, all).await.expect("every request ends");
    }
}

/// One send to one user, or to all of them at every eighth time; false when there was no answer.
pub(crate) async fn send_one(history: &History, api: &Api, users: &[String]) -> bool {
    let op = history.op();
    let to: Vec<String> = if op.is_multiple_of(8) {
        users.to_vec()
    } else {
        vec![users[rand::random_range(0..users.len())].clone()]
    };
    let names: Vec<&str> = to.iter().map(String::as_str).collect();
    let mut message = message_to(&names, &title(op));
    message["content"] = "x".repeat(rand::random_range(0..600)).into();
    history.note(Event::Send { op, users: to });
    match api.try_call(Method::POST, "/api/v3/messages/send", Some(message)).await {
        Ok(answer) if answer.status == 200 => history.note(Event::Acked { op, message: None }),
        Ok(answer) if answer.status < 500 => history.note(Event::Refused { op }),
        // "maybe": the store may have it although it could not say so.
        Ok(_) => {}
        Err(_) => return false,
    }
    true
}

/// Writes down what the store has of a user.
pub(crate) async fn note_store(history: &History, user_api: &Api, user: &str) {
    let log = user_api.changes_after(0).await;
    let changes = log.iter().filter_map(|frame| history.change(frame)).collect();
    history.note(Event::Store { user: user.to_owned(), changes });
}

/// Writes down what the store has of these users, and checks everything.
pub(crate) async fn check(history: &History, server: &TestServer, users: &[String]) {
    for user in users {
        note_store(history, &server.as_user(user), user).await;
    }
    history.assert_clean();
}

/// Waits until the devices hold their heads, ends them, and says how often they connected.
pub(crate) async fn quiet(server: &TestServer, devices: Vec<Device>) -> u64 {
    let mut connects = 0;
    for device in devices {
        let log = server.as_user(&device.inbox).changes_after(0).await;
        let head = log.last().and_then(ServerFrame::seq).map_or(0, |seq| seq.0);
        let what = format!("a device of {} is at {head}", device.inbox);
        eventually_within(&what, SOON * 4, || async { (device.seq() == head).then_some(()) }).await;
        connects += device.quiet().await.connects;
    }
    connects
}

/// Users of a campaign.
pub(crate) fn users(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user-{n}")).collect()
}
