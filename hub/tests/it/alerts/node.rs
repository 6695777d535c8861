//! What goes wrong with one node.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tokio::{net::TcpStream, task::JoinSet, time::sleep};

use super::recording::Recording;
use crate::{
    sessions::{Pair, log_in},
    support::{
        Api, TestServer, Token,
        api::message_to,
        disk::Mount,
        hooks::{Answers, HookReceiver},
        preload::SlowSync,
    },
};

/// A minute of the rules, where it need not be longer.
const MINUTE: Duration = Duration::from_millis(200);

/// Does something again and again.
async fn again<T>(pause: Duration, mut act: impl AsyncFnMut() -> T) {
    loop {
        act().await;
        sleep(pause).await;
    }
}

/// Looks for so many minutes while something goes on.
async fn while_it_goes_on(
    seen: &mut Recording,
    server: &TestServer,
    minutes: u32,
    fault: impl Future<Output = ()>,
) {
    tokio::select! {
        () = seen.minutes(server.admin, minutes) => {}
        () = fault => panic!("it goes on for ever"),
    }
}

async fn sends(service: &Api) {
    again(Duration::from_millis(20), async || service.send(message_to(&["ann"], "x")).await).await;
}

pub(super) async fn it_is_killed_and_starts_again_and_again() -> Recording {
    let mut server = TestServer::plain_builder().start().await;
    // Half an hour of the rules has to hold three starts.
    let mut seen = Recording::new(Duration::from_secs(1));
    seen.quiet(server.admin).await;
    server.kill_9().await;
    seen.minutes(server.admin, 7).await;
    for _ in 0..4 {
        server.spawn().await;
        seen.minutes(server.admin, 1).await;
        server.kill_9().await;
    }
    server.spawn().await;
    seen.minutes(server.admin, 1).await;
    seen
}

pub(super) async fn its_disk_is_full() -> Recording {
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&folder.path().join("disk"), 32 << 20);
    let builder = TestServer::plain_builder().storage(&disk.path().join("storage"));
    let server = builder.start().await;
    let service = server.service().await;
    let mut seen = Recording::new(MINUTE);
    seen.during(server.admin, async { service.sent("ann", "before").await }).await;
    seen.quiet(server.admin).await;
    let filler = std::fs::File::create(disk.path().join("ballast")).unwrap();
    while std::io::Write::write_all(&mut &filler, &[1; 4096]).is_ok() {}
    while_it_goes_on(&mut seen, &server, 20, sends(&service)).await;
    drop(server);
    seen
}

pub(super) async fn its_disk_is_slow() -> Recording {
    let slow = SlowSync::build(Duration::from_millis(1_200));
    let server = TestServer::plain_builder().envs(slow.env()).start().await;
    let service = server.service().await;
    let mut phone = server.connect("ann").await;
    phone.backlog().await;
    // A window of five minutes has to hold two commits.
    let mut seen = Recording::new(Duration::from_millis(1_000));
    seen.quiet(server.admin).await;
    slow.set(true);
    while_it_goes_on(&mut seen, &server, 22, sends(&service)).await;
    slow.set(false);
    seen
}

pub(super) async fn a_device_does_not_go_while_it_drains() -> Recording {
    let server = TestServer::plain_builder().env("DRAIN_TIMEOUT", "20s").start().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    // It is not read from any more: nobody answers the goodbye.
    let phone = server.connect("ann").await;
    server.signal(libc::SIGTERM);
    seen.minutes(server.admin, 10).await;
    drop(phone);
    seen
}

pub(super) async fn more_devices_come_than_it_takes() -> Recording {
    let server = TestServer::plain_builder().env("WS_MAX_CONNECTIONS", 10).start().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let mut there = Vec::new();
    for at in 0..10 {
        there.push(server.connect(&format!("user-{at}")).await);
    }
    let refused = again(Duration::from_millis(10), async || {
        let _ = server.socket("late").try_connect().await;
    });
    while_it_goes_on(&mut seen, &server, 20, refused).await;
    seen
}

