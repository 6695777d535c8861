//! Logging in elsewhere: which providers there are, the way there and back, and tokens for an app's code
//! (seed 003 §6.3, §6.4).
//!
//! Browsers go the whole way by themselves: they ask for HTML, are sent on by redirects, and see a page where
//! something is wrong. Programs get the same as JSON.

pub(super) mod cookie;
pub(super) mod docs;
mod page;

use axum::{
    extract::{OriginalUri, Path, Query, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use protocol::DeviceId;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    ApiState,
    answer::{Answer, negotiate},
    body::{Decoded, Payload},
    error::ApiError,
    query::Parameters,
    shape::{Field, Form, ID, Shape, formed, may, must, some_text},
    toll::Toll,
};
use crate::{
    account::{DEVICE_NAME_BYTES_MAX, DeviceInfo},
    identity::note,
    provider::{
        Away, Begin, Begun, Came, Finished, LoginError, Logins, REDIRECT_URI_BYTES_MAX, Return,
        SECRET_CHARS, VERIFIER_CHARS_MAX, VERIFIER_CHARS_MIN, Way, is_challenge,
    },
};

pub(super) use page::{AsPage, refused, wants_page};

/// Longest code, state or error of a provider that is looked at, in bytes: WeCom has codes of 512, and
/// others put tokens into them.
const PROVIDER_TEXT_BYTES_MAX: usize = 4_096;

/// Longest state of an app, in bytes.
const APP_STATE_BYTES_MAX: usize = 512;

/// The query of a login.
const LOGIN_QUERY: &[Field] = &[
    may(
        "redirect_uri",
        some_text(REDIRECT_URI_BYTES_MAX),
        "Where the browser goes in the end, to the letter one of `OAUTH_REDIRECT_URIS`. It gets a `code` there \
         for `POST /auth/exchange`, or an `error`. Left out, the callback answers the tokens.",
    ),
    CODE_CHALLENGE,
    may(
        "code_challenge_method",
        Shape::Word(&["S256"]),
        "Goes with `code_challenge`; there is one method.",
    ),
    APP_STATE,
    may("device_id", ID, "The device that logs in; made up unless said. Its older session ends."),
    may("device_name", formed(Form::Line, 0, DEVICE_NAME_BYTES_MAX), "What its owner calls it."),
];

/// `code_challenge`, of requests that begin a login.
pub(super) const CODE_CHALLENGE: Field = may(
    "code_challenge",
    formed(Form::Pattern("^[A-Za-z0-9_-]{43}$"), SECRET_CHARS, SECRET_CHARS),
    "S256 of a secret of the app (RFC 7636), which it shows with its code. Needed where the `redirect_uri` \
     is an app's own scheme, which other apps can claim as well.",
);

/// `app_state`, of requests that begin a login.
pub(super) const APP_STATE: Field = may(
    "app_state",
    formed(Form::Line, 1, APP_STATE_BYTES_MAX),
    "Comes back to the app as `state`; that of the login unless said.",
);

/// What a provider sends a browser back with. Others may be there and are not looked at.
pub(super) const CALLBACK_QUERY: &[Field] = &[
    may("code", some_text(PROVIDER_TEXT_BYTES_MAX), "What the provider gives; once."),
    may("authCode", some_text(PROVIDER_TEXT_BYTES_MAX), "The same, as DingTalk calls it."),
    may("state", some_text(PROVIDER_TEXT_BYTES_MAX), "That of the login; once."),
    may("error", some_text(PROVIDER_TEXT_BYTES_MAX), "Why there is no code."),
    may("iss", some_text(PROVIDER_TEXT_BYTES_MAX), "Whom the provider says it is (RFC 9207)."),
];

/// A provider.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LoginProvider")]
struct ShownProvider<'a> {
    /// Its name in paths.
    name: &'a str,
    /// Its name for people.
    title: &'a str,
    /// Where a browser begins.
    login_url: String,
}

/// Where users can log in.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LoginProviders")]
struct ShownProviders<'a> {
    /// In the order they are shown.
    providers: Vec<ShownProvider<'a>>,
}

/// A login that was begun.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BegunLogin")]
pub(super) struct ShownBegun<'a> {
    /// Where the browser goes now. It must have the answer's cookie when it comes back.
    auth_url: &'a str,
    /// What comes back with it.
    state: &'a str,
}

