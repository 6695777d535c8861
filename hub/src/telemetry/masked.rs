//! Log lines without who somebody is (`LOG_PERSONAL_DATA=masked`).
//!
//! Ids of users, names of admins and addresses of clients stand in fields of known names; in place of each is a
//! pseudonym: a keyed hash, so that lines about the same one can still be found together, and nobody without the key
//! can try names. What errors say of the files of an inbox has the user's folder in its path, which goes the same way.

use std::{
    error::Error,
    fmt::{self, Debug, Write as _},
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha2::Sha256;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Fields that say who somebody is, or from where. A test sends one through each.
pub(super) const PERSONAL: [&str; 9] =
    ["user", "user_id", "by", "admin", "from", "address", "username", "email", "phone"];

/// What `by` says where it names a kind and not somebody.
const KINDS: [&str; 8] =
    ["user", "admin", "admin_token", "service", "cli", "single_sign_on", "failures", "gone"];

/// Whose `user` and `admin` are the addresses that this process listens on.
const START: &str = "hub::cli::serve";

/// Bytes of a pseudonym: enough that two of a million users are not taken for one.
const BYTES: usize = 8;

/// What the hash is for, so that the same secret used for anything else gives nothing away.
const PURPOSE: &[u8] = b"pushhub log pseudonyms 1";

/// Makes pseudonyms.
pub(super) struct Mask {
    key: Hmac<Sha256>,
    /// The folder that has one for each user.
    root: PathBuf,
}

impl Mask {
    /// By a secret that all nodes and starts share; without one lines are found together within one start.
    pub(super) fn new(secret: Option<&SecretString>, root: &Path) -> Self {
        let mut random = [0_u8; 32];
        let bytes = match secret {
            Some(secret) => secret.expose_secret().as_bytes(),
            None => {
                // Without randomness no other secret comes to be either, which ends the start.
                let _ = rand::rngs::SysRng.try_fill_bytes(&mut random);
                &random
            }
        };
        let mut key = Hmac::new_from_slice(bytes).expect("HMAC takes keys of every length");
        key.update(PURPOSE);
        Self { key, root: root.to_owned() }
    }

    fn pseudonym(&self, text: &str) -> String {
        let mut hash = self.key.clone();
        hash.update(text.as_bytes());
        let mut name = "~".to_owned();
        for byte in &hash.finalize().into_bytes()[..BYTES] {
            write!(name, "{byte:02x}").expect("writing to a String does not fail");
        }
        name
    }

    /// What a field may say.
    fn field(&self, target: &str, name: &str, text: String) -> String {
        if PERSONAL.contains(&name) && target != START {
            let kind = name == "by" && KINDS.contains(&&*text);
            return if kind || text.is_empty() { text } else { self.pseudonym(&text) };
        }
        self.paths(text)
    }

    /// A text in which folders of users have pseudonyms.
    fn paths(&self, text: String) -> String {
        let root = self.root.to_string_lossy();
        if root.is_empty() || !text.contains(&*root) {
            return text;
        }
        let mut parts = text.split(&*root);
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            masked.push_str(&root);
            masked.push_str(&self.below(part));
        }
        masked
    }

    /// What stands behind the root: `/{user}/…`, `/.tenants/{tenant}/{user}/…`, or the node's own.
    fn below(&self, part: &str) -> String {
        let name = |text: &str| -> usize {
            text.find(['/', ' ', ':', '"', '\'', ',', ')']).unwrap_or(text.len())
        };
        let Some(rest) = part.strip_prefix('/') else { return part.to_owned() };
        if let Some(rest) = rest.strip_prefix(".tenants/") {
            let tenant = name(rest);
            return match rest[tenant..].strip_prefix('/') {
                None => part.to_owned(),
                Some(user) => {
                    let (user, behind) = user.split_at(name(user));
                    format!("/.tenants/{}/{}{behind}", &rest[..tenant], self.pseudonym(user))
                }
            };
        }
        match rest.split_at(name(rest)) {
            (own, _) if own.starts_with('.') || own.is_empty() => part.to_owned(),
            (user, behind) => format!("/{}{behind}", self.pseudonym(user)),
        }
    }
}

