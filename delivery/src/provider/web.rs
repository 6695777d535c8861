//! Calls to a provider, and what they say in common.

use http::{HeaderName, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{ClientConfig, ProviderError, error::Named, fields::Fields};
use crate::outbound::{Answer, Call, Outbound, OutboundError, OutboundUrl, Purpose};

/// Makes calls to one provider.
#[derive(Clone)]
pub(super) struct Web {
    pub(super) outbound: Outbound,
    pub(super) named: Named,
}

/// What this hub is called at a provider, and where that is.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: SecretString,
    /// Where its sign-in pages are.
    pub(super) pages: OutboundUrl,
    /// Where tokens and user data are.
    pub(super) api: OutboundUrl,
}

impl Client {
    /// With the real provider's addresses in place of those that were not set. Somebody who stands in for
    /// the pages stands in for the rest as well: the real provider must not get a code that it did not give.
    pub(super) fn new(config: ClientConfig, pages: &str, api: &str) -> Self {
        let real = |url| OutboundUrl::configured(url).expect("the addresses in the code are URLs");
        let api =
            config.api_base_url.or_else(|| config.base_url.clone()).unwrap_or_else(|| real(api));
        let pages = config.base_url.unwrap_or_else(|| real(pages));
        Self { id: config.id, secret: config.secret, pages, api }
    }

    pub(super) fn secret(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// What a provider answered.
pub(super) struct Reply<'a> {
    named: &'a Named,
    answer: Answer,
}

impl Web {
    pub(super) async fn get(
        &self,
        url: &OutboundUrl,
        headers: &[(HeaderName, &str)],
    ) -> Result<Reply<'_>, ProviderError> {
        let call = Call::get(Purpose::Login, url);
        self.call(headers.iter().fold(call, |call, (name, value)| call.header(name.clone(), value)))
            .await
    }

    pub(super) async fn get_as(
        &self,
        url: &OutboundUrl,
        bearer: &str,
    ) -> Result<Reply<'_>, ProviderError> {
        self.call(Call::get(Purpose::Login, url).bearer(bearer)).await
    }

    pub(super) async fn post_form(
        &self,
        url: &OutboundUrl,
        pairs: &[(&str, &str)],
    ) -> Result<Reply<'_>, ProviderError> {
        self.call(Call::post_form(Purpose::Login, url, pairs)).await
    }

    pub(super) async fn post_json(
        &self,
        url: &OutboundUrl,
        body: &Value,
    ) -> Result<Reply<'_>, ProviderError> {
        self.call(Call::post_json(Purpose::Login, url, body)).await
    }

    pub(super) async fn call(&self, call: Call<'_>) -> Result<Reply<'_>, ProviderError> {
        match self.outbound.call(call).await {
            Ok(answer) => Ok(Reply { named: &self.named, answer }),
            Err(OutboundError::Timeout) => Err(self.named.slow()),
            Err(OutboundError::NotAllowed) => Err(self.named.address("where it is looked for")),
            Err(
                error @ (OutboundError::TooLong
                | OutboundError::NotJson(_)
                | OutboundError::Broken(_)),
            ) => Err(self.named.nonsense(error.to_string())),
            Err(
                error @ (OutboundError::Busy
                | OutboundError::NotConnected(_)
                | OutboundError::Setup(_)),
            ) => Err(self.named.unreachable(error)),
        }
    }

    /// A URL below another.
    pub(super) fn at(&self, base: &OutboundUrl, path: &str) -> Result<OutboundUrl, ProviderError> {
        base.at(path).map_err(|problem| self.named.address(problem.to_string()))
    }

    /// A URL with a query.
    pub(super) fn query(
        &self,
        url: &OutboundUrl,
        pairs: &[(&str, &str)],
    ) -> Result<OutboundUrl, ProviderError> {
        url.with_query(pairs).map_err(|problem| self.named.address(problem.to_string()))
    }
}

