use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metrics::NoopRecorder;
use protocol::{DeviceId, MessageFields, MessageId, Seq, TenantId, UserId};

use super::{Forgetter, Forgotten, forgetter::Segment};
use crate::{
    InboxKey, Store, StoreError,
    search::Terms,
    store::{
        Audience, Batch, Directory as _, Group, Ledger as _, ListQuery, Mark, MarkTarget, Outgoing,
        SenderKey, SentState, StatusFilter, StoredAnswer, TokenFacts,
        single::{
            SingleConfig, SingleStore, hub_dir, inbox_dir,
            tests::contract::fixture::{Published, button, channel, inbox, message},
        },
    },
};

/// Who is forgotten: of a name that stands nowhere else.
const USER: &str = "canary-4af1";

/// What only this user was sent, or said of itself.
const SECRET: &str = "secret-9b07";

/// Others, so many that the rows of tables move from page to page.
const OTHERS: usize = 1_500;

struct Life {
    store: Arc<SingleStore>,
    user: InboxKey,
    bob: InboxKey,
    /// Messages that others received too.
    both: MessageId,
    /// What waits for several, and for the user alone.
    waiting: [MessageId; 2],
}

fn open_with(root: &Path, flush_interval: Duration) -> Arc<SingleStore> {
    let config = SingleConfig { root: root.to_owned(), flush_interval, ..SingleConfig::default() };
    SingleStore::open(&config, Arc::new(Published::default()), &NoopRecorder).unwrap()
}

fn open(root: &Path) -> Arc<SingleStore> {
    open_with(root, SingleConfig::default().flush_interval)
}

fn outgoing(sender: SenderKey, audience: Audience, fields: &MessageFields) -> Outgoing {
    let body = Arc::new(protocol::Body::new(fields));
    Outgoing { tenant: TenantId::default(), sender, audience, body, scheduled_at: None }
}

fn users(names: &[&str]) -> Audience {
    Audience::users(names.iter().map(|name| name.parse().unwrap()).collect())
}

fn token(of: &str, says: &str, role: &str) -> TokenFacts {
    TokenFacts {
        issued_at: crate::clock::now(),
        username: format!("{says} {of}"),
        email: format!("{says}.{of}@example.com"),
        roles: vec![role.parse().unwrap()],
        department: Some("law".to_owned()),
    }
}

fn service() -> SenderKey {
    SenderKey::Service("crm".parse().unwrap())
}

