//! Scheduled messages and a process that is killed at any point, as often as it is started: each is
//! sent once, unless it was cancelled. `KILL_ROUNDS` says how often.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use delivery::{
    Fanout, InboxKey, Store, StoreError,
    clock::{self, WallClock},
    store::{
        Audience, Batch, Ledger, ListQuery, Outgoing, SenderKey, SentState, Sort, StatusFilter,
        Stored, StoredAnswer,
        single::{SingleConfig, SingleStore},
    },
};
use protocol::{Body, MessageFields, MessageId, TenantId, Time, UserId};

/// Tells the test that it is the process to be killed: the storage folder.
const FOLDER: &str = "LEDGER_KILL_FOLDER";
/// Which life of the process it is.
const ROUND: &str = "LEDGER_KILL_ROUND";

const HOUR: i64 = 3_600_000;

struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

fn open(folder: &Path, clock: WallClock) -> Arc<SingleStore> {
    let config = SingleConfig {
        root: folder.join("storage"),
        // Often enough that kills find files half way.
        flush_interval: Duration::from_millis(20),
        clock,
        ..SingleConfig::default()
    };
    SingleStore::open(&config, Arc::new(Nobody), &metrics::NoopRecorder).unwrap()
}

fn body(id: &str, content: u64) -> Arc<Body> {
    Arc::new(Body::new(&MessageFields {
        id: MessageId::new(id).unwrap(),
        channel_id: None,
        title: id.to_owned(),
        content: content.to_string(),
        message_type: "text".to_owned(),
        priority: 5,
        sender: "sender".to_owned(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: clock::now(),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    }))
}

fn ann() -> InboxKey {
    InboxKey::new(TenantId::default(), UserId::new("ann").unwrap())
}

fn outgoing(id: &str, scheduled_at: Option<Time>) -> Outgoing {
    Outgoing {
        tenant: TenantId::default(),
        sender: SenderKey::Admin,
        audience: Audience::users(vec![ann().user]),
        body: body(id, 0),
        scheduled_at,
    }
}

fn answer(key: &str) -> StoredAnswer {
    StoredAnswer {
        tenant: TenantId::default(),
        sender: SenderKey::Admin,
        key: key.to_owned(),
        fingerprint: [1; 32],
        data: "{}".to_owned(),
        at: clock::now(),
    }
}

/// Says what was answered; the reader believes whole lines.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").and_then(|()| out.flush()).unwrap();
}

/// A life: until it is killed.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn live(folder: &Path, round: &str) {
    let store = open(folder, WallClock::default());
    let tenant = TenantId::default();
    for n in 0_u64.. {
        let later = |millis: i64| Some(Time::from_millis(clock::now().millis() + millis));
        let ids: Vec<String> = (0..10).map(|i| format!("{round}-{n}-{i}")).collect();
        let mut items: Vec<Outgoing> =
            ids[..8].iter().zip(0_i64..).map(|(id, i)| outgoing(id, later(i * 7 % 40))).collect();
        items.push(outgoing(&ids[8], None));
        items.push(outgoing(&ids[9], later(HOUR)));
        store.append(Batch { items, answer: Some(answer(&ids[0])) }).await.unwrap();
        for id in &ids {
            say(&format!("stored {id}"));
        }
        let id = |id: &str| MessageId::new(id).unwrap();
        // One that may be on its way just now, and one that is not.
        for one in [&ids[3], &ids[9]] {
            if one == &ids[9] && n % 2 == 0 {
                for version in 1..=3 {
                    store.edit(&tenant, &id(one), None, body(one, version)).await.unwrap();
                    say(&format!("edited {one} {version}"));
                }
                continue;
            }
            match store.cancel(&tenant, &id(one)).await {
                Ok(()) => say(&format!("cancelled {one}")),
                Err(StoreError::Conflict(_)) => say(&format!("sent {one}")),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// What the lives were told of a message.
#[derive(Default, Debug)]
struct Told {
    stored: bool,
    cancelled: bool,
    sent: bool,
    version: u64,
}

fn listen(told: &mut HashMap<String, Told>, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let told = told.entry(words[1].to_owned()).or_default();
    match words[0] {
        "stored" => told.stored = true,
        "cancelled" => told.cancelled = true,
        "sent" => told.sent = true,
        "edited" => told.version = words[2].parse().unwrap(),
        word => panic!("{word}"),
    }
}

fn kill(mut child: Child, after: u64) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(after));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.code().is_none(), "it ended by itself: {status}");
    })
}

