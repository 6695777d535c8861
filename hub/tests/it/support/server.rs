//! The real binary as a child process.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Answer, Api, Cluster, SOON, TestClient, Token, api::Port, document::Documents, eventually,
    eventually_within, socket::Connect, stream::OpenStream, token,
};

/// Of every test server.
pub(crate) const ADMIN_TOKEN: &str = "admin-token-of-the-integration-tests-0123456789";

/// How the next server is started.
pub(crate) struct Builder {
    env: BTreeMap<String, String>,
    storage: Option<PathBuf>,
}

impl Builder {
    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    /// Sets several.
    pub(crate) fn envs(mut self, more: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.env.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self
    }

    /// Takes a variable away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// Uses a folder that outlives the server instead of a temporary one.
    pub(crate) fn storage(mut self, path: &Path) -> Self {
        self.storage = Some(path.to_owned());
        self
    }

    /// Starts it on a folder that may be damaged.
    pub(crate) async fn try_start(self) -> Result<TestServer, String> {
        let mut server = self.prepare();
        server.try_spawn().await.map(|()| server)
    }

    /// Launches it, and does not wait for it: it may have to wait for its database.
    pub(crate) fn launch(self) -> TestServer {
        let mut server = self.prepare();
        server.launch(&["serve"]);
        server
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> TestServer {
        Documents::learn().await;
        self.start_unlearned().await
    }

    /// As [`Builder::start`], and answers are not held against the description.
    pub(crate) async fn start_unlearned(self) -> TestServer {
        let mut server = self.prepare();
        server.spawn().await;
        server
    }

    /// Runs a subcommand to its end: exit status, and everything it said.
    pub(crate) async fn run(self, arguments: &[&str]) -> (ExitStatus, String) {
        let mut server = self.prepare();
        server.launch(arguments);
        let status = server.exited(SOON).await;
        (status, server.log())
    }

    fn prepare(self) -> TestServer {
        let temporary = tempfile::tempdir().unwrap();
        let storage = self.storage.unwrap_or_else(|| temporary.path().join("storage"));
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        TestServer {
            env: self.env,
            storage,
            temporary,
            process: None,
            log: Arc::default(),
            readers: vec![],
            user: unset,
            admin: unset,
            http: Api::http(),
        }
    }
}

/// A running server. Killed, by its process id, when dropped; its log is shown if the test failed.
pub(crate) struct TestServer {
    env: BTreeMap<String, String>,
    storage: PathBuf,
    temporary: TempDir,
    process: Option<Child>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    http: reqwest::Client,
    /// Where REST and sockets are.
    pub(crate) user: SocketAddr,
    /// Where admins are.
    pub(crate) admin: SocketAddr,
}

impl TestServer {
    /// One with test secrets and free ports, everything else as shipped.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// For tests that set something. With `TEST_SHAPE=cluster` it is the first node of a cluster of its own
    /// instead of a node with files: the tests are the same.
    pub(crate) fn builder() -> Builder {
        match std::env::var("TEST_SHAPE").as_deref() {
            Ok("cluster") => Cluster::new().joined_by(Self::plain_builder()),
            Ok(other) => panic!("TEST_SHAPE={other:?}: cluster, or nothing for files"),
            Err(_) => Self::plain_builder(),
        }
    }

    /// One that stands for itself, with files.
    pub(crate) fn plain_builder() -> Builder {
        let env = [
            ("BIND_ADDRESS", "127.0.0.1"),
            ("USER_SERVER_PORT", "0"),
            ("ADMIN_SERVER_PORT", "0"),
            ("JWT_SECRET", token::SECRET),
            ("ADMIN_TOKEN", ADMIN_TOKEN),
            ("LOG_LEVEL", "info"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Builder { env: env.into(), storage: None }
    }

    /// Whether it keeps files, or is a node on a database.
    pub(crate) fn keeps_files(&self) -> bool {
        !self.env.contains_key("DATABASE_URL")
    }

    /// The folder it keeps everything in, where it keeps files.
    pub(crate) fn storage(&self) -> &Path {
        &self.storage
    }

    /// Where it makes backups, unless a test says otherwise.
    pub(crate) fn backups(&self) -> PathBuf {
        self.temporary.path().join("backups")
    }

    /// Starts it again on the same folder. It must not be running.
    pub(crate) async fn spawn(&mut self) {
        if let Err(ended) = self.try_spawn().await {
            panic!("{ended}:\n{}", self.log());
        }
    }

    /// As [`TestServer::spawn`], for folders that may be damaged.
    pub(crate) async fn try_spawn(&mut self) -> Result<(), String> {
        self.launch(&["serve"]);
        self.is_ready().await
    }

    /// Waits for the line that says so, or for its end.
    pub(crate) async fn is_ready(&mut self) -> Result<(), String> {
        let line =
            eventually_within("the line `pushhub ready [user=…] admin=…`", SOON * 2, || {
                // Asked before the log is read: what it said last is then there.
                let ended = self.process.as_mut().and_then(|child| child.try_wait().unwrap());
                let log = self.log.lock().unwrap();
                let line = log.lines().find(|line| line.contains("pushhub ready "));
                let answer = line.map(|line| Ok(line.to_owned())).or(ended.map(Err));
                async move { answer }
            })
            .await
            .map_err(|ended| {
                self.process = None;
                format!("the server ended with {ended:?} before it was ready")
            })?;
        let address = |name: &str| -> Option<SocketAddr> {
            line.split(name).nth(1)?.split_whitespace().next()?.parse().ok()
        };
        self.admin = address(" admin=").unwrap_or_else(|| panic!("no admin= in {line}"));
        // A part that has no users has no such port.
        self.user = address(" user=").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        Ok(())
    }

    fn launch(&mut self, arguments: &[&str]) {
        assert!(self.process.is_none(), "it runs already");
        self.log.lock().unwrap().clear();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushhub"));
        command
            .args(arguments)
            .env_clear()
            .env("USER_STORAGE_PATH", &self.storage)
            .env("DATABASE_BACKUP_PATH", self.backups())
            .envs(&self.env)
            .current_dir(self.temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: prctl is async-signal-safe. A test run that is killed takes its servers along.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        self.keep(child.stdout.take().unwrap());
        self.keep(child.stderr.take().unwrap());
        self.process = Some(child);
    }

    /// Keeps what is said; ends with the pipe.
    fn keep(&mut self, pipe: impl Read + Send + 'static) {
        let log = self.log.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&String::from_utf8_lossy(&line));
                log.push('\n');
            }
        });
        self.readers.push(reader);
    }

