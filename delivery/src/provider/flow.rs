//! Logins of users, whichever provider they are of.
//!
//! The way there and back is [`Way`]'s. In the end without an app the tokens are the answer. An app at a
//! `redirect_uri` gets a code for them, which works once: only when it comes with that is there a session. A
//! user who began it while logged in gets one more way in instead.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{DeviceId, TenantId, UserId};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ProviderError, Providers, ProvidersConfig, Vouched,
    metrics::Came as Counted,
    pkce::{fits, new_secret},
    way::{Away, Back, Begun, Came, LoginError, Way},
};
use crate::{
    InboxKey,
    account::{
        AccountError, Accounts, DeviceInfo, LogIn, LogInAs, OnceKind, ProviderIdentity, Tenancy,
        TokenPair,
    },
};

/// How long an app has to come with its code (RFC 6749 §4.1.2 has ten minutes at most).
pub(crate) const CODE_LIFE: Duration = Duration::from_secs(60);

impl LoginError {
    /// The `error` of a redirect to an app (RFC 6749 §4.1.2.1).
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoTenant
            | Self::Provider(ProviderError::NotAllowed { .. })
            | Self::Account(AccountError::UserDisabled | AccountError::OtherTenant) => {
                "access_denied"
            }
            Self::Busy
            | Self::Provider(ProviderError::Unreachable { .. } | ProviderError::Slow { .. }) => {
                "temporarily_unavailable"
            }
            Self::Account(AccountError::LinkedElsewhere | AccountError::TooManyIdentities) => {
                "not_linked"
            }
            Self::NoProvider | Self::State | Self::Code => "invalid_request",
            Self::Provider(_) | Self::Account(_) => "server_error",
        }
    }
}

/// An app that a login leads back to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Return {
    /// Where, to the letter one of `OAUTH_REDIRECT_URIS`.
    pub(crate) uri: String,
    /// S256 of what the app will show with its code.
    pub(crate) challenge: Option<String>,
    /// What the app wants to see again.
    pub(crate) state: Option<String>,
}

/// A login to begin.
pub(crate) struct Begin<'a> {
    pub(crate) away: Away<'a>,
    pub(crate) back: Option<Return>,
    pub(crate) device: DeviceInfo,
    /// Whom the login becomes one more way in for.
    pub(crate) link: Option<InboxKey>,
}

/// What a login has become.
pub(crate) enum Finished {
    /// Tokens.
    Pair(Box<TokenPair>),
    /// A code for the app.
    Code(Return, SecretString),
    /// One more way in, for the app where there is one.
    Linked(Option<Return>, Box<ProviderIdentity>),
}

/// A login that did not go on, and the app that should hear of it, where it is certain which that is.
pub(crate) struct Failed {
    pub(crate) error: LoginError,
    pub(crate) back: Option<Return>,
}

impl<E: Into<LoginError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { error: error.into(), back: None }
    }
}

/// What a login under way is for.
#[derive(Serialize, Deserialize)]
struct Purpose {
    back: Option<Return>,
    device: Option<DeviceId>,
    device_name: String,
    link: Option<(TenantId, UserId)>,
}

/// Somebody whom a provider vouches for, and in which tenant.
type Known = (Tenancy, ProviderIdentity);

/// What is kept for an app that comes with its code. No token is among it.
#[derive(Serialize, Deserialize)]
struct Ready {
    tenancy: Tenancy,
    provider: String,
    subject: String,
    username: String,
    email: String,
    name: String,
    avatar: String,
    attributes: Map<String, Value>,
    challenge: Option<String>,
    device: Option<DeviceId>,
    device_name: String,
}

impl Ready {
    fn new((tenancy, identity): Known, back: &Return, device: DeviceInfo) -> Self {
        let ProviderIdentity { provider, subject, username, email, name, avatar, attributes } =
            identity;
        let challenge = back.challenge.clone();
        let DeviceInfo { id: device, name: device_name } = device;
        Self {
            tenancy,
            provider,
            subject,
            username,
            email,
            name,
            avatar,
            attributes,
            challenge,
            device,
            device_name,
        }
    }

    fn parts(self) -> (Known, DeviceInfo) {
        let Self { provider, subject, username, email, name, avatar, attributes, .. } = self;
        let device = DeviceInfo { id: self.device, name: self.device_name };
        let identity =
            ProviderIdentity { provider, subject, username, email, name, avatar, attributes };
        ((self.tenancy, identity), device)
    }
}

/// Logins by providers.
pub(crate) struct Logins {
    pub(crate) way: Way,
    pub(crate) config: ProvidersConfig,
}

impl Logins {
    pub(crate) fn new(
        providers: Providers,
        config: ProvidersConfig,
        accounts: Arc<Accounts>,
        recorder: &dyn metrics::Recorder,
    ) -> Self {
        let way = Way::new(providers, OnceKind::LoginState, config.timeout, accounts, recorder);
        Self { way, config }
    }

