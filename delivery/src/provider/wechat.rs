//! WeChat Open Platform (websites). Calls are GETs with the secret in the query, errors are `errcode` with
//! 200, JSON comes as `text/plain`, the page needs a fragment, and the token call says whom it is about.
//!
//! A person is `unionid`, the same in all apps of one account of the platform. An app that belongs to none
//! has only `openid`, which is the app's own: it counts together with the app, so that it can be nobody
//! else's when the app is replaced.

use url::Url;

use super::{
    About, AuthRequest, Callback, ClientConfig, Provider, ProviderError, Steps, Vouched,
    error::Named,
    fields::{Fields, Person},
    web::{Client, Web, needed},
};
use crate::{outbound::Outbound, store::BoxFuture};

/// What sends a browser from the page to the code of QR: without it the page says "link expired".
const FRAGMENT: &str = "wechat_redirect";

pub(super) struct WeChat {
    about: About,
    client: Client,
    web: Web,
}

impl WeChat {
    pub(super) fn new(config: ClientConfig, outbound: Outbound) -> Self {
        let about = About::new("wechat", "微信");
        let web = Web { outbound, named: Named(about.name.clone()) };
        let client = Client::new(config, "https://open.weixin.qq.com", "https://api.weixin.qq.com");
        Self { about, client, web }
    }

    async fn identified(&self, callback: &Callback<'_>) -> Result<Vouched, ProviderError> {
        let (web, named, id) = (&self.web, &self.web.named, self.client.id.as_str());
        let url = web.at(&self.client.api, "sns/oauth2/access_token")?;
        let query = [
            ("appid", id),
            ("secret", self.client.secret()),
            ("code", callback.code),
            ("grant_type", "authorization_code"),
        ];
        let token = web.get(&web.query(&url, &query)?, &[]).await?.object()?;
        checked(named, &token)?;
        let access = needed(named, &token, "access_token")?;
        let openid = needed(named, &token, "openid")?;
        let url = web.at(&self.client.api, "sns/userinfo")?;
        let query = [("access_token", access.as_str()), ("openid", &openid), ("lang", "zh_CN")];
        let user = web.get(&web.query(&url, &query)?, &[]).await?.object()?;
        checked(named, &user)?;
        if user.text("openid").is_some_and(|told| told != openid) {
            return Err(named.nonsense("the data of another person"));
        }
        let unionid = user.text("unionid").or_else(|| token.text("unionid"));
        let nickname = user.text("nickname").unwrap_or_default();
        Person {
            subject: unionid.clone().unwrap_or_else(|| format!("{id}/{openid}")),
            username: nickname.clone(),
            name: nickname,
            email: String::new(),
            avatar: user.text("headimgurl").unwrap_or_default(),
            more: vec![
                ("openid", Some(openid)),
                ("unionid", unionid),
                ("appid", Some(id.to_owned())),
            ],
        }
        .known_as(named)
    }
}

/// `errcode` is left out, or 0, where all is well.
fn checked(named: &Named, fields: &Fields) -> Result<(), ProviderError> {
    let Some(code) = fields.number("errcode").filter(|code| *code != 0) else { return Ok(()) };
    Err(match code {
        // Invalid, used, expired.
        40029 | 40163 | 41008 | 42003 => named.refused(&code.to_string()),
        // The app's id or secret, the address, the scope, the source of calls.
        40013 | 40125 | 40001 | 40164 | 41002 | 41004 | 48001 | 10003 | 10005 => {
            named.misconfigured(&code.to_string())
        }
        // The system is busy; too many calls.
        -1 | 45009 | 45011 => named.away(),
        _ => named.nonsense(format!("errcode {code}")),
    })
}

impl Provider for WeChat {
    fn about(&self) -> &About {
        &self.about
    }

    fn steps(&self) -> Steps {
        Steps::default()
    }

    fn auth_url<'a>(
        &'a self,
        request: &'a AuthRequest<'a>,
    ) -> BoxFuture<'a, Result<Url, ProviderError>> {
        Box::pin(async move {
            let page = self.web.at(&self.client.pages, "connect/qrconnect")?;
            let own = [("appid", self.client.id.as_str()), ("scope", "snsapi_login")];
            let mut url = request.url(&self.web.named, &page, &own)?;
            url.set_fragment(Some(FRAGMENT));
            Ok(url)
        })
    }

    fn exchange<'a>(
        &'a self,
        callback: &'a Callback<'a>,
    ) -> BoxFuture<'a, Result<Vouched, ProviderError>> {
        Box::pin(self.identified(callback))
    }
}