#[test]
fn what_waits_is_sent_once_however_often_the_process_dies() {
    if let (Some(folder), Ok(round)) = (env::var_os(FOLDER), env::var(ROUND)) {
        return live(Path::new(&folder), &round);
    }
    let rounds: u64 = env::var("KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let folder = tempfile::tempdir().unwrap();
    let mut told: HashMap<String, Told> = HashMap::new();
    for round in 0..rounds {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "what_waits_is_sent_once_however_often_the_process_dies"])
            .arg("--nocapture")
            .envs([(FOLDER, folder.path().as_os_str()), (ROUND, round.to_string().as_ref())])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Some(child);
        let out = child.as_mut().and_then(|child| child.stdout.take()).unwrap();
        let mut out = BufReader::new(out);
        let mut killer = None;
        let mut line = String::new();
        // The last line may be cut.
        while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            if let Some((_, said)) = line.trim_end().split_once('@') {
                listen(&mut told, said);
                // A life begins with its first answer: opening takes long on a busy machine.
                let child = child.take();
                killer = killer.or_else(|| child.map(|child| kill(child, 20 + round * 37 % 300)));
            }
            line.clear();
        }
        killer.expect("it said something").join().unwrap();
    }
    check(folder.path(), &told);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn check(folder: &Path, told: &HashMap<String, Told>) {
    let store =
        open(folder, WallClock::new(|| Time::from_millis(clock::now().millis() + 2 * HOUR)));
    let tenant = TenantId::default();
    let started = Instant::now();
    // All of it is due by now: the latest within the hour.
    while !store.waiting(&tenant, None, 1).await.unwrap().messages.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "some of it still waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let query = ListQuery {
        status: StatusFilter::All,
        sort: Sort::Oldest,
        size: 1_000_000,
        ..ListQuery::default()
    };
    let messages = store.list(&ann(), query).await.unwrap().messages;
    let mut found: HashMap<String, Vec<u64>> = HashMap::new();
    for message in &messages {
        let fields = message.body.fields().unwrap();
        let versions = found.entry(fields.title).or_default();
        versions.push(fields.content.parse().unwrap());
    }
    let mut cancelled = 0;
    for (id, told) in told {
        let versions = found.get(id).map(Vec::as_slice).unwrap_or_default();
        if told.cancelled {
            cancelled += 1;
            assert!(versions.is_empty(), "{id}: {told:?}");
        } else if told.sent {
            assert_eq!(versions.len(), 1, "{id}: {told:?}");
        }
        if let [version] = versions {
            assert!(*version >= told.version, "{id} says {version}: {told:?}");
        }
        let state = store.sent(&tenant, &MessageId::new(id).unwrap()).await.unwrap();
        let state = state.map(|sent| sent.state);
        assert!(told.stored, "a life tells first that it stored: {id}");
        let expected = if versions.is_empty() { SentState::Cancelled } else { SentState::Sent };
        assert_eq!(state, Some(expected), "{id}: {told:?}");
    }
    for (id, versions) in &found {
        assert_eq!(versions.len(), 1, "{id} was sent {} times", versions.len());
        // An answer is there if and only if its messages are; the first of ten may be cancelled, but
        // is not here.
        if id.ends_with("-0") {
            let stored = store.answer(&tenant, &SenderKey::Admin, id).await.unwrap();
            assert!(stored.is_some(), "no answer for {id}");
        }
    }
    assert!(cancelled > 0 && found.len() > cancelled, "{cancelled} of {}", found.len());
    store.close().await;
}
