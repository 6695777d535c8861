//! What is configured of providers.

use std::{collections::BTreeMap, time::Duration};

use protocol::TenantId;
use secrecy::SecretString;
use url::Url;

use super::Fields;
use crate::{
    admin::SingleSignOnConfig,
    outbound::{OutboundUrl, UrlProblem},
};

/// Most custom providers: each keeps what it has discovered and its keys.
pub const CUSTOM_PROVIDERS_MAX: usize = 32;

/// Most addresses in `OAUTH_REDIRECT_URIS`.
pub const REDIRECT_URIS_MAX: usize = 64;

/// Longest address of an app, in bytes.
pub const REDIRECT_URI_BYTES_MAX: usize = 2_048;

/// Most tenants that a provider may name, and most providers that have one of their own.
pub const TENANTS_MAX: usize = 256;

/// What can be set.
#[derive(Clone, Debug)]
pub struct ProvidersConfig {
    /// Where browsers find this hub (`PUBLIC_URL`), without a path; none: where the request says.
    pub public_url: Option<Url>,
    /// To which addresses of apps a login may lead back (`OAUTH_REDIRECT_URIS`), each to the letter.
    pub redirect_uris: Vec<String>,
    /// For all calls to a provider that one login needs (`OAUTH_TIMEOUT`).
    pub timeout: Duration,
    /// `GITHUB_*`.
    pub github: Option<ClientConfig>,
    /// `GOOGLE_*`.
    pub google: Option<GoogleConfig>,
    /// `WECHAT_*`.
    pub wechat: Option<ClientConfig>,
    /// `WECOM_*`.
    pub wecom: Option<WecomConfig>,
    /// `DINGTALK_*`.
    pub dingtalk: Option<DingtalkConfig>,
    /// `OIDC_*`, and those of `OAUTH_PROVIDERS_FILE`.
    pub custom: Vec<CustomConfig>,
    /// In which tenant a first login makes the user, by provider (`OAUTH_TENANTS`); the default one for
    /// those that are not named.
    pub tenants: BTreeMap<String, TenantId>,
    /// Where admins log in (`ADMIN_OIDC_*`).
    pub admin: Option<SingleSignOnConfig>,
}

impl Default for ProvidersConfig {
    fn default() -> Self {
        Self {
            public_url: None,
            redirect_uris: Vec::new(),
            timeout: Duration::from_secs(10),
            github: None,
            google: None,
            wechat: None,
            wecom: None,
            dingtalk: None,
            custom: Vec::new(),
            tenants: BTreeMap::new(),
            admin: None,
        }
    }
}

impl ProvidersConfig {
    /// Whether there is a provider at all.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.github.is_some()
            || self.google.is_some()
            || self.wechat.is_some()
            || self.wecom.is_some()
            || self.dingtalk.is_some()
            || !self.custom.is_empty()
    }

    /// Where a provider says itself in which tenant people are.
    pub(super) fn tenant_claim(&self, provider: &str) -> Option<&TenantClaim> {
        self.custom.iter().find(|custom| custom.name == provider)?.tenant.as_ref()
    }
}

/// What this hub is called at a provider, and where that is.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `client_id`; `appid`, `corpid` or `clientId` where the provider says so.
    pub id: String,
    /// Its secret.
    pub secret: SecretString,
    /// Where its sign-in pages are, if not where the real ones are.
    pub base_url: Option<OutboundUrl>,
    /// Where tokens and user data are; the same as `base_url` unless said.
    pub api_base_url: Option<OutboundUrl>,
}

/// Whose tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// As it stands in tokens: to the letter, while a URL may be written in several ways.
    pub text: String,
    /// Where it is asked.
    pub url: OutboundUrl,
}

impl Issuer {
    /// Reads one of the settings.
    ///
    /// # Errors
    /// [`UrlProblem`], as for every URL of the settings.
    pub fn configured(text: &str) -> Result<Self, UrlProblem> {
        let url = OutboundUrl::configured(text)?;
        Ok(Self { text: text.trim_end_matches('/').to_owned(), url })
    }
}

/// Google.
#[derive(Clone, Debug)]
pub struct GoogleConfig {
    /// Id, secret and addresses.
    pub client: ClientConfig,
    /// Whose tokens are believed, where it is not Google itself (`GOOGLE_ISSUER`).
    pub issuer: Option<Issuer>,
    /// Only accounts of this Workspace domain, where it is set (`GOOGLE_HOSTED_DOMAIN`).
    pub hosted_domain: Option<String>,
}

