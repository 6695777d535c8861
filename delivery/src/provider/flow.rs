//! The way of a login, whichever provider it is of.
//!
//! 1. **Begin.** A browser gets a secret (its cookie) and a `state`, under which is kept what the login is for.
//! 2. **Come back.** The state is taken, which works once, and must be this browser's and this provider's. Then
//!    the provider says who it is. Nothing is made before that.
//! 3. **Finish.** Without an app the tokens are the answer. An app at a `redirect_uri` gets a code for them,
//!    which works once: only when it comes with that is there a session. A user who began it while logged
//!    in gets one more way in instead.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{DeviceId, TenantId, UserId};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

use super::{
    AuthRequest, Callback, Provider, ProviderError, Providers, ProvidersConfig,
    error::Named,
    metrics::{Came as Counted, LoginMetrics},
    pkce::{challenge, fits, hash, new_secret, nonce, verifier},
    web::of_oauth,
};
use crate::{
    InboxKey,
    account::{
        AccountError, Accounts, DeviceInfo, LogIn, LogInAs, OnceKind, ProviderIdentity, TokenPair,
    },
};

/// How long a login may take its user: reading, typing a password, a second factor.
pub(crate) const STATE_LIFE: Duration = Duration::from_secs(600);

/// How long an app has to come with its code (RFC 6749 §4.1.2 has ten minutes at most).
const CODE_LIFE: Duration = Duration::from_secs(60);

/// Most logins of this node that wait for their provider at a time; one more is answered 503. Each may
/// hold a connection for all of `OAUTH_TIMEOUT`.
const WAITING_MAX: usize = 256;

/// Why a login did not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("there is no such provider")]
    NoProvider,
    /// It is not told which: used, too old, of another provider, of another browser.
    #[error("this login is over, or was begun in another browser; begin again")]
    State,
    /// It is not told which: used, too old, of another verifier or provider.
    #[error("the code is not valid; begin again")]
    Code,
    #[error("too many logins are waiting for their providers; try again")]
    Busy,
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl LoginError {
    /// The `error` of a redirect to an app (RFC 6749 §4.1.2.1).
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Provider(ProviderError::NotAllowed { .. })
            | Self::Account(AccountError::UserDisabled) => "access_denied",
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
    pub(crate) provider: &'a str,
    /// Where the provider sends the browser back to.
    pub(crate) callback: String,
    /// The browser's secret, where it has one from a login in another tab.
    pub(crate) browser: Option<SecretString>,
    pub(crate) back: Option<Return>,
    pub(crate) device: DeviceInfo,
    /// Whom the login becomes one more way in for.
    pub(crate) link: Option<InboxKey>,
}

/// A login that was begun.
pub(crate) struct Begun {
    pub(crate) auth_url: Url,
    pub(crate) state: SecretString,
    /// For the browser's cookie.
    pub(crate) browser: SecretString,
}

/// A browser that came back.
pub(crate) struct Came<'a> {
    pub(crate) provider: &'a str,
    pub(crate) state: &'a str,
    pub(crate) code: Option<&'a str>,
    /// What the provider says went wrong.
    pub(crate) error: Option<&'a str>,
    pub(crate) iss: Option<&'a str>,
    /// Secrets it has; more than one where somebody else has put some there.
    pub(crate) browsers: Vec<SecretString>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) user_agent: String,
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

/// What is kept of a login under way.
#[derive(Serialize, Deserialize)]
struct Pending {
    provider: String,
    /// The hash of the browser's secret.
    browser: String,
    callback: String,
    back: Option<Return>,
    device: Option<DeviceId>,
    device_name: String,
    link: Option<(TenantId, UserId)>,
}

