//! The web console: what is served, what its files may contain, and the console in a real browser (`clicks`).

mod clicks;
mod keyboard;
mod people;
mod records;
mod roles;
mod single_sign_on;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::support::TestServer;

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/assets")
}

/// The console's files as they are in the source, by path.
fn sources() -> BTreeMap<String, String> {
    fn walk(folder: &Path, below: &str, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name, std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&assets(), "", &mut found);
    found
}

fn scripts() -> impl Iterator<Item = (String, String)> {
    let is_script = |path: &str| path.ends_with(".js") && !path.starts_with("lang/");
    sources().into_iter().filter(move |(path, _)| is_script(path))
}

#[tokio::test]
async fn the_page_and_its_files_are_served_with_their_headers() {
    let server = TestServer::start().await;
    let nobody = server.admin_port();
    let page = nobody.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), "no-cache");
    assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(policy.split("; ").any(|one| one == part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let tag = page.header("etag").to_owned();
    assert_eq!(nobody.clone().header("If-None-Match", &tag).get("/").await.status, 304);

    let html = page.body.as_str().unwrap().to_owned();
    let folder = html.split("href=\"").nth(1).unwrap().split("/icon.svg").next().unwrap();
    assert!(folder.starts_with("console/"), "{folder}");
    for path in sources().keys().filter(|path| *path != "index.html") {
        let file = nobody.get(&format!("/{folder}/{path}")).await;
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable", "{path}");
        assert_eq!(file.header("x-content-type-options"), "nosniff", "{path}");
        let media = file.header("content-type");
        let expected = match path.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(media, expected, "{path}");
    }
    let zipped = nobody.clone().header("Accept-Encoding", "gzip, br").get("/").await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    // Another build's folder, and what is no file.
    for path in [
        "/console/0000000000000000/console.js",
        &format!("/{folder}/../Cargo.toml"),
        &format!("/{folder}/none.js"),
    ] {
        assert_eq!(nobody.get(path).await.status, 404, "{path}");
    }
    assert_eq!(server.api().get("/").await.status, 404, "users have no console");
}

#[test]
fn nothing_comes_from_outside_and_no_text_becomes_markup() {
    /// What a file may name: a namespace, and examples that are shown.
    const NAMED: [&str; 3] = ["http://www.w3.org/2000/svg", "http://127.0.0.1:8080/", "https://'"];
    for (path, text) in sources() {
        let mut rest = text.clone();
        for named in NAMED {
            rest = rest.replace(named, "");
        }
        for outside in ["http://", "https://", "//cdn", "@import"] {
            assert!(!rest.contains(outside), "{path} has {outside}");
        }
        assert!(!path.ends_with(".css") || !text.contains("url("), "{path} loads something");
        for markup in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "localStorage.setItem('pushhub.session",
        ] {
            assert!(!text.contains(markup), "{path} has {markup}");
        }
    }
    let page = &sources()["index.html"];
    for inline in ["style=", "onload", "onclick", "<style", "javascript:"] {
        assert!(!page.contains(inline), "the page has {inline}");
    }
    assert_eq!(
        page.matches("<script").count(),
        page.matches("<script type=\"module\" src=").count()
    );
}

/// The calls of a script: method and path, `{}` for what is put in.
fn calls(text: &str) -> BTreeSet<String> {
    const METHODS: [(&str, &str); 7] = [
        ("get(", "GET"),
        ("download(", "GET"),
        ("page(", "GET"),
        ("events(", "GET"),
        ("post(", "POST"),
        ("put(", "PUT"),
        ("del(", "DELETE"),
    ];
    let mut found = BTreeSet::new();
    for (word, method) in METHODS {
        for (at, _) in text.match_indices(word) {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            let rest = &text[at + word.len()..];
            let rest = rest.strip_prefix("path").unwrap_or(rest);
            let Some(quote) = rest.chars().next().filter(|quote| ['\'', '`'].contains(quote))
            else {
                continue;
            };
            if before == '.' || before.is_alphanumeric() || before == '_' {
                continue;
            }
            let path = rest[1..].split(quote).next().unwrap();
            let mut plain = String::new();
            for (index, piece) in path.split("${").enumerate() {
                let piece = if index == 0 {
                    piece
                } else {
                    plain.push_str("{}");
                    piece.split_once('}').unwrap().1
                };
                plain.push_str(piece);
            }
            found.insert(format!("{method} /api/v3/admin/{plain}"));
        }
    }
    found
}

#[tokio::test]
async fn every_path_that_is_called_is_there() {
    let server = TestServer::start().await;
    let document = server.admin_port().get("/api/v3/openapi.json").await.body;
    let mut there = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let plain: Vec<_> =
            path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
        for method in methods.as_object().unwrap().keys() {
            there.insert(format!("{} {}", method.to_ascii_uppercase(), plain.join("/")));
        }
    }
    let mut all = BTreeSet::new();
    for (path, text) in scripts() {
        for call in calls(&text) {
            assert!(there.contains(&call), "{path} calls {call}");
            all.insert(call);
        }
    }
    // The scan sees what is there.
    assert!(all.len() > 60, "{all:?}");
    for call in [
        "POST /api/v3/admin/messages/send",
        "DELETE /api/v3/admin/services/{}/keys/{}",
        "GET /api/v3/admin/tail",
    ] {
        assert!(all.contains(call), "{call}");
    }
}

fn words_of(language: &str) -> BTreeMap<String, String> {
    let text = &sources()[&format!("lang/{language}.js")];
    let line = |line: &str| {
        let (key, text) = line.trim().strip_prefix('\'')?.split_once("': '")?;
        Some((key.to_owned(), text.trim_end_matches("',").to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// `{name}` of a text.
fn places(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}

#[test]
fn both_languages_say_the_same_things_and_all_that_is_asked_for() {
    let (english, chinese) = (words_of("en"), words_of("zh"));
    assert!(english.len() > 300);
    assert_eq!(english.keys().collect::<Vec<_>>(), chinese.keys().collect::<Vec<_>>());
    for (key, text) in &english {
        assert_eq!(places(text), places(&chinese[key]), "{key}");
        assert!(!text.is_empty() && !chinese[key].is_empty(), "{key}");
    }
    let everything: String = scripts().map(|(_, text)| text).collect();
    for (at, _) in everything.match_indices("t('") {
        let before = everything[..at].chars().next_back().unwrap_or(' ');
        let key = everything[at + 3..].split('\'').next().unwrap();
        if !before.is_alphanumeric() && before != '.' {
            assert!(english.contains_key(key), "t('{key}') has no text");
        }
    }
    let views = &sources()["views.js"];
    for view in views.match_indices("{ id: '").map(|(at, mark)| &views[at + mark.len()..]) {
        let (id, group) =
            (view.split('\'').next().unwrap(), view.split("group: '").nth(1).unwrap());
        let group = group.split('\'').next().unwrap();
        for key in [format!("view.{id}"), format!("group.{group}")] {
            assert!(english.contains_key(&key), "{key}");
        }
    }
}
