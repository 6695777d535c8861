//! Everything at a time.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{StoreError, store::Directory};

/// Everything at once, and then the rows of the journal's order are asked who should have received
/// what.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_at_a_time_the_order_of_records_decides() {
    const USERS: usize = 12;
    const CHANNELS: usize = 3;
    let mut folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder);
    for n in 0..CHANNELS {
        store.save_channel(&tenant(), channel(&format!("c{n}")), Some(0)).await.unwrap();
    }
    let done = Arc::new(AtomicBool::new(false));
    let chaos = {
        let (store, done) = (store.clone(), done.clone());
        std::thread::spawn(move || {
            while !done.load(Ordering::SeqCst) {
                sweep(&store);
                store.shared.flush().unwrap();
            }
        })
    };
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..USERS * 2 {
        let store = store.clone();
        tasks.spawn(async move {
            let name = format!("u{}", n % USERS);
            for round in 0..40_usize {
                let room = id(&format!("c{}", (n + round) % CHANNELS));
                let user = users(&[&name]);
                let (join, leave) = if (n / USERS + round).is_multiple_of(2) {
                    (user, vec![])
                } else {
                    (vec![], user)
                };
                match store.change_members(&tenant(), &room, join, leave).await {
                    // It is being made again.
                    Ok(_) | Err(StoreError::NotFound) => {}
                    Err(error) => panic!("{error}"),
                }
                if round == 25 && n % USERS == 3 {
                    store.delete_channel(&tenant(), &room).await.unwrap();
                    store.save_channel(&tenant(), channel(room.as_str()), None).await.unwrap();
                }
            }
        });
    }
    for n in 0..4_usize {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..100_usize {
                let groups = match round % 5 {
                    0 => (0..CHANNELS).map(|n| group(&format!("c{n}"))).collect(),
                    _ => Arc::new([group(&format!("c{}", (n + round) % CHANNELS))]) as Arc<[_]>,
                };
                let to = Audience::Some { users: Arc::new([]), groups };
                send(&store, to, &format!("m{n}-{round}")).await;
            }
        });
    }
    for n in 0..USERS {
        let store = store.clone();
        tasks.spawn(async move {
            let name = format!("u{n}");
            for round in 0..60 {
                if round % 3 == 0 {
                    let watch = store.watch(&key(&name)).await.unwrap();
                    tokio::task::yield_now().await;
                    drop(watch);
                } else if round % 3 == 1 {
                    head(&store, &name).await;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        });
    }
    tasks.join_all().await;
    done.store(true, Ordering::SeqCst);
    chaos.join().unwrap();
    for round in 0..3 {
        for n in 0..USERS {
            let name = format!("u{n}");
            let expected: Vec<String> = store
                .shared
                .ask_settled(|db| {
                    let mut select = db.prepare(
                        "SELECT DISTINCT b.lsn, b.id FROM members AS m
                         JOIN broadcast_groups AS g ON g.tenant = m.tenant AND g.grp = m.grp
                         JOIN broadcasts AS b ON b.lsn = g.lsn
                         WHERE m.user = ?1 AND g.lsn > m.since_lsn
                         AND g.lsn < ifnull(m.until_lsn, 1 << 60) ORDER BY b.lsn",
                    )?;
                    let rows = select.query_map([&name], |row| row.get(1))?;
                    rows.collect()
                })
                .unwrap();
            assert_eq!(received(&store, &name).await, expected, "{name} in round {round}");
            assert_eq!(head(&store, &name).await, expected.len() as u64);
        }
        if round == 0 {
            folder = killed(&folder);
        } else {
            store.close().await;
        }
        store = open(&folder);
    }
}
