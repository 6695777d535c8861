//! Logging in elsewhere (seed 003 §6): GitHub, Google, WeChat, WeCom, DingTalk, and whatever OAuth2 or
//! OpenID provider is configured.
//!
//! A provider is a [`Provider`] in a file of its own, and a line in [`Providers::new`]. What it is asked is
//! where a browser signs in, and whom a code that comes back stands for; what surrounds that is the same
//! for all: `way` has the `state` that can be used once and only in the browser that got it, PKCE, the nonce and
//! the time that all of it may take; `flow` what a login of a user ends in. Logins of admins take the same way.
//!
//! Nothing is kept of a provider's tokens: they are asked once who it is, and forgotten.

mod config;
mod dingtalk;
mod discovery;
mod error;
mod fields;
mod flow;
mod github;
mod google;
mod id_token;
mod metrics;
mod oidc;
mod openid;
mod pkce;
mod way;
mod web;
mod wechat;
mod wecom;

use std::sync::Arc;

use url::Url;

use self::error::Named;
pub use self::{
    config::{
        CUSTOM_PROVIDERS_MAX, ClientConfig, CustomConfig, CustomEndpoints, DingtalkConfig,
        FieldMapping, FixedEndpoints, GoogleConfig, Issuer, ProvidersConfig,
        REDIRECT_URI_BYTES_MAX, REDIRECT_URIS_MAX, TENANTS_MAX, TenantClaim, WecomConfig,
    },
    error::ProviderError,
    metrics::ALL as METRICS,
    pkce::{SECRET_CHARS, VERIFIER_CHARS_MAX, VERIFIER_CHARS_MIN},
};
pub(crate) use self::{
    fields::Fields,
    flow::{Begin, CODE_LIFE, Finished, Logins, Return},
    pkce::{hash, is_challenge, is_secret, new_secret},
    way::{Away, Back, Begun, Came, LoginError, STATE_LIFE, Way, one_of},
};
use crate::{
    account::ProviderIdentity,
    clock::WallClock,
    outbound::{Outbound, OutboundUrl},
    store::BoxFuture,
};

/// The names of the providers that are built in; custom ones have others.
pub const BUILT_IN: [&str; 5] = ["github", "google", "wechat", "wecom", "dingtalk"];

/// The name of the provider of admins, which is none of users'.
pub const ADMIN: &str = "admin";

/// What a provider is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// In paths, and in what is kept of a person for good.
    pub name: String,
    /// For people.
    pub title: String,
}

impl About {
    fn new(name: &str, title: &str) -> Self {
        Self { name: name.to_owned(), title: title.to_owned() }
    }
}

/// What a provider takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// It checks a `code_challenge` (RFC 7636).
    pub pkce: bool,
    /// It puts a nonce into a signed token.
    pub nonce: bool,
    /// What it calls the code where it sends browsers back.
    pub code_name: &'static str,
}

impl Default for Steps {
    fn default() -> Self {
        Self { pkce: false, nonce: false, code_name: "code" }
    }
}

/// A browser that is to sign in.
#[derive(Clone, Copy, Debug)]
pub struct AuthRequest<'a> {
    /// Comes back with the browser.
    pub state: &'a str,
    /// Where it comes back to.
    pub redirect_uri: &'a str,
    /// S256 of the verifier, for providers that check one.
    pub challenge: Option<&'a str>,
    /// For providers that sign one.
    pub nonce: Option<&'a str>,
}

impl AuthRequest<'_> {
    /// The page with the parameters of RFC 6749 §4.1.1 and a provider's `own`.
    fn url(
        &self,
        named: &Named,
        page: &OutboundUrl,
        own: &[(&str, &str)],
    ) -> Result<Url, ProviderError> {
        let mut url = self.url_without_type(named, page, own)?;
        url.query_pairs_mut().append_pair("response_type", "code");
        Ok(url)
    }

    /// The same for a page that knows no `response_type`.
    fn url_without_type(
        &self,
        named: &Named,
        page: &OutboundUrl,
        own: &[(&str, &str)],
    ) -> Result<Url, ProviderError> {
        let page = Url::parse(page.as_str());
        let mut url = page.map_err(|_| named.address("where people sign in"))?;
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(own);
            query.append_pair("redirect_uri", self.redirect_uri);
            query.append_pair("state", self.state);
            if let Some(challenge) = self.challenge {
                query.append_pair("code_challenge", challenge);
                query.append_pair("code_challenge_method", "S256");
            }
            if let Some(nonce) = self.nonce {
                query.append_pair("nonce", nonce);
            }
        }
        Ok(url)
    }
}

