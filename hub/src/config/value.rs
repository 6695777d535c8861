//! Texts to values: durations, sizes, lists, each with the sentence that says what is allowed.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use delivery::{
    admin::{ROLES_MAX, Role},
    backup::{BucketConfig, EVERY_MAX, EVERY_MIN, Key, NoSchedule, Schedule},
    content::{ContentKeys, KeysError},
    identity::{NoIssuers, TrustedIssuers},
    limit::{RATE_MAX, Rate},
    networks::{NETWORKS_MAX, Networks},
    outbound::OutboundUrl,
    provider::{FieldMapping, REDIRECT_URI_BYTES_MAX, REDIRECT_URIS_MAX, TENANTS_MAX},
    spans::{Headers, NoHeaders},
    store::postgres::check_address,
};
use protocol::TenantId;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::table::Kind;
use crate::bus::{ADDRESS_ALLOWED, RedisAddress};

/// Longest text setting, in bytes: it becomes an id or a claim.
const TEXT_BYTES_MAX: usize = 128;

/// Most texts of a list: it is walked for each token.
const TEXTS_MAX: usize = 16;

/// Longest word, in bytes: it is part of every name on Redis.
const WORD_BYTES_MAX: usize = 64;

/// A setting's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Port(u16),
    Address(IpAddr),
    Path(PathBuf),
    Text(String),
    Duration(Duration),
    Number(usize),
    List(Vec<String>),
    Rate(Rate),
    Ratio(f64),
    Networks(Networks),
    Issuers(TrustedIssuers),
}

