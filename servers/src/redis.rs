//! Redis as a child process, killed by its id when dropped.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{PATIENCE, eventually, free_port, kept::Kept};

/// A server, sentinel or cluster node.
pub struct Redis {
    /// Where it listens.
    pub port: u16,
    process: Kept,
    folder: TempDir,
    arguments: Vec<String>,
    password: Option<String>,
}

impl Redis {
    /// A plain server.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with more settings, such as `["requirepass", "secret"]`.
    pub async fn start_with(settings: &[&str]) -> Self {
        let port = free_port();
        let mut arguments = vec!["--port".to_owned(), port.to_string()];
        for setting in ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"] {
            arguments.push(setting.to_owned());
        }
        let mut password = None;
        for pair in settings.chunks(2) {
            arguments.push(format!("--{}", pair[0]));
            arguments.push(pair[1].to_owned());
            if pair[0] == "requirepass" {
                password = Some(pair[1].to_owned());
            }
        }
        Self::launch(port, arguments, "", password).await
    }

    /// A sentinel of a primary on this machine.
    pub async fn start_sentinel(name: &str, primary: u16) -> Self {
        Self::launch_sentinel(name, primary, String::new(), None).await
    }

    /// One that demands a password of its own, of a primary that demands another.
    pub async fn start_sentinel_with(name: &str, primary: &Self, password: &str) -> Self {
        let of_primary = primary.password.as_deref().expect("it was started with requirepass");
        let more = format!("sentinel auth-pass {name} {of_primary}\nrequirepass {password}\n");
        Self::launch_sentinel(name, primary.port, more, Some(password.to_owned())).await
    }

    async fn launch_sentinel(
        name: &str,
        primary: u16,
        more: String,
        password: Option<String>,
    ) -> Self {
        let port = free_port();
        let file = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 5000\n{more}"
        );
        Self::launch(port, vec!["--sentinel".to_owned()], &file, password).await
    }

    async fn launch(
        port: u16,
        mut arguments: Vec<String>,
        file: &str,
        password: Option<String>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if !file.is_empty() {
            let path = folder.path().join("redis.conf");
            std::fs::write(&path, file).unwrap();
            arguments.insert(0, path.display().to_string());
        }
        let process = spawn(folder.path(), &arguments);
        let redis = Self { port, process, folder, arguments, password };
        redis.answers().await;
        redis
    }

    async fn answers(&self) {
        let up = || self.try_command(&["PING"]).is_some_and(|answer| answer.contains("PONG"));
        eventually("redis answers", PATIENCE, up).await;
    }

    /// Where it is, for `REDIS_URL`.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Gives a command; answers with what it says, as text on the wire.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|| panic!("no answer to {words:?}"))
    }

    /// As [`Redis::command`], to a server that may be away.
    pub fn try_command(&self, words: &[&str]) -> Option<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut text = String::new();
        if let Some(password) = &self.password {
            text += &encode(&["AUTH", password]);
        }
        text += &encode(words);
        socket.write_all(text.as_bytes()).ok()?;
        // Sentinels know no QUIT. What was asked is answered before the end is read.
        socket.shutdown(std::net::Shutdown::Write).ok()?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// How many channels have subscribers.
    pub fn channels(&self) -> usize {
        self.stat("pubsub_channels:")
    }

    /// The same for sharded ones.
    pub fn sharded_channels(&self) -> usize {
        self.stat("pubsubshard_channels:")
    }

    fn stat(&self, name: &str) -> usize {
        let info = self.command(&["INFO", "stats"]);
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {info}")).trim().parse().unwrap()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for yet.
        assert_eq!(unsafe { libc::kill(self.process.id(), signal) }, 0);
    }

    /// Stops it where it stands: connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Ends [`Redis::freeze`].
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty, on the same port.
    pub async fn restart(&mut self) {
        self.process = spawn(self.folder.path(), &self.arguments);
        self.answers().await;
    }
}

fn spawn(folder: &Path, arguments: &[String]) -> Kept {
    let mut command = Command::new("redis-server");
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Kept::spawn(&mut command)
        .unwrap_or_else(|error| panic!("redis-server: {error}; see scripts/tools.sh"))
}

fn encode(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text
}
