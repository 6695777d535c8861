//! What users see and say of themselves (seed 003 §6.4).

pub(in crate::api) mod docs;

use axum::{extract::State, response::Response};
use protocol::{TenantId, Time, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    account::{Linked, PROFILE_TEXT_BYTES_MAX, ProfileChange},
    api::{
        ApiState,
        answer::Answer,
        body::{Decoded, Payload},
        caller::User,
        error::ApiError,
        shape::{Form, NO_OR_LINK, Shape, formed, may},
    },
    identity::UserCaller,
    preference::{self, TIME_ZONE_BYTES_MAX},
    problems::Problems,
};

/// A language tag (BCP 47, in outline), or nothing.
const LOCALE_PATTERN: &str = "^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$";

/// Longest language tag, in bytes.
const LOCALE_BYTES_MAX: usize = 35;

/// A user, to themselves.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Profile")]
struct Shown<'a> {
    /// Who.
    user_id: &'a UserId,
    /// The user's tenant.
    tenant_id: &'a TenantId,
    /// What the provider of the latest login calls them, else the token.
    username: &'a str,
    /// Where to write to, as a provider has verified, else as the token says; may be empty.
    email: &'a str,
    /// What to show; may be empty.
    name: &'a str,
    /// A picture's URL; may be empty.
    avatar: &'a str,
    /// A language tag such as `zh-CN`; may be empty.
    locale: &'a str,
    /// A time zone such as `Asia/Shanghai`; may be empty.
    time_zone: &'a str,
    /// Roles, those of the token and those that an admin added.
    roles: &'a [String],
    /// The department, where there is one.
    department: Option<&'a str>,
    /// What else the provider of the latest login said.
    attributes: &'a Map<String, Value>,
    /// By which logins they come; none for users of another login service.
    identities: &'a [Linked],
    /// When the profile was first written; null where it was not.
    created_at: Option<Time>,
    /// When it was last changed.
    updated_at: Option<Time>,
}

/// What a user changes. What is left out stays; an empty text takes it away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Change {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    avatar: Option<String>,
    #[serde(default)]
    locale: Option<String>,
    #[serde(default)]
    time_zone: Option<String>,
}

impl Payload for Change {
    const SHAPE: Shape = Shape::Object(&[
        may("name", formed(Form::Line, 0, PROFILE_TEXT_BYTES_MAX), "What to show."),
        may("avatar", NO_OR_LINK, "A picture's URL."),
        may(
            "locale",
            formed(Form::Pattern(LOCALE_PATTERN), 0, LOCALE_BYTES_MAX),
            "A language tag such as `zh-CN`.",
        ),
        may(
            "time_zone",
            formed(Form::Line, 0, TIME_ZONE_BYTES_MAX),
            "A time zone of the IANA database such as `Asia/Shanghai`.",
        ),
    ]);
}

fn check(change: Change) -> Result<ProfileChange, ApiError> {
    let Change { name, avatar, locale, time_zone } = change;
    let mut problems = Problems::default();
    if let Some(name) = &name {
        problems.bytes("name", name, PROFILE_TEXT_BYTES_MAX);
        if name.chars().any(char::is_control) {
            problems.say("name", "must have no control characters");
        }
    }
    if let Some(avatar) = avatar.as_deref().filter(|avatar| !avatar.is_empty()) {
        problems.link("avatar".to_owned(), avatar);
    }
    if locale.as_deref().is_some_and(|locale| !is_locale(locale)) {
        problems.say("locale", "must be a language tag such as zh-CN");
    }
    if time_zone.as_deref().is_some_and(|zone| !is_time_zone(zone)) {
        problems.say("time_zone", "must be a time zone of the IANA database such as Asia/Shanghai");
    }
    if problems.0.is_empty() {
        Ok(ProfileChange { name, avatar, locale, time_zone })
    } else {
        Err(ApiError::Invalid(problems.0))
    }
}

fn is_locale(text: &str) -> bool {
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    text.is_empty()
        || text.len() <= LOCALE_BYTES_MAX
            && (2..=8).contains(&language.len())
            && language.bytes().all(|byte| byte.is_ascii_alphabetic())
            && parts.all(|part| (1..=8).contains(&part.len()) && plain(part))
}

fn is_time_zone(text: &str) -> bool {
    text.is_empty() || preference::is_time_zone(text)
}

/// `GET /auth/profile`
pub(in crate::api) async fn get(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
) -> Result<Response, ApiError> {
    show(&state, &user, answer).await
}

/// `PUT /auth/profile`
pub(in crate::api) async fn update(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    Decoded(change): Decoded<Change>,
) -> Result<Response, ApiError> {
    state.0.accounts.save_profile(&user.inbox, check(change)?).await?;
    show(&state, &user, answer).await
}

async fn show(state: &ApiState, user: &UserCaller, answer: Answer) -> Result<Response, ApiError> {
    let (profile, identities) = state.0.accounts.profile(&user.inbox).await?;
    let record = state.0.directory.user(&user.inbox).await?;
    let all = record.map_or_else(|| user.clone(), |record| user.with_record(&record));
    let or = |first, second| if String::is_empty(first) { second } else { first };
    Ok(answer.success(&Shown {
        user_id: user.user(),
        tenant_id: user.tenant(),
        username: or(&profile.username, &user.username),
        email: or(&profile.email, &user.email),
        name: &profile.name,
        avatar: &profile.avatar,
        locale: &profile.locale,
        time_zone: &profile.time_zone,
        roles: &all.roles,
        department: all.department.as_deref(),
        attributes: &profile.attributes,
        identities: &identities,
        created_at: profile.created_at,
        updated_at: profile.updated_at,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_and_time_zones_are_real_or_nothing() {
        for good in ["", "zh", "zh-CN", "zh-Hans-CN", "de-1996"] {
            assert!(is_locale(good), "{good}");
        }
        for bad in ["z", "zh_CN", "zh-", "-CN", "12", "zh-toolongsubtag", "中文"] {
            assert!(!is_locale(bad), "{bad}");
        }
        for good in ["", "Asia/Shanghai", "UTC", "Europe/Berlin"] {
            assert!(is_time_zone(good), "{good}");
        }
        for bad in ["Mars/Base", "../../etc/passwd", "+08:00"] {
            assert!(!is_time_zone(bad), "{bad}");
        }
    }
}
