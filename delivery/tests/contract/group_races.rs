//! Members who come and go while messages are sent and inboxes are looked at.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use protocol::TenantId;
use tokio::task::JoinSet;

use super::{
    Backend,
    fixture::{Fixture, audience, inbox, message, title, to_audience},
};

const MESSAGES: usize = 400;

/// Sends numbered messages to a channel, one after the other.
struct Stream {
    /// Messages whose sending began, and those that were answered.
    begun: AtomicUsize,
    answered: AtomicUsize,
}

impl Stream {
    async fn run(&self, store: &dyn delivery::store::Storage) {
        for n in 0..MESSAGES {
            let fields = message(&n.to_string());
            self.begun.store(n + 1, Ordering::SeqCst);
            let item = to_audience("default", audience(&[], &["#room"]), &fields);
            store.append(vec![item].into()).await.unwrap();
            self.answered.store(n + 1, Ordering::SeqCst);
            if n % 8 == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn over(&self) -> bool {
        self.answered.load(Ordering::SeqCst) == MESSAGES
    }
}

/// A time in which a user certainly was a member, within one in which they may have been one.
#[derive(Debug)]
struct Stay {
    surely: Range<usize>,
    perhaps: Range<usize>,
}

async fn change(store: &dyn delivery::store::Storage, user: &str, joins: bool) {
    let users = || vec![user.parse().unwrap()];
    let (join, leave) = if joins { (users(), vec![]) } else { (vec![], users()) };
    let room = "room".parse().unwrap();
    store.change_members(&TenantId::default(), &room, join, leave).await.unwrap();
}

async fn come_and_go(
    store: &dyn delivery::store::Storage,
    stream: &Stream,
    user: &str,
) -> Vec<Stay> {
    let mut stays = vec![];
    while !stream.over() {
        let may_begin = stream.answered.load(Ordering::SeqCst);
        change(store, user, true).await;
        let begin = stream.begun.load(Ordering::SeqCst);
        tokio::task::yield_now().await;
        let end = stream.answered.load(Ordering::SeqCst);
        change(store, user, false).await;
        let may_end = stream.begun.load(Ordering::SeqCst);
        stays.push(Stay { surely: begin..end, perhaps: may_begin..may_end });
    }
    stays
}

/// Every one that was sent while it was answered that they are in is received, and none that was
/// sent while it was answered that they are not.
async fn check<B: Backend>(fix: &Fixture<B>, user: &str, stays: &[Stay]) {
    let key = inbox(user);
    let log = fix.log(&key).await;
    let received: Vec<usize> = log
        .iter()
        .map(|stored| match &stored.change {
            delivery::store::Change::Message { body, .. } => title(body).parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(received.is_sorted_by(|a, b| a < b), "{user}: {received:?}");
    for n in 0..MESSAGES {
        let has = received.binary_search(&n).is_ok();
        if stays.iter().any(|stay| stay.surely.contains(&n)) {
            assert!(has, "{user} missed {n}: {stays:?}");
        }
        if !stays.iter().any(|stay| stay.perhaps.contains(&n)) {
            assert!(!has, "{user} was not in at {n}: {stays:?}");
        }
    }
}

pub(crate) async fn a_join_or_leave_has_one_place_among_sends(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    let stream = Arc::new(Stream { begun: 0.into(), answered: 0.into() });
    let mut tasks = JoinSet::new();
    for n in 0..12_usize {
        let (store, stream) = (fix.store.clone(), stream.clone());
        tasks.spawn(async move {
            let user = format!("u{n}");
            let key = inbox(&user);
            // Never looked at, loaded and not watched, watched.
            if n % 3 > 0 {
                store.head(&key).await.unwrap();
            }
            let watch = match n % 3 {
                2 => Some(store.watch(&key).await.unwrap()),
                _ => None,
            };
            let stays = come_and_go(&*store, &stream, &user).await;
            drop(watch);
            (user, stays)
        });
    }
    stream.run(&*fix.store).await;
    let lives = tasks.join_all().await;
    for _ in 0..3 {
        for (user, stays) in &lives {
            check(&fix, user, stays).await;
        }
        fix.kill().await;
    }
}

/// Inboxes are loaded, watched and let go while their users come and go.
pub(crate) async fn who_watches_is_told_whatever_happens_meanwhile(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    fix.make("default", "room").await;
    // Many that are loaded for the first time while the messages are sent.
    let stream = Arc::new(Stream { begun: 0.into(), answered: 0.into() });
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for n in 0..6_usize {
        let (store, stream, done) = (fix.store.clone(), stream.clone(), done.clone());
        tasks.spawn(async move {
            let mut lives = vec![];
            for round in 0.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let user = format!("u{n}-{round}");
                let may_begin = stream.answered.load(Ordering::SeqCst);
                let key = inbox(&user);
                let join = change(&*store, &user, true);
                // At the same time, in one order or the other.
                let watch = if round % 2 == 0 {
                    tokio::join!(join, store.watch(&key)).1
                } else {
                    tokio::join!(store.watch(&key), join).0
                };
                let begin = stream.begun.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                let end = stream.answered.load(Ordering::SeqCst);
                let (_, head) = tokio::join!(change(&*store, &user, false), store.head(&key));
                let may_end = stream.begun.load(Ordering::SeqCst);
                head.unwrap();
                let seen = watch.unwrap().head.seq.0;
                let stay = Stay { surely: begin..end, perhaps: may_begin..may_end };
                lives.push((user, vec![stay], seen));
            }
            lives
        });
    }
    stream.run(&*fix.store).await;
    done.store(true, Ordering::SeqCst);
    let lives: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(lives.len() > 6);
    for _ in 0..2 {
        for (user, stays, seen) in &lives {
            check(&fix, user, stays).await;
            let key = inbox(user);
            let told = fix.published.seqs(&key);
            let head = fix.store.head(&key).await.unwrap().seq.0;
            // What the watch began with, and what was told: no hole.
            assert!(told.iter().all(|seq| *seq <= head), "{user}: {told:?} of {head}");
            assert!((seen + 1..=told.last().copied().unwrap_or(0)).all(|seq| told.contains(&seq)));
        }
        fix.kill().await;
    }
}
