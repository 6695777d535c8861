//! PostgreSQL servers: one for each test process, with a database for each test, and others that a test
//! may harm.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::{PATIENCE, eventually, free_port};

/// A fresh database with nothing in it, on the server of this process; its address.
#[must_use]
pub fn empty_database() -> String {
    shared().create("")
}

/// A fresh database that is a copy of another one on the server of this process; its address.
#[must_use]
pub fn copy_of(url: &str) -> String {
    shared().create(&format!(" TEMPLATE {}", name_in(url)))
}

fn name_in(url: &str) -> &str {
    let address = url.split('?').next().expect("split gives one part at least");
    address.rsplit('/').next().expect("split gives one part at least")
}

/// The server of this process.
fn shared() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start_with(&["max_connections = 500"]))
}

/// Says something to a database, by its address. May be called inside a runtime.
pub fn ask(url: &str, sql: &str) {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    aside(async move {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(&sql).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
    });
}

/// The first value that a database answers a question with, as text, by its address. May be called inside a
/// runtime.
#[must_use]
pub fn value(url: &str, sql: &str) -> String {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    aside(async move {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let answer = client.simple_query(&sql).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
        let row = answer.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.and_then(|row| row.get(0).map(str::to_owned)).unwrap_or_default()
    })
}

/// Waits for something on a thread of its own: tests call this from inside their runtimes.
pub fn aside<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(task)
    };
    thread::spawn(run).join().unwrap()
}

/// Has all connections of a server; gives them back when dropped.
pub struct Exhausted {
    stop: Arc<AtomicBool>,
    taking: Option<thread::JoinHandle<()>>,
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(taking) = self.taking.take() {
            taking.join().ok();
        }
    }
}

/// A server.
pub struct Postgres {
    port: u16,
    bin: PathBuf,
    /// Who runs it, where this process is root's: PostgreSQL does not run as root.
    owner: Option<(u32, u32)>,
    folder: PathBuf,
    process: std::sync::Mutex<Child>,
    /// Ends the server and removes its folder when its input is closed, which the system does when this
    /// process ends.
    _keeper: Child,
    databases: AtomicU32,
}

