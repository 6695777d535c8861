//! Answers with all that differs from run to run written as a fixed text.

use delivery::api::doc::{TOMORROW, TOTP_SECRET};
use serde_json::{Map, Value};

/// A token's head, and no more: what is shown must open nothing.
const JWT: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.….…";
const RECOVERY_CODE: &str = "abcd-efgh-jkmn-pqrs";
const TIME: &str = "2025-01-15T10:30:00Z";
const IN_A_MONTH: &str = "2025-02-14T10:30:00Z";
const HEX: &str = "0194691a2f40704180bd2a7b0f3c9d11";
const KEY_ID: &str = "Ab3dEf6hIj9k";
const WEBHOOK_SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=";
const DURATION_MS: u64 = 12;
const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const FILE_BYTES: u64 = 3_812;
const LINK_QUERY: &str = "expires=1737023400&signature=Vb0Tq3LkXn9sYw7RgQ2eJdUhAf5oIiT8rSyVwMmC4zE";
const RUN_ID: &str = "20250115T103000000Z-1f2e3d4c";
const RUNS_PLACE: &str = "/var/lib/pushhub/backups/runs";
const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

/// Secrets that are new each time, by the name of their field.
const SECRETS: [(&str, &str); 4] = [
    (
        "access_token",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoidXNlcjEyMyJ9.N5ULhcD4AsoO",
    ),
    (
        "refresh_token",
        "phr_0194691a2f40704180bd2a7b0f3c9d11_1_sHvSIsm3mdG6YfRQ1dPN1VN0hzr2pKDvqZ0GJVvHiI0",
    ),
    ("ticket", "pht_kT7bX2mQ9vLs4cRz0fYp6HdNj1uGe8aVo3IiWk5EwMx"),
    (
        "auth_url",
        "https://github.com/login/oauth/authorize?client_id=Iv1.8a61f9b3a7aba766&state=mC4vPzq8L1sXk0Wn5tYb7RgQ2eJdUhAf9oIiT3rSyVw",
    ),
];
const LOGIN_STATE: &str = "mC4vPzq8L1sXk0Wn5tYb7RgQ2eJdUhAf9oIiT3rSyVw";

/// Bytes of a UUID with its hyphens.
const HYPHENATED_BYTES: usize = 36;

/// How long before or after now a time may be to be taken for one of this run, in seconds: statistics
/// begin a day before, down to the hour.
const RECENT_S: i64 = 26 * 3600;

/// How long a login lives, in seconds.
const MONTH_S: i64 = 30 * 24 * 3600;

/// How long after now a time is to be taken for [`TOMORROW`], in seconds.
const AHEAD_S: i64 = 12 * 3600;

