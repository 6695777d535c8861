//! The console's files, one line each.

/// A file of the console.
pub(super) struct File {
    /// Its path below the folder.
    pub(super) path: &'static str,
    /// Its media type.
    pub(super) media: &'static str,
    /// What is in it.
    pub(super) text: &'static str,
}

pub(super) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(super) const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! file {
    ($path:literal, $media:expr) => {
        File { path: $path, media: $media, text: include_str!(concat!("assets/", $path)) }
    };
}

/// The page, whose address is the console's.
pub(super) const PAGE: &str = include_str!("assets/index.html");

/// Everything else. A test compares this with the folder.
pub(super) const FILES: &[File] = &[
    file!("api.js", SCRIPT),
    file!("chart.js", SCRIPT),
    file!("console.css", STYLE),
    file!("console.js", SCRIPT),
    file!("icon.svg", PICTURE),
    file!("lang/en.js", SCRIPT),
    file!("lang/zh.js", SCRIPT),
    file!("metrics.js", SCRIPT),
    file!("ui.js", SCRIPT),
    file!("views.js", SCRIPT),
    file!("views/admins.js", SCRIPT),
    file!("views/audit.js", SCRIPT),
    file!("views/channels.js", SCRIPT),
    file!("views/connections.js", SCRIPT),
    file!("views/login.js", SCRIPT),
    file!("views/messages.js", SCRIPT),
    file!("views/nodes.js", SCRIPT),
    file!("views/oneself.js", SCRIPT),
    file!("views/overview.js", SCRIPT),
    file!("views/send.js", SCRIPT),
    file!("views/services.js", SCRIPT),
    file!("views/stats.js", SCRIPT),
    file!("views/tail.js", SCRIPT),
    file!("views/templates.js", SCRIPT),
    file!("views/tenants.js", SCRIPT),
    file!("views/users.js", SCRIPT),
    file!("views/webhooks.js", SCRIPT),
    file!("words.js", SCRIPT),
];