impl Kind {
    /// Reads a text; empty gives no value.
    pub(super) fn read(&self, text: &str) -> Option<Value> {
        if text.is_empty() {
            return Some(Value::None);
        }
        match *self {
            Self::Port => text.parse().ok().map(Value::Port),
            Self::Address => {
                let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
                bare.unwrap_or(text).parse().ok().map(Value::Address)
            }
            Self::Path => (!text.contains('\0')).then(|| Value::Path(text.into())),
            Self::Text => is_text(text).then(|| Value::Text(text.to_owned())),
            Self::Secret { bytes_min } => {
                (text.len() >= bytes_min).then(|| Value::Text(text.to_owned()))
            }
            Self::OffDuration { .. } | Self::OffCount { .. } if text == "off" => Some(Value::None),
            Self::Duration { min, max } | Self::OffDuration { min, max } => parse_duration(text)
                .filter(|value| (min..=max).contains(value))
                .map(Value::Duration),
            Self::Bytes { min, max } => {
                parse_bytes(text).filter(|value| (min..=max).contains(value)).map(Value::Number)
            }
            Self::AutoCount { .. } if text == "auto" => Some(Value::None),
            Self::Count { min, max }
            | Self::AutoCount { min, max }
            | Self::OffCount { min, max } => {
                text.parse().ok().filter(|value| (min..=max).contains(value)).map(Value::Number)
            }
            Self::Choice(words) => words.contains(&text).then(|| Value::Text(text.to_owned())),
            Self::Origins => parse_origins(text).map(Value::List),
            Self::Networks => text.parse().ok().map(Value::Networks),
            Self::Texts => parse_texts(text).map(Value::List),
            Self::Issuers => text.parse().ok().map(Value::Issuers),
            Self::Rate if text == "off" => Some(Value::None),
            Self::Rate => text.parse().ok().map(Value::Rate),
            Self::Word => {
                let legal = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
                (text.len() <= WORD_BYTES_MAX && text.chars().all(legal))
                    .then(|| Value::Text(text.to_owned()))
            }
            Self::DatabaseAddress => {
                check_address(text).is_ok().then(|| Value::Text(text.to_owned()))
            }
            Self::BackupKey => {
                Key::parse(&text.to_owned().into()).is_ok().then(|| Value::Text(text.to_owned()))
            }
            Self::ContentKeys => {
                ContentKeys::parse(text).is_ok().then(|| Value::Text(text.to_owned()))
            }
            Self::Schedule if text == "off" => Some(Value::None),
            Self::Schedule => parse_schedule(text).map(|_| Value::Text(text.to_owned())),
            Self::Bucket => BucketConfig::parse(text).map(|_| Value::Text(text.to_owned())),
            Self::RedisAddress => {
                text.parse::<RedisAddress>().is_ok().then(|| Value::Text(text.to_owned()))
            }
            Self::Url => {
                OutboundUrl::configured(text).is_ok().then(|| Value::Text(text.to_owned()))
            }
            Self::PublicUrl => parse_public_url(text).map(|_| Value::Text(text.to_owned())),
            Self::RedirectUris => parse_redirect_uris(text).map(Value::List),
            Self::Fields => parse_fields(text).map(|_| Value::Text(text.to_owned())),
            Self::Tenants => parse_tenants(text).map(|_| Value::Text(text.to_owned())),
            Self::AdminRoles => parse_admin_roles(text).map(|_| Value::Text(text.to_owned())),
            Self::FieldPath => FieldMapping::is_path(text).then(|| Value::Text(text.to_owned())),
            Self::Ratio => {
                text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).map(Value::Ratio)
            }
            Self::Headers => Headers::parse(&text.to_owned().into())
                .is_ok()
                .then(|| Value::Text(text.to_owned())),
            Self::LogFilter => {
                EnvFilter::builder().parse(text).ok().map(|_| Value::Text(text.to_owned()))
            }
        }
    }

    /// What is allowed, after "allowed: ".
    #[must_use]
    pub fn allowed(&self) -> String {
        match *self {
            Self::Port => "a port from 0 to 65535".to_owned(),
            Self::Address => "an IP address such as 127.0.0.1, 0.0.0.0 or ::".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Text => format!("1 to {TEXT_BYTES_MAX} bytes without control characters"),
            Self::Secret { bytes_min: 1 } => "a text".to_owned(),
            Self::Secret { bytes_min } => format!("a text of at least {bytes_min} bytes"),
            Self::Duration { min, max } => {
                let (min, max) = (show_duration(min), show_duration(max));
                format!("a duration with its unit (ms, s, m, h, d) from {min} to {max}")
            }
            Self::Bytes { min, max } => {
                let (min, max) = (show_bytes(min), show_bytes(max));
                format!("a size in bytes, or with KiB, MiB, from {min} to {max}")
            }
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::OffDuration { min, max } => {
                format!("`off` or {}", Self::Duration { min, max }.allowed())
            }
            Self::OffCount { min, max } => {
                format!("`off` or {}", Self::Count { min, max }.allowed())
            }
            Self::AutoCount { min, max } => {
                format!("`auto` or a whole number from {min} to {max}")
            }
            Self::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                words.join(" or ")
            }
            Self::Origins => {
                "`*`, or origins such as https://app.example.com separated by commas".to_owned()
            }
            Self::Networks => format!(
                "up to {NETWORKS_MAX} addresses or networks such as 10.0.0.0/8 separated by commas"
            ),
            Self::Texts => format!(
                "up to {TEXTS_MAX} texts of 1 to {TEXT_BYTES_MAX} bytes without control characters, separated by commas"
            ),
            Self::Issuers => NoIssuers.to_string(),
            Self::Rate => format!("`off`, `N/s` or `N/s:burst` with numbers from 1 to {RATE_MAX}"),
            Self::Word => format!("1 to {WORD_BYTES_MAX} of the characters a-z A-Z 0-9 - _ . :"),
            Self::DatabaseAddress => "postgres://user:password@host:5432/database, with sslmode= disable, prefer, require or verify-full".to_owned(),
            Self::ContentKeys => KeysError.to_string(),
            Self::BackupKey => "an age recipient (age1…), an age identity (AGE-SECRET-KEY-1…), or a passphrase of 12 bytes or more".to_owned(),
            // As its sentence has it, after "must be".
            Self::Schedule => NoSchedule.to_string().replacen("must be ", "", 1),
            Self::Bucket => "s3://bucket or s3://bucket/prefix".to_owned(),
            Self::RedisAddress => ADDRESS_ALLOWED.to_owned(),
            Self::Url => "an https:// URL; http:// where its address is not public".to_owned(),
            Self::PublicUrl => {
                "a URL such as https://push.example.com, without query and fragment".to_owned()
            }
            Self::RedirectUris => format!(
                "up to {REDIRECT_URIS_MAX} addresses such as https://app.example.com/signed-in or com.example.app:/signed-in, without fragment, separated by commas"
            ),
            Self::Fields => format!(
                "pairs such as id=data.id,name=data.nick of the names {}",
                FieldMapping::NAMES.join(", ")
            ),
            Self::Tenants => format!(
                "up to {TENANTS_MAX} pairs such as github=acme,oidc=umbrella of a provider and a tenant"
            ),
            Self::AdminRoles => format!(
                "up to {ROLES_MAX} pairs such as ops=operator,root=admin of a word and one of {}",
                Role::WORDS.join(", ")
            ),
            Self::Ratio => "a number from 0 to 1".to_owned(),
            Self::Headers => NoHeaders.to_string(),
            Self::FieldPath => "names with dots between them, such as realm_access.roles".to_owned(),
            Self::LogFilter => {
                "error, warn, info, debug, trace or off, or a list such as info,access=warn"
                    .to_owned()
            }
        }
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Texts separated by commas; at least one, and each once.
fn parse_texts(text: &str) -> Option<Vec<String>> {
    let mut texts: Vec<String> = Vec::new();
    for item in text.split(',').map(str::trim) {
        if item.is_empty() || !is_text(item) || texts.iter().any(|known| known == item) {
            return None;
        }
        texts.push(item.to_owned());
    }
    (texts.len() <= TEXTS_MAX).then_some(texts)
}