pub(super) async fn all_devices_come_back_at_once() -> Recording {
    let server = TestServer::plain_builder()
        .env("RATE_LIMIT_CONNECT", "off")
        .env("RATE_LIMIT_IP", "off")
        .start()
        .await;
    // Slow enough for a busy machine: more than fifty a second for two minutes, and for two more.
    let mut seen = Recording::new(Duration::from_secs(1));
    seen.quiet(server.admin).await;
    let mut devices = JoinSet::new();
    for at in 0..16 {
        let socket = move |server: &TestServer| server.socket(&format!("user-{at}"));
        let connect = (0..400).map(|_| socket(&server)).collect::<Vec<_>>();
        devices.spawn(async move {
            for one in connect {
                drop(one.try_connect().await);
            }
        });
    }
    seen.during(server.admin, devices.join_all()).await;
    seen.minutes(server.admin, 1).await;
    seen
}

pub(super) async fn more_connections_come_than_it_takes() -> Recording {
    let server = TestServer::plain_builder().env("HTTP_MAX_CONNECTIONS", 20).start().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(TcpStream::connect(server.user).await.unwrap());
    }
    let more = again(Duration::from_millis(20), async || {
        drop(TcpStream::connect(server.user).await);
    });
    while_it_goes_on(&mut seen, &server, 14, more).await;
    seen
}

pub(super) async fn it_has_no_descriptors_left() -> Recording {
    let server = TestServer::plain_builder().start().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let pid = Pid::from_raw(server.pid());
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count() as u64;
    let limit = |current: u64| {
        let limit = Rlimit { current: Some(current), maximum: Some(open + 1_000) };
        prlimit(pid, Resource::Nofile, limit).unwrap();
    };
    // The scrapes have their connection already; reading the numbers takes some.
    limit(open + 6);
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(TcpStream::connect(server.user).await.unwrap());
    }
    seen.minutes(server.admin, 3).await;
    drop(held.split_off(3));
    seen.minutes(server.admin, 14).await;
    seen
}

pub(super) async fn somebody_guesses_tokens() -> Recording {
    let server = TestServer::plain_builder().start().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let (header, secret) = (jsonwebtoken::Header::default(), "another-secret-of-at-least-32-bytes");
    let forged = Token::of("ann").sign_with(&header, secret);
    let guesser = server.api().bearer(&forged);
    let guess = again(Duration::from_millis(20), async || {
        guesser.get("/api/v3/messages").await;
    });
    while_it_goes_on(&mut seen, &server, 20, guess).await;
    seen
}

pub(super) async fn refresh_tokens_are_used_twice() -> Recording {
    let server = TestServer::plain_builder().start().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let copied = async {
        for at in 0..12 {
            let first = log_in(&server, &format!("user-{at}"), "phone").await;
            let refresh = async |token: &str| {
                server.api().post("/api/v3/auth/refresh", json!({"refresh_token": token})).await
            };
            let second = Pair::of(&refresh(&first.refresh).await.ok());
            let third = Pair::of(&refresh(&second.refresh).await.ok());
            assert_eq!(refresh(&first.refresh).await.status, 401);
            assert_ne!(third.refresh, second.refresh);
        }
    };
    seen.during(server.admin, copied).await;
    seen.minutes(server.admin, 2).await;
    seen
}

pub(super) async fn a_webhook_is_gone() -> Recording {
    let receiver = HookReceiver::start().await;
    let server =
        TestServer::plain_builder().env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8").start().await;
    let service = server.service().await;
    let hook = json!({"url": receiver.url(), "events": ["message.read"]});
    service.post("/api/v3/webhooks", hook).await.ok();
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    receiver.answers(Answers::Status(410));
    let id = service.sent("ann", "to be read").await;
    let path = format!("/api/v3/messages/{id}/read");
    server.as_user("ann").post(&path, json!({})).await.ok();
    let told = crate::support::eventually("it is told", || async { !receiver.hooks().is_empty() });
    seen.during(server.admin, told).await;
    seen.minutes(server.admin, 6).await;
    seen
}

