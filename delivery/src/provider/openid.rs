//! OpenID Connect, as Google and custom providers have it in common.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::header;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    AuthRequest, Callback, ProviderError,
    discovery::{Authentication, Discovery, Metadata},
    fields::Fields,
    id_token::{Expected, verified},
    web::{Reply, Web, needed},
};
use crate::{
    clock::WallClock,
    outbound::{Call, Purpose},
};

/// A client of an OpenID provider.
pub(super) struct OpenId {
    pub(super) web: Web,
    pub(super) discovery: Discovery,
    pub(super) client_id: String,
    pub(super) client_secret: SecretString,
    pub(super) clock: WallClock,
}

impl OpenId {
    pub(super) async fn auth_url(
        &self,
        request: &AuthRequest<'_>,
        more: &[(&str, &str)],
    ) -> Result<Url, ProviderError> {
        let metadata = self.discovery.metadata().await?;
        let mut own = vec![("client_id", self.client_id.as_str())];
        own.extend_from_slice(more);
        request.url(&self.web.named, &metadata.authorization, &own)
    }

    /// What is said of whoever came back: the claims of the `id_token`, and what the userinfo endpoint adds
    /// to them where `asks_userinfo`.
    pub(super) async fn claims(
        &self,
        callback: &Callback<'_>,
        issuers: impl Fn(&str) -> Vec<String>,
        asks_userinfo: bool,
    ) -> Result<Fields, ProviderError> {
        let named = &self.web.named;
        let metadata = self.discovery.metadata().await?;
        // A code of one provider must not be spent at another (RFC 9207 §2.4).
        let is_itself = match callback.iss {
            Some(iss) => iss == metadata.issuer,
            None => !metadata.names_itself,
        };
        if !is_itself {
            return Err(named.not_believed("the answer is another issuer's"));
        }
        let token = self.redeem(&metadata, callback).await?;
        let id_token = needed(named, &token, "id_token")?;
        let issuers = issuers(&metadata.issuer);
        let issuers: Vec<&str> = issuers.iter().map(String::as_str).collect();
        let expected = Expected {
            issuers: &issuers,
            client_id: &self.client_id,
            nonce: callback.nonce.unwrap_or_default(),
            now: self.clock.now(),
        };
        let mut claims = verified(named, &metadata.keys, &id_token, &expected).await?;
        let Some(userinfo) = metadata.userinfo.as_ref().filter(|_| asks_userinfo) else {
            return Ok(claims);
        };
        let access = needed(named, &token, "access_token")?;
        let more = self.web.get_as(userinfo, &access).await?.data()?;
        // OpenID Connect Core §5.3.2: else it may be of anybody.
        if more.text("sub") != claims.text("sub") {
            return Err(named.not_believed("the userinfo endpoint speaks of another person"));
        }
        for (name, value) in more.0 {
            claims.0.entry(name).or_insert(value);
        }
        Ok(claims)
    }

    async fn redeem(
        &self,
        metadata: &Metadata,
        callback: &Callback<'_>,
    ) -> Result<Fields, ProviderError> {
        let reply = match metadata.authentication {
            Authentication::Post => self.redeem_post(metadata, callback).await?,
            Authentication::Basic => self.redeem_basic(metadata, callback).await?,
            Authentication::Unknown => {
                let reply = self.redeem_basic(metadata, callback).await?;
                if reply.status() == http::StatusCode::UNAUTHORIZED {
                    self.redeem_post(metadata, callback).await?
                } else {
                    reply
                }
            }
        };
        reply.token()
    }

    async fn redeem_post(
        &self,
        metadata: &Metadata,
        callback: &Callback<'_>,
    ) -> Result<Reply<'_>, ProviderError> {
        let mut form = callback.form();
        form.push(("client_id", &self.client_id));
        form.push(("client_secret", self.client_secret.expose_secret()));
        self.web.post_form(&metadata.token, &form).await
    }

    async fn redeem_basic(
        &self,
        metadata: &Metadata,
        callback: &Callback<'_>,
    ) -> Result<Reply<'_>, ProviderError> {
        // Both are escaped as in a form first (RFC 6749 §2.3.1).
        let escaped = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let secret = self.client_secret.expose_secret();
        let pair = format!("{}:{}", escaped(&self.client_id), escaped(secret));
        let call = Call::post_form(Purpose::Login, &metadata.token, &callback.form());
        let call = call.header(header::AUTHORIZATION, &format!("Basic {}", STANDARD.encode(pair)));
        self.web.call(call).await
    }
}
