//! A PostgreSQL server for tests: one for each test process, in a folder for temporary files, with a
//! database for each test. It ends with the process, however that ends.
//!
//! Taken in by `#[path]` wherever it is needed; it knows nothing of the crate.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio_postgres::NoTls;

/// How long the server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh database with nothing in it, and its address.
#[allow(dead_code, reason = "not every test that shares this needs all of it")]
pub(crate) fn empty_database() -> String {
    create("")
}

/// A fresh database that is a copy of another, and its address.
#[allow(dead_code, reason = "not every test that shares this needs all of it")]
pub(crate) fn copy_of(url: &str) -> String {
    let address = url.split('?').next().expect("split gives one part at least");
    let name = address.rsplit('/').next().expect("split gives one part at least");
    create(&format!(" TEMPLATE {name}"))
}

fn create(from: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let server = server();
    server.ask("postgres", &format!("CREATE DATABASE {name}{from}"));
    server.url(&name)
}

/// Says something to a database, by its address.
pub(crate) fn ask(url: &str, sql: &str) {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    aside(async move {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(&sql).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
    });
}

/// The server of this process.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

struct Server {
    port: u16,
    /// Ends the server when its input is closed, which the system does when this process ends.
    _keeper: Child,
}

impl Server {
    fn start() -> Self {
        let bin = programs();
        let folder = tempfile::Builder::new().prefix("pushhub-postgres-").tempdir().unwrap().keep();
        // PostgreSQL does not run as root.
        let owner = owner();
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let command = |program: &Path| {
            let mut command = Command::new(program);
            if let Some((uid, gid)) = owner {
                command.uid(uid).gid(gid);
            }
            command.current_dir(&folder);
            command
        };
        let data = folder.join("data");
        let made = command(&bin.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--no-sync", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut settings =
            fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        // Synced as in earnest. Checkpoints are few, for databases are made all the time.
        write!(
            settings,
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\n\
             max_connections = 500\nshared_buffers = 256MB\nmax_wal_size = 8GB\n\
             checkpoint_timeout = 30min\nwal_init_zero = off\nautovacuum_naptime = 10s\n"
        )
        .unwrap();
        let keeper = command(Path::new("/bin/sh"))
            .arg("-c")
            .arg(
                r#""$1" -D "$2" >"$3/log" 2>&1 & server=$!
                   cat >/dev/null; kill -QUIT $server; wait $server; cd /; rm -rf "$3""#,
            )
            .arg("sh")
            .args([&bin.join("postgres"), &data, &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let server = Self { port, _keeper: keeper };
        server.wait(&folder);
        server
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    fn wait(&self, folder: &Path) {
        let began = Instant::now();
        let url = self.url("postgres");
        loop {
            let url = url.clone();
            let connected = async move { tokio_postgres::connect(&url, NoTls).await.err() };
            let Some(error) = aside(connected) else { return };
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "{error}\n{}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn ask(&self, database: &str, sql: &str) {
        ask(&self.url(database), sql);
    }
}

/// Waits for something on a thread of its own: tests call this from inside their runtimes.
pub(crate) fn aside<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(task)
    };
    thread::spawn(run).join().unwrap()
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

/// Who runs the server, where this process is root's.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    fields.next().zip(fields.next())
}