/// The fields of an event, masked, in their order.
struct Fields<'a> {
    mask: &'a Mask,
    target: &'a str,
    found: Vec<(&'static str, Value)>,
}

impl Fields<'_> {
    fn text(&mut self, field: &Field, text: String) {
        let text = self.mask.field(self.target, field.name(), text);
        self.found.push((field.name(), text.into()));
    }
}

impl Visit for Fields<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.found.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.found.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.found.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.found.push((field.name(), value.into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let (mut text, mut source) = (value.to_string(), value.source());
        while let Some(error) = source {
            write!(text, ": {error}").expect("writing to a String does not fail");
            source = error.source();
        }
        self.text(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format!("{value:?}"));
    }
}

/// Writes lines as they are written without a mask, for people or machines.
pub(super) struct MaskedLines {
    pub(super) mask: Mask,
    pub(super) json: bool,
}

impl<S, N> FormatEvent<S, N> for MaskedLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields { mask: &self.mask, target: metadata.target(), found: Vec::new() };
        event.record(&mut fields);
        if self.json {
            let mut at = String::new();
            SystemTime.format_time(&mut Writer::new(&mut at))?;
            let mut line = Map::new();
            line.insert("timestamp".to_owned(), at.into());
            line.insert("level".to_owned(), metadata.level().as_str().into());
            line.extend(fields.found.into_iter().map(|(name, value)| (name.to_owned(), value)));
            line.insert("target".to_owned(), metadata.target().into());
            return writeln!(writer, "{}", Value::Object(line));
        }
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {:>5} {}:", metadata.level().as_str(), metadata.target())?;
        for (name, value) in fields.found {
            match (name, value) {
                ("message", Value::String(text)) => write!(writer, " {text}")?,
                (name, Value::String(text)) if text.contains([' ', '"', '\n']) => {
                    write!(writer, " {name}={text:?}")?;
                }
                (name, Value::String(text)) => write!(writer, " {name}={text}")?,
                (name, value) => write!(writer, " {name}={value}")?,
            }
        }
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;

    const CANARY: &str = "ann.canary@example.com";

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn mask() -> Mask {
        Mask::new(Some(&"a secret of the nodes".to_owned().into()), Path::new("/data/users"))
    }

    fn logged(json: bool, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(lines.clone())
            .event_format(MaskedLines { mask: mask(), json });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn nobody_is_named_and_lines_of_one_are_found_together() {
        for json in [false, true] {
            let log = logged(json, || {
                let (text, shown) = (CANARY, tracing::field::display(CANARY));
                tracing::info!(target: "security", user = text, user_id = text, by = text, "one");
                tracing::info!(target: "security", admin = text, from = shown, address = text);
                tracing::info!(target: "business", username = text, email = text, phone = ?text);
                let error =
                    std::io::Error::other(format!("/data/users/{CANARY}/messages.db: full"));
                tracing::warn!(error = &error as &dyn Error, "two");
                tracing::warn!(%error, "three of /data/users/.tenants/t/{CANARY}/messages.db");
                tracing::info!(target: "security", by = "service", event = "made", n = 7, "four");
            });
            assert!(!log.contains("canary"), "{log}");
            let one = mask().pseudonym(CANARY);
            assert!(log.matches(&one).count() >= 10, "{one}: {log}");
            for kept in ["one", "two", "messages.db: full", "/.tenants/t/~", "made", "service", "7"]
            {
                assert!(log.contains(kept), "{kept}: {log}");
            }
            for line in log.lines().filter(|_| json) {
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(line["timestamp"].is_string() && line["target"].is_string(), "{line}");
            }
        }
    }

    #[test]
    fn a_pseudonym_is_of_one_secret() {
        let other = Mask::new(None, Path::new(""));
        assert_eq!(mask().pseudonym("ann"), mask().pseudonym("ann"));
        assert_ne!(mask().pseudonym("ann"), mask().pseudonym("bob"));
        assert_ne!(mask().pseudonym("ann"), other.pseudonym("ann"));
        assert_eq!(other.paths("/x/y".to_owned()), "/x/y");
    }

    #[test]
    fn the_node_s_own_files_are_named() {
        for own in ["/data/users/.hub/shared.db: full", "/data/users is full", "/data/users/"] {
            assert_eq!(mask().paths(own.to_owned()), own);
        }
    }
}
