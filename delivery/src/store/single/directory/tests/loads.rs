//! Loads that fail, are held, or are large.

use super::super::super::files::CATCH_UP_MAX;
use super::*;
use crate::store::Directory;

/// A load that fails leaves nothing behind, and the next one finds everything.
#[tokio::test]
async fn a_load_that_fails_is_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    store.change_members(&tenant(), &id("room"), users(&["ann"]), vec![]).await.unwrap();
    send(&store, Audience::group(group("room")), "1").await;
    let cursors = folder.path().join("storage/ann/.sync/devices.json");
    fs::create_dir_all(cursors.parent().unwrap()).unwrap();
    fs::write(&cursors, "nonsense").unwrap();
    assert!(store.head(&key("ann")).await.is_err());
    assert_eq!(store.inboxes.groups.len(), 0);
    store.change_members(&tenant(), &id("room"), users(&["bob"]), users(&["ann"])).await.unwrap();
    send(&store, Audience::group(group("room")), "2").await;
    fs::remove_file(&cursors).unwrap();
    assert_eq!(received(&store, "ann").await, ["1"]);
}

/// Holds the next load of an inbox when everything was read and nothing is loaded yet: its cursors
/// come out of a pipe.
struct Held(std::path::PathBuf);

impl Held {
    fn new(folder: &TempDir, user: &str) -> Self {
        let cursors = folder.path().join(format!("storage/{user}/.sync/devices.json"));
        fs::create_dir_all(cursors.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &cursors, fifo, mode, 0).unwrap();
        Self(cursors)
    }

    /// Goes on with the load after something has happened.
    async fn during(self, something: impl Future<Output = ()>) {
        let cursors = self.0.clone();
        // Opens when the other end does.
        let open = move || fs::File::options().write(true).open(cursors).unwrap();
        let mut end = tokio::task::spawn_blocking(open).await.unwrap();
        something.await;
        std::io::Write::write_all(&mut end, br#"{"devices":[]}"#).unwrap();
        fs::remove_file(self.0).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_an_inbox_is_loaded_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let make = async || {
        store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    };
    make().await;
    let change = async |join: &[&str], leave: &[&str]| {
        store.change_members(&tenant(), &id("room"), users(join), users(leave)).await.unwrap();
    };
    let end = async || assert!(store.delete_channel(&tenant(), &id("room")).await.unwrap());
    let room = async |id: &str| send(&store, Audience::group(group("room")), id).await;
    let inside = ["leaves", "leaves-and-comes", "ends"];
    change(&inside, &[]).await;
    room("0").await;
    let users = ["joins", "comes-and-leaves", "leaves", "leaves-and-comes", "ends"];
    for flushed in [false, true] {
        for user in users {
            let prefix = if flushed { "f" } else { "w" };
            let name = |what: &str| format!("{prefix}-{user}-{what}");
            let was_in = store.is_member(&key(user), &group("room")).await.unwrap();
            assert_eq!(was_in, inside.contains(&user), "{user}");
            let before = received(&store, user).await;
            sweep(&store);
            let held = Held::new(&folder, user);
            let loading = {
                let (store, user) = (store.clone(), user.to_owned());
                tokio::spawn(async move { head(&store, &user).await })
            };
            held.during(async {
                room(&name("1")).await;
                match user {
                    "joins" => change(&[user], &[]).await,
                    "comes-and-leaves" => {
                        change(&[user], &[]).await;
                        room(&name("2")).await;
                        change(&[], &[user]).await;
                    }
                    "leaves" => change(&[], &[user]).await,
                    "leaves-and-comes" => {
                        change(&[], &[user]).await;
                        room(&name("2")).await;
                        change(&[user], &[]).await;
                    }
                    _ => {
                        end().await;
                        make().await;
                    }
                }
                if flushed {
                    store.shared.flush().unwrap();
                }
                room(&name("3")).await;
            })
            .await;
            let loaded = loading.await.unwrap();
            room(&name("4")).await;
            let expected: &[&str] = match user {
                "joins" => &["3", "4"],
                "comes-and-leaves" => &["2"],
                "leaves" | "ends" => &["1"],
                _ => &["1", "3", "4"],
            };
            let mut all = before.clone();
            all.extend(expected.iter().map(|what| name(what)));
            let later = u64::from(expected.contains(&"4"));
            assert_eq!(loaded, all.len() as u64 - later, "{user}, flushed: {flushed}");
            for _ in 0..2 {
                assert_eq!(received(&store, user).await, all, "{user}, flushed: {flushed}");
                sweep(&store);
            }
            // As it was before.
            let is_in = store.is_member(&key(user), &group("room")).await.unwrap();
            match (was_in, is_in) {
                (true, false) => change(&[user], &[]).await,
                (false, true) => change(&[], &[user]).await,
                _ => {}
            }
            if user == "ends" {
                change(&inside, &[]).await;
            }
        }
    }
}

/// However much was sent meanwhile, a load takes only so much into memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_absence_goes_to_the_file_part_by_part() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    store.save_channel(&tenant(), channel("room"), Some(0)).await.unwrap();
    store.change_members(&tenant(), &id("room"), users(&["ann"]), vec![]).await.unwrap();
    let count = 3 * CATCH_UP_MAX + 10;
    let sends: Vec<_> = (0..count)
        .map(|n| Outgoing {
            tenant: tenant(),
            sender: SenderKey::Admin,
            audience: Audience::group(group("room")),
            body: body(&format!("m{n}"), ""),
            scheduled_at: None,
        })
        .collect();
    for part in sends.chunks(500) {
        store.append(part.to_vec().into()).await.unwrap();
    }
    let held = Held::new(&folder, "ann");
    let loading = {
        let store = store.clone();
        tokio::spawn(async move { head(&store, "ann").await })
    };
    held.during(async {
        let file = folder.path().join("storage/ann/messages.db");
        let db = rusqlite::Connection::open(file).unwrap();
        let written: i64 = db.query_row("SELECT head FROM inbox", [], |row| row.get(0)).unwrap();
        assert_eq!(usize::try_from(written).unwrap(), 3 * CATCH_UP_MAX);
        send(&store, Audience::group(group("room")), "meanwhile").await;
    })
    .await;
    assert_eq!(loading.await.unwrap(), count as u64 + 1);
    let mut expected: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
    expected.push("meanwhile".to_owned());
    assert_eq!(received(&store, "ann").await, expected);
}
