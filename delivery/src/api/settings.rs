//! The settings in force, and changes of those that may change while the hub runs (contract §9), for admins of
//! everything.

pub(super) mod docs;

use std::sync::Arc;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    aside::blocking,
    body::{Decoded, Payload},
    error::ApiError,
    query::{PAGE, PageMeta, Parameters, SIZE},
    shape::{Field, Form, POSITION, Shape, formed, may, some_text},
    tenants::AboveTenants,
    trace::{Trace, actor},
};
use crate::{
    audit::Actor,
    control::{
        Control, ControlError, LiveTexts, NewSettings, SettingChange, SettingsVersion, changes,
    },
    identity::AdminCaller,
    settings::Setting,
};

/// Most settings that one request names: more than there are.
const NAMED_MAX: usize = 200;

/// Longest value, in bytes: a list of networks is the longest.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1_000;

/// Longest name of a setting, in bytes.
const NAME_BYTES_MAX: usize = 64;

const REASON: Field =
    may("reason", formed(Form::Line, 0, REASON_BYTES_MAX), "Why, for whoever reads the versions.");

const EXPECTED_VERSION: Field = may(
    "expected_version",
    POSITION,
    "The version that the change is made over; another one that is there meanwhile is not overwritten.",
);

const DRY_RUN: Field = may(
    "dry_run",
    Shape::Flag,
    "Only tells what would be; nothing is changed and no version made.",
);

/// What is to change.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SettingsRequest {
    set: Option<LiveTexts>,
    unset: Option<Vec<String>>,
    reason: Option<String>,
    expected_version: Option<u64>,
    dry_run: Option<bool>,
}

/// What goes with every change.
struct How {
    reason: Option<String>,
    expected_version: Option<u64>,
    dry_run: Option<bool>,
}

impl Payload for SettingsRequest {
    const SHAPE: Shape = Shape::Object(&[
        may(
            "set",
            Shape::Named(&some_text(VALUE_BYTES_MAX), NAMED_MAX),
            "Settings by name and their new values, written as in the environment.",
        ),
        may(
            "unset",
            Shape::List(&formed(Form::Line, 1, NAME_BYTES_MAX), 0, NAMED_MAX),
            "Settings that are to be again what was given at the start.",
        ),
        REASON,
        EXPECTED_VERSION,
        DRY_RUN,
    ]);
}

/// How a version is brought back.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RestoreRequest {
    reason: Option<String>,
    expected_version: Option<u64>,
    dry_run: Option<bool>,
}

impl Payload for RestoreRequest {
    const SHAPE: Shape = Shape::Object(&[REASON, EXPECTED_VERSION, DRY_RUN]);
    const OPTIONAL: bool = true;
}

/// All settings as they are in force on this node.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Settings")]
struct Shown {
    /// Counts the changes by admins; 0 where there never was one.
    version: u64,
    /// When the latest was made.
    changed_at: Option<Time>,
    /// By whom.
    changed_by: Option<Actor>,
    /// In the order of the reference.
    settings: Vec<Setting>,
    /// What is legal but likely not meant, and live values that this build cannot use; a sentence each.
    warnings: Vec<String>,
}

/// What a change did, or would do.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SettingsChange")]
struct Changed {
    /// The version that is in force then.
    version: u64,
    /// Whether nothing was changed, because only that was asked.
    dry_run: bool,
    /// What became different; empty where everything was so already, which makes no version.
    changes: Vec<SettingChange>,
    /// All live values, by name.
    live: LiveTexts,
    /// What is legal but likely not meant; a sentence each.
    warnings: Vec<String>,
}

/// Versions of the live settings.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SettingsVersionList")]
struct List {
    /// The page, latest first.
    versions: Vec<SettingsVersion>,
    /// How many are kept.
    total: u64,
}

/// Live values, for the audit log.
#[derive(Serialize)]
struct Traced<'a> {
    version: u64,
    live: &'a LiveTexts,
    reason: Option<&'a str>,
}

const SHOWN_QUERY: &[Field] = &[may(
    "name",
    formed(Form::Line, 0, NAME_BYTES_MAX),
    "Only settings whose names begin so, such as `RATE_LIMIT`; all unless said.",
)];

/// `GET /admin/config`
pub(super) async fn get(
    State(state): State<ApiState>,
    _: AboveTenants,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, SHOWN_QUERY)?;
    let begin = parameters.text("name").unwrap_or_default();
    if begin.len() > NAME_BYTES_MAX || begin.chars().any(char::is_control) {
        let problem =
            format!("must have at most {NAME_BYTES_MAX} bytes, and no control characters");
        parameters.say("name", problem);
    }
    parameters.finish()?;
    let latest = blocking(&state, Control::settings).await?;
    let (version, mut all) = state.0.settings.in_force();
    all.settings.retain(|setting| setting.name.starts_with(&begin));
    // The node may be a moment behind: then who changed it last is not who made this version.
    let latest = latest.filter(|latest| latest.version == version);
    let (changed_at, changed_by) = latest.map(|latest| (latest.at, latest.by)).unzip();
    Ok(answer.success(&Shown {
        version,
        changed_at,
        changed_by,
        settings: all.settings,
        warnings: all.warnings,
    }))
}

