//! Ids that look like paths, and ids that look alike.

use delivery::{
    InboxKey,
    search::Terms,
    store::{ListQuery, Mark},
};
use protocol::{TenantId, UserId};

use super::{
    Backend,
    fixture::{Fixture, inbox, inbox_of},
};

/// Legal, all of them, and all different.
fn users() -> Vec<String> {
    let mut users: Vec<String> = [
        "../x",
        "..",
        ".",
        "...",
        "a/b",
        "/",
        "/etc/passwd",
        "a\\b",
        "..\\x",
        "%2e%2e",
        "%",
        "%25",
        "Ann",
        "ann",
        "ANN",
        "ann.",
        "ann..",
        "ann ",
        " ann",
        " ",
        "CON",
        "con",
        "NUL",
        "aux.txt",
        "-rf",
        "--",
        "~",
        "$HOME",
        "`id`",
        "messages.db",
        "read_status.db",
        ".sync",
        ".tenants",
        ".hub",
        "default",
        "a:b",
        "a*b",
        "a?b",
        "a|b",
        "a\"b",
        "a'b",
        "a;b",
        "_",
        "@",
        "a@b.c",
        "\u{e9}",
        "e\u{301}",
        "\u{ff0e}\u{ff0e}",
        "\u{202e}x",
        "\u{200b}",
        "\u{1f600}",
        "界",
    ]
    .map(str::to_owned)
    .to_vec();
    users.push("x".repeat(128));
    users.push("/".repeat(128));
    users.push(".".repeat(128));
    users.push("%".repeat(128));
    users.push("X".repeat(128));
    users.push("界".repeat(42));
    users.push(format!("{}é", "界".repeat(42)));
    users.push("\u{1f600}".repeat(32));
    users
}

pub(crate) async fn every_legal_id_has_an_inbox_of_its_own(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let users = users();
    let keys: Vec<InboxKey> = users
        .iter()
        .flat_map(|user| [inbox(user), inbox_of("t", user), inbox_of(user, "u")])
        .collect();
    for key in &keys {
        let id = fix.send(&[key], &format!("{key:?}")).await;
        fix.send(&[key], "second").await;
        fix.mark_one(key, Mark::Read, &id).await.unwrap();
    }
    fix.reopen().await;
    for key in &keys {
        assert_eq!(fix.titles(key).await, [format!("{key:?}"), "second".to_owned()]);
        assert_eq!(fix.unread(key).await, 1, "{key:?}");
    }
    for refused in ["", "a\0b", "\n", &"x".repeat(129), "\u{7f}", "\u{85}"] {
        assert!(UserId::new(refused).is_err() && TenantId::new(refused).is_err());
    }
}

pub(crate) async fn nothing_leaves_the_folder(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let Some(folder) = fix.backend.folder().map(ToOwned::to_owned) else { return };
    let entries = |path: &std::path::Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (inside, beside) = (entries(&folder), entries(folder.parent().unwrap()));
    for user in users() {
        fix.send(&[&inbox(&user)], "x").await;
        fix.send(&[&inbox_of(&user, &user)], "x").await;
        fix.titles(&inbox(&user)).await;
    }
    fix.store.close().await;
    assert_eq!(entries(&folder), inside);
    let left: Vec<_> = entries(folder.parent().unwrap())
        .into_iter()
        .filter(|name| !beside.contains(name))
        // The folder for temporary files is shared with other tests.
        .filter(|name| users().iter().any(|user| user.contains(&*name.to_string_lossy())))
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
}

/// Whatever the umask says: messages are read by their owner and by who runs the node.
#[cfg(unix)]
pub(crate) async fn nobody_else_on_the_machine_may_look(backend: impl Backend) {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    fn look(path: &Path, seen: &mut usize) {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, wanted, "{} has mode {mode:o}", path.display());
        *seen += 1;
        if path.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| look(&entry.unwrap().path(), seen));
        }
    }

    rustix::process::umask(rustix::fs::Mode::empty());
    let fix = Fixture::new(backend).await;
    let Some(folder) = fix.backend.folder().map(ToOwned::to_owned) else { return };
    for key in [inbox("ann"), inbox_of("t", "ann")] {
        let id = fix.send(&[&key], "x").await;
        fix.mark_one(&key, Mark::Read, &id).await.unwrap();
        fix.store.ack(&key, &"phone".parse().unwrap(), protocol::Seq(1));
        // What a search keeps, too.
        let text = Some(Terms::parse("x").unwrap());
        assert_eq!(fix.list(&key, ListQuery { text, ..ListQuery::default() }).await.total, 1);
    }
    fix.store.close().await;
    let mut seen = 0;
    for name in ["ann", ".tenants"] {
        look(&folder.join("storage").join(name), &mut seen);
    }
    assert!(seen > 10, "{seen} files and folders");
}
