//! Google. Its `id_token` says all there is to know; its issuer writes itself in two ways; a Workspace's
//! domain is asked for in the page's `hd`, which anybody can change, and is checked in the token's.

use url::Url;

use super::{
    About, AuthRequest, Callback, GoogleConfig, Issuer, Provider, ProviderError, Steps, Vouched,
    discovery::{Discovery, Fixed},
    error::Named,
    fields::Person,
    openid::OpenId,
    web::{Web, needed},
};
use crate::{
    clock::WallClock,
    outbound::{Outbound, OutboundUrl},
    store::BoxFuture,
};

const ISSUER: &str = "https://accounts.google.com";

pub(super) struct Google {
    about: About,
    openid: OpenId,
    hosted_domain: Option<String>,
}

impl Google {
    pub(super) fn new(config: GoogleConfig, outbound: Outbound, clock: WallClock) -> Self {
        let about = About::new("google", "Google");
        let web = Web { outbound, named: Named(about.name.clone()) };
        let GoogleConfig { client, issuer, hosted_domain } = config;
        let below =
            |base: &OutboundUrl, path| base.at(path).expect("a short path fits a short URL");
        let pages = client.base_url.as_ref();
        let api = client.api_base_url.as_ref().or(pages);
        let fixed = Fixed {
            authorization: pages.map(|base| below(base, "o/oauth2/v2/auth")),
            token: api.map(|base| below(base, "token")),
            keys: api.map(|base| below(base, "oauth2/v3/certs")),
        };
        let real = || Issuer::configured(ISSUER).expect("a URL");
        let discovery = Discovery::new(issuer.unwrap_or_else(real), fixed, web.clone());
        let openid =
            OpenId { web, discovery, client_id: client.id, client_secret: client.secret, clock };
        Self { about, openid, hosted_domain }
    }

    async fn identified(&self, callback: &Callback<'_>) -> Result<Vouched, ProviderError> {
        let named = &self.openid.web.named;
        let claims = self.openid.claims(callback, both_ways, false).await?;
        let domain = claims.text("hd");
        if self.hosted_domain.is_some() && domain != self.hosted_domain {
            return Err(named.not_allowed("the account is not of the domain that this hub is for"));
        }
        let email = claims.text("email").unwrap_or_default();
        let verified = claims.flag("email_verified");
        Person {
            subject: needed(named, &claims, "sub")?,
            username: email.split('@').next().unwrap_or_default().to_owned(),
            name: claims.text("name").unwrap_or_default(),
            email: if verified { email } else { String::new() },
            avatar: claims.text("picture").unwrap_or_default(),
            more: vec![("hosted_domain", domain), ("locale", claims.text("locale"))],
        }
        .known_as(named)
    }
}

/// `https://accounts.google.com`, or without its scheme.
fn both_ways(issuer: &str) -> Vec<String> {
    let bare = issuer.split_once("://").map_or(issuer, |(_, bare)| bare);
    vec![issuer.to_owned(), bare.to_owned()]
}

impl Provider for Google {
    fn about(&self) -> &About {
        &self.about
    }

    fn steps(&self) -> Steps {
        Steps { pkce: true, nonce: true, ..Steps::default() }
    }

    fn auth_url<'a>(
        &'a self,
        request: &'a AuthRequest<'a>,
    ) -> BoxFuture<'a, Result<Url, ProviderError>> {
        Box::pin(async move {
            let mut more = vec![("scope", "openid email profile")];
            more.extend(self.hosted_domain.as_deref().map(|domain| ("hd", domain)));
            self.openid.auth_url(request, &more).await
        })
    }

    fn exchange<'a>(
        &'a self,
        callback: &'a Callback<'a>,
    ) -> BoxFuture<'a, Result<Vouched, ProviderError>> {
        Box::pin(self.identified(callback))
    }
}