/// `PUT /admin/config`
pub(super) async fn update(
    State(state): State<ApiState>,
    AboveTenants(admin): AboveTenants,
    trace: Trace,
    answer: Answer,
    Decoded(request): Decoded<SettingsRequest>,
) -> Result<Response, ApiError> {
    let SettingsRequest { set, unset, reason, expected_version, dry_run } = request;
    let (set, unset) = (set.unwrap_or_default(), unset.unwrap_or_default());
    let how = How { reason, expected_version, dry_run };
    let (version, before) = latest(&state).await?;
    let mut live = before.clone();
    let (_, known) = state.0.settings.in_force();
    for name in &unset {
        if set.contains_key(name) {
            return Err(ApiError::field("unset", format!("{name} is to be set, too")));
        }
        let is_live = known.settings.iter().any(|setting| setting.live && setting.name == name);
        // What this build does not know any more can be taken away, too.
        if live.remove(name).is_none() && !is_live {
            let problem = format!("{name} is no setting that can be changed while the hub runs");
            return Err(ApiError::field("unset", problem));
        }
    }
    live.extend(set);
    let done = change(&state, &admin, &trace, (version, before), live, None, how).await?;
    Ok(answer.success(&done))
}

const QUERY: &[Field] = &[PAGE, SIZE];

/// `GET /admin/config/versions`
pub(super) async fn versions(
    State(state): State<ApiState>,
    _: AboveTenants,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, QUERY)?;
    let (page, size) = parameters.paging();
    parameters.finish()?;
    let page = page.unwrap_or(1);
    let skip = (page - 1).saturating_mul(size as u64);
    let (versions, total) =
        blocking(&state, move |control| control.settings_versions(skip, size)).await?;
    Ok(answer.page(&List { versions, total }, &PageMeta::of_page(page, size, total)))
}

/// `POST /admin/config/versions/{version}/restore`
pub(super) async fn restore(
    State(state): State<ApiState>,
    AboveTenants(admin): AboveTenants,
    trace: Trace,
    answer: Answer,
    version: Result<Path<String>, PathRejection>,
    Decoded(request): Decoded<RestoreRequest>,
) -> Result<Response, ApiError> {
    let Path(version) = version.map_err(|_| ApiError::NoRoute)?;
    // What is no number, or is written otherwise than we do (`+1`, `007`), is no version.
    let wanted: u64 = version
        .parse()
        .ok()
        .filter(|wanted: &u64| i64::try_from(*wanted).is_ok() && wanted.to_string() == version)
        .ok_or(ControlError::NoSettingsVersion)?;
    let RestoreRequest { reason, expected_version, dry_run } = request;
    let how = How { reason, expected_version, dry_run };
    let present = latest(&state).await?;
    let live = blocking(&state, move |control| control.settings_of(wanted)).await?;
    let done = change(&state, &admin, &trace, present, live, Some(wanted), how).await?;
    Ok(answer.success(&done))
}

/// The latest version and its live values.
async fn latest(state: &ApiState) -> Result<(u64, LiveTexts), ApiError> {
    let latest = blocking(state, Control::settings).await?;
    Ok(latest.map(|latest| (latest.version, latest.live)).unwrap_or_default())
}

/// Makes live values the ones in force, if all settings are good with them.
async fn change(
    state: &ApiState,
    admin: &AdminCaller,
    trace: &Trace,
    (version, before): (u64, LiveTexts),
    live: LiveTexts,
    restores: Option<u64>,
    how: How,
) -> Result<Changed, ApiError> {
    let How { reason, expected_version, dry_run } = how;
    if expected_version.is_some_and(|expected| expected != version) {
        return Err(ControlError::SettingsChanged(version).into());
    }
    let all = state.0.settings.with(&live).map_err(ApiError::Invalid)?;
    let (changes, warnings) = (changes(&before, &live), all.warnings);
    let dry_run = dry_run.unwrap_or_default();
    if dry_run || changes.is_empty() {
        return Ok(Changed { version, dry_run, changes, live, warnings });
    }
    let reason = reason.filter(|reason| !reason.is_empty());
    trace.before(Traced { version, live: &before, reason: None });
    let new = NewSettings { by: actor(admin), reason, restores, live };
    let settings = Arc::clone(&state.0.settings);
    let saved = blocking(state, move |control| {
        let saved = control.save_settings(version, new)?;
        settings.saved();
        Ok(saved)
    })
    .await?;
    let SettingsVersion { version, reason, changes, live, .. } = saved;
    trace.after(Traced { version, live: &live, reason: reason.as_deref() });
    Ok(Changed { version, dry_run, changes, live, warnings })
}