    /// The log, once something is in it: lines come a moment after what they tell of.
    pub(crate) async fn logged(&self, text: &str) -> String {
        eventually(&format!("{text} is in the log"), async || self.log().contains(text)).await;
        self.log()
    }

    /// Runs a subcommand with this server's settings, on its data; see [`Builder::run`].
    pub(crate) async fn command(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let builder = Builder { env: self.env.clone(), storage: Some(self.storage.clone()) };
        builder.run(arguments).await
    }

    /// Everything it has said since its last start.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.process.as_ref().expect("it runs").id()).unwrap()
    }

    /// Whether it still runs.
    pub(crate) fn alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory effects; the id is of a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Stops it in the middle of whatever it does, and waits until every thread stands still: on a
    /// busy machine it goes on answering for a while after the signal.
    pub(crate) async fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        let threads = format!("/proc/{}/task", self.pid());
        eventually_within("every thread stands still", SOON, || {
            let stands =
                |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
            let still = std::fs::read_dir(&threads).unwrap().all(|thread| {
                let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
                stat.is_ok_and(|stat| stands(&stat))
            });
            async move { still.then_some(()) }
        })
        .await;
    }

    /// Waits for its end.
    pub(crate) async fn exited(&mut self, deadline: Duration) -> ExitStatus {
        let child = self.process.as_mut().expect("it runs");
        let status = eventually_within("the process has ended", deadline, || {
            let status = child.try_wait().unwrap();
            async move { status }
        })
        .await;
        self.process = None;
        // What it said last may still be in the pipes.
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status
    }

    /// `kill -9`.
    pub(crate) async fn kill_9(&mut self) {
        self.signal(libc::SIGKILL);
        assert_eq!(self.exited(SOON).await.signal(), Some(libc::SIGKILL));
    }

    /// Another setting, with the next start.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// `kill -9` and a start on the same folder.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.kill_9().await;
        self.spawn().await;
    }

    /// An orderly end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.exited(SOON * 4).await
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// REST on the user port, as nobody.
    pub(crate) fn api(&self) -> Api {
        Api::new(self.http.clone(), self.user, Port::User)
    }

    /// REST as a user.
    pub(crate) fn as_user(&self, user: &str) -> Api {
        self.api().bearer(&Token::of(user).sign())
    }

    /// The admin port, as the admin.
    pub(crate) fn as_admin(&self) -> Api {
        Api::new(self.http.clone(), self.admin, Port::Admin).bearer(ADMIN_TOKEN)
    }

    /// REST as a new service that may do everything.
    pub(crate) async fn service(&self) -> Api {
        self.service_of_level("system", &["on_behalf_of"]).await
    }

    /// REST as a new service.
    pub(crate) async fn service_of_level(&self, level: &str, permissions: &[&str]) -> Api {
        let name = format!("svc-{}", uuid::Uuid::now_v7());
        let created = self
            .create_service(json!({
                "id": name, "name": name, "type": "internal",
                "level": level, "permissions": permissions,
            }))
            .await
            .ok();
        self.api().service_key(created["api_key"].as_str().expect("data.api_key"))
    }

    /// The raw call.
    pub(crate) async fn create_service(&self, service: Value) -> Answer {
        self.as_admin().post("/api/v3/admin/services", service).await
    }

    /// A socket of a user's default device, live.
    pub(crate) async fn connect(&self, user: &str) -> TestClient {
        self.socket(user).connect().await
    }

    /// A socket with options.
    pub(crate) fn socket(&self, user: &str) -> Connect {
        Connect::new(self.user, user)
    }

    /// An event stream with options.
    pub(crate) fn stream(&self, user: &str) -> OpenStream {
        OpenStream::new(self.user, user)
    }

    /// Whether `/health/ready` says yes.
    pub(crate) async fn ready(&self) -> bool {
        self.as_admin().get("/health/ready").await.status == 200
    }

    /// The metrics, as text.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.admin);
        let request = self.http.get(url).bearer_auth(ADMIN_TOKEN);
        request.send().await.unwrap().text().await.unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().count().saturating_sub(200);
            eprintln!("--- the server's last lines ---");
            for line in log.lines().skip(tail) {
                eprintln!("{line}");
            }
        }
    }
}
