//! Exports that say less of who somebody is (`masked=true`): for admins who look into something that has to do with
//! messages and not with whom they are for.
//!
//! Values of fields that name somebody go, by the field's name, wherever they are; in all other texts, those of messages
//! included, whatever looks like an e-mail address or a telephone number does. Ids stay: they say which lines belong
//! together. A name in the middle of a text stays, too: nobody can tell it from a word.

use serde_json::Value;

/// Fields that name somebody or say where they are.
const NAMING: [&str; 14] = [
    "username",
    "email",
    "name",
    "display_name",
    "nickname",
    "given_name",
    "family_name",
    "phone",
    "mobile",
    "phone_number",
    "address",
    "user_agent",
    "device_name",
    "avatar",
];

/// Fields whose `name` is of a thing.
const THINGS: [&str; 1] = ["attachments"];

/// Fields of free form that are about a person: every text in them goes.
const PERSONAL: [&str; 1] = ["attributes"];

/// Fewest digits of a telephone number: local ones without an area. Shorter numbers are amounts and times.
const PHONE_DIGITS_MIN: usize = 7;

/// Most digits of one (ITU-T E.164): longer ones are ids.
const PHONE_DIGITS_MAX: usize = 15;

/// What stands in place of what went.
const GONE: &str = "***";

/// Takes it out of a line's data.
pub(super) fn mask(value: &mut Value) {
    within(value, false, true);
}

fn within(value: &mut Value, all: bool, names: bool) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let naming = NAMING.contains(&key.as_str()) && (names || key != "name");
                if naming && value.is_string() {
                    gone(value);
                } else {
                    let all = all || PERSONAL.contains(&key.as_str());
                    within(value, all, names && !THINGS.contains(&key.as_str()));
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| within(value, all, names)),
        Value::String(_) if all => gone(value),
        Value::String(text) if !is_word(text) => *text = of_text(text),
        Value::Number(_) if all => *value = GONE.into(),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An empty text says that there is nothing, which stays.
fn gone(value: &mut Value) {
    if value.as_str().is_none_or(|text| !text.is_empty()) {
        *value = GONE.into();
    }
}

/// A moment, which has the digits of a telephone number.
fn is_word(text: &str) -> bool {
    protocol::Time::parse(text).is_ok()
}

/// A text without what looks like an address or a number.
fn of_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in text
        .split_inclusive(|char: char| char.is_whitespace() || "<>()[]\"',;，。；".contains(char))
    {
        let bare = piece.trim_end_matches(|char: char| {
            char.is_whitespace() || "<>()[]\"',;，。；.".contains(char)
        });
        let at = bare.find('@');
        let is_email = at.is_some_and(|at| at > 0 && bare[at + 1..].contains('.'));
        if is_email {
            out.push_str(GONE);
            out.push_str(&piece[bare.len()..]);
        } else {
            out.push_str(piece);
        }
    }
    without_phones(&out)
}

/// Rows of digits with what people write between them, at least [`PHONE_DIGITS_MIN`] of them.
fn without_phones(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(|char: char| char.is_ascii_digit() || char == '+') {
        let (before, from) = rest.split_at(begin);
        let part = |char: char| char.is_ascii_digit() || "+-() .".contains(char);
        let length = from.find(|char: char| !part(char)).unwrap_or(from.len());
        let row = from[..length].trim_end_matches([' ', '.', '(', '-']);
        let digits = row.bytes().filter(u8::is_ascii_digit).count();
        // In the middle of a word it is part of an id.
        let word =
            |char: char| char.is_alphanumeric() && char.is_ascii() || char == '_' || char == '-';
        let inside = before.ends_with(word) || from[row.len()..].starts_with(word);
        out.push_str(before);
        let is_phone = (PHONE_DIGITS_MIN..=PHONE_DIGITS_MAX).contains(&digits) && !inside;
        out.push_str(if is_phone { GONE } else { row });
        rest = &from[row.len()..];
        if row.is_empty() {
            let first = rest.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..first]);
            rest = &rest[first..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_it_is_goes_and_what_it_is_stays() {
        let mut line = json!({
            "username": "canary", "email": "canary@example.com", "name": "", "locale": "zh-CN",
            "attributes": {"phone": "canary", "deep": [{"x": "canary", "n": 13_800_138_000_u64}]},
            "created_at": "2025-01-15T10:30:00.25Z", "version": 3,
            "data": {"title": "周报", "content": "write to canary@example.com, or call +86 138-0013-8000.",
                "sender": "user-13800138000x", "sender_info": {"id": "u1", "name": "canary"},
                "attachments": [{"name": "plan.pdf", "url": "https://example.com/f"}],
                "metadata": {"order": "INV-20250115001", "tel": "(021) 6888 8888"}},
        });
        mask(&mut line);
        let text = line.to_string();
        for gone in ["canary", "138-0013", "13_800", "6888", "13800138000\""] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        for kept in [
            "周报",
            "write to",
            "or call",
            "plan.pdf",
            "INV-20250115001",
            "2025-01-15T10:30:00.25Z",
            "zh-CN",
            "user-13800138000x",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert_eq!(line["name"], "", "that there is no name stays");
    }

    #[test]
    fn texts_keep_all_else() {
        for text in [
            "",
            "plain",
            "10:30 + 5 (ok)",
            "v2.5 and 100,000",
            "a@b",
            "1.2.3 ++ --",
            "企业微信 2025",
        ] {
            assert_eq!(of_text(text), text);
        }
        assert_eq!(of_text("张三 <a.b@c.org>; 13800138000 x"), "张三 <***>; *** x");
    }
}