/// Reads `30s`, `2h`, `1m30s`, `500ms`. A number without a unit is refused: seconds to one reader
/// are milliseconds to another.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..unit_len] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = &rest[unit_len..];
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    Some(total)
}

/// Writes a duration as [`parse_duration`] reads it, in its largest whole unit.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, name) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis >= unit && millis.is_multiple_of(unit) {
            return format!("{}{name}", millis / unit);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

/// A duration such as `24h`, or a cron expression.
pub(super) fn parse_schedule(text: &str) -> Option<Schedule> {
    match parse_duration(text) {
        Some(every) => (EVERY_MIN..=EVERY_MAX).contains(&every).then_some(Schedule::Every(every)),
        None => text.parse().ok(),
    }
}

fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

fn show_bytes(bytes: usize) -> String {
    for (unit, name) in [(1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// An origin is scheme, host and port, without a path: what a browser sends (RFC 6454 §7).
fn parse_origins(text: &str) -> Option<Vec<String>> {
    let mut origins = Vec::new();
    for origin in text.split(',').map(str::trim).filter(|origin| !origin.is_empty()) {
        if origin != "*" {
            let uri: http::Uri = origin.parse().ok()?;
            let path_is_root =
                uri.path().is_empty() || (uri.path() == "/" && !origin.ends_with('/'));
            if uri.scheme().is_none() || uri.authority().is_none() || !path_is_root {
                return None;
            }
        }
        origins.push(origin.to_ascii_lowercase());
    }
    Some(origins)
}

/// Where browsers find this process; behind a proxy it may be below a path.
pub(super) fn parse_public_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = matches!(url.scheme(), "https" | "http")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    is_plain.then_some(url)
}

/// Addresses that browsers may be sent to (RFC 6749 §3.1.2). Not `javascript:` and its like, which are no
/// addresses, and which browsers run.
fn parse_redirect_uris(text: &str) -> Option<Vec<String>> {
    const NO_ADDRESS: [&str; 6] = ["javascript", "data", "vbscript", "file", "blob", "about"];
    let mut uris = Vec::new();
    for uri in text.split(',').map(str::trim).filter(|uri| !uri.is_empty()) {
        let url = Url::parse(uri).ok()?;
        let is_address = !NO_ADDRESS.contains(&url.scheme())
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && uri.len() <= REDIRECT_URI_BYTES_MAX;
        if !is_address {
            return None;
        }
        uris.push(uri.to_owned());
    }
    (uris.len() <= REDIRECT_URIS_MAX).then_some(uris)
}

/// Texts of pairs such as `a=b,c=d`; the text before the last `=` is the name, and each is there once.
fn pairs(text: &str, most: usize) -> Option<Vec<(&str, &str)>> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.rsplit_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || pairs.iter().any(|(known, _)| *known == name) {
            return None;
        }
        pairs.push((name, value));
    }
    (pairs.len() <= most).then_some(pairs)
}

/// `github=acme,oidc=umbrella`.
pub(super) fn parse_tenants(text: &str) -> Option<BTreeMap<String, TenantId>> {
    let tenant =
        |(name, tenant): (&str, &str)| Some((name.to_owned(), TenantId::new(tenant).ok()?));
    pairs(text, TENANTS_MAX)?.into_iter().map(tenant).collect()
}

/// `ops=operator,root=admin`.
pub(super) fn parse_admin_roles(text: &str) -> Option<Vec<(String, Role)>> {
    let role = |(word, role): (&str, &str)| Some((word.to_owned(), role.parse().ok()?));
    pairs(text, ROLES_MAX)?.into_iter().map(role).collect()
}

/// `id=data.id,name=data.nick`; what is left out is as OpenID has it.
pub(super) fn parse_fields(text: &str) -> Option<FieldMapping> {
    let mut fields = FieldMapping::default();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, path) = pair.split_once('=')?;
        if !fields.set(name.trim(), path.trim()) {
            return None;
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("720h"), Some(Duration::from_secs(720 * 3600)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        for bad in ["30", "", "s", "-1s", "1.5h", "99999999999999999999s", "1w"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        for text in ["30s", "2h", "90s", "10ms", "0s"] {
            let shown = show_duration(parse_duration(text).unwrap());
            assert_eq!(parse_duration(&shown), parse_duration(text));
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("64KiB"), Some(65536));
        assert_eq!(parse_bytes("1 MiB"), Some(1 << 20));
        assert_eq!(parse_bytes("1KB"), None);
        assert_eq!(parse_bytes("99999999999GiB"), None);
    }

    #[test]
    fn origins_have_no_path() {
        assert_eq!(
            parse_origins("https://A.example, http://localhost:3000"),
            Some(vec!["https://a.example".to_owned(), "http://localhost:3000".to_owned()])
        );
        assert_eq!(parse_origins("*"), Some(vec!["*".to_owned()]));
        for bad in ["example.com", "https://a/", "https://a/b", "//x"] {
            assert_eq!(parse_origins(bad), None, "{bad}");
        }
    }
}