impl Life {
    /// A user with a bit of everything, among others.
    async fn new(store: Arc<SingleStore>, others: usize) -> Self {
        let (tenant, user, bob) = (TenantId::default(), inbox(USER), inbox("bob"));
        let device: DeviceId = format!("{SECRET}-phone").parse().unwrap();
        let names: Vec<String> =
            (0..others).map(|n| format!("u{:05}", n * 7_919 % 99_991)).collect();
        let made = crate::store::Channel { created_by: USER.to_owned(), ..channel("room") };
        store.save_channel(&tenant, made, Some(0)).await.unwrap();
        store.save_channel(&tenant, channel("left"), Some(0)).await.unwrap();
        let known = async |names: &[String]| {
            let tokens = names.iter().map(|name| {
                let (key, store) = (inbox(name), &store);
                async move { store.note_token(&key, token(key.user.as_str(), "other", "dev")).await }
            });
            futures_util::future::try_join_all(tokens).await.unwrap();
            let sent = |name: &String| outgoing(service(), users(&[name]), &message("x"));
            let sent: Vec<Outgoing> = names.iter().map(sent).collect();
            store.append(sent.into()).await.unwrap();
        };
        // In the midst of others, so that its rows move with theirs.
        let (before, behind) = names.split_at(others / 3);
        known(before).await;
        store.note_token(&user, token(USER, SECRET, "dev")).await.unwrap();
        let sent = outgoing(service(), users(&[USER]), &message(SECRET));
        store.append(vec![sent].into()).await.unwrap();
        known(behind).await;
        let ids = |names: &[String]| names.iter().map(|name| name.parse().unwrap()).collect();
        let all: Vec<String> =
            names.iter().cloned().chain([USER.to_owned(), "bob".to_owned()]).collect();
        let (room, left) = ("room".parse().unwrap(), "left".parse().unwrap());
        store.change_members(&tenant, &room, ids(&all), vec![]).await.unwrap();
        store.change_members(&tenant, &left, ids(&all), vec![]).await.unwrap();
        let to_left = Audience::group(Group::Channel(left.clone()));
        store.append(vec![outgoing(service(), to_left, &message("to left"))].into()).await.unwrap();
        store.change_members(&tenant, &left, vec![], vec![user.user.clone()]).await.unwrap();
        let to_room = Audience::group(Group::Channel(room));
        store.append(vec![outgoing(service(), to_room, &message("to room"))].into()).await.unwrap();
        let to_dev = Audience::group(Group::Role("dev".parse().unwrap()));
        store.append(vec![outgoing(service(), to_dev, &message("to dev"))].into()).await.unwrap();
        let both = message("to both");
        store.append(vec![outgoing(service(), users(&[USER, "bob"]), &both)].into()).await.unwrap();
        let mut pressed = message(&format!("{SECRET} with a button"));
        pressed.actions = vec![button(&format!("{SECRET}-approve"))];
        store.append(vec![outgoing(service(), users(&[USER]), &pressed)].into()).await.unwrap();
        store.press(&user, Some(device.clone()), &pressed.id, 0).await.unwrap();
        let one = MarkTarget::One { id: both.id.clone(), expected: None };
        store.mark(&user, Some(device.clone()), Mark::Read, one.clone()).await.unwrap();
        store.mark(&user, Some(device.clone()), Mark::Unread, one).await.unwrap();
        store.delivered(&user, &device, Seq(0), Seq(4));
        store.ack(&user, &device, Seq(3));
        let text = Some(Terms::parse(SECRET).unwrap());
        let found = store.list(&user, ListQuery { text, size: 9, ..ListQuery::default() }).await;
        assert_eq!(found.unwrap().total, 2);
        let sender = SenderKey::User(user.user.clone());
        let answer = StoredAnswer {
            tenant: tenant.clone(),
            sender: sender.clone(),
            key: format!("{SECRET}-key"),
            fingerprint: [7; 32],
            data: format!("{{\"{SECRET}\":1}}"),
            at: crate::clock::now(),
        };
        let items = vec![outgoing(sender.clone(), users(&["bob"]), &message("by the user"))];
        store.append(Batch { items, answer: Some(answer) }).await.unwrap();
        let mut waiting = vec![];
        for (sender, to, title) in [
            (service(), users(&[USER, "bob"]), "later to both"),
            (service(), users(&[USER]), SECRET),
            (sender, users(&["bob"]), SECRET),
        ] {
            let fields = message(title);
            let later = protocol::Time::from_millis(crate::clock::now().millis() + 3_600_000);
            waiting.push(fields.id.clone());
            let sent = Outgoing { scheduled_at: Some(later), ..outgoing(sender, to, &fields) };
            store.append(vec![sent].into()).await.unwrap();
        }
        let waiting = [waiting[0].clone(), waiting[1].clone()];
        Self { store, user, bob, both: both.id, waiting }
    }

    async fn titles(&self, of: &InboxKey) -> Vec<String> {
        let query = ListQuery { status: StatusFilter::All, size: 100, ..ListQuery::default() };
        let page = self.store.list(of, query).await.unwrap();
        page.messages.iter().map(|message| message.body.fields().unwrap().title).collect()
    }

