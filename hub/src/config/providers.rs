//! Login providers: which are configured, and which only half.

use std::{collections::BTreeSet, path::Path};

use delivery::{
    admin::{ClaimedRoles, SingleSignOnConfig},
    api::ADMIN_CALLBACK_PATH,
    outbound::OutboundUrl,
    provider::{
        ADMIN, BUILT_IN, CUSTOM_PROVIDERS_MAX, ClientConfig, CustomConfig, CustomEndpoints,
        DingtalkConfig, FieldMapping, FixedEndpoints, GoogleConfig, Issuer, ProvidersConfig,
        TENANTS_MAX, TenantClaim, WecomConfig,
    },
};
use protocol::TenantId;
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    Problem,
    source::{Given, read_small},
    value::{parse_admin_roles, parse_fields, parse_public_url, parse_tenants},
};

/// The custom provider that needs no file.
const OIDC: &str = "oidc";

/// What a custom provider cannot be called, because paths mean something else by it.
const TAKEN: [&str; 8] = [
    "providers",
    "exchange",
    "refresh",
    "logout",
    "profile",
    "sessions",
    "identities",
    "ws-ticket",
];

/// Longest name of a custom provider, in bytes: it is a part of paths and of what is kept of people.
const NAME_BYTES_MAX: usize = 32;

/// Longest other text of the file, in bytes.
const TEXT_BYTES_MAX: usize = 256;

const OPENID_SCOPE: &str = "openid profile email";

/// The names of a provider's settings.
struct Names {
    id: &'static str,
    secret: &'static str,
    base_url: &'static str,
    api_base_url: &'static str,
    /// Others, that mean nothing without an id.
    more: &'static [&'static str],
}

macro_rules! names {
    ($provider:literal $(, $more:literal)*) => {
        Names {
            id: concat!($provider, "_CLIENT_ID"),
            secret: concat!($provider, "_CLIENT_SECRET"),
            base_url: concat!($provider, "_BASE_URL"),
            api_base_url: concat!($provider, "_API_BASE_URL"),
            more: &[$(concat!($provider, "_", $more)),*],
        }
    };
}

/// Reads all of them.
pub(super) fn providers(given: &mut Given) -> ProvidersConfig {
    let public_url = given.text("PUBLIC_URL").and_then(|text| parse_public_url(&text));
    let redirect_uris = given.list("OAUTH_REDIRECT_URIS");
    let timeout = given.duration("OAUTH_TIMEOUT");
    let github = client(given, &names!("GITHUB"));
    let google = client(given, &names!("GOOGLE", "ISSUER", "HOSTED_DOMAIN"));
    let wechat = client(given, &names!("WECHAT"));
    let wecom = client(given, &names!("WECOM", "AGENT_ID"));
    let dingtalk = client(given, &names!("DINGTALK", "CORP_ID"));
    let google = google.map(|client| GoogleConfig {
        client,
        issuer: given.text("GOOGLE_ISSUER").and_then(|text| Issuer::configured(&text).ok()),
        hosted_domain: given.text("GOOGLE_HOSTED_DOMAIN"),
    });
    let wecom = wecom.and_then(|client| {
        let agent_id = needed(given, "WECOM_AGENT_ID", "WECOM_CLIENT_ID")?;
        Some(WecomConfig { client, agent_id })
    });
    let dingtalk =
        dingtalk.map(|client| DingtalkConfig { client, corp_id: given.text("DINGTALK_CORP_ID") });
    let mut custom = Vec::from_iter(oidc(given));
    let file = given.path("OAUTH_PROVIDERS_FILE");
    if !file.as_os_str().is_empty() {
        match of_file(&file) {
            Ok(more) => custom.extend(more),
            Err(problems) => {
                let problem = |text| Problem { name: "OAUTH_PROVIDERS_FILE".to_owned(), text };
                given.problems.extend(problems.into_iter().map(problem));
            }
        }
    }
    let tenants = given.text("OAUTH_TENANTS").and_then(|text| parse_tenants(&text));
    let config = ProvidersConfig {
        public_url,
        redirect_uris,
        timeout,
        github,
        google,
        wechat,
        wecom,
        dingtalk,
        custom,
        tenants: tenants.unwrap_or_default(),
        admin: admin(given),
    };
    check_tenants(given, &config);
    if config.public_url.is_none() && config.is_any() {
        given.warnings.push(
            "PUBLIC_URL is not set: login providers send browsers back to whatever host the request named, \
             by http://"
                .to_owned(),
        );
    }
    config
}