/// A way in that was added.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LinkedIdentity")]
pub(super) struct ShownLinked<'a> {
    /// The provider.
    pub(super) provider: &'a str,
    /// Its id for the user.
    pub(super) subject: &'a str,
    /// What they are called there.
    pub(super) username: &'a str,
}

/// The body of an exchange.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExchangeBody {
    code: SecretString,
    #[serde(default)]
    code_verifier: Option<SecretString>,
}

/// `code`, in the body of requests with an app's code.
pub(super) const APP_CODE: Shape = some_text(PROVIDER_TEXT_BYTES_MAX);

/// `code_verifier`, in the body of requests with an app's code.
pub(super) const CODE_VERIFIER: Field = may(
    "code_verifier",
    formed(Form::Pattern("^[A-Za-z0-9._~-]*$"), VERIFIER_CHARS_MIN, VERIFIER_CHARS_MAX),
    "The secret behind the login's `code_challenge`: needed where there was one, refused where there was \
     none.",
);

impl Payload for ExchangeBody {
    const SHAPE: Shape = Shape::Object(&[
        must("code", APP_CODE, "What the `redirect_uri` got. It is used up by this."),
        CODE_VERIFIER,
    ]);
}

pub(super) type Provider = Result<Path<String>, PathRejection>;

/// The provider that a path names; one that cannot be read names none.
pub(super) fn named(path: Provider) -> Result<String, ApiError> {
    path.map(|Path(name)| name).map_err(|_| LoginError::NoProvider.into())
}

impl ApiState {
    pub(super) fn logins(&self) -> &Logins {
        &self.0.logins
    }
}

