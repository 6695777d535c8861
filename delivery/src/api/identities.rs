//! The logins by which a user comes: more than one, so that whoever loses one is not locked out.

pub(super) mod docs;

use axum::{
    extract::{OriginalUri, State},
    response::Response,
};
use http::HeaderMap;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::User,
    error::ApiError,
    login::{
        APP_CODE, APP_STATE, CODE_VERIFIER, Provider, ShownLinked, back, browser, callback_url,
        guessed, named, origin, show_begun,
    },
    query::Parameters,
    shape::{Field, Shape, may, some_text},
    toll::Toll,
};
use crate::{
    account::{AccountError, DeviceInfo, Linked},
    provider::{Away, Begin, REDIRECT_URI_BYTES_MAX},
};

/// Longest id at a provider that is looked for, in bytes.
const SUBJECT_BYTES_MAX: usize = 512;

/// The query of taking one away.
const REMOVE_QUERY: &[Field] = &[may(
    "subject",
    some_text(SUBJECT_BYTES_MAX),
    "Which, by the provider's id for the user; needed where there are several of the provider.",
)];

/// The logins by which a user comes.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IdentityList")]
struct List {
    /// In the order in which they were added.
    identities: Vec<Linked>,
}

/// The body of adding one; may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Add {
    code: Option<SecretString>,
    code_verifier: Option<SecretString>,
    redirect_uri: Option<String>,
    app_state: Option<String>,
}

impl Payload for Add {
    const SHAPE: Shape = Shape::Object(&[
        may(
            "code",
            APP_CODE,
            "What a login with a `redirect_uri` gave the app: it becomes this user's instead of being \
             exchanged for tokens.",
        ),
        CODE_VERIFIER,
        may(
            "redirect_uri",
            some_text(REDIRECT_URI_BYTES_MAX),
            "Without a code: where the browser goes in the end, one of `OAUTH_REDIRECT_URIS`.",
        ),
        APP_STATE,
    ]);
    const OPTIONAL: bool = true;
}

/// `GET /auth/identities`
pub(super) async fn list(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
) -> Result<Response, ApiError> {
    let identities = state.0.accounts.identities(&user.inbox).await?;
    Ok(answer.success(&List { identities }))
}

/// `POST /auth/identities/{provider}`
pub(super) async fn add(
    State(state): State<ApiState>,
    User(user): User,
    provider: Provider,
    headers: HeaderMap,
    toll: Toll,
    answer: Answer,
    Decoded(add): Decoded<Add>,
) -> Result<Response, ApiError> {
    let logins = state.logins();
    let provider = named(provider)?;
    logins.way.provider(&provider)?;
    let Add { code, code_verifier, redirect_uri, app_state } = add;
    let text = |secret: &Option<SecretString>| {
        secret.as_ref().map(|secret| secret.expose_secret().to_owned())
    };
    if let Some(code) = text(&code) {
        if redirect_uri.or(app_state).is_some() {
            return Err(ApiError::field("code", "has come by a login that is over: send it alone"));
        }
        let verifier = text(&code_verifier);
        let linked = logins.link_by_code(&user.inbox, &provider, &code, verifier.as_deref()).await;
        let linked = guessed(&toll, linked)?;
        return Ok(answer.success(&ShownLinked {
            provider: &linked.provider,
            subject: &linked.subject,
            username: &linked.username,
        }));
    }
    if code_verifier.is_some() {
        return Err(ApiError::field("code_verifier", "goes with code"));
    }
    let origin = origin(logins, &headers)?;
    // The app gets no code in the end that could be stolen: a challenge has nothing to protect.
    let back = back(logins, redirect_uri, None, app_state)?;
    let begin = Begin {
        away: Away {
            provider: &provider,
            callback: callback_url(&origin, &provider),
            browser: browser(&headers),
        },
        back,
        device: DeviceInfo::default(),
        link: Some(user.inbox.clone()),
    };
    let begun = logins.begin(begin).await?;
    Ok(show_begun(&headers, &begun, &origin))
}

/// `DELETE /auth/identities/{provider}`
pub(super) async fn remove(
    State(state): State<ApiState>,
    User(user): User,
    answer: Answer,
    provider: Provider,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, REMOVE_QUERY)?;
    let subject = parameters.text("subject");
    parameters.finish()?;
    let provider = provider.map_err(|_| AccountError::NoIdentity)?.0;
    let accounts = &state.0.accounts;
    let mut of_provider = accounts.identities(&user.inbox).await?;
    of_provider.retain(|linked| {
        linked.provider == provider
            && subject.as_ref().is_none_or(|subject| linked.subject == *subject)
    });
    if of_provider.len() > 1 {
        return Err(ApiError::field("subject", "is needed: there are several of this provider"));
    }
    let linked = of_provider.pop().ok_or(AccountError::NoIdentity)?;
    accounts.unlink(&user.inbox, &linked.provider, &linked.subject).await?;
    tracing::info!(
        target: "security",
        event = "identity_removed",
        user = user.user().as_str(),
        provider = linked.provider,
    );
    Ok(answer.success(&ShownLinked {
        provider: &linked.provider,
        subject: &linked.subject,
        username: &linked.username,
    }))
}
