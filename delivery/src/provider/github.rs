//! GitHub (OAuth apps). Its token call answers a form unless it is asked for JSON, and says errors with
//! 200; there is no `id_token`. An address of the profile may be anybody's: only those of `/user/emails`
//! that are verified count.

use url::Url;

use super::{
    About, AuthRequest, Callback, ClientConfig, Provider, ProviderError, Steps, Vouched,
    error::Named,
    fields::{Fields, Person},
    web::{Client, Web, needed},
};
use crate::{
    outbound::{Outbound, OutboundUrl},
    store::BoxFuture,
};

const SCOPE: &str = "read:user user:email";

pub(super) struct GitHub {
    about: About,
    client: Client,
    web: Web,
}

impl GitHub {
    pub(super) fn new(config: ClientConfig, outbound: Outbound) -> Self {
        let about = About::new("github", "GitHub");
        let web = Web { outbound, named: Named(about.name.clone()) };
        let client = Client::new(config, "https://github.com", "https://api.github.com");
        Self { about, client, web }
    }

    async fn identified(&self, callback: &Callback<'_>) -> Result<Vouched, ProviderError> {
        let (web, named) = (&self.web, &self.web.named);
        let url = web.at(&self.client.pages, "login/oauth/access_token")?;
        let mut form = callback.form();
        form.extend([
            ("client_id", self.client.id.as_str()),
            ("client_secret", self.client.secret()),
        ]);
        let token = web.post_form(&url, &form).await?.token()?;
        let token = needed(named, &token, "access_token")?;
        let user = web.at(&self.client.api, "user")?;
        let emails = web.at(&self.client.api, "user/emails")?;
        let (user, email) = tokio::join!(web.get_as(&user, &token), self.email(&emails, &token));
        let user = user?.data()?;
        let login = needed(named, &user, "login")?;
        Person {
            subject: user.number("id").ok_or_else(|| named.nonsense("no id"))?.to_string(),
            name: user.text("name").unwrap_or_default(),
            email: email?,
            avatar: user.text("avatar_url").unwrap_or_default(),
            more: vec![("login", Some(login.clone())), ("profile", user.text("html_url"))],
            username: login,
        }
        .known_as(named)
    }

    /// The address that is primary and verified. None where the person withheld the scope: logins go on
    /// without.
    async fn email(&self, url: &OutboundUrl, token: &str) -> Result<String, ProviderError> {
        let reply = self.web.get_as(url, token).await?;
        if matches!(reply.status().as_u16(), 403 | 404) {
            return Ok(String::new());
        }
        if !reply.status().is_success() {
            return Err(reply.unexpected());
        }
        let is_meant = |fields: &Fields| fields.flag("primary") && fields.flag("verified");
        let primary = reply.list()?.into_iter().find(is_meant);
        Ok(primary.and_then(|fields| fields.text("email")).unwrap_or_default())
    }
}

impl Provider for GitHub {
    fn about(&self) -> &About {
        &self.about
    }

    fn steps(&self) -> Steps {
        Steps { pkce: true, nonce: false, ..Steps::default() }
    }

    fn auth_url<'a>(
        &'a self,
        request: &'a AuthRequest<'a>,
    ) -> BoxFuture<'a, Result<Url, ProviderError>> {
        Box::pin(async move {
            let page = self.web.at(&self.client.pages, "login/oauth/authorize")?;
            request.url(&self.web.named, &page, &[("client_id", &self.client.id), ("scope", SCOPE)])
        })
    }

    fn exchange<'a>(
        &'a self,
        callback: &'a Callback<'a>,
    ) -> BoxFuture<'a, Result<Vouched, ProviderError>> {
        Box::pin(self.identified(callback))
    }
}