impl Reply<'_> {
    pub(super) const fn status(&self) -> StatusCode {
        self.answer.status
    }

    /// The object it is, whatever its status and media type: errors come with 200, JSON as `text/plain`.
    /// A status that says that the provider is away counts more than what stands below it.
    pub(super) fn object(&self) -> Result<Fields, ProviderError> {
        if self.is_away() {
            return Err(self.named.away());
        }
        match serde_json::from_slice(&self.answer.body) {
            Ok(Value::Object(object)) => Ok(Fields(object)),
            Ok(_) | Err(_) => Err(self
                .named
                .nonsense(format!("no JSON object, with status {}", self.answer.status.as_u16()))),
        }
    }

    /// The same, also of a form: what OAuth2 servers of before 2012 answer, and GitHub unless it is asked
    /// for JSON.
    pub(super) fn object_or_form(&self) -> Result<Fields, ProviderError> {
        let json = self.object();
        let media = self.answer.headers.get(http::header::CONTENT_TYPE);
        let is_form = media
            .and_then(|media| media.to_str().ok())
            .is_some_and(|media| media.starts_with("application/x-www-form-urlencoded"));
        if json.is_ok() || !is_form || self.is_away() {
            return json;
        }
        let pairs = url::form_urlencoded::parse(&self.answer.body);
        Ok(Fields(
            pairs
                .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
                .collect(),
        ))
    }

    /// A list.
    pub(super) fn list(&self) -> Result<Vec<Fields>, ProviderError> {
        let Ok(Value::Array(items)) = serde_json::from_slice(&self.answer.body) else {
            return Err(self.named.nonsense("no list"));
        };
        let objects = items.into_iter().filter_map(|item| match item {
            Value::Object(object) => Some(Fields(object)),
            _ => None,
        });
        Ok(objects.collect())
    }

    /// The answer of an OAuth2 token endpoint, without an error in it (RFC 6749 §5.2).
    pub(super) fn token(&self) -> Result<Fields, ProviderError> {
        let fields = self.object_or_form()?;
        if let Some(said) = fields.text("error") {
            return Err(of_oauth(self.named, &said));
        }
        if !self.answer.status.is_success() {
            return Err(self.unexpected());
        }
        Ok(fields)
    }

    /// An answer to a question with a token that was just given.
    pub(super) fn data(&self) -> Result<Fields, ProviderError> {
        if !self.answer.status.is_success() && !self.is_away() {
            return Err(self.unexpected());
        }
        self.object()
    }

    pub(super) fn unexpected(&self) -> ProviderError {
        if self.is_away() {
            return self.named.away();
        }
        self.named.nonsense(format!("status {}", self.answer.status.as_u16()))
    }

    fn is_away(&self) -> bool {
        self.answer.status.is_server_error() || self.answer.status == StatusCode::TOO_MANY_REQUESTS
    }
}

/// What an `error` of OAuth2 means (RFC 6749 §4.1.2.1, §5.2, and GitHub's own).
pub(super) fn of_oauth(named: &Named, said: &str) -> ProviderError {
    match said {
        "invalid_grant" | "bad_verification_code" | "expired_token" => named.refused(said),
        "access_denied" | "login_required" | "consent_required" | "interaction_required" => {
            named.not_allowed("the login was declined")
        }
        "unverified_user_email" => {
            named.not_allowed("the account there has no verified email address")
        }
        "server_error" | "temporarily_unavailable" => named.away(),
        "invalid_client"
        | "unauthorized_client"
        | "invalid_scope"
        | "unsupported_grant_type"
        | "unsupported_response_type"
        | "invalid_request"
        | "incorrect_client_credentials"
        | "redirect_uri_mismatch" => named.misconfigured(said),
        _ => named.nonsense("an error that is not known"),
    }
}

/// The text of a field that must be there.
pub(super) fn needed(named: &Named, fields: &Fields, name: &str) -> Result<String, ProviderError> {
    fields.text(name).ok_or_else(|| named.nonsense(format!("no {name}")))
}
