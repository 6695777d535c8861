//! The web console at `/` of the admin port (contract §9): static files in the binary, nothing from elsewhere.
//!
//! # Why a page cannot be turned against its admin
//! * The session's token is in the tab's `sessionStorage` and goes into `Authorization`: no cookie, so a request
//!   that another page makes carries nothing, and no other origin can read the token. The cookie of a login at the
//!   issuer goes with the exchange of its code alone, and is worth nothing without that code.
//! * The policy lets only these files run. There is no inline script or style, and with
//!   `require-trusted-types-for` no text can become markup, whatever a message or a name says.
//! * Nothing may frame it, and no window that opened it keeps a hand on it (`Cross-Origin-Opener-Policy`).
//!
//! # Caching
//! Files are below a folder named by the hash of all of them and may be kept for ever; the page names the folder
//! and is asked for each time. Modules name each other by relative paths, so the folder's name stands in the page only.
//! Whoever asks for another build's folder gets 404, and the page says that it is to be loaded again.

mod assets;

use std::{fmt::Write as _, io::Write as _, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use self::assets::{FILES, File, PAGE};

/// What the page may do: run and show its own files, ask its own host, and show pictures that it makes itself.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                          img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                          require-trusted-types-for 'script'; trusted-types 'none'";

/// Most that all files may have together, compressed, in bytes: what a first visit costs.
pub const GZIP_BYTES_MAX: usize = 60 << 10;

/// Where the page names the folder of the files.
const FOLDER_MARK: &str = "{{folder}}";

/// A year, which is the most that caches count to.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// An upgrade shows at once, and the answer is then short.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// A file as it is sent.
struct Ready {
    media: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
    etag: HeaderValue,
}

/// The console of this build.
struct Console {
    /// The name of the folder.
    version: String,
    page: Ready,
    files: FxHashMap<&'static str, Ready>,
}

/// `/`, and the files below `/console/`. Each compressed once, here.
pub fn routes() -> Router {
    Router::new()
        .route("/", get(page))
        .route("/console/{version}/{*file}", get(file))
        .with_state(Arc::new(Console::new()))
}

impl Console {
    fn new() -> Self {
        let version = version();
        let text = PAGE.replace(FOLDER_MARK, &format!("console/{version}"));
        let page = Ready::new("text/html; charset=utf-8", text.into());
        let ready = |file: &File| Ready::new(file.media, squeezed(file.text, file.media).into());
        let files = FILES.iter().map(|file| (file.path, ready(file))).collect();
        Self { version, page, files }
    }
}

/// A hash of all files, so that a folder's name stands for exactly these.
fn version() -> String {
    let mut hash = Sha256::new();
    for file in FILES {
        hash.update((file.path.len() as u64).to_le_bytes());
        hash.update(file.path);
        hash.update((file.text.len() as u64).to_le_bytes());
        hash.update(file.text);
    }
    hexadecimal(&hash.finalize()[..8])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// Without indentation, empty lines and comments that fill their lines, which are for who reads the source: a twelfth of
/// what would be sent, even compressed. A test sees to it that no text goes over several lines.
fn squeezed(text: &str, media: &str) -> String {
    let is_comment = |line: &str| {
        let script = media == assets::SCRIPT
            && ["//", "/*", "* ", "*/"].into_iter().any(|mark| line.starts_with(mark));
        script || (line.starts_with("/*") && line.ends_with("*/"))
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_comment(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

impl Ready {
    fn new(media: &'static str, plain: Bytes) -> Self {
        let etag = format!("\"{}\"", hexadecimal(&Sha256::digest(&plain)[..16]));
        Self {
            media: HeaderValue::from_static(media),
            gzip: gzip(&plain),
            etag: HeaderValue::from_str(&etag).expect("hexadecimal digits"),
            plain,
        }
    }

    fn answer(&self, request: &HeaderMap, keep: HeaderValue) -> Response {
        let known = request.get_all(header::IF_NONE_MATCH).iter().any(|given| {
            let tags = given.to_str().unwrap_or_default().split(',');
            tags.map(|tag| tag.trim().trim_start_matches("W/")).any(|tag| tag == self.etag)
        });
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else if takes_gzip(request) {
            let mut response = Response::new(Body::from(self.gzip.clone()));
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            response
        } else {
            Response::new(Body::from(self.plain.clone()))
        };
        let headers = response.headers_mut();
        if !known {
            headers.insert(header::CONTENT_TYPE, self.media.clone());
        }
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::CACHE_CONTROL, keep);
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
        response
    }
}

fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("a Vec takes everything");
    encoder.finish().expect("a Vec takes everything").into()
}

/// RFC 9110 §12.5.3, as far as browsers use it: `gzip` is named, and not with weight 0.
fn takes_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
        |coding| {
            let mut parts = coding.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map(str::parse::<f32>);
            named && weight.is_none_or(|weight| weight.is_ok_and(|weight| weight > 0.0))
        },
    )
}

async fn page(State(console): State<Arc<Console>>, request: HeaderMap) -> Response {
    console.page.answer(&request, ASK_AGAIN)
}

async fn file(
    State(console): State<Arc<Console>>,
    Path((version, file)): Path<(String, String)>,
    request: HeaderMap,
) -> Response {
    match console.files.get(file.as_str()).filter(|_| version == console.version) {
        Some(file) => file.answer(&request, FOR_EVER),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        fn walk(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{below}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), found);
                } else {
                    found.insert(name);
                }
            }
        }
        let mut there = BTreeSet::new();
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/assets"), "", &mut there);
        assert!(there.remove("index.html"));
        let served: BTreeSet<_> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(served, there);
    }

    #[test]
    fn what_is_left_out_is_no_part_of_a_text() {
        let script =
            "// about\nconst a = 1;\n\n  /** Of b. */\n  /*\n   * more\n   */\n  b(); // stays\n";
        assert_eq!(squeezed(script, assets::SCRIPT), "const a = 1;\nb(); // stays\n");
        assert_eq!(squeezed("/* a */\n* { b: c }\n", assets::STYLE), "* { b: c }\n");
        for File { path, text, .. } in FILES {
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let ticks = line.matches('`').count() - line.matches("\\`").count();
                assert_eq!(ticks % 2, 0, "{path}: a text over several lines: {line}");
            }
        }
    }

    #[test]
    fn all_of_it_is_small() {
        let console = Console::new();
        let files = console.files.values().chain([&console.page]);
        let bytes: usize = files.map(|ready| ready.gzip.len()).sum();
        println!("the console: {bytes} bytes of gzip");
        assert!(bytes <= GZIP_BYTES_MAX, "{bytes} bytes of gzip, {GZIP_BYTES_MAX} are allowed");
    }

    #[test]
    fn gzip_is_for_those_who_name_it() {
        let ask = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        assert!(ask("gzip, deflate, br") && ask("br;q=1.0, gzip;q=0.8") && ask("GZIP"));
        assert!(!ask("br") && !ask("gzip;q=0") && !ask("identity") && !ask(""));
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let page = Console::new().page;
        let ask = |tags: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(tags).unwrap());
            page.answer(&headers, ASK_AGAIN).status().as_u16()
        };
        let tag = page.etag.to_str().unwrap();
        assert_eq!((ask(tag), ask(&format!("\"x\", W/{tag}")), ask("\"x\"")), (304, 304, 200));
    }
}
