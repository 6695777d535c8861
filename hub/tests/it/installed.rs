//! What is installed beside the binary: completions, the manual, the unit, and what the unit's service tells
//! systemd.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use http::Method;
use servers::Postgres;

use crate::support::{Cluster, SOON, TestServer, eventually, eventually_within, server::Builder};

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name)
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn bash_completes_commands_and_options() {
    let complete = |words: &str| {
        let script = format!(
            "source <(\"$PUSHHUB\" completions bash)\n\
             COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _pushhub pushhub \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let bash = Command::new("bash")
            .args(["--norc", "-c", &script])
            .env("PUSHHUB", env!("CARGO_BIN_EXE_pushhub"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&bash.stderr);
        assert!(bash.status.success() && errors.is_empty(), "{words}: {errors}");
        String::from_utf8_lossy(&bash.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("pushhub doc"), ["doctor"]);
    assert_eq!(complete("pushhub service ro"), ["rotate"]);
    assert!(complete("pushhub doctor --j").contains(&"--json".to_owned()));
}

#[tokio::test]
async fn the_other_shells_have_completions_too() {
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let (status, said) = TestServer::plain_builder().run(&["completions", shell]).await;
        assert!(status.success() && said.contains("doctor") && said.contains("rotate"), "{shell}");
    }
    let (status, _) = TestServer::plain_builder().run(&["completions", "csh"]).await;
    assert_eq!(status.code(), Some(64));
}

#[tokio::test]
async fn the_manual_is_clean_and_has_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man").display().to_string();
    let (status, said) = TestServer::plain_builder().run(&["man", "--out", &out]).await;
    assert!(status.success(), "{said}");
    let pages: Vec<PathBuf> = said.lines().map(PathBuf::from).collect();
    assert!(pages.len() > 15, "{said}");
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        assert!(text.is_ascii(), "{}: a reader may know nothing else", page.display());
        if is_there("groff") {
            let groff = Command::new("groff")
                .args(["-ww", "-man", "-Tutf8", "-z"])
                .arg(page)
                .output()
                .unwrap();
            let warnings = String::from_utf8_lossy(&groff.stderr);
            assert!(
                groff.status.success() && warnings.is_empty(),
                "{}: {warnings}",
                page.display()
            );
        }
    }
    let settings = pages.iter().find(|page| page.ends_with("pushhub.toml.5")).unwrap();
    // As it is written there: a hyphen is not a minus.
    let settings = fs::read_to_string(settings).unwrap();
    for setting in hub::config::table::ALL {
        assert!(settings.contains(setting.name), "{}", setting.name);
    }
}

#[test]
fn the_unit_is_one_and_is_hardened() {
    let unit = fs::read_to_string(packaging("pushhub.service")).unwrap();
    let environment = fs::read_to_string(packaging("pushhub.env")).unwrap();
    // A name that is no setting any more would be read by nobody.
    for line in environment.lines().filter(|line| line.contains('=')) {
        let Some((name, _)) = line.trim_start_matches('#').trim().split_once('=') else { continue };
        if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            let name = name.strip_suffix("_FILE").unwrap_or(name);
            assert!(hub::config::table::find(name).is_some(), "{name} is no setting");
        }
    }
    if !is_there("systemd-analyze") {
        return println!("systemd-analyze is not installed: the unit was not verified");
    }
    // The binary where this build put it, for it has to be there.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pushhub.service");
    let binary = env!("CARGO_BIN_EXE_pushhub");
    fs::write(&path, unit.replace("/usr/bin/pushhub", binary)).unwrap();
    let analyze = |arguments: &[&str]| {
        let done = Command::new("systemd-analyze").args(arguments).arg(&path).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    // Man pages are not installed here.
    let (good, said) = analyze(&["verify", "--man=no"]);
    let ours = said.lines().find(|line| line.contains("pushhub.service"));
    assert!(good && ours.is_none(), "{said}");
    // 0 is nothing but walls, 10 none; a plain unit has 9.6.
    let (good, said) = analyze(&["security", "--offline=yes", "--threshold=20"]);
    assert!(good, "{said}");
}

/// What the node is told of `WATCHDOG_USEC`: a busy machine may hold it up for a moment.
const WATCHDOG: Duration = Duration::from_secs(2);

/// Where a service manager listens.
struct Manager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { folder, socket }
    }

    fn of(&self, builder: Builder, watchdog: Duration) -> Builder {
        builder
            .env("NOTIFY_SOCKET", self.folder.path().join("notify").display())
            .env("WATCHDOG_USEC", watchdog.as_micros())
    }

    /// The next words, if there are some.
    fn next(&self) -> Option<String> {
        let mut buffer = [0; 1_024];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Waits for words, and gives all that came with them.
    async fn until(&self, word: &str) -> Vec<String> {
        let mut heard = Vec::new();
        eventually_within(word, SOON, || {
            let next = self.next();
            let found = next.as_ref().is_some_and(|next| next.contains(word));
            heard.extend(next);
            async move { found.then_some(()) }
        })
        .await;
        heard
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_it_is_ready_alive_and_stopping() {
    let (manager, server) = (Manager::new(), Postgres::start());
    let url = server.database();
    server.stop();
    let ports = [servers::free_port(), servers::free_port()];
    let node = Cluster::on(url)
        .node("a")
        .env("USER_SERVER_PORT", ports[0])
        .env("ADMIN_SERVER_PORT", ports[1])
        .env("DRAIN_TIMEOUT", "7s");
    let mut node = manager.of(node, WATCHDOG).launch();
    node.admin.set_port(ports[1]);
    eventually("it answers, and is not ready", || async {
        let health = node.as_admin().try_call(Method::GET, "/health/ready", None).await;
        health.is_ok_and(|health| health.status == 503)
    })
    .await;
    // Alive all the while, and not ready.
    let mut heard = manager.until("WATCHDOG=1").await;
    heard.extend(manager.until("WATCHDOG=1").await);
    assert!(heard.iter().all(|words| !words.contains("READY=1")), "{heard:?}");
    assert!(heard.iter().any(|words| words == "STATUS=starting"), "{heard:?}");

    server.start_again();
    manager.until("READY=1\nSTATUS=").await;
    assert!(node.ready().await);
    node.is_ready().await.unwrap();

    // So long without a sign would be its end.
    for _ in 0..2 {
        let waited = std::time::Instant::now();
        manager.until("WATCHDOG=1").await;
        assert!(waited.elapsed() < WATCHDOG, "{:?}", waited.elapsed());
    }
    server.kill();
    manager.until("STATUS=not ready: the store cannot write").await;
    server.start_again();
    manager.until("STATUS=ready").await;

    node.signal(libc::SIGTERM);
    let last = manager.until("STOPPING=1").await;
    assert!(last.last().unwrap().contains("EXTEND_TIMEOUT_USEC=12000000"), "{last:?}");
    assert_eq!(node.exited(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_manager_that_is_gone_keeps_nothing_from_starting() {
    let mut server =
        TestServer::plain_builder().env("NOTIFY_SOCKET", "/nowhere/notify").start().await;
    assert!(server.log().contains("NOTIFY_SOCKET cannot be used"), "{}", server.log());
    assert!(server.ready().await);
    assert!(server.terminate().await.success());
}