/// Where browsers find this hub: as the settings say, else as they have asked for it.
pub(super) fn origin(logins: &Logins, headers: &HeaderMap) -> Result<String, ApiError> {
    if let Some(url) = &logins.config.public_url {
        return Ok(url.as_str().trim_end_matches('/').to_owned());
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let url = host.and_then(|host| Url::parse(&format!("http://{host}")).ok());
    // Nothing but a host: what is in the header goes to the provider.
    let url = url.filter(|url| {
        url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
    });
    let url = url.ok_or_else(|| ApiError::field("Host", "must name this hub"))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Where a provider sends browsers back to.
pub(super) fn callback_url(origin: &str, provider: &str) -> String {
    format!("{origin}/api/v3/auth/{provider}/callback")
}

/// An app that is to be returned to, if all is well with it.
pub(super) fn back(
    logins: &Logins,
    uri: Option<String>,
    challenge: Option<String>,
    state: Option<String>,
) -> Result<Option<Return>, ApiError> {
    let Some(uri) = uri else {
        return match challenge.map(|_| "code_challenge").or(state.map(|_| "app_state")) {
            Some(name) => Err(ApiError::field(name, "is for logins with a redirect_uri")),
            None => Ok(None),
        };
    };
    // To the letter: whoever compares URLs in any cleverer way has an open redirect sooner or later
    // (RFC 9700 §2.1).
    if !logins.config.redirect_uris.contains(&uri) {
        return Err(ApiError::field("redirect_uri", "must be one of OAUTH_REDIRECT_URIS"));
    }
    if state.as_deref().is_some_and(|text| !is_line(text, APP_STATE_BYTES_MAX)) {
        let problem = format!("must be one line of at most {APP_STATE_BYTES_MAX} bytes");
        return Err(ApiError::field("app_state", problem));
    }
    Ok(Some(Return { uri, challenge, state }))
}

fn is_line(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(char::is_control)
}

/// `GET /auth/providers`
pub(super) async fn providers(State(state): State<ApiState>, answer: Answer) -> Response {
    let shown = state.logins().way.providers.all().map(|provider| {
        let about = provider.about();
        ShownProvider {
            name: &about.name,
            title: &about.title,
            login_url: format!("/api/v3/auth/{}/login", about.name),
        }
    });
    answer.success(&ShownProviders { providers: shown.collect() })
}

/// `GET /auth/{provider}/login`
pub(super) async fn login(
    State(state): State<ApiState>,
    provider: Provider,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let as_page = wants_page(&headers);
    match begin(&state, provider, &headers, &uri).await {
        Ok((begun, origin)) if as_page => {
            cookie::given(redirect(begun.auth_url.as_str()), &begun, &origin)
        }
        Ok((begun, origin)) => show_begun(&headers, &begun, &origin),
        Err(error) => refused(error, as_page),
    }
}

async fn begin(
    state: &ApiState,
    provider: Provider,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(Begun, String), ApiError> {
    let logins = state.logins();
    let provider = named(provider)?;
    logins.way.provider(&provider)?;
    let mut parameters = Parameters::new(uri, LOGIN_QUERY)?;
    let redirect_uri = parameters.text("redirect_uri");
    let challenge = parameters.text("code_challenge");
    let method = parameters.word("code_challenge_method", &[("S256", ())]);
    let app_state = parameters.text("app_state");
    let device_id = parameters.text("device_id").map(DeviceId::new);
    let device_name = parameters.text("device_name").unwrap_or_default();
    if challenge.as_deref().is_some_and(|text| !is_challenge(text)) {
        parameters.say("code_challenge", "must be 43 characters of base64url, by S256");
    }
    if method.is_some() && challenge.is_none() {
        parameters.say("code_challenge_method", "goes with code_challenge");
    }
    if let Some(Err(error)) = &device_id {
        parameters.say("device_id", error.to_string());
    }
    if !is_line(&device_name, DEVICE_NAME_BYTES_MAX) {
        parameters.say(
            "device_name",
            format!("must be one line of at most {DEVICE_NAME_BYTES_MAX} bytes"),
        );
    }
    parameters.finish()?;
    let origin = origin(logins, headers)?;
    let back = back(logins, redirect_uri, challenge, app_state)?;
    if back.as_ref().is_some_and(|back| back.challenge.is_none() && !is_web(&back.uri)) {
        let problem = "is needed: another app may claim this redirect_uri (RFC 8252 §8.1)";
        return Err(ApiError::field("code_challenge", problem));
    }
    let begin = Begin {
        away: Away {
            provider: &provider,
            callback: callback_url(&origin, &provider),
            browser: browser(headers),
        },
        back,
        device: DeviceInfo { id: device_id.and_then(Result::ok), name: device_name },
        link: None,
    };
    Ok((logins.begin(begin).await?, origin))
}

fn is_web(uri: &str) -> bool {
    uri.starts_with("https://") || uri.starts_with("http://")
}

/// The secret of a browser that has begun a login in another tab: both must come back well.
pub(super) fn browser(headers: &HeaderMap) -> Option<SecretString> {
    browsers(headers).into_iter().next()
}

/// All secrets that a browser shows.
pub(super) fn browsers(headers: &HeaderMap) -> Vec<SecretString> {
    cookie::secrets(headers)
}

/// The answer to a program that began a login.
pub(super) fn show_begun(headers: &HeaderMap, begun: &Begun, origin: &str) -> Response {
    let answer = match negotiate(headers) {
        Ok(codec) => Answer(codec),
        Err(error) => return error.into_response(),
    };
    let shown =
        ShownBegun { auth_url: begun.auth_url.as_str(), state: begun.state.expose_secret() };
    cookie::given(private(answer.success(&shown)), begun, origin)
}

/// `GET /auth/{provider}/callback`
pub(super) async fn callback(
    State(state): State<ApiState>,
    provider: Provider,
    headers: HeaderMap,
    toll: Toll,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let as_page = wants_page(&headers);
    let finished = finish(&state, provider, &headers, &toll, &uri).await;
    // Browsers that ask for a page get the tokens as JSON: whoever wants a page of their own has a
    // redirect_uri.
    let codec = negotiate(&headers).unwrap_or(protocol::Codec::Json);
    match finished {
        Ok(Finished::Pair(pair)) => {
            note(&*state.0.directory, &pair.caller).await;
            private(Answer(codec).success(&pair.shown()))
        }
        Ok(Finished::Code(back, code)) => {
            redirect(&returned(&back, &came_state(&uri), &[("code", code.expose_secret())]))
        }
        Ok(Finished::Linked(Some(back), identity)) => {
            redirect(&returned(&back, &came_state(&uri), &[("linked", &identity.provider)]))
        }
        Ok(Finished::Linked(None, identity)) => private(Answer(codec).success(&ShownLinked {
            provider: &identity.provider,
            subject: &identity.subject,
            username: &identity.username,
        })),
        Err((error, None)) => refused(error, as_page),
        Err((error, Some(back))) => {
            let ApiError::Login(why) = &error else { return refused(error, as_page) };
            let said = [("error", why.code()), ("error_description", &why.to_string())];
            redirect(&returned(&back, &came_state(&uri), &said))
        }
    }
}

async fn finish(
    state: &ApiState,
    provider: Provider,
    headers: &HeaderMap,
    toll: &Toll,
    uri: &Uri,
) -> Result<Finished, (ApiError, Option<Return>)> {
    let provider = named(provider).map_err(|error| (error, None))?;
    let logins = state.logins();
    let brought = brought(&logins.way, &provider, uri).map_err(|error| (error.into(), None))?;
    let (address, agent) = (Some(toll.address()), user_agent(headers));
    let came = brought.came(&provider, headers);
    logins.finish(came, address, agent).await.map_err(|failed| {
        if matches!(failed.error, LoginError::State) {
            toll.guessed();
        }
        (failed.error.into(), failed.back)
    })
}

/// What a provider has sent a browser back with.
pub(super) struct Brought {
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Reads it from the query.
pub(super) fn brought(way: &Way, provider: &str, uri: &Uri) -> Result<Brought, LoginError> {
    let known = way.provider(provider)?;
    let state = one(uri, "state").ok_or(LoginError::State)?;
    let code = one(uri, known.steps().code_name);
    Ok(Brought { state, code, error: one(uri, "error"), iss: one(uri, "iss") })
}

impl Brought {
    /// With the browser that brought it.
    pub(super) fn came<'a>(&'a self, provider: &'a str, headers: &HeaderMap) -> Came<'a> {
        Came {
            provider,
            state: &self.state,
            code: self.code.as_deref(),
            error: self.error.as_deref(),
            iss: self.iss.as_deref(),
            browsers: browsers(headers),
        }
    }
}

/// A parameter of a callback that stands there once: of two nobody knows which counts.
fn one(uri: &Uri, name: &str) -> Option<String> {
    let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    let mut values = given.into_iter().filter(|(known, _)| known == name).map(|(_, value)| value);
    let value = values.next().filter(|_| values.next().is_none())?;
    (1..=PROVIDER_TEXT_BYTES_MAX).contains(&value.len()).then_some(value)
}

fn came_state(uri: &Uri) -> String {
    one(uri, "state").unwrap_or_default()
}

/// The address of an app with what it is told.
fn returned(back: &Return, state: &str, said: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse(&back.uri) else {
        // Settings are checked at the start.
        return back.uri.clone();
    };
    url.query_pairs_mut()
        .extend_pairs(said)
        .append_pair("state", back.state.as_deref().unwrap_or(state));
    url.into()
}

/// `POST /auth/exchange`
pub(super) async fn exchange(
    State(state): State<ApiState>,
    headers: HeaderMap,
    toll: Toll,
    answer: Answer,
    Decoded(ExchangeBody { code, code_verifier }): Decoded<ExchangeBody>,
) -> Result<Response, ApiError> {
    let verifier = code_verifier.as_ref().map(ExposeSecret::expose_secret);
    let agent = user_agent(&headers);
    let code = code.expose_secret();
    let pair = state.logins().exchange(code, verifier, Some(toll.address()), agent).await;
    let pair = guessed(&toll, pair)?;
    note(&*state.0.directory, &pair.caller).await;
    Ok(private(answer.success(&pair.shown())))
}

/// A code or a state that is none costs its address as a bad token does.
pub(super) fn guessed<T>(toll: &Toll, result: Result<T, LoginError>) -> Result<T, LoginError> {
    if let Err(LoginError::Code | LoginError::State) = &result {
        toll.guessed();
    }
    result
}

pub(super) fn user_agent(headers: &HeaderMap) -> String {
    let text = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    text.unwrap_or_default().to_owned()
}

/// With what keeps secrets out of caches and of the next page's `Referer`.
pub(super) fn private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

pub(super) fn redirect(url: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(url) else {
        return ApiError::NoRoute.into_response();
    };
    let mut response = StatusCode::FOUND.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    private(response)
}