/// `kept` is what the example writes, and what is really there.
pub(super) fn normal(value: &Value, kept: &[(String, String)]) -> Value {
    match value {
        Value::String(text) => Value::String(of_text(text, kept)),
        Value::Array(items) => items.iter().map(|item| normal(item, kept)).collect(),
        Value::Object(object) => {
            let mut made: Map<String, Value> =
                object.iter().map(|(name, value)| (name.clone(), normal(value, kept))).collect();
            if let Some(duration) = made.get_mut("duration_ms") {
                *duration = DURATION_MS.into();
            }
            for (name, text) in SECRETS {
                if let Some(Value::String(secret)) = made.get_mut(name) {
                    text.clone_into(secret);
                }
            }
            if made.contains_key("session_id")
                && let Some(ends) = made.get_mut("expires_at")
            {
                *ends = IN_A_MONTH.into();
            }
            // An admin's who comes from an issuer.
            if made.len() == 2
                && made.contains_key("expires_in")
                && let Some(code) = made.get_mut("code")
            {
                *code = SECRET.into();
            }
            if made.contains_key("auth_url") {
                made.insert("state".to_owned(), LOGIN_STATE.into());
            }
            // A node of a cluster has others, with files it has none.
            if made.contains_key("silent_for_ms")
                && let Some(bus) = made.get_mut("bus")
            {
                *bus = "alone".into();
            }
            if let Some(Value::Array(codes)) = made.get_mut("recovery_codes") {
                codes.fill(RECOVERY_CODE.into());
            }
            // A backup of everybody that has begun: its id begins with the moment.
            if made.contains_key("looked_at") {
                made.insert("id".to_owned(), RUN_ID.into());
                made.insert("looked_at".to_owned(), 0.into());
            }
            if made.contains_key("runs")
                && let Some(place) = made.get_mut("place")
            {
                *place = RUNS_PLACE.into();
            }
            // A user's job as admins see it, which may be over by then.
            if made.contains_key("job_id") && made.contains_key("user_id") {
                made.insert("state".to_owned(), "running".into());
                for later in ["bytes", "expires_at", "finished_at", "head"] {
                    made.insert(later.to_owned(), Value::Null);
                }
            }
            // The authenticator's, not a webhook's.
            if made.contains_key("otpauth_uri")
                && let Some(secret) = made.get_mut("secret")
            {
                *secret = TOTP_SECRET.into();
            }
            // A file that has the moment in it at which it was made.
            if made.get("sha256").is_some_and(Value::is_string) {
                made.insert("bytes".to_owned(), FILE_BYTES.into());
            }
            // A key's id is twelve random characters, with nothing that tells them from a word.
            let is_key = made.contains_key("service_id") && made.contains_key("last_used_at");
            if is_key && let Some(id) = made.get_mut("id") {
                *id = Value::String(KEY_ID.to_owned());
            }
            Value::Object(made)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn of_text(text: &str, kept: &[(String, String)]) -> String {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        let age = jiff::Timestamp::now().as_second() - time.as_second();
        return if (-RECENT_S..-AHEAD_S).contains(&age) {
            TOMORROW.to_owned()
        } else if (-MONTH_S..-MONTH_S + RECENT_S).contains(&age) {
            IN_A_MONTH.to_owned()
        } else if (-AHEAD_S..RECENT_S).contains(&age) {
            TIME.to_owned()
        } else {
            text.to_owned()
        };
    }
    let mut text = text.to_owned();
    for (written, real) in kept {
        text = text.replace(real, written);
    }
    if text.starts_with("whsec_") {
        return format!("whsec_{WEBHOOK_SECRET}");
    }
    if text.starts_with("eyJ") {
        return JWT.to_owned();
    }
    for prefix in ["phr_", "pht_", "pha_", "phc_", "phe_"] {
        // What an example keeps is written as it writes it.
        if text.starts_with(prefix) && !kept.iter().any(|(written, _)| *written == text) {
            return format!("{prefix}{SECRET}");
        }
    }
    if let Some((uri, rest)) = text.split_once("secret=") {
        let rest = rest.find('&').map_or("", |at| &rest[at..]);
        return format!("{uri}secret={TOTP_SECRET}{rest}");
    }
    // Of something that has the moment in it at which it was made.
    if text.len() == SHA256.len() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return SHA256.to_owned();
    }
    if let Some((path, _)) = text.split_once("?expires=") {
        return format!("{}?{LINK_QUERY}", without_uuids(path));
    }
    if text.starts_with("phk_") {
        return format!("phk_{KEY_ID}_{SECRET}");
    }
    without_uuids(&text)
}

/// UUIDs, alone or behind a prefix such as `msg-`.
fn without_uuids(text: &str) -> String {
    if text.len() == HYPHENATED_BYTES && uuid::Uuid::try_parse(text).is_ok() {
        return HEX.to_owned();
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_hexdigit).count();
    let mut made = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let run = digits(rest);
        if run == HEX.len() {
            made += HEX;
            rest = &rest[run..];
        } else {
            let step = run.max(next.len_utf8());
            made += &rest[..step];
            rest = &rest[step..];
        }
    }
    made
}