/// A browser that came back. Secrets are in it: it has no `Debug`.
#[derive(Clone, Copy)]
pub struct Callback<'a> {
    /// What it brought.
    pub code: &'a str,
    /// Where it came back to, as it was said when it was sent away.
    pub redirect_uri: &'a str,
    /// The verifier of the challenge that was sent, where one was: a server must refuse one without.
    pub verifier: Option<&'a str>,
    /// The nonce that was sent, where one was.
    pub nonce: Option<&'a str>,
    /// Whom the provider says it is (RFC 9207).
    pub iss: Option<&'a str>,
}

impl<'a> Callback<'a> {
    /// What every token endpoint of OAuth2 is told (RFC 6749 §4.1.3, RFC 7636 §4.5).
    fn form(&self) -> Vec<(&'static str, &'a str)> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", self.code),
            ("redirect_uri", self.redirect_uri),
        ];
        form.extend(self.verifier.map(|verifier| ("code_verifier", verifier)));
        form
    }
}

/// Somebody for whom a provider vouches.
#[derive(Debug)]
pub struct Vouched {
    /// Who.
    pub identity: ProviderIdentity,
    /// All that a custom provider has said; nothing of one that is built in.
    pub(crate) claims: Fields,
}

/// Somewhere to log in.
pub trait Provider: Send + Sync {
    /// What it is called.
    fn about(&self) -> &About;

    /// What it takes part in.
    fn steps(&self) -> Steps;

    /// Where a browser signs in.
    ///
    /// # Errors
    /// [`ProviderError`] where that has to be found out first and cannot be.
    fn auth_url<'a>(
        &'a self,
        request: &'a AuthRequest<'a>,
    ) -> BoxFuture<'a, Result<Url, ProviderError>>;

    /// Whom a code stands for. Spends it.
    ///
    /// # Errors
    /// [`ProviderError`].
    fn exchange<'a>(
        &'a self,
        callback: &'a Callback<'a>,
    ) -> BoxFuture<'a, Result<Vouched, ProviderError>>;
}

/// All that are configured, in the order they are shown.
pub struct Providers(Vec<Arc<dyn Provider>>);

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all().map(Provider::about)).finish()
    }
}

impl Providers {
    /// The one of admins.
    pub(crate) fn of_admins(config: CustomConfig, outbound: &Outbound, clock: &WallClock) -> Self {
        Self(vec![Arc::new(oidc::Custom::new(config, outbound.clone(), clock.clone()))])
    }

    /// Makes them. Nothing is called: one that is away must not keep the hub from starting.
    #[must_use]
    pub fn new(config: &ProvidersConfig, outbound: &Outbound, clock: &WallClock) -> Self {
        let web = || outbound.clone();
        let mut all: Vec<Arc<dyn Provider>> = Vec::new();
        if let Some(config) = config.github.clone() {
            all.push(Arc::new(github::GitHub::new(config, web())));
        }
        if let Some(config) = config.google.clone() {
            all.push(Arc::new(google::Google::new(config, web(), clock.clone())));
        }
        if let Some(config) = config.wechat.clone() {
            all.push(Arc::new(wechat::WeChat::new(config, web())));
        }
        if let Some(config) = config.wecom.clone() {
            all.push(Arc::new(wecom::WeCom::new(config, web())));
        }
        if let Some(config) = config.dingtalk.clone() {
            all.push(Arc::new(dingtalk::DingTalk::new(config, web())));
        }
        for config in config.custom.iter().cloned() {
            all.push(Arc::new(oidc::Custom::new(config, web(), clock.clone())));
        }
        Self(all)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &dyn Provider> {
        self.0.iter().map(|provider| &**provider)
    }

    /// The one of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn Provider> {
        self.all().find(|provider| provider.about().name == name)
    }
}