/// A tenant for a provider that is not there is a slip of the pen, by which people get into another one.
fn check_tenants(given: &mut Given, config: &ProvidersConfig) {
    let built_in = [
        config.github.is_some(),
        config.google.is_some(),
        config.wechat.is_some(),
        config.wecom.is_some(),
        config.dingtalk.is_some(),
    ];
    let built_in = BUILT_IN.into_iter().zip(built_in).filter(|(_, is_there)| *is_there);
    let built_in: Vec<&str> = built_in.map(|(name, _)| name).collect();
    for name in config.tenants.keys() {
        let custom = config.custom.iter().find(|custom| custom.name == *name);
        let text = match custom {
            Some(custom) if custom.tenant.is_some() => {
                format!("names {name}, which says itself in which tenant people are")
            }
            Some(_) => continue,
            None if built_in.contains(&name.as_str()) => continue,
            None => format!("names {name}, which is no provider that is configured"),
        };
        given.problems.push(Problem { name: "OAUTH_TENANTS".to_owned(), text });
    }
}

/// Where a provider says in which tenant people are; both or none. The error is the rest of a sentence.
fn tenant_claim(
    path: Option<String>,
    tenants: Vec<String>,
) -> Result<Option<TenantClaim>, &'static str> {
    match (path, tenants.is_empty()) {
        (None, true) => Ok(None),
        (Some(_), true) => Err("names where tenants stand, but not which of them may"),
        (None, false) => Err("names tenants, but not where they stand"),
        (Some(path), false) => {
            let allowed: Result<Vec<_>, _> = tenants.into_iter().map(TenantId::new).collect();
            let allowed = allowed.map_err(|_| "names a tenant that is no id")?;
            if allowed.len() > TENANTS_MAX || !FieldMapping::is_path(&path) {
                return Err("names too many tenants, or a path that is none");
            }
            Ok(Some(TenantClaim { path, allowed }))
        }
    }
}