/// WeCom: the id is the `corpid`.
#[derive(Clone, Debug)]
pub struct WecomConfig {
    /// Id, secret and addresses.
    pub client: ClientConfig,
    /// The app within the corporation (`WECOM_AGENT_ID`).
    pub agent_id: String,
}

/// DingTalk.
#[derive(Clone, Debug)]
pub struct DingtalkConfig {
    /// Id, secret and addresses.
    pub client: ClientConfig,
    /// Only people of this corporation, where it is set (`DINGTALK_CORP_ID`).
    pub corp_id: Option<String>,
}

/// A provider that only the operator knows.
#[derive(Clone, Debug)]
pub struct CustomConfig {
    /// Its name in paths.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// `client_id`.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// Where it is.
    pub endpoints: CustomEndpoints,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Where in its answers what stands.
    pub fields: FieldMapping,
    /// Whether PKCE is used; off only for servers that refuse what they do not know.
    pub pkce: bool,
    /// Where it says itself in which tenant people are.
    pub tenant: Option<TenantClaim>,
}

/// Where a custom provider says in which tenant somebody is, and which it may name: whoever runs it must not
/// get into all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantClaim {
    /// A path as in [`FieldMapping`].
    pub path: String,
    /// Which it may name, at most [`TENANTS_MAX`].
    pub allowed: Vec<TenantId>,
}

impl TenantClaim {
    /// The tenant; none where it is not there, is no text, or is not allowed.
    pub(super) fn tenant(&self, claims: &Fields) -> Option<TenantId> {
        let said = claims.at(&self.path)?.as_str()?;
        self.allowed.iter().find(|tenant| tenant.as_str() == said).cloned()
    }
}

/// Where a custom provider is.
#[derive(Clone, Debug)]
pub enum CustomEndpoints {
    /// OpenID Connect: the rest is discovered at the issuer.
    Issuer(Box<Issuer>),
    /// OAuth2: nothing is signed, who it is says the third.
    Fixed(Box<FixedEndpoints>),
}

/// Where an OAuth2 provider is.
#[derive(Clone, Debug)]
pub struct FixedEndpoints {
    /// Where people sign in.
    pub auth_url: OutboundUrl,
    /// Where a code becomes a token.
    pub token_url: OutboundUrl,
    /// Who a token is of.
    pub userinfo_url: OutboundUrl,
}

/// Where in a custom provider's answers what stands: names with dots between them, a number for a place in
/// a list, such as `data.emails.0.value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMapping {
    /// What it calls a person for good; texts and numbers.
    pub id: String,
    /// A short name.
    pub username: String,
    /// The name for people.
    pub name: String,
    /// Where to write to.
    pub email: String,
    /// Whether that was checked. Without it an address is not believed; `*` believes every one.
    pub email_verified: String,
    /// A picture.
    pub avatar: String,
}

impl Default for FieldMapping {
    /// OpenID Connect Core §5.1.
    fn default() -> Self {
        Self {
            id: "sub".to_owned(),
            username: "preferred_username".to_owned(),
            name: "name".to_owned(),
            email: "email".to_owned(),
            email_verified: "email_verified".to_owned(),
            avatar: "picture".to_owned(),
        }
    }
}

impl FieldMapping {
    /// The names of its parts.
    pub const NAMES: [&'static str; 6] =
        ["id", "username", "name", "email", "email_verified", "avatar"];

    /// Longest path, in bytes.
    pub const PATH_BYTES_MAX: usize = 128;

    /// Whether a text can be a path.
    #[must_use]
    pub fn is_path(path: &str) -> bool {
        !path.is_empty()
            && path.len() <= Self::PATH_BYTES_MAX
            && path.split('.').all(|step| !step.is_empty())
            && !path.chars().any(|c| c.is_control() || c.is_whitespace())
    }

    /// Sets a part; false for a name or a path that is none.
    pub fn set(&mut self, name: &str, path: &str) -> bool {
        let legal = Self::is_path(path);
        let part = match name {
            "id" => &mut self.id,
            "username" => &mut self.username,
            "name" => &mut self.name,
            "email" => &mut self.email,
            "email_verified" => &mut self.email_verified,
            "avatar" => &mut self.avatar,
            _ => return false,
        };
        path.clone_into(part);
        legal
    }
}
