//! WeCom (企业微信), an app of one corporation. Its token is the app's and not the login's: it is fetched once
//! and kept, because fetching is rationed, and the code is spent by asking whose it is. Names come in two
//! cases, errors are `errcode` with 200. Whoever is no member of the corporation is refused.

use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use url::Url;

use super::{
    About, AuthRequest, Callback, Provider, ProviderError, Steps, Vouched, WecomConfig,
    error::Named,
    fields::{Fields, Person},
    web::{Client, Web, needed},
};
use crate::{outbound::Outbound, store::BoxFuture};

/// How long before its end the app's token is replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// How long a token is kept at least whatever it says, so that a server that says 0 is not asked twice
/// for each login.
const KEPT_MIN: Duration = Duration::from_secs(10);

/// Longest life of the app's token that is believed; the real one says 7,200 s.
const KEPT_MAX: Duration = Duration::from_secs(7_200);

/// The app's token is not (or no longer) good.
const TOKEN_CODES: [i64; 3] = [40014, 42001, 41001];

struct AppToken {
    token: SecretString,
    until: Instant,
}

pub(super) struct WeCom {
    about: About,
    client: Client,
    agent_id: String,
    web: Web,
    /// Held while it is fetched: many logins fetch it once.
    token: Mutex<Option<AppToken>>,
}

impl WeCom {
    pub(super) fn new(config: WecomConfig, outbound: Outbound) -> Self {
        let about = About::new("wecom", "企业微信");
        let web = Web { outbound, named: Named(about.name.clone()) };
        let (pages, api) = ("https://login.work.weixin.qq.com", "https://qyapi.weixin.qq.com");
        let client = Client::new(config.client, pages, api);
        Self { about, client, agent_id: config.agent_id, web, token: Mutex::default() }
    }

    /// The app's token; another one than `spent`, which the server does not take.
    async fn app_token(&self, spent: Option<&SecretString>) -> Result<SecretString, ProviderError> {
        let mut kept = self.token.lock().await;
        if let Some(known) = &*kept
            && known.until > Instant::now()
            && spent.is_none_or(|spent| spent.expose_secret() != known.token.expose_secret())
        {
            return Ok(known.token.clone());
        }
        *kept = None;
        let (web, named) = (&self.web, &self.web.named);
        let url = web.at(&self.client.api, "cgi-bin/gettoken")?;
        let query = [("corpid", self.client.id.as_str()), ("corpsecret", self.client.secret())];
        let answer = web.get(&web.query(&url, &query)?, &[]).await?.object()?;
        checked(named, &answer)?;
        let token = SecretString::from(needed(named, &answer, "access_token")?);
        let lives = answer.number("expires_in").and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
        let lives = Duration::from_secs(lives).min(KEPT_MAX).saturating_sub(RENEW_BEFORE);
        let until = Instant::now() + lives.max(KEPT_MIN);
        *kept = Some(AppToken { token: token.clone(), until });
        Ok(token)
    }

    /// Asks as the app; once more with a new token where the kept one ended early, as it does when somebody
    /// fetches one elsewhere.
    async fn ask(&self, path: &str, name: &str, value: &str) -> Result<Fields, ProviderError> {
        let web = &self.web;
        let url = web.at(&self.client.api, path)?;
        let mut spent = None;
        loop {
            let token = self.app_token(spent.as_ref()).await?;
            let query = [("access_token", token.expose_secret()), (name, value)];
            let answer = web.get(&web.query(&url, &query)?, &[]).await?.object()?;
            let code = answer.number("errcode").unwrap_or(0);
            if TOKEN_CODES.contains(&code) && spent.is_none() {
                spent = Some(token);
                continue;
            }
            checked(&web.named, &answer)?;
            return Ok(answer);
        }
    }

    async fn identified(&self, callback: &Callback<'_>) -> Result<Vouched, ProviderError> {
        let named = &self.web.named;
        let who = self.ask("cgi-bin/auth/getuserinfo", "code", callback.code).await?;
        let Some(userid) = who.any_text(&["userid", "UserId"]) else {
            return Err(if who.any_text(&["openid", "OpenId", "external_userid"]).is_some() {
                named.not_allowed("the person is not a member of the corporation")
            } else {
                named.nonsense("no userid")
            });
        };
        let user = self.ask("cgi-bin/user/get", "userid", &userid).await?;
        // Members who were disabled, have not joined, or have left (status 2, 4, 5).
        if user.number("status").is_some_and(|status| status != 1) {
            return Err(named.not_allowed("the member is not active"));
        }
        Person {
            // The same word is another person in another corporation.
            subject: format!("{}/{userid}", self.client.id),
            name: user.text("name").unwrap_or_default(),
            // What admins of the corporation wrote down; nobody has verified it.
            email: String::new(),
            avatar: user.text("avatar").unwrap_or_default(),
            more: vec![
                ("corpid", Some(self.client.id.clone())),
                ("userid", Some(userid.clone())),
                ("position", user.text("position")),
            ],
            username: userid,
        }
        .known_as(named)
    }
}

fn checked(named: &Named, fields: &Fields) -> Result<(), ProviderError> {
    let Some(code) = fields.number("errcode").filter(|code| *code != 0) else { return Ok(()) };
    Err(match code {
        40029 | 42003 | 41008 => named.refused(&code.to_string()),
        // Id, secret, app, address, source of calls, rights of the app.
        40001 | 40013 | 40056 | 40091 | 41002 | 41004 | 50001 | 60020 | 48002 | 301002 | 60011 => {
            named.misconfigured(&code.to_string())
        }
        60111 => named.not_allowed("the person is not a member of the corporation"),
        -1 | 45009 | 45033 => named.away(),
        _ => named.nonsense(format!("errcode {code}")),
    })
}

impl Provider for WeCom {
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
            let page = self.web.at(&self.client.pages, "wwlogin/sso/login")?;
            let own = [
                ("login_type", "CorpApp"),
                ("appid", self.client.id.as_str()),
                ("agentid", self.agent_id.as_str()),
            ];
            request.url_without_type(&self.web.named, &page, &own)
        })
    }

    fn exchange<'a>(
        &'a self,
        callback: &'a Callback<'a>,
    ) -> BoxFuture<'a, Result<Vouched, ProviderError>> {
        Box::pin(self.identified(callback))
    }
}
