//! What users prefer: their own, and any user's for admins.

pub(super) mod docs;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::{Admin, User},
    error::ApiError,
    shape::{Form, ID, POSITION, Shape, formed, may, must},
    trace::Trace,
    users::{in_path, known},
};
use crate::{
    account::KeptPreferences,
    preference::{
        ALLOW_PRIORITY, CLOCK_TIME_PATTERN, Day, LANGUAGES_MAX, MUTED_CHANNELS_MAX, Preferences,
        PreferencesRequest, TIME_ZONE_BYTES_MAX,
    },
    store::InboxKey,
    template::locale::LOCALE_BYTES_MAX,
};

/// A time on the clock.
const TIME: Shape = formed(Form::Pattern(CLOCK_TIME_PATTERN), 5, 5);

const QUIET_HOURS: Shape = Shape::Object(&[
    may("enabled", Shape::Flag, "Whether they count; true where nothing is said."),
    must("start", TIME, "When they begin, such as `22:00`."),
    must(
        "end",
        TIME,
        "When they are over, such as `07:00`: on the next day, where that is before the start. `24:00` is \
         the end of the day.",
    ),
    may(
        "days",
        Shape::List(&Shape::Word(Day::WORDS), 1, Day::ALL.len()),
        "The days on which they begin; every day, where nothing is said.",
    ),
    may(
        "time_zone",
        formed(Form::Line, 0, TIME_ZONE_BYTES_MAX),
        "The clock they go by, a time zone of the IANA database such as `Asia/Shanghai`; that of the \
         profile where nothing is said, else UTC.",
    ),
    may(
        "allow_priority",
        Shape::Whole(*ALLOW_PRIORITY.start() as u64, *ALLOW_PRIORITY.end() as u64),
        "Messages of this priority and above are heard nevertheless; 9 where nothing is said.",
    ),
]);

impl Payload for PreferencesRequest {
    const SHAPE: Shape = Shape::Object(&[
        may(
            "muted_channels",
            Shape::List(&ID, 0, MUTED_CHANNELS_MAX),
            "Channels whose messages arrive silently, however urgent.",
        ),
        may("quiet_hours", QUIET_HOURS, "When everything but what is urgent arrives silently."),
        may(
            "languages",
            Shape::List(
                &formed(
                    Form::Pattern("^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$"),
                    2,
                    LOCALE_BYTES_MAX,
                ),
                0,
                LANGUAGES_MAX,
            ),
            "Languages such as `zh-CN`, the dearest first. Messages that are made from a template are in \
             the first that it has, where the send names none.",
        ),
        may(
            "expected_version",
            POSITION,
            "The version that they are made over; another one that is there meanwhile is not overwritten.",
        ),
    ]);
}

/// What a user prefers.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Preferences")]
pub(super) struct Shown {
    #[serde(flatten)]
    preferences: Preferences,
    /// Counts their changes; 0 for a user who never said anything.
    version: u64,
}

impl From<KeptPreferences> for Shown {
    fn from(KeptPreferences { preferences, version }: KeptPreferences) -> Self {
        Self { preferences, version }
    }
}

/// `GET /auth/preferences`
pub(super) async fn own(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
) -> Result<Response, ApiError> {
    show(&state, &user.inbox, answer).await
}

/// `PUT /auth/preferences`
pub(super) async fn update_own(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    Decoded(request): Decoded<PreferencesRequest>,
) -> Result<Response, ApiError> {
    Ok(answer.success(&save(&state, &user.inbox, request).await?))
}

/// `GET /admin/users/{id}/preferences`
pub(super) async fn of_user(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let inbox = in_path(&admin, &uri, id)?;
    known(&state, &inbox).await?;
    show(&state, &inbox, answer).await
}

/// `PUT /admin/users/{id}/preferences`
pub(super) async fn update_of_user(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: Result<Path<String>, PathRejection>,
    Decoded(request): Decoded<PreferencesRequest>,
) -> Result<Response, ApiError> {
    let inbox = in_path(&admin, &uri, id)?;
    known(&state, &inbox).await?;
    trace.of_tenant(&inbox.tenant);
    trace.before(Shown::from(state.0.accounts.preferences(&inbox).await?));
    let saved = save(&state, &inbox, request).await?;
    trace.after(&saved);
    Ok(answer.success(&saved))
}

async fn show(state: &ApiState, inbox: &InboxKey, answer: Answer) -> Result<Response, ApiError> {
    Ok(answer.success(&Shown::from(state.0.accounts.preferences(inbox).await?)))
}

async fn save(
    state: &ApiState,
    inbox: &InboxKey,
    request: PreferencesRequest,
) -> Result<Shown, ApiError> {
    let expected = request.expected_version;
    let preferences = request.check().map_err(ApiError::Invalid)?;
    let kept = state.0.accounts.save_preferences(inbox, preferences, expected).await?;
    Ok(Shown::from(kept))
}
