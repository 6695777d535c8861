//! What the endpoints of logins elsewhere tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{CALLBACK_QUERY, LOGIN_QUERY, ShownBegun, ShownLinked, ShownProviders};
use crate::{
    account::ShownPair,
    api::{
        auth::docs::TAG,
        doc::{By, Doc, Example, Field, Form, Given, Others, Reply, Who, formed, may, must, text},
    },
};

/// A provider, in a path.
pub(in crate::api) fn provider() -> Field {
    must(
        "provider",
        formed(Form::Pattern("^[a-z0-9-]{1,32}$"), 1, 32),
        "`github`, `google`, `wechat`, `wecom`, `dingtalk`, `oidc`, or one of `OAUTH_PROVIDERS_FILE`.",
    )
}

/// What may be wrong with a provider.
pub(in crate::api) fn of_provider() -> [Reply; 3] {
    [
        Reply::refusal(ErrorType::NotFound, "There is no such provider here."),
        Reply::refusal(
            ErrorType::ProviderFailed,
            "The provider answers nonsense, is not to be believed, or does not accept this hub.",
        ),
        Reply::refusal(
            ErrorType::Unavailable,
            "The provider cannot be reached, or does not answer in time; or the database cannot be asked.",
        ),
    ]
}

/// What an example writes in place of what a login made.
const APP_CODE: &str = "Zt2xS9h0Rk3nYw7QbUuJfGdVcLrXp4aEoM8iT1sNvHk";
const OTHER_APP_CODE: &str = "qX7mK2vTz9bW4cYp0RfLs6HdNj1uGe8aVo3IiQk5EwM";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const PROVIDER_CODE: &str = "6f1c0b7a2e9d4835ac1f";
const STATE: &str = "mC4vPzq8L1sXk0Wn5tYb7RgQ2eJdUhAf9oIiT3rSyVw";
const BROWSER: &str = "B7nQ0xT5kLr2VfYc9aWmEjH3pZs8uGdI1oKtR4yXvNq";

/// A login with an app. The tests go through the provider as a browser does, and keep the app's code.
pub(in crate::api) fn signed_in(provider: SignedInAt) -> Given {
    let (path, code) = match provider {
        SignedInAt::GitHub => (
            "/api/v3/auth/github/login?redirect_uri=https%3A%2F%2Fapp.example.com%2Fsigned-in&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&device_id=phone-1",
            APP_CODE,
        ),
        SignedInAt::DingTalk => (
            "/api/v3/auth/dingtalk/login?redirect_uri=https%3A%2F%2Fapp.example.com%2Fsigned-in",
            OTHER_APP_CODE,
        ),
    };
    Given::call(By::Nobody, Method::GET, path).keep(code, "/data/code")
}

/// Where an example's user signs in before it.
#[derive(Clone, Copy)]
pub(in crate::api) enum SignedInAt {
    GitHub,
    DingTalk,
}

pub(crate) fn providers() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Providers to log in with",
        about: "Those that are configured.",
        who: Who::Public,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<ShownProviders<'static>>("The providers."),
        more: vec![],
        examples: vec![Example::new("all", "All of them", By::Nobody)],
    }
}

pub(crate) fn login() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Begin a login",
        about: "A browser that is sent here goes on to the provider (302). A program gets the address as \
                JSON; the browser that it opens there must have this answer's cookie when it comes back, within \
                10 minutes, once. An app gives its `redirect_uri` and a `code_challenge`.",
        who: Who::Public,
        others: Others::Same,
        path: vec![provider()],
        query: LOGIN_QUERY,
        headers: vec![],
        answer: Reply::data::<ShownBegun<'static>>("Where the browser goes now."),
        more: [Reply::empty(302, "The same, for browsers: those whose `Accept` has `text/html`.")]
            .into_iter()
            .chain(of_provider())
            .collect(),
        examples: vec![
            Example::new("github", "With GitHub", By::Nobody).path("provider", "github"),
            Example::new("app", "For an app", By::Nobody).path("provider", "github").query(
                "redirect_uri=https%3A%2F%2Fapp.example.com%2Fsigned-in&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256",
            ),
            Example::new("elsewhere", "An address that is not registered", By::Nobody)
                .path("provider", "github")
                .query("redirect_uri=https%3A%2F%2Fapp.example.com.evil.example%2Fsigned-in")
                .answers(422),
            Example::new("none", "A provider that is not there", By::Nobody)
                .path("provider", "myspace")
                .answers(404),
        ],
    }
}

