//! DingTalk. It comes back with `authCode`, takes and answers JSON in camelCase, and wants its token in a
//! header of its own. Errors have a status and `{code, message}`.

use http::HeaderName;
use serde_json::json;
use url::Url;

use super::{
    About, AuthRequest, Callback, DingtalkConfig, Provider, ProviderError, Steps, Vouched,
    error::Named,
    fields::{Fields, Person},
    web::{Client, Reply, Web, needed},
};
use crate::{outbound::Outbound, store::BoxFuture};

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-acs-dingtalk-access-token");

pub(super) struct DingTalk {
    about: About,
    client: Client,
    /// Only people of this corporation.
    corp_id: Option<String>,
    web: Web,
}

impl DingTalk {
    pub(super) fn new(config: DingtalkConfig, outbound: Outbound) -> Self {
        let about = About::new("dingtalk", "钉钉");
        let web = Web { outbound, named: Named(about.name.clone()) };
        let (pages, api) = ("https://login.dingtalk.com", "https://api.dingtalk.com");
        let client = Client::new(config.client, pages, api);
        Self { about, client, corp_id: config.corp_id, web }
    }

    async fn identified(&self, callback: &Callback<'_>) -> Result<Vouched, ProviderError> {
        let (web, named) = (&self.web, &self.web.named);
        let url = web.at(&self.client.api, "v1.0/oauth2/userAccessToken")?;
        let body = json!({
            "clientId": self.client.id,
            "clientSecret": self.client.secret(),
            "code": callback.code,
            "grantType": "authorization_code",
        });
        let token = checked(named, &web.post_json(&url, &body).await?)?;
        let access = needed(named, &token, "accessToken")?;
        let corp = token.text("corpId");
        if self.corp_id.is_some() && corp != self.corp_id {
            return Err(named.not_allowed("the person is not a member of the corporation"));
        }
        let url = web.at(&self.client.api, "v1.0/contact/users/me")?;
        let user = checked(named, &web.get(&url, &[(TOKEN_HEADER, &access)]).await?)?;
        let nick = user.text("nick").unwrap_or_default();
        Person {
            // The same in all apps of a developer; openId is the app's own.
            subject: needed(named, &user, "unionId")?,
            username: nick.clone(),
            name: nick,
            // The person's own word.
            email: String::new(),
            avatar: user.text("avatarUrl").unwrap_or_default(),
            more: vec![("openid", user.text("openId")), ("corpid", corp)],
        }
        .known_as(named)
    }
}

fn checked(named: &Named, reply: &Reply<'_>) -> Result<Fields, ProviderError> {
    let fields = reply.object()?;
    if reply.status().is_success() {
        return Ok(fields);
    }
    let code = fields.text("code").unwrap_or_default();
    let is = |word: &str| code.to_ascii_lowercase().contains(word);
    Err(
        if is("invalidclient") || is("appkey") || is("clientid") || is("secret") || is("forbidden")
        {
            named.misconfigured(&code)
        } else if is("code") || is("authcode") || is("invalidgrant") {
            named.refused(&code)
        } else {
            reply.unexpected()
        },
    )
}

impl Provider for DingTalk {
    fn about(&self) -> &About {
        &self.about
    }

    fn steps(&self) -> Steps {
        Steps { code_name: "authCode", ..Steps::default() }
    }

    fn auth_url<'a>(
        &'a self,
        request: &'a AuthRequest<'a>,
    ) -> BoxFuture<'a, Result<Url, ProviderError>> {
        Box::pin(async move {
            let page = self.web.at(&self.client.pages, "oauth2/auth")?;
            let scope = if self.corp_id.is_some() { "openid corpid" } else { "openid" };
            // It shows an error page without this prompt.
            let own =
                [("client_id", self.client.id.as_str()), ("scope", scope), ("prompt", "consent")];
            request.url(&self.web.named, &page, &own)
        })
    }

    fn exchange<'a>(
        &'a self,
        callback: &'a Callback<'a>,
    ) -> BoxFuture<'a, Result<Vouched, ProviderError>> {
        Box::pin(self.identified(callback))
    }
}
