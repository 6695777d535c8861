//! What an OpenID provider says of itself (OpenID Connect Discovery 1.0).
//!
//! The document decides where codes, secrets and tokens go, so that it may not lead anywhere: to its own
//! origin, or to public addresses by TLS. It is fetched when a login first needs it, not at the start: a
//! provider that is away must not keep the hub from starting.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use url::Url;

use super::{
    Issuer, ProviderError,
    fields::Fields,
    web::{Web, needed},
};
use crate::{
    identity::jwks::IssuerKeys,
    outbound::{Call, OutboundUrl, Purpose},
};

/// How long a document is used before it is fetched again.
const FRESH: Duration = Duration::from_secs(3_600);

/// How long one is used at most while no newer one can be had.
const STALE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Pause after a fetch that failed: logins that wait for each other must not each wait for a provider that
/// is away.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

const PATH: &str = ".well-known/openid-configuration";

/// What is known of an OpenID provider.
pub(super) struct Metadata {
    /// To the letter as in its tokens.
    pub(super) issuer: String,
    /// Where browsers go.
    pub(super) authorization: OutboundUrl,
    pub(super) token: OutboundUrl,
    pub(super) userinfo: Option<OutboundUrl>,
    keys_url: OutboundUrl,
    pub(super) keys: Arc<IssuerKeys>,
    pub(super) authentication: Authentication,
    /// Whether it names itself where it sends browsers back (RFC 9207).
    pub(super) names_itself: bool,
}

/// How a client proves to a token endpoint who it is (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authentication {
    /// In `Authorization`.
    Basic,
    /// In the body.
    Post,
    /// It does not say: the first, and the second where that is not accepted.
    Unknown,
}

/// Addresses that the settings name in place of the discovered ones.
#[derive(Clone, Default)]
pub(super) struct Fixed {
    pub(super) authorization: Option<OutboundUrl>,
    pub(super) token: Option<OutboundUrl>,
    pub(super) keys: Option<OutboundUrl>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(Arc<Metadata>, Instant)>,
    failed: Option<Instant>,
}

/// Fetches and keeps it.
pub(super) struct Discovery {
    issuer: Issuer,
    fixed: Fixed,
    web: Web,
    /// Held while it is fetched: many logins fetch it once.
    known: Mutex<Known>,
}

impl Discovery {
    pub(super) fn new(issuer: Issuer, fixed: Fixed, web: Web) -> Self {
        Self { issuer, fixed, web, known: Mutex::default() }
    }

    /// What is known; waits where nothing is yet.
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        let mut known = self.known.lock().await;
        if let Some((metadata, at)) = &known.metadata
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(metadata));
        }
        let old = known.metadata.clone().filter(|(_, at)| at.elapsed() < STALE_MAX);
        if known.failed.is_some_and(|at| at.elapsed() < TRY_AGAIN_AFTER) {
            return match old {
                Some((metadata, _)) => Ok(metadata),
                None => Err(self.web.named.away()),
            };
        }
        match self.found(old.as_ref().map(|(metadata, _)| metadata)).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *known =
                    Known { metadata: Some((Arc::clone(&metadata), Instant::now())), failed: None };
                Ok(metadata)
            }
            Err(error) => {
                known.failed = Some(Instant::now());
                let (metadata, _) = old.ok_or(error)?;
                Ok(metadata)
            }
        }
    }

    async fn found(&self, old: Option<&Arc<Metadata>>) -> Result<Metadata, ProviderError> {
        let Fixed { authorization, token, keys } = &self.fixed;
        if let (Some(authorization), Some(token), Some(keys)) = (authorization, token, keys) {
            return Ok(Metadata {
                issuer: self.issuer.text.clone(),
                authorization: authorization.clone(),
                token: token.clone(),
                userinfo: None,
                keys: self.keys(keys, old),
                keys_url: keys.clone(),
                authentication: Authentication::Post,
                names_itself: false,
            });
        }
        let (web, named) = (&self.web, &self.web.named);
        let url = web.at(&self.issuer.url, PATH)?;
        let reply = web.call(Call::get(Purpose::Discovery, &url)).await?;
        let document = reply.data()?;
        let issuer = needed(named, &document, "issuer")?;
        if issuer.trim_end_matches('/') != self.issuer.text {
            return Err(named.not_believed("its discovery document is another issuer's"));
        }
        let keys = match keys {
            Some(keys) => keys.clone(),
            None => self.leads_to(&document, "jwks_uri")?,
        };
        Ok(Metadata {
            issuer,
            authorization: match authorization {
                Some(authorization) => authorization.clone(),
                None => self.page(&document)?,
            },
            token: match token {
                Some(token) => token.clone(),
                None => self.leads_to(&document, "token_endpoint")?,
            },
            userinfo: match document.text("userinfo_endpoint") {
                Some(_) => Some(self.leads_to(&document, "userinfo_endpoint")?),
                None => None,
            },
            keys: self.keys(&keys, old),
            keys_url: keys,
            authentication: authentication(&document),
            names_itself: document.flag("authorization_response_iss_parameter_supported"),
        })
    }

    /// Keys that are kept already, where they are still those.
    fn keys(&self, url: &OutboundUrl, old: Option<&Arc<Metadata>>) -> Arc<IssuerKeys> {
        match old {
            Some(old) if old.keys_url == *url => Arc::clone(&old.keys),
            _ => Arc::new(IssuerKeys::at(url.clone(), self.web.outbound.clone())),
        }
    }

    /// An address that is called.
    fn leads_to(&self, document: &Fields, name: &str) -> Result<OutboundUrl, ProviderError> {
        let named = &self.web.named;
        let text = needed(named, document, name)?;
        let url = self.issuer.url.found(&text);
        let url = url.map_err(|problem| named.address(format!("{name} {problem}")))?;
        // Without TLS it is this machine or this network, where another port is another program.
        if url.as_str().starts_with("http:") && origin(&url) != origin(&self.issuer.url) {
            return Err(named.address(format!("{name} is not where the issuer is")));
        }
        Ok(url)
    }

    /// Where browsers go: nothing here calls it, so that it may be anywhere, but not without TLS where
    /// the issuer has it.
    fn page(&self, document: &Fields) -> Result<OutboundUrl, ProviderError> {
        const NAME: &str = "authorization_endpoint";
        let named = &self.web.named;
        let text = needed(named, document, NAME)?;
        let url = OutboundUrl::configured(&text);
        let url = url.map_err(|problem| named.address(format!("{NAME} {problem}")))?;
        let is_tls = |url: &OutboundUrl| url.as_str().starts_with("https:");
        if is_tls(&self.issuer.url) && !is_tls(&url) {
            return Err(named.address(format!("{NAME} must begin with https://")));
        }
        Ok(url)
    }
}

fn origin(url: &OutboundUrl) -> Option<url::Origin> {
    Url::parse(url.as_str()).ok().map(|url| url.origin())
}

fn authentication(document: &Fields) -> Authentication {
    let Some(serde_json::Value::Array(methods)) =
        document.at("token_endpoint_auth_methods_supported")
    else {
        return Authentication::Unknown;
    };
    let has = |method: &str| methods.iter().any(|known| known == method);
    match (has("client_secret_basic"), has("client_secret_post")) {
        (true, _) => Authentication::Basic,
        (false, true) => Authentication::Post,
        (false, false) => Authentication::Unknown,
    }
}