    /// Begins a login.
    pub(crate) async fn begin(&self, begin: Begin<'_>) -> Result<Begun, LoginError> {
        let purpose = Purpose {
            back: begin.back,
            device: begin.device.id,
            device_name: begin.device.name,
            link: begin.link.map(|inbox| (inbox.tenant, inbox.user)),
        };
        self.way.begin(begin.away, purpose).await
    }

    /// Finishes the login of a browser that came back.
    pub(crate) async fn finish(
        &self,
        came: Came<'_>,
        address: Option<IpAddr>,
        user_agent: String,
    ) -> Result<Finished, Failed> {
        let back: Back<Purpose> = self.way.come_back(&came).await?;
        let app = back.purpose.back.clone();
        self.finish_taken(&came, back, address, user_agent)
            .await
            .map_err(|error| Failed { error, back: app })
    }

    async fn finish_taken(
        &self,
        came: &Came<'_>,
        back: Back<Purpose>,
        address: Option<IpAddr>,
        user_agent: String,
    ) -> Result<Finished, LoginError> {
        let known = self.known(self.way.vouched(came, &back).await?)?;
        let Purpose { back, device, device_name, link } = back.purpose;
        if let Some((tenant, user)) = link {
            let identity = self.link(&InboxKey::new(tenant, user), known).await?;
            return Ok(Finished::Linked(back, Box::new(identity)));
        }
        let device = DeviceInfo { id: device, name: device_name };
        let Some(back) = back else {
            let pair = self.log_in(known, device, address, user_agent).await?;
            return Ok(Finished::Pair(Box::new(pair)));
        };
        let code = new_secret();
        let ready = Ready::new(known, &back, device);
        let text = code.expose_secret();
        self.way.accounts.keep_once(OnceKind::ExchangeCode, text, &ready, CODE_LIFE).await?;
        Ok(Finished::Code(back, code))
    }

    /// In which tenant somebody is for whom a provider vouches.
    fn known(&self, vouched: Vouched) -> Result<Known, LoginError> {
        let Vouched { identity, claims } = vouched;
        let provider = &identity.provider;
        let tenancy = match self.config.tenant_claim(provider) {
            Some(claim) => {
                let tenant = claim.tenant(&claims).ok_or_else(|| {
                    tracing::warn!(target: "security", event = "login_refused", provider,
                        "a login names no tenant that its provider may name");
                    self.way.ended(provider, false);
                    LoginError::NoTenant
                })?;
                Tenancy::Provider(tenant)
            }
            None => {
                let named = self.config.tenants.get(provider).cloned();
                Tenancy::Settings(named.unwrap_or_default())
            }
        };
        Ok((tenancy, identity))
    }

    async fn log_in(
        &self,
        (tenancy, identity): Known,
        device: DeviceInfo,
        address: Option<IpAddr>,
        user_agent: String,
    ) -> Result<TokenPair, LoginError> {
        let provider = identity.provider.clone();
        let who = LogInAs::Identity(tenancy, Box::new(identity));
        let done = self.way.accounts.log_in(LogIn { who, device, address, user_agent }).await;
        self.way.ended(&provider, done.is_ok());
        Ok(done?)
    }

    async fn link(
        &self,
        inbox: &InboxKey,
        (tenancy, identity): Known,
    ) -> Result<ProviderIdentity, LoginError> {
        let done = match tenancy.admits(inbox) {
            true => self.way.accounts.link(inbox, identity.clone()).await,
            false => Err(AccountError::OtherTenant),
        };
        let came = if done.is_ok() { Counted::Linked } else { Counted::Failed };
        self.way.metrics.count(&identity.provider, came);
        done?;
        Ok(identity)
    }

    /// Whom an app's code stands for. Spends it, whether the verifier is right or not.
    async fn redeem(
        &self,
        code: &str,
        verifier: Option<&str>,
    ) -> Result<(Known, DeviceInfo), LoginError> {
        let ready = self.way.accounts.take_once::<Ready>(OnceKind::ExchangeCode, code).await?;
        let ready = ready.ok_or(LoginError::Code)?;
        let is_fit = match (&ready.challenge, verifier) {
            (Some(challenge), Some(verifier)) => fits(verifier, challenge),
            (None, None) => true,
            // A login without a challenge is not the one that an app with a verifier began: somebody
            // has put another's code into it.
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_fit {
            self.way.metrics.count(&ready.provider, Counted::Code);
            return Err(LoginError::Code);
        }
        Ok(ready.parts())
    }

    /// Tokens for an app's code.
    pub(crate) async fn exchange(
        &self,
        code: &str,
        verifier: Option<&str>,
        address: Option<IpAddr>,
        user_agent: String,
    ) -> Result<TokenPair, LoginError> {
        let (known, device) = self.redeem(code, verifier).await?;
        self.log_in(known, device, address, user_agent).await
    }

    /// One more way in, for an app's code.
    pub(crate) async fn link_by_code(
        &self,
        inbox: &InboxKey,
        provider: &str,
        code: &str,
        verifier: Option<&str>,
    ) -> Result<ProviderIdentity, LoginError> {
        let (known, _) = self.redeem(code, verifier).await?;
        if known.1.provider != provider {
            return Err(LoginError::Code);
        }
        self.link(inbox, known).await
    }
}