/// The issuer of admins, of `ADMIN_OIDC_*`.
fn admin(given: &mut Given) -> Option<SingleSignOnConfig> {
    const NEEDED: [&str; 4] = [
        "ADMIN_OIDC_CLIENT_ID",
        "ADMIN_OIDC_CLIENT_SECRET",
        "ADMIN_OIDC_ISSUER",
        "ADMIN_OIDC_REDIRECT_URI",
    ];
    let title = given.text("ADMIN_OIDC_TITLE").unwrap_or_default();
    let scope = given.text("ADMIN_OIDC_SCOPE").unwrap_or_default();
    let claim = given.text("ADMIN_OIDC_ROLE_CLAIM");
    let roles = given.text("ADMIN_OIDC_ROLES").and_then(|text| parse_admin_roles(&text));
    let second_factor_there = given.text("ADMIN_OIDC_SECOND_FACTOR").as_deref() == Some("issuer");
    let [id, secret, issuer, redirect_uri] = NEEDED;
    let (client_id, client_secret) = (given.text(id), given.secret(secret));
    let issuer = given.text(issuer).and_then(|text| Issuer::configured(&text).ok());
    let redirect = given.text(redirect_uri).and_then(|text| parse_public_url(&text));
    let set = [client_id.is_some(), client_secret.is_some(), issuer.is_some(), redirect.is_some()];
    if let Some(at) = set.iter().position(|set| *set) {
        for name in NEEDED.into_iter().zip(set).filter(|(_, set)| !set).map(|(name, _)| name) {
            needed(given, name, NEEDED[at]);
        }
    } else if claim.is_some() || roles.is_some() {
        given.warnings.push(format!("ADMIN_OIDC_ROLES has no effect: {id} is not set"));
    }
    let mut wrong = |name: &str, text: &str| {
        given.problems.push(Problem { name: name.to_owned(), text: text.to_owned() });
    };
    if redirect.as_ref().is_some_and(|url| !url.path().ends_with(ADMIN_CALLBACK_PATH)) {
        wrong(
            redirect_uri,
            &format!("must end with {ADMIN_CALLBACK_PATH}, where the answer is taken"),
        );
    }
    if !scope.split_whitespace().any(|scope| scope == "openid") {
        wrong("ADMIN_OIDC_SCOPE", "must have openid: nothing is signed without it");
    }
    let roles = match (claim, roles) {
        (None, None) => None,
        (Some(claim), Some(roles)) => Some(ClaimedRoles { claim, roles }),
        (Some(_), None) => {
            wrong("ADMIN_OIDC_ROLES", "is not set, but ADMIN_OIDC_ROLE_CLAIM is: it gives no role");
            None
        }
        (None, Some(_)) => {
            wrong(
                "ADMIN_OIDC_ROLE_CLAIM",
                "is not set, but ADMIN_OIDC_ROLES is: it says nowhere whose",
            );
            None
        }
    };
    Some(SingleSignOnConfig {
        title,
        issuer: issuer?,
        client_id: client_id?,
        client_secret: client_secret?,
        redirect_uri: redirect?,
        scopes: scope.split_whitespace().map(str::to_owned).collect(),
        roles,
        second_factor_there,
    })
}

fn url(given: &mut Given, name: &'static str) -> Option<OutboundUrl> {
    given.text(name).and_then(|text| OutboundUrl::configured(&text).ok())
}

/// A setting without which another means nothing.
fn needed(given: &mut Given, name: &'static str, because: &str) -> Option<String> {
    let text = given.text(name);
    // One that is wrong was named already.
    if text.is_none() && !given.problems.iter().any(|problem| problem.name == name) {
        let text = format!("is not set, but {because} is: the provider needs both");
        given.problems.push(Problem { name: name.to_owned(), text });
    }
    text
}

fn client(given: &mut Given, names: &Names) -> Option<ClientConfig> {
    let id = given.text(names.id);
    let secret = given.secret(names.secret);
    let (base_url, api_base_url) = (url(given, names.base_url), url(given, names.api_base_url));
    match (id, secret) {
        (Some(id), Some(secret)) => Some(ClientConfig { id, secret, base_url, api_base_url }),
        (None, None) => {
            let urls = [(names.base_url, base_url), (names.api_base_url, api_base_url)];
            let mut idle: Vec<_> =
                urls.into_iter().filter(|(_, url)| url.is_some()).map(|(name, _)| name).collect();
            idle.extend(names.more.iter().copied().filter(|name| given.text(name).is_some()));
            let warn = |name| format!("{name} has no effect: {} is not set", names.id);
            given.warnings.extend(idle.into_iter().map(warn));
            None
        }
        (Some(_), None) => {
            needed(given, names.secret, names.id);
            None
        }
        (None, Some(_)) => {
            needed(given, names.id, names.secret);
            None
        }
    }
}