pub(crate) fn callback() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Come back from a provider",
        about: "The provider sends the browser here. Works once for each login, in the browser that began \
                it. The first login makes the user. With a `redirect_uri` the browser goes on there with \
                `code` and `state`, or `error`, `error_description` and `state`; nothing is made then before \
                the code is exchanged. A browser (`Accept: text/html`) sees a page where something is wrong.",
        who: Who::Public,
        others: Others::Same,
        path: vec![provider()],
        query: CALLBACK_QUERY,
        headers: vec![may("Cookie", text(usize::MAX), "`pushhub_login`, as the login's answer set it.")],
        answer: Reply::either::<ShownPair<'static>, ShownLinked<'static>>(
            "The tokens; or, where a user began it, the login that is theirs now as well.",
        ),
        more: [
            Reply::empty(302, "The login has a `redirect_uri`."),
            Reply::refusal(
                ErrorType::Unauthorized,
                "The login is over or was begun in another browser, or the provider does not accept the code.",
            ),
            Reply::refusal(
                ErrorType::Forbidden,
                "The person declined, is not of the organisation this hub is for, or is disabled.",
            ),
            Reply::refusal(ErrorType::Conflict, "The login belongs to another user."),
            Reply::refusal(ErrorType::Invalid, "The user has as many logins as can be."),
        ]
        .into_iter()
        .chain(of_provider())
        .collect(),
        examples: vec![
            Example::new("tokens", "Get tokens", By::Nobody)
                .after(
                    Given::call(By::Nobody, Method::GET, "/api/v3/auth/github/login")
                        .keep(PROVIDER_CODE, "/data/code")
                        .keep(STATE, "/data/state")
                        .keep(BROWSER, "/data/browser"),
                )
                .path("provider", "github")
                .query(
                    "code=6f1c0b7a2e9d4835ac1f&state=mC4vPzq8L1sXk0Wn5tYb7RgQ2eJdUhAf9oIiT3rSyVw",
                )
                .header("Cookie", "pushhub_login=B7nQ0xT5kLr2VfYc9aWmEjH3pZs8uGdI1oKtR4yXvNq"),
            Example::new("stranger", "In another browser", By::Nobody)
                .path("provider", "github")
                .query("code=6f1c0b7a2e9d4835ac1f&state=none")
                .answers(401),
        ],
    }
}

pub(crate) fn exchange() -> Doc {
    const _: () = assert!(VERIFIER.len() == super::VERIFIER_CHARS_MIN, "it is in the examples");
    Doc {
        tag: &TAG,
        summary: "Exchange an app's code for tokens",
        about: "For what the `redirect_uri` got, within 60 seconds, once: whoever comes second, or with another \
                `code_verifier`, gets nothing. A login with a `code_challenge` needs the verifier; one without \
                must come without, so that nobody's code can be put into an app that has sent a challenge.",
        who: Who::Public,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![crate::api::auth::USER_AGENT],
        answer: Reply::data::<ShownPair<'static>>("The tokens."),
        more: vec![
            Reply::refusal(ErrorType::Unauthorized, "The code or the verifier is not the right one."),
            Reply::refusal(ErrorType::Forbidden, "An admin has disabled the user."),
            Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now."),
        ],
        examples: vec![
            Example::new("app", "With PKCE", By::Nobody)
                .after(signed_in(SignedInAt::GitHub))
                .body(
                    r#"{"code": "Zt2xS9h0Rk3nYw7QbUuJfGdVcLrXp4aEoM8iT1sNvHk", "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}"#,
                ),
            Example::new("downgrade", "Without the verifier", By::Nobody)
                .after(signed_in(SignedInAt::GitHub))
                .body(r#"{"code": "Zt2xS9h0Rk3nYw7QbUuJfGdVcLrXp4aEoM8iT1sNvHk"}"#)
                .answers(401),
        ],
    }
}
