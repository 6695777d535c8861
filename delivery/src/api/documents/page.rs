//! The page that shows the descriptions: one file, which loads nothing but them.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::Document;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page with its style and script, and a policy that lets nothing else in: no other script runs,
/// nothing is asked of another host, and no other page can frame it around its token field.
pub(super) fn document() -> Document {
    let page = PAGE.replace("/* style */", STYLE).replace("/* script */", SCRIPT);
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let mut document = Document::new(page.into(), "text/html; charset=utf-8");
    document.policy = Some(HeaderValue::from_str(&policy).expect("base64 and plain words"));
    document
}