    /// The user is unknown, or has what came afterwards; and nobody else has lost anything.
    async fn is_as_after(&self, others: usize, after: &[&str]) {
        let tenant = TenantId::default();
        assert_eq!(self.titles(&self.user).await, after);
        let head = self.store.head(&self.user).await.unwrap();
        assert_eq!(head.seq, Seq(after.len() as u64));
        assert_eq!(self.store.groups_of(&self.user).await.unwrap(), []);
        assert_eq!(self.store.user(&self.user).await.unwrap().is_some(), !after.is_empty());
        let theirs = ["by the user", "to both", "to room", "to left"];
        assert_eq!(self.titles(&self.bob).await, theirs);
        let room = self.store.channel(&tenant, &"room".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((room.members, &*room.channel.created_by), (others as u64 + 1, ""));
        let both = self.store.sent(&tenant, &self.both).await.unwrap().unwrap();
        assert_eq!(both.audience, users(&["bob"]));
        let later = self.store.sent(&tenant, &self.waiting[0]).await.unwrap().unwrap();
        assert_eq!((later.state, later.audience), (SentState::Scheduled, users(&["bob"])));
        assert!(self.store.sent(&tenant, &self.waiting[1]).await.unwrap().is_none());
    }
}

/// Files and names below a folder in which one of these words stands.
fn found(folder: &Path, words: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let named = words.iter().any(|word| name.contains(word));
        if path.is_dir() {
            found.extend(self::found(&path, words));
        }
        let bytes = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let text = String::from_utf8_lossy(&bytes);
        let has = |word: &&str| text.contains(word);
        if named || words.iter().any(has) {
            found.push(path);
        }
    }
    found
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

fn forgetter(store: &SingleStore) -> Forgetter {
    let threads = store.threads.lock();
    let threads = threads.as_ref().unwrap();
    Forgetter {
        hub: hub_dir(&store.root),
        forgets: Arc::default(),
        inboxes: Arc::clone(&store.inboxes),
        workers: Arc::clone(&store.workers),
        shared: Arc::clone(&store.shared),
        ledger: Arc::clone(&store.ledger),
        committer: Arc::clone(&store.committer),
        ahead: Arc::clone(&threads.ahead),
        trimmer: Arc::clone(&threads.trimmer),
        metrics: Arc::clone(&store.metrics),
    }
}

/// The proof: every byte of every file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_user_is_left_in_any_byte() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("storage");
    let life = Life::new(open(&root), OTHERS).await;
    // In files that are written, and in what the journal has used before.
    life.store.close().await;
    let life = Life { store: open(&root), ..life };
    assert!(found(&root, &[USER]).len() > 4 && found(&root, &[SECRET]).len() > 4);
    life.store
        .append(vec![outgoing(service(), users(&[USER]), &message(SECRET))].into())
        .await
        .unwrap();
    assert_eq!(life.store.forget(&life.user).await.unwrap(), 7);
    assert_eq!(found(&root, &[USER, SECRET]), Vec::<PathBuf>::new());
    life.is_as_after(OTHERS, &[]).await;
    life.store.close().await;
    assert_eq!(found(&root, &[USER, SECRET]), Vec::<PathBuf>::new());
    for file in ["shared.db", "ledger.db"] {
        let db = rusqlite::Connection::open(hub_dir(&root).join(file)).unwrap();
        let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(whole, "ok", "{file}");
    }
    let life = Life { store: open(&root), ..life };
    life.is_as_after(OTHERS, &[]).await;
    life.store.close().await;
}

/// Ended after any step, it is done by the next process, and what came since stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_ends_with_nothing_left() {
    for (steps, again) in (0..=4).flat_map(|steps| [(steps, false), (steps, true)]) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("storage");
        let life = Life::new(open_with(&root, Duration::from_hours(1)), 3).await;
        // The record is stored; what is left to do is done by hand.
        life.store.forgets.stop();
        let refused = life.store.forget(&life.user).await;
        assert!(matches!(refused, Err(StoreError::Closing)), "{refused:?}");
        let all: Vec<Forgotten> = life.store.forgets.all();
        assert_eq!(all.len(), 1);
        let forgetter = forgetter(&life.store);
        if steps > 0 {
            forgetter.remove_folders(&all).await.unwrap();
        }
        if steps > 1 {
            forgetter.walk_ledger(all.clone()).await.unwrap();
        }
        if steps > 2 {
            forgetter.leave_journal(&mut Segment::default()).await.unwrap();
        }
        if steps > 3 {
            forgetter.overwrite().await.unwrap();
        }
        let mut after: &[&str] = &[];
        if again {
            after = &["after"];
            let sent = outgoing(service(), users(&[USER]), &message("after"));
            life.store.append(vec![sent].into()).await.unwrap();
            assert_eq!(life.titles(&life.user).await, after);
        }
        let copy = folder.path().join("copy");
        copy_folder(&root, &copy);
        life.store.close().await;
        let life = Life { store: open(&copy), ..life };
        life.store.forgets.settled().await.unwrap();
        life.is_as_after(3, after).await;
        let mut left = found(&copy, &[SECRET]);
        if !again {
            left.extend(found(&copy, &[USER]));
        }
        assert_eq!(left, Vec::<PathBuf>::new(), "after {steps} steps");
        assert_eq!(life.store.shared.forgetting().unwrap(), []);
        life.store.close().await;
    }
}

