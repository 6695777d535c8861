//! The way of a browser to a provider and back, whatever a login is for.
//!
//! 1. **Begin.** A browser gets a secret (its cookie) and a `state`, under which is kept what the login is for.
//! 2. **Come back.** The state is taken, which works once, and must be this browser's and this provider's. Then
//!    the provider says who it is. Nothing is made before that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use subtle::ConstantTimeEq;
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

use super::{
    AuthRequest, Callback, Provider, ProviderError, Providers, Vouched,
    error::Named,
    metrics::{Came as Counted, LoginMetrics},
    pkce::{challenge, hash, new_secret, nonce, verifier},
    web::of_oauth,
};
use crate::account::{AccountError, Accounts, OnceKind};

/// How long a login may take its user: reading, typing a password, a second factor.
pub(crate) const STATE_LIFE: Duration = Duration::from_secs(600);

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
    /// It is not told which: used, too old, of another verifier, provider or browser.
    #[error("the code is not valid; begin again")]
    Code,
    /// A provider that says itself in which tenant people are has named none that it may.
    #[error("the login names no tenant of this hub that its provider may name")]
    NoTenant,
    #[error("too many logins are waiting for their providers; try again")]
    Busy,
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Account(#[from] AccountError),
}

/// A browser that is to be sent to a provider.
pub(crate) struct Away<'a> {
    pub(crate) provider: &'a str,
    /// Where the provider sends the browser back to.
    pub(crate) callback: String,
    /// The browser's secret, where it has one from a login in another tab.
    pub(crate) browser: Option<SecretString>,
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
}

/// A login that a browser came back from, its state spent.
pub(crate) struct Back<P> {
    callback: String,
    /// The one of the browser's secrets that the login was begun with.
    pub(crate) browser: SecretString,
    /// What it is for.
    pub(crate) purpose: P,
}

/// What is kept of a login under way.
#[derive(Serialize, Deserialize)]
struct Pending<P> {
    provider: String,
    /// The hash of the browser's secret.
    browser: String,
    callback: String,
    #[serde(flatten)]
    purpose: P,
}

/// The way to some providers and back. `kind` parts its states from those of another way.
pub(crate) struct Way {
    pub(crate) providers: Providers,
    pub(crate) accounts: Arc<Accounts>,
    pub(super) metrics: LoginMetrics,
    kind: OnceKind,
    timeout: Duration,
    waiting: Semaphore,
}

impl Way {
    pub(crate) fn new(
        providers: Providers,
        kind: OnceKind,
        timeout: Duration,
        accounts: Arc<Accounts>,
        recorder: &dyn metrics::Recorder,
    ) -> Self {
        let waiting = Semaphore::new(WAITING_MAX);
        let metrics = LoginMetrics::new(recorder);
        Self { providers, accounts, metrics, kind, timeout, waiting }
    }

    pub(crate) fn provider(&self, name: &str) -> Result<&dyn Provider, LoginError> {
        self.providers.get(name).ok_or(LoginError::NoProvider)
    }

    /// Whether a login of this provider ended well.
    pub(crate) fn ended(&self, provider: &str, is_well: bool) {
        self.metrics.count(provider, if is_well { Counted::Done } else { Counted::Failed });
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
        let done = timeout(self.timeout, work).await;
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
    pub(crate) async fn begin<P: Serialize>(
        &self,
        away: Away<'_>,
        purpose: P,
    ) -> Result<Begun, LoginError> {
        let provider = self.provider(away.provider)?;
        let state = new_secret();
        let browser = away.browser.unwrap_or_else(new_secret);
        let steps = provider.steps();
        let text = state.expose_secret();
        let challenge = steps.pkce.then(|| challenge(verifier(&browser, text).expose_secret()));
        let nonce = steps.nonce.then(|| nonce(&browser, text));
        let request = AuthRequest {
            state: text,
            redirect_uri: &away.callback,
            challenge: challenge.as_deref(),
            nonce: nonce.as_deref(),
        };
        let auth_url = self.waited(provider, provider.auth_url(&request)).await?;
        let pending = Pending {
            provider: away.provider.to_owned(),
            browser: hash(browser.expose_secret()),
            callback: away.callback,
            purpose,
        };
        self.accounts.keep_once(self.kind, text, &pending, STATE_LIFE).await?;
        self.metrics.count(away.provider, Counted::Begun);
        Ok(Begun { auth_url, state, browser })
    }

    /// What is kept of the login of a browser that came back, which is spent by it.
    pub(crate) async fn come_back<P: DeserializeOwned + Send + 'static>(
        &self,
        came: &Came<'_>,
    ) -> Result<Back<P>, LoginError> {
        self.provider(came.provider)?;
        let pending = self.accounts.take_once::<Pending<P>>(self.kind, came.state).await?;
        let found =
            pending.filter(|pending| pending.provider == came.provider).and_then(|pending| {
                let browser = one_of(&came.browsers, &pending.browser)?;
                Some(Back { callback: pending.callback, browser, purpose: pending.purpose })
            });
        found.ok_or_else(|| {
            self.metrics.count(came.provider, Counted::State);
            LoginError::State
        })
    }

    /// Whom the provider says it is.
    pub(crate) async fn vouched<P>(
        &self,
        came: &Came<'_>,
        back: &Back<P>,
    ) -> Result<Vouched, LoginError> {
        let provider = self.provider(came.provider)?;
        let (steps, named) = (provider.steps(), Named(provider.about().name.clone()));
        let verifier = steps.pkce.then(|| verifier(&back.browser, came.state));
        let nonce = steps.nonce.then(|| nonce(&back.browser, came.state));
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
                redirect_uri: &back.callback,
                verifier: verifier.as_ref().map(ExposeSecret::expose_secret),
                nonce: nonce.as_deref(),
                iss: came.iss,
            };
            provider.exchange(&callback).await
        })
        .await
    }
}

/// The one of a browser's secrets that has this hash.
pub(crate) fn one_of(browsers: &[SecretString], hashed: &str) -> Option<SecretString> {
    let is_it = |browser: &&SecretString| -> bool {
        hash(browser.expose_secret()).as_bytes().ct_eq(hashed.as_bytes()).into()
    };
    browsers.iter().find(is_it).cloned()
}