impl Postgres {
    /// One with more lines of settings.
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        let (bin, owner) = (programs(), owner());
        let folder = new_folder(owner);
        let data = folder.join("data");
        let made = command(&bin.join("initdb"), &folder, owner)
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--no-sync", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        // Synced as in earnest. Checkpoints are few, for databases are made all the time.
        let own = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n\
             shared_buffers = 256MB\nmax_wal_size = 4GB\ncheckpoint_timeout = 30min\n\
             wal_init_zero = off\nautovacuum_naptime = 10s"
        );
        let settings: Vec<&str> =
            [own.as_str()].into_iter().chain(settings.iter().copied()).collect();
        Self::launch(folder, port, &settings, &bin, owner)
    }

    /// Starts what is in a folder, with more lines of settings.
    fn launch(
        folder: PathBuf,
        port: u16,
        settings: &[&str],
        bin: &Path,
        owner: Option<(u32, u32)>,
    ) -> Self {
        let file = folder.join("data/postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
        writeln!(file, "{}", settings.join("\n")).unwrap();
        let bin = bin.to_owned();
        let process = std::sync::Mutex::new(spawn(&bin, &folder, owner));
        let keeper = Command::new("/bin/sh")
            .arg("-c")
            .arg(
                r#"cat >/dev/null
                   if server=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null); then
                     kill -CONT $server; kill -QUIT $server
                     while kill -0 $server; do sleep 0.05; done
                   fi
                   rm -rf "$1""#,
            )
            .arg("sh")
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let databases = AtomicU32::new(0);
        let server = Self { port, bin, owner, folder, process, _keeper: keeper, databases };
        server.wait();
        server
    }

    /// One as it comes.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A standby of it, which follows.
    #[must_use]
    pub fn standby(&self) -> Self {
        let folder = new_folder(self.owner);
        let port = free_port();
        let copied = command(&self.bin.join("pg_basebackup"), &folder, self.owner)
            .args(["--host=127.0.0.1", "--username=postgres", "--write-recovery-conf"])
            .args(["--wal-method=stream", "--checkpoint=fast", "--no-sync", "--pgdata"])
            .arg(folder.join("data"))
            .arg(format!("--port={}", self.port))
            .output()
            .unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        Self::launch(folder, port, &[&format!("port = {port}")], &self.bin, self.owner)
    }

    /// Whether a standby has all that its primary has.
    #[must_use]
    pub fn has_all_of(&self, primary: &Self) -> bool {
        let written = value(&primary.url("postgres"), "SELECT pg_current_wal_lsn()");
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
        value(&self.url("postgres"), &sql) == "t"
    }

    /// A standby does not follow its primary from now on.
    pub async fn stop_following(&self) {
        let url = self.url("postgres");
        ask(&url, "ALTER SYSTEM SET primary_conninfo = ''");
        ask(&url, "SELECT pg_reload_conf()");
        let follows = "SELECT count(*) FROM pg_stat_wal_receiver";
        eventually("it does not follow", PATIENCE, || value(&url, follows) == "0").await;
    }

    /// A standby becomes a primary.
    pub fn promote(&self) {
        assert_eq!(value(&self.url("postgres"), "SELECT pg_promote(true, 60)"), "t");
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A fresh database with nothing in it; its address.
    pub fn database(&self) -> String {
        self.create("")
    }

    /// The address of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    fn create(&self, from: &str) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        ask(&self.url("postgres"), &format!("CREATE DATABASE {name}{from}"));
        self.url(&name)
    }

    /// Stops every process of it where it stands: connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.signal_all(libc::SIGSTOP);
    }

    /// Ends [`Postgres::freeze`].
    pub fn thaw(&self) {
        self.signal_all(libc::SIGCONT);
    }

    /// `kill -9` of all its processes, as if the power were cut.
    pub fn kill(&self) {
        self.signal_all(libc::SIGKILL);
        self.process.lock().unwrap().wait().unwrap();
    }

    /// Ends it as an operator would for a restart: connections are broken off, transactions rolled back.
    pub fn stop(&self) {
        signal(self.pid(), libc::SIGINT);
        self.process.lock().unwrap().wait().unwrap();
    }

    /// From now on it takes encrypted connections, by this certificate and key (PEM).
    pub fn encrypt(&self, certificate: &str, key: &str) {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.folder.join("data").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = self.owner {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
            }
        }
        // Not both in one: ALTER SYSTEM wants a transaction of its own.
        ask(&self.url("postgres"), "ALTER SYSTEM SET ssl = on");
        ask(&self.url("postgres"), "SELECT pg_reload_conf()");
    }

    /// Ends all connections and takes every one there is, again and again, until what it answers is dropped:
    /// nobody else gets one but by luck.
    #[must_use]
    pub fn exhaust(&self) -> Exhausted {
        const ENDS_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND application_name <> 'exhaust'";
        let url = format!("{}&application_name=exhaust", self.url("postgres"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let taking = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (first, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                tokio::spawn(connection);
                let mut taken = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    first.batch_execute(ENDS_OTHERS).await.ok();
                    while let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await
                    {
                        tokio::spawn(connection);
                        taken.push(client);
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Exhausted { stop, taking: Some(taking) }
    }

    /// From now on everybody but the user `postgres` needs a password.
    pub fn demand_passwords(&self) {
        let rules =
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(self.folder.join("data/pg_hba.conf"), rules).unwrap();
        ask(&self.url("postgres"), "SELECT pg_reload_conf()");
    }

    /// Starts it again on the same port, with what it had.
    pub fn start_again(&self) {
        *self.process.lock().unwrap() = spawn(&self.bin, &self.folder, self.owner);
        self.wait();
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.process.lock().unwrap().id()).unwrap()
    }

    /// The parent first: it must not start what was just stopped.
    fn signal_all(&self, number: i32) {
        let server = self.pid();
        let children = format!("/proc/{server}/task/{server}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        signal(server, number);
        for child in children.split_whitespace() {
            // One may just have ended.
            // SAFETY: a signal to a process of this test's own server.
            unsafe { libc::kill(child.parse().unwrap(), number) };
        }
    }

    fn wait(&self) {
        let began = Instant::now();
        let url = self.url("postgres");
        loop {
            let url = url.clone();
            let connected = async move { tokio_postgres::connect(&url, NoTls).await.err() };
            let Some(error) = aside(connected) else { return };
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "{error}\n{}", log());
            // A process of the one before that was being born when the others were killed lives a moment
            // longer, and with it the memory that a new server must not find.
            let mut process = self.process.lock().unwrap();
            if process.try_wait().unwrap().is_some() {
                *process = spawn(&self.bin, &self.folder, self.owner);
            }
            drop(process);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut()
            && matches!(process.try_wait(), Ok(None))
            && let Ok(id) = i32::try_from(process.id())
        {
            // Not for one that is gone or stands still: its keeper sees to it.
            // SAFETY: a signal to a child that has not been waited for yet.
            unsafe {
                libc::kill(id, libc::SIGCONT);
                libc::kill(id, libc::SIGQUIT);
            }
            process.wait().ok();
        }
    }
}

fn new_folder(owner: Option<(u32, u32)>) -> PathBuf {
    let folder = tempfile::Builder::new().prefix("pushhub-postgres-").tempdir().unwrap();
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
    }
    TempDir::keep(folder)
}

fn signal(process: i32, number: i32) {
    // SAFETY: a signal to a child that has not been waited for yet.
    assert_eq!(unsafe { libc::kill(process, number) }, 0);
}

fn command(program: &Path, folder: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command.current_dir(folder);
    command
}

fn spawn(bin: &Path, folder: &Path, owner: Option<(u32, u32)>) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    command(&bin.join("postgres"), folder, owner)
        .arg("-D")
        .arg(folder.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Where the newest installed version has its programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let installed = versions.filter_map(|entry| {
        let bin = entry.ok()?.path().join("bin");
        let version = bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok()?;
        bin.join("initdb").exists().then_some((version, bin))
    });
    let in_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    };
    let newest = installed.max().map(|(_, bin)| bin).or_else(in_path);
    newest.expect("PostgreSQL is needed: run scripts/tools.sh, or apt-get install postgresql")
}

fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    fields.next().zip(fields.next())
}