pub(super) async fn a_users_file_is_damaged() -> Recording {
    let mut server = TestServer::plain_builder().start().await;
    let service = server.service().await;
    service.sent("ann", "one").await;
    assert_eq!(server.as_user("ann").all_messages().await.len(), 1);
    assert!(server.terminate().await.success());
    let file = server.storage().join("ann/messages.db");
    std::fs::write(&file, [7; 64 << 10]).unwrap();
    server.spawn().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let ann = server.as_user("ann");
    let asked = async { ann.get("/api/v3/messages").await.status };
    assert!(seen.during(server.admin, asked).await >= 500);
    seen.minutes(server.admin, 6).await;
    seen
}

pub(super) async fn its_control_data_cannot_be_written() -> Recording {
    let server = TestServer::plain_builder().start().await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let file = server.storage().join(".hub/control.db");
    // Another program that holds it, a copy for instance.
    let held = rusqlite::Connection::open(file).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Which the store keeps, not the control data.
    let admin = server.as_admin();
    let change = async {
        admin.put("/api/v3/admin/users/ann/department", json!({"department": "sales"})).await
    };
    let changed = tokio::time::timeout(Duration::from_secs(1), seen.during(server.admin, change));
    drop(changed.await);
    seen.minutes(server.admin, 14).await;
    held.execute_batch("ROLLBACK").unwrap();
    seen
}

pub(super) async fn backups_of_everybody_find_no_room() -> Recording {
    let place = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&place.path().join("backups"), 4 << 20);
    let server = TestServer::plain_builder()
        .env("DATABASE_BACKUP_PATH", disk.path().display())
        .env("BACKUP_SCHEDULE", "1s")
        .start()
        .await;
    server.service().await.sent("ann", "x").await;
    let mut seen = Recording::new(MINUTE);
    seen.quiet(server.admin).await;
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![7; usize::try_from(disk.free()).unwrap()]).unwrap();
    // Until the last whole one is half an hour ago. It is tried again after 5 s and 10 s, so an hour has two more.
    seen.minutes(server.admin, 60).await;
    seen
}

pub(super) async fn its_disk_is_too_slow_for_what_is_scheduled() -> Recording {
    let slow = SlowSync::build(Duration::from_secs(5));
    let server = TestServer::plain_builder().envs(slow.env()).start().await;
    let service = server.service().await;
    // A window of five minutes has to hold two commits.
    let mut seen = Recording::new(Duration::from_secs(3));
    let now = jiff::Timestamp::now();
    for second in 20..90 {
        let mut message = message_to(&["ann"], "later");
        message["scheduled_at"] = (now + Duration::from_secs(second)).to_string().into();
        service.send(message).await.ok();
    }
    seen.quiet(server.admin).await;
    slow.set(true);
    seen.minutes(server.admin, 20).await;
    slow.set(false);
    seen
}

pub(super) async fn webhooks_cannot_be_written() -> Recording {
    let receiver = HookReceiver::start().await;
    let server =
        TestServer::plain_builder().env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8").start().await;
    let service = server.service().await;
    let hook = json!({"url": receiver.url(), "events": ["message.read"]});
    service.post("/api/v3/webhooks", hook).await.ok();
    let mut seen = Recording::new(Duration::from_secs(2));
    seen.quiet(server.admin).await;
    let held = rusqlite::Connection::open(server.storage().join(".hub/webhooks.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ann = server.as_user("ann");
    let reads = again(Duration::from_millis(200), async || {
        let id = service.sent("ann", "to be read").await;
        // It may wait for the event to be written.
        let path = format!("/api/v3/messages/{id}/read");
        let read = ann.post(&path, json!({}));
        drop(tokio::time::timeout(Duration::from_millis(500), read).await);
    });
    while_it_goes_on(&mut seen, &server, 18, reads).await;
    held.execute_batch("ROLLBACK").unwrap();
    seen
}