/// The provider of `OIDC_*`.
fn oidc(given: &mut Given) -> Option<CustomConfig> {
    let issuer = given.text("OIDC_ISSUER").and_then(|text| Issuer::configured(&text).ok());
    const FIXED: [&str; 3] = ["OIDC_AUTH_URL", "OIDC_TOKEN_URL", "OIDC_USERINFO_URL"];
    let fixed = FIXED.map(|name| url(given, name));
    let scope = given.text("OIDC_SCOPE");
    let fields = given.text("OIDC_FIELDS").and_then(|text| parse_fields(&text));
    let title = given.text("OIDC_TITLE").unwrap_or_default();
    let tenant = tenant_claim(given.text("OIDC_TENANT_CLAIM"), given.list("OIDC_TENANTS"));
    let tenant = tenant.unwrap_or_else(|problem| {
        let name = "OIDC_TENANT_CLAIM".to_owned();
        let text = format!("{problem}; OIDC_TENANTS goes with it");
        given.problems.push(Problem { name, text });
        None
    });
    let id = given.text("OIDC_CLIENT_ID");
    let secret = given.secret("OIDC_CLIENT_SECRET");
    let (Some(client_id), Some(client_secret)) = (id.clone(), secret.clone()) else {
        if id.is_some() {
            needed(given, "OIDC_CLIENT_SECRET", "OIDC_CLIENT_ID");
        } else if secret.is_some() {
            needed(given, "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET");
        } else {
            let urls = FIXED.into_iter().zip(fixed.iter().map(Option::is_some));
            for (name, is_set) in [("OIDC_ISSUER", issuer.is_some())].into_iter().chain(urls) {
                if is_set {
                    given.warnings.push(format!("{name} has no effect: OIDC_CLIENT_ID is not set"));
                }
            }
        }
        return None;
    };
    let endpoints = match endpoints(issuer, fixed) {
        Ok(endpoints) => endpoints,
        Err(problem) => {
            let wrong = |name: &str| given.problems.iter().any(|problem| problem.name == name);
            if !["OIDC_ISSUER"].iter().chain(&FIXED).any(|name| wrong(name)) {
                let text = problem.replace("issuer", "OIDC_ISSUER");
                given.problems.push(Problem { name: "OIDC_ISSUER".to_owned(), text });
            }
            return None;
        }
    };
    let fields = fields.unwrap_or_default();
    let made = custom(OIDC, title, client_id, client_secret, endpoints, scope, fields, true);
    Some(CustomConfig { tenant, ..made })
}

/// Either an issuer or all three addresses; the error is the rest of a sentence.
fn endpoints(
    issuer: Option<Issuer>,
    fixed: [Option<OutboundUrl>; 3],
) -> Result<CustomEndpoints, String> {
    match (issuer, fixed) {
        (Some(issuer), [None, None, None]) => Ok(CustomEndpoints::Issuer(Box::new(issuer))),
        (None, [Some(auth_url), Some(token_url), Some(userinfo_url)]) => {
            let fixed = FixedEndpoints { auth_url, token_url, userinfo_url };
            Ok(CustomEndpoints::Fixed(Box::new(fixed)))
        }
        (Some(_), _) => Err(
            "is set beside addresses; allowed: issuer, by which the addresses are discovered, or the \
             addresses"
                .to_owned(),
        ),
        (None, _) => Err(
            "is not set; allowed: issuer, or all three of auth_url, token_url and userinfo_url".to_owned(),
        ),
    }
}

#[expect(clippy::too_many_arguments, reason = "called where they are named")]
fn custom(
    name: &str,
    title: String,
    client_id: String,
    client_secret: SecretString,
    endpoints: CustomEndpoints,
    scope: Option<String>,
    fields: FieldMapping,
    pkce: bool,
) -> CustomConfig {
    let of_openid = matches!(endpoints, CustomEndpoints::Issuer(_));
    let scope = scope.unwrap_or_else(|| if of_openid { OPENID_SCOPE } else { "" }.to_owned());
    CustomConfig {
        name: name.to_owned(),
        title: if title.is_empty() { name.to_owned() } else { title },
        client_id,
        client_secret,
        endpoints,
        scopes: scope.split_whitespace().map(str::to_owned).collect(),
        fields,
        pkce,
        tenant: None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Vec<Entry>,
}

/// A provider of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    title: String,
    client_id: String,
    client_secret: Option<SecretString>,
    client_secret_file: Option<std::path::PathBuf>,
    issuer: Option<String>,
    auth_url: Option<String>,
    token_url: Option<String>,
    userinfo_url: Option<String>,
    scope: Option<String>,
    #[serde(default)]
    fields: std::collections::BTreeMap<String, String>,
    #[serde(default = "yes")]
    pkce: bool,
    tenant_claim: Option<String>,
    #[serde(default)]
    tenants: Vec<String>,
}