/// What is kept for an app that comes with its code. No token is among it.
#[derive(Serialize, Deserialize)]
struct Ready {
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
    fn new(identity: ProviderIdentity, back: &Return, device: DeviceInfo) -> Self {
        let ProviderIdentity { provider, subject, username, email, name, avatar, attributes } =
            identity;
        let challenge = back.challenge.clone();
        let DeviceInfo { id: device, name: device_name } = device;
        Self {
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

    fn parts(self) -> (ProviderIdentity, DeviceInfo) {
        let Self { provider, subject, username, email, name, avatar, attributes, .. } = self;
        let device = DeviceInfo { id: self.device, name: self.device_name };
        let identity =
            ProviderIdentity { provider, subject, username, email, name, avatar, attributes };
        (identity, device)
    }
}

/// Logins by providers.
pub(crate) struct Logins {
    pub(crate) providers: Providers,
    pub(crate) config: ProvidersConfig,
    accounts: Arc<Accounts>,
    waiting: Semaphore,
    metrics: LoginMetrics,
}

impl Logins {
    pub(crate) fn new(
        providers: Providers,
        config: ProvidersConfig,
        accounts: Arc<Accounts>,
        recorder: &dyn metrics::Recorder,
    ) -> Self {
        let waiting = Semaphore::new(WAITING_MAX);
        let metrics = LoginMetrics::new(recorder);
        Self { providers, config, accounts, waiting, metrics }
    }

    fn provider(&self, name: &str) -> Result<&dyn Provider, LoginError> {
        self.providers.get(name).ok_or(LoginError::NoProvider)
    }

    /// Waits for a provider, no longer than it may take.
    async fn waited<T>(
        &self,
        provider: &dyn Provider,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, LoginError> {
        let name = &provider.about().name;
        let Ok(_slot) = self.waiting.try_acquire() else {
            self.metrics.count(name, Counted::Busy);
            return Err(LoginError::Busy);
        };
        let began = Instant::now();
        let done = timeout(self.config.timeout, work).await;
        self.metrics.took(name, began.elapsed().as_secs_f64());
        done.unwrap_or_else(|_| Err(Named(name.clone()).slow())).map_err(|error| {
            self.metrics.went_wrong(name, &error);
            let what = &error as &dyn std::error::Error;
            match error {
                ProviderError::Refused { .. } | ProviderError::NotAllowed { .. } => {
                    tracing::warn!(target: "security", event = "login_refused", provider = name, error = what);
                }
                _ => tracing::warn!(provider = name, error = what, "a login provider failed"),
            }
            LoginError::Provider(error)
        })
    }

    /// Begins a login.
    pub(crate) async fn begin(&self, begin: Begin<'_>) -> Result<Begun, LoginError> {
        let provider = self.provider(begin.provider)?;
        let state = new_secret();
        let browser = begin.browser.unwrap_or_else(new_secret);
        let steps = provider.steps();
        let text = state.expose_secret();
        let challenge = steps.pkce.then(|| challenge(verifier(&browser, text).expose_secret()));
        let nonce = steps.nonce.then(|| nonce(&browser, text));
        let request = AuthRequest {
            state: text,
            redirect_uri: &begin.callback,
            challenge: challenge.as_deref(),
            nonce: nonce.as_deref(),
        };
        let auth_url = self.waited(provider, provider.auth_url(&request)).await?;
        let pending = Pending {
            provider: begin.provider.to_owned(),
            browser: hash(browser.expose_secret()),
            callback: begin.callback,
            back: begin.back,
            device: begin.device.id,
            device_name: begin.device.name,
            link: begin.link.map(|inbox| (inbox.tenant, inbox.user)),
        };
        self.accounts.keep_once(OnceKind::LoginState, text, &pending, STATE_LIFE).await?;
        self.metrics.count(begin.provider, Counted::Begun);
        Ok(Begun { auth_url, state, browser })
    }

    /// Finishes the login of a browser that came back.
    pub(crate) async fn finish(&self, came: Came<'_>) -> Result<Finished, Failed> {
        let provider = self.provider(came.provider)?;
        let (pending, browser) = self.taken(&came).await?;
        let back = pending.back.clone();
        self.finish_taken(provider, came, pending, &browser)
            .await
            .map_err(|error| Failed { error, back })
    }

    /// What is kept of the login, and the browser it is of.
    async fn taken(&self, came: &Came<'_>) -> Result<(Pending, SecretString), LoginError> {
        let pending = self.accounts.take_once::<Pending>(OnceKind::LoginState, came.state).await?;
        let found =
            pending.filter(|pending| pending.provider == came.provider).and_then(|pending| {
                let of = |browser: &&SecretString| -> bool {
                    let shown = hash(browser.expose_secret());
                    shown.as_bytes().ct_eq(pending.browser.as_bytes()).into()
                };
                let browser = came.browsers.iter().find(of)?.clone();
                Some((pending, browser))
            });
        found.ok_or_else(|| {
            self.metrics.count(came.provider, Counted::State);
            LoginError::State
        })
    }

    async fn finish_taken(
        &self,
        provider: &dyn Provider,
        came: Came<'_>,
        pending: Pending,
        browser: &SecretString,
    ) -> Result<Finished, LoginError> {
        let identity = self.identity(provider, &came, &pending.callback, browser).await?;
        if let Some((tenant, user)) = pending.link {
            self.link(&InboxKey::new(tenant, user), identity.clone()).await?;
            return Ok(Finished::Linked(pending.back, Box::new(identity)));
        }
        let device = DeviceInfo { id: pending.device, name: pending.device_name };
        let Some(back) = pending.back else {
            let pair = self.log_in(identity, device, came.address, came.user_agent).await?;
            return Ok(Finished::Pair(Box::new(pair)));
        };
        let code = new_secret();
        let ready = Ready::new(identity, &back, device);
        let text = code.expose_secret();
        self.accounts.keep_once(OnceKind::ExchangeCode, text, &ready, CODE_LIFE).await?;
        Ok(Finished::Code(back, code))
    }

    async fn identity(
        &self,
        provider: &dyn Provider,
        came: &Came<'_>,
        callback: &str,
        browser: &SecretString,
    ) -> Result<ProviderIdentity, LoginError> {
        let (steps, named) = (provider.steps(), Named(provider.about().name.clone()));
        let verifier = steps.pkce.then(|| verifier(browser, came.state));
        let nonce = steps.nonce.then(|| nonce(browser, came.state));
        self.waited(provider, async {
            if let Some(error) = came.error {
                return Err(of_oauth(&named, error));
            }
            // WeChat sends those who decline back with nothing but the state.
            let Some(code) = came.code else {
                return Err(named.not_allowed("the login was declined"));
            };
            let callback = Callback {
                code,
                redirect_uri: callback,
                verifier: verifier.as_ref().map(ExposeSecret::expose_secret),
                nonce: nonce.as_deref(),
                iss: came.iss,
            };
            provider.exchange(&callback).await
        })
        .await
    }

    async fn log_in(
        &self,
        identity: ProviderIdentity,
        device: DeviceInfo,
        address: Option<IpAddr>,
        user_agent: String,
    ) -> Result<TokenPair, LoginError> {
        let provider = identity.provider.clone();
        let who = LogInAs::Identity(TenantId::default(), Box::new(identity));
        let done = self.accounts.log_in(LogIn { who, device, address, user_agent }).await;
        self.metrics.count(&provider, if done.is_ok() { Counted::Done } else { Counted::Failed });
        Ok(done?)
    }

    async fn link(&self, inbox: &InboxKey, identity: ProviderIdentity) -> Result<(), LoginError> {
        let provider = identity.provider.clone();
        let done = self.accounts.link(inbox, identity).await;
        self.metrics.count(&provider, if done.is_ok() { Counted::Linked } else { Counted::Failed });
        Ok(done?)
    }

    /// Whom an app's code stands for. Spends it, whether the verifier is right or not.
    async fn redeem(
        &self,
        code: &str,
        verifier: Option<&str>,
    ) -> Result<(ProviderIdentity, DeviceInfo), LoginError> {
        let ready = self.accounts.take_once::<Ready>(OnceKind::ExchangeCode, code).await?;
        let ready = ready.ok_or(LoginError::Code)?;
        let is_fit = match (&ready.challenge, verifier) {
            (Some(challenge), Some(verifier)) => fits(verifier, challenge),
            (None, None) => true,
            // A login without a challenge is not the one that an app with a verifier began: somebody
            // has put another's code into it.
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_fit {
            self.metrics.count(&ready.provider, Counted::Code);
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
        let (identity, device) = self.redeem(code, verifier).await?;
        self.log_in(identity, device, address, user_agent).await
    }

    /// One more way in, for an app's code.
    pub(crate) async fn link_by_code(
        &self,
        inbox: &InboxKey,
        provider: &str,
        code: &str,
        verifier: Option<&str>,
    ) -> Result<ProviderIdentity, LoginError> {
        let (identity, _) = self.redeem(code, verifier).await?;
        if identity.provider != provider {
            return Err(LoginError::Code);
        }
        self.link(inbox, identity.clone()).await?;
        Ok(identity)
    }
}
