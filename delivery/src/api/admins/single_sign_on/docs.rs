//! What the endpoints of admins' logins at an issuer tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{ShownCode, ShownProviders};
use crate::api::{
    admins::logins::{ShownChallenge, ShownLogin, docs::TAG},
    auth::USER_AGENT,
    doc::{By, Doc, Example, Given, Others, Reply, Who, may, text},
    login::{CALLBACK_QUERY, ShownBegun, docs::of_provider},
};

const CODE: &str = "Yb4Hn8LsQ2vXk6RzTw0MpGd1FcJa9UeO3iSqN5tKyBo";
const PROVIDER_CODE: &str = "9d2e7a1b4c6f8035be71";
const STATE: &str = "sJ6bWq0Zr3Nk8YtUd5Ml2XvPa9HgEoC7iTfK1yRnBwQ";
const BROWSER: &str = "L9cVx2Qm7Tb0RnYs4WkZj6HdGu1EpA8oKf3IiX5tNyM";
const COOKIE: &str = "pushhub_login=L9cVx2Qm7Tb0RnYs4WkZj6HdGu1EpA8oKf3IiX5tNyM";
const ISSUER: &str = "https%3A%2F%2Fsso.example.com";
const LOGIN: &str = "/api/v3/admin/login/oidc";

fn public(summary: &'static str, about: &'static str, answer: Reply) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: Who::Public,
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer,
        more: vec![],
        examples: vec![],
    }
}

pub(crate) fn providers() -> Doc {
    Doc {
        examples: vec![Example::new("all", "The issuer", By::Nobody)],
        ..public(
            "Where admins can log in",
            "The issuer of `ADMIN_OIDC_ISSUER`, where it is set; a password always.",
            Reply::data::<ShownProviders<'static>>("The issuer."),
        )
    }
}

pub(crate) fn login() -> Doc {
    Doc {
        more: [Reply::empty(302, "The same, for browsers: those whose `Accept` has `text/html`.")]
            .into_iter()
            .chain(of_provider())
            .collect(),
        examples: vec![Example::new("begin", "Begin", By::Nobody)],
        ..public(
            "Begin a login at the issuer",
            "A browser that is sent here goes on to the issuer (302). A program gets the address as JSON. The \
             browser must have this answer's cookie when it comes back, within 10 minutes, once.",
            Reply::data::<ShownBegun<'static>>("Where the browser goes now."),
        )
    }
}

pub(crate) fn callback() -> Doc {
    Doc {
        query: CALLBACK_QUERY,
        headers: vec![may("Cookie", text(usize::MAX), "`pushhub_login`, as the login's answer set it.")],
        more: [
            Reply::empty(302, "The same, for browsers: to the console, with `#login_code=`."),
            Reply::refusal(
                ErrorType::Unauthorized,
                "The login is over or was begun in another browser, or the issuer does not accept the code.",
            ),
            Reply::refusal(
                ErrorType::Forbidden,
                "The person declined, is no admin here, or is disabled.",
            ),
            Reply::refusal(ErrorType::Invalid, "There are as many admins as there may be."),
        ]
        .into_iter()
        .chain(of_provider())
        .collect(),
        examples: vec![
            Example::new("code", "Get a code", By::Nobody)
                .after(
                    Given::call(By::Nobody, Method::GET, LOGIN)
                        .keep(PROVIDER_CODE, "/data/code")
                        .keep(STATE, "/data/state")
                        .keep(BROWSER, "/data/browser")
                        .keep(ISSUER, "/data/iss"),
                )
                .query("code=9d2e7a1b4c6f8035be71&state=sJ6bWq0Zr3Nk8YtUd5Ml2XvPa9HgEoC7iTfK1yRnBwQ&iss=https%3A%2F%2Fsso.example.com")
                .header("Cookie", COOKIE),
            Example::new("stranger", "In another browser", By::Nobody)
                .query("code=9d2e7a1b4c6f8035be71&state=none")
                .answers(401),
        ],
        ..public(
            "Come back from the issuer",
            "The issuer sends the browser here. Works once for each login, in the browser that began it. Lets in \
             an admin who came by this login before; the first time one whose `email` the issuer says is \
             verified, or whoever has a role by `ADMIN_OIDC_ROLES`, for whom an admin is made. A browser \
             (`Accept: text/html`) sees a page where something is wrong.",
            Reply::data::<ShownCode<'static>>("For the exchange."),
        )
    }
}

pub(crate) fn exchange() -> Doc {
    Doc {
        headers: vec![
            USER_AGENT,
            may("Cookie", text(usize::MAX), "`pushhub_login`, as the login's answer set it."),
        ],
        more: vec![
            Reply::refusal(
                ErrorType::Unauthorized,
                "The code is over, was used, or is another browser's.",
            ),
            Reply::refusal(ErrorType::Forbidden, "The admin was disabled meanwhile."),
            Reply::refusal(ErrorType::NotFound, "There is no issuer here."),
            Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now."),
        ],
        examples: vec![
            Example::new("session", "What is missing is a second factor", By::Nobody)
                .after(
                    Given::call(By::Nobody, Method::GET, LOGIN)
                        .keep(CODE, "/data/login_code")
                        .keep(BROWSER, "/data/browser"),
                )
                .header("Cookie", COOKIE)
                .body(r#"{"code": "Yb4Hn8LsQ2vXk6RzTw0MpGd1FcJa9UeO3iSqN5tKyBo"}"#),
            Example::new("stranger", "A code that is over", By::Nobody)
                .body(r#"{"code": "Yb4Hn8LsQ2vXk6RzTw0MpGd1FcJa9UeO3iSqN5tKyBo"}"#)
                .answers(401),
        ],
        ..public(
            "Exchange a code for a session",
            "Within 60 seconds, once, with the cookie of the browser that logged in. Where the issuer has asked \
             for a second factor (`amr` or `acr` of its token, or `ADMIN_OIDC_SECOND_FACTOR=issuer`), the answer \
             is the session; else the challenge for a code, as after a password.",
            Reply::either::<ShownLogin<'static>, ShownChallenge<'static>>(
                "The session, or what is missing for one.",
            ),
        )
    }
}
