//! Custom providers: OpenID Connect by discovery, or OAuth2 with addresses and a mapping of fields.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    About, AuthRequest, Callback, CustomConfig, CustomEndpoints, FieldMapping, FixedEndpoints,
    Provider, ProviderError, Steps, Vouched,
    discovery::{Discovery, Fixed},
    error::Named,
    fields::{Fields, Person},
    openid::OpenId,
    web::{Web, needed},
};
use crate::{clock::WallClock, outbound::Outbound, store::BoxFuture};

pub(super) struct Custom {
    about: About,
    kind: Kind,
    scope: String,
    fields: FieldMapping,
    pkce: bool,
}

enum Kind {
    OpenId(Box<OpenId>),
    Plain(Box<Plain>),
}

/// OAuth2 without OpenID: who it is says an address that the operator named.
struct Plain {
    web: Web,
    client_id: String,
    client_secret: SecretString,
    endpoints: Box<FixedEndpoints>,
}

impl Custom {
    pub(super) fn new(config: CustomConfig, outbound: Outbound, clock: WallClock) -> Self {
        let about = About { name: config.name, title: config.title };
        let web = Web { outbound, named: Named(about.name.clone()) };
        let CustomConfig { client_id, client_secret, .. } = config;
        let kind = match config.endpoints {
            CustomEndpoints::Issuer(issuer) => Kind::OpenId(Box::new(OpenId {
                discovery: Discovery::new(*issuer, Fixed::default(), web.clone()),
                web,
                client_id,
                client_secret,
                clock,
            })),
            CustomEndpoints::Fixed(endpoints) => {
                Kind::Plain(Box::new(Plain { web, client_id, client_secret, endpoints }))
            }
        };
        let scope = config.scopes.join(" ");
        Self { about, kind, scope, fields: config.fields, pkce: config.pkce }
    }

    async fn identified(&self, callback: &Callback<'_>) -> Result<Vouched, ProviderError> {
        let (named, claims) = match &self.kind {
            Kind::OpenId(openid) => {
                let itself = |issuer: &str| vec![issuer.to_owned()];
                (&openid.web.named, openid.claims(callback, itself, true).await?)
            }
            Kind::Plain(plain) => (&plain.web.named, plain.userinfo(callback).await?),
        };
        let Vouched { identity, .. } = self.person(named, &claims)?.known_as(named)?;
        Ok(Vouched { identity, claims })
    }

    fn person(&self, named: &Named, claims: &Fields) -> Result<Person, ProviderError> {
        let fields = &self.fields;
        let verified = fields.email_verified == "*" || claims.flag(&fields.email_verified);
        let email = claims.text(&fields.email).filter(|_| verified);
        let username = claims.text(&fields.username);
        let name = claims.text(&fields.name).unwrap_or_default();
        Ok(Person {
            subject: needed(named, claims, &fields.id)?,
            username: username.unwrap_or_else(|| name.clone()),
            name,
            email: email.unwrap_or_default(),
            avatar: claims.text(&fields.avatar).unwrap_or_default(),
            more: vec![("locale", claims.text("locale")), ("zoneinfo", claims.text("zoneinfo"))],
        })
    }
}

impl Plain {
    async fn userinfo(&self, callback: &Callback<'_>) -> Result<Fields, ProviderError> {
        let mut form = callback.form();
        form.push(("client_id", &self.client_id));
        form.push(("client_secret", self.client_secret.expose_secret()));
        let token = self.web.post_form(&self.endpoints.token_url, &form).await?.token()?;
        let access = needed(&self.web.named, &token, "access_token")?;
        self.web.get_as(&self.endpoints.userinfo_url, &access).await?.data()
    }
}

impl Provider for Custom {
    fn about(&self) -> &About {
        &self.about
    }

    fn steps(&self) -> Steps {
        let nonce = matches!(self.kind, Kind::OpenId(_));
        Steps { pkce: self.pkce, nonce, ..Steps::default() }
    }

    fn auth_url<'a>(
        &'a self,
        request: &'a AuthRequest<'a>,
    ) -> BoxFuture<'a, Result<Url, ProviderError>> {
        Box::pin(async move {
            let scope = ("scope", self.scope.as_str());
            let scope: &[_] = if self.scope.is_empty() { &[] } else { &[scope] };
            match &self.kind {
                Kind::OpenId(openid) => openid.auth_url(request, scope).await,
                Kind::Plain(plain) => {
                    let mut own = vec![("client_id", plain.client_id.as_str())];
                    own.extend_from_slice(scope);
                    request.url(&plain.web.named, &plain.endpoints.auth_url, &own)
                }
            }
        })
    }

    fn exchange<'a>(
        &'a self,
        callback: &'a Callback<'a>,
    ) -> BoxFuture<'a, Result<Vouched, ProviderError>> {
        Box::pin(self.identified(callback))
    }
}