/// A folder that was half away, or half removed, when the process ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_folder_is_removed_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("storage");
    let life = Life::new(open(&root), 3).await;
    life.store.forgets.stop();
    assert!(life.store.forget(&life.user).await.is_err());
    life.store.close().await;
    let dir = inbox_dir(&root, &life.user);
    let away = super::super::layout::forgotten_dir(&root).join("7");
    fs::create_dir_all(&away).unwrap();
    fs::write(away.join("messages.db"), SECRET).unwrap();
    // The worker may have got to it while the store was closed.
    fs::create_dir_all(dir.join(".sync")).unwrap();
    fs::write(dir.join(".sync/devices.json"), "{\"devices\":[]}").unwrap();
    let life = Life { store: open(&root), ..life };
    life.store.forgets.settled().await.unwrap();
    assert_eq!(life.store.forget(&life.user).await.unwrap(), 0);
    assert_eq!(found(&root, &[USER, SECRET]), Vec::<PathBuf>::new());
    life.is_as_after(3, &[]).await;
    life.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_refuses_is_said_and_it_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("storage");
    let life = Life::new(open(&root), 3).await;
    life.store.shared.set_writable(false);
    let refused = life.store.forget(&life.user).await;
    assert!(matches!(refused, Err(StoreError::NotWritable(_))), "{refused:?}");
    assert!(life.store.forgets.any());
    life.store.shared.set_writable(true);
    // Nobody asks again.
    let began = std::time::Instant::now();
    while life.store.forgets.any() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found(&root, &[USER, SECRET]), Vec::<PathBuf>::new());
    life.is_as_after(3, &[]).await;
    life.store.close().await;
}

/// Another user's damaged file keeps the journal; its owner can be forgotten all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_inbox_keeps_the_journal_until_it_is_forgotten_itself() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("storage");
    let store = open(&root);
    let (user, bob) = (inbox(USER), inbox("bob"));
    let sent = || outgoing(service(), users(&[USER, "bob"]), &message(SECRET));
    store.append(vec![sent()].into()).await.unwrap();
    store.close().await;
    let file = inbox_dir(&root, &bob).join("messages.db");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(file.with_file_name(format!("messages.db{suffix}")));
    }
    fs::write(&file, vec![b'?'; 65_536]).unwrap();
    let store = open(&root);
    store.append(vec![sent()].into()).await.unwrap();
    assert!(matches!(store.head(&bob).await, Err(StoreError::Damaged(_))));
    let refused = store.forget(&user).await;
    assert!(matches!(refused, Err(StoreError::NotWritable(_))), "{refused:?}");
    assert_eq!(store.forget(&bob).await.unwrap(), 0, "nobody can tell how many");
    store.forgets.settled().await.unwrap();
    assert!(!store.forgets.any());
    assert_eq!(found(&root, &[USER, SECRET]), Vec::<PathBuf>::new());
    assert_eq!(store.head(&bob).await.unwrap().seq, Seq::ZERO);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_their_passes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("storage");
    let store = open(&root);
    let names: Vec<UserId> = (0..40).map(|n| format!("{USER}-{n}").parse().unwrap()).collect();
    let to = Audience::users(names.iter().cloned().chain(["bob".parse().unwrap()]).collect());
    for _ in 0..3 {
        store.append(vec![outgoing(service(), to.clone(), &message("x"))].into()).await.unwrap();
    }
    let all = names.iter().map(|name| {
        let key = InboxKey::new(TenantId::default(), name.clone());
        async { (store.forget(&key).await.unwrap(), key) }
    });
    for (had, key) in futures_util::future::join_all(all).await {
        assert_eq!((had, store.head(&key).await.unwrap().seq), (3, Seq::ZERO));
    }
    assert_eq!(found(&root, &[USER]), Vec::<PathBuf>::new());
    assert_eq!(store.head(&inbox("bob")).await.unwrap().unread, 3);
    store.close().await;
}