const fn yes() -> bool {
    true
}

/// The providers of `OAUTH_PROVIDERS_FILE`, or all that is wrong with it.
fn of_file(path: &Path) -> Result<Vec<CustomConfig>, Vec<String>> {
    let shown = path.display();
    let text =
        read_small(path).map_err(|error| vec![format!("{shown} cannot be read: {error}")])?;
    let file: File = toml::from_str(&text).map_err(|error| {
        // The parser's sentence quotes the line, which may hold a secret: only its place.
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        vec![format!("{shown}: {} (line {line})", error.message())]
    })?;
    if file.provider.len() > CUSTOM_PROVIDERS_MAX {
        return Err(vec![format!("{shown} has more than {CUSTOM_PROVIDERS_MAX} providers")]);
    }
    let (mut made, mut problems, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for entry in file.provider {
        let name = entry.name.clone();
        if !names.insert(name.clone()) {
            problems.push(format!("{shown}: {name:?} is there twice"));
        }
        match entry.made() {
            Ok(config) => made.push(config),
            Err(problem) => problems.push(format!("{shown}: {name:?}: {problem}")),
        }
    }
    if problems.is_empty() { Ok(made) } else { Err(problems) }
}

impl Entry {
    fn made(self) -> Result<CustomConfig, String> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) || !self.name.chars().all(legal) {
            return Err(format!("name must be 1 to {NAME_BYTES_MAX} of the characters a-z 0-9 -"));
        }
        if self.name == OIDC
            || self.name == ADMIN
            || BUILT_IN.contains(&&*self.name)
            || TAKEN.contains(&&*self.name)
        {
            return Err("name means something else already".to_owned());
        }
        for (field, text) in [("title", &self.title), ("client_id", &self.client_id)] {
            if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
                return Err(format!("{field} must be one line of at most {TEXT_BYTES_MAX} bytes"));
            }
        }
        if self.client_id.is_empty() {
            return Err("client_id must not be empty".to_owned());
        }
        let secret = match (self.client_secret, self.client_secret_file) {
            (Some(secret), None) => secret,
            (None, Some(path)) => read_small(&path)
                .map(|text| SecretString::from(text.trim_end_matches(['\r', '\n'])))
                .map_err(|error| format!("client_secret_file cannot be read: {error}"))?,
            (None, None) => return Err("client_secret or client_secret_file is missing".to_owned()),
            (Some(_), Some(_)) => {
                return Err("client_secret is set beside client_secret_file".to_owned());
            }
        };
        let url = |field: &str, text: Option<String>| match text {
            Some(text) => OutboundUrl::configured(&text)
                .map(Some)
                .map_err(|problem| format!("{field} {problem}")),
            None => Ok(None),
        };
        let issuer = match &self.issuer {
            Some(text) => {
                Some(Issuer::configured(text).map_err(|problem| format!("issuer {problem}"))?)
            }
            None => None,
        };
        let fixed = [
            url("auth_url", self.auth_url)?,
            url("token_url", self.token_url)?,
            url("userinfo_url", self.userinfo_url)?,
        ];
        let endpoints = endpoints(issuer, fixed).map_err(|problem| format!("issuer {problem}"))?;
        let mut fields = FieldMapping::default();
        for (part, path) in &self.fields {
            if !fields.set(part, path) {
                return Err(format!(
                    "fields: {part:?} must be one of {} and name a path such as data.user.id",
                    FieldMapping::NAMES.join(", ")
                ));
            }
        }
        let tenant = tenant_claim(self.tenant_claim, self.tenants)
            .map_err(|problem| format!("tenant_claim {problem}"))?;
        let made = custom(
            &self.name,
            self.title,
            self.client_id,
            secret,
            endpoints,
            self.scope,
            fields,
            self.pkce,
        );
        Ok(CustomConfig { tenant, ..made })
    }
}

#[cfg(test)]
mod tests;
