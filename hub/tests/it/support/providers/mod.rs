//! Login providers that behave as the real ones do, their oddities and errors included. All stand on one
//! port, each below its own name; where a real one has its API on another host, that is `<name>-api` here.

mod chat;
mod github;
mod openid;
mod plain;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

pub(crate) use openid::Forge;

/// The id and the secret of the hub at each of them.
pub(crate) const CLIENT_ID: &str = "hub-at-provider";
pub(crate) const CLIENT_SECRET: &str = "secret-of-the-hub-at-the-provider";
const AGENT_ID: &str = "1000002";

/// Where an app waits that a login leads back to.
pub(crate) const APP: &str = "https://app.example.com/signed-in";
pub(crate) const NATIVE_APP: &str = "com.example.app:/signed-in";

/// Where browsers find the admin port, by what the issuer of admins knows.
pub(crate) const ADMIN_PORT: &str = "http://admin.example.com";

/// How one of them is today.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Mood {
    /// As always.
    #[default]
    Well,
    /// Its API answers this status and a page.
    Down(u16),
    /// Its API does not answer.
    Silent,
    /// Its API answers this, whatever it is asked.
    Says(&'static str),
    /// Its API answers megabytes.
    Endless,
    /// Whoever signs in says no.
    Declined,
}

/// A browser that was sent here.
#[derive(Clone)]
struct Visit {
    provider: &'static str,
    person: String,
    redirect_uri: String,
    challenge: Option<String>,
    nonce: Option<String>,
}

#[derive(Default)]
struct World {
    /// Codes that were not used yet, and those that were.
    codes: HashMap<String, Visit>,
    spent: HashSet<String>,
    /// Access tokens.
    tokens: HashMap<String, Visit>,
    /// Who signs in next.
    people: HashMap<&'static str, String>,
    moods: HashMap<&'static str, Mood>,
    forge: Option<Forge>,
    /// Changes of discovery documents.
    document: BTreeMap<&'static str, Value>,
    /// Oddities that were seen in the wild, by name.
    odd: HashSet<&'static str>,
    calls: Vec<String>,
    /// Bodies and queries of token calls.
    said: Vec<String>,
    app_tokens: HashSet<String>,
}

impl World {
    fn new_code(&mut self, visit: Visit) -> String {
        let code = format!("{:x}", rand_bytes());
        self.codes.insert(code.clone(), visit);
        code
    }

    /// Spends a code: whom it is of, or whether it was spent before.
    fn spend(&mut self, provider: &str, code: &str) -> Result<Visit, bool> {
        match self.codes.get(code) {
            Some(visit) if visit.provider == provider => {}
            _ => return Err(self.spent.contains(code)),
        }
        self.spent.insert(code.to_owned());
        Ok(self.codes.remove(code).unwrap())
    }

    fn new_token(&mut self, prefix: &str, visit: Visit) -> String {
        let token = format!("{prefix}{:032x}", rand_bytes());
        self.tokens.insert(token.clone(), visit);
        token
    }
}

fn rand_bytes() -> u128 {
    uuid::Uuid::now_v7().as_u128()
}

/// A request as the fakes see it.
struct Asked {
    method: Method,
    /// Behind the provider's name.
    path: String,
    query: HashMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn get(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn form(&self) -> HashMap<String, String> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn bearer(&self) -> &str {
        self.header("authorization").strip_prefix("Bearer ").unwrap_or_default()
    }
}

type Told = Response<Full<Bytes>>;

fn told(status: u16, media: &str, body: impl Into<Bytes>) -> Told {
    let mut response = Response::new(Full::from(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(header::CONTENT_TYPE, media.parse().unwrap());
    response
}

fn json_of(status: u16, body: &Value) -> Told {
    told(status, "application/json", body.to_string())
}

/// What browsers see where something is wrong with the address: nobody is sent back then.
fn error_page(what: &str) -> Told {
    told(400, "text/html", format!("<h1>Error</h1>{what}"))
}

fn sent_back(redirect_uri: &str, pairs: &[(&str, &str)]) -> Told {
    let mut url = Url::parse(redirect_uri).unwrap();
    url.query_pairs_mut().extend_pairs(pairs);
    let mut response = told(302, "text/html", "");
    response.headers_mut().insert(header::LOCATION, url.as_str().parse().unwrap());
    response
}

fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

struct Shared {
    address: SocketAddr,
    world: Mutex<World>,
    signer: openid::Signer,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn base(&self, provider: &str) -> String {
        format!("http://{}/{provider}", self.address)
    }
}

/// All six, and a company's own.
pub(crate) struct Fakes {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Fakes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fakes {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let signer = openid::Signer::make();
        let shared = Arc::new(Shared { address, world: Mutex::default(), signer });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(move |request| serve(request, Arc::clone(&shared)));
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { shared, task }
    }

    /// The settings of a hub that knows them.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        let base = |provider: &str| self.shared.base(provider);
        let mut env = vec![
            ("OAUTH_REDIRECT_URIS", format!("{APP},{NATIVE_APP}")),
            ("GITHUB_BASE_URL", base("github")),
            ("GITHUB_API_BASE_URL", base("github-api")),
            ("GOOGLE_ISSUER", base("google")),
            ("WECHAT_BASE_URL", base("wechat")),
            ("WECHAT_API_BASE_URL", base("wechat-api")),
            ("WECOM_BASE_URL", base("wecom")),
            ("WECOM_API_BASE_URL", base("wecom-api")),
            ("WECOM_AGENT_ID", AGENT_ID.to_owned()),
            ("DINGTALK_BASE_URL", base("dingtalk")),
            ("DINGTALK_API_BASE_URL", base("dingtalk-api")),
            ("OIDC_ISSUER", base("oidc")),
        ];
        for (id, secret) in [
            ("GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET"),
            ("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET"),
            ("WECHAT_CLIENT_ID", "WECHAT_CLIENT_SECRET"),
            ("WECOM_CLIENT_ID", "WECOM_CLIENT_SECRET"),
            ("DINGTALK_CLIENT_ID", "DINGTALK_CLIENT_SECRET"),
            ("OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"),
        ] {
            env.extend([(id, CLIENT_ID.to_owned()), (secret, CLIENT_SECRET.to_owned())]);
        }
        env
    }

    /// The settings of a hub whose admins log in at the company's own.
    pub(crate) fn admin_env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ADMIN_OIDC_ISSUER", self.shared.base("oidc")),
            ("ADMIN_OIDC_CLIENT_ID", CLIENT_ID.to_owned()),
            ("ADMIN_OIDC_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
            ("ADMIN_OIDC_REDIRECT_URI", format!("{ADMIN_PORT}/api/v3/admin/login/oidc/callback")),
        ]
    }

    /// An entry of `OAUTH_PROVIDERS_FILE` for the company's own.
    pub(crate) fn company(&self) -> String {
        let base = self.shared.base("company");
        format!(
            "[[provider]]\nname = \"company\"\ntitle = \"公司\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret = \"{CLIENT_SECRET}\"\nauth_url = \"{base}/authorize\"\n\
             token_url = \"{base}/token\"\nuserinfo_url = \"{base}/me\"\npkce = false\n\
             fields = {{ id = \"data.user.no\", username = \"data.user.account\", \
             name = \"data.user.nick\", email = \"data.user.mails.0\", email_verified = \"*\" }}\n"
        )
    }

    /// Who signs in next at one of them.
    pub(crate) fn person(&self, provider: &'static str, person: &str) {
        self.shared.world().people.insert(provider, person.to_owned());
    }

    pub(crate) fn mood(&self, provider: &'static str, mood: Mood) {
        self.shared.world().moods.insert(provider, mood);
    }

    /// What is done to the `id_token`s that are made from now on.
    pub(crate) fn forge(&self, forge: impl Into<Option<Forge>>) {
        self.shared.world().forge = forge.into();
    }

    /// What a discovery document says from now on.
    pub(crate) fn document(&self, name: &'static str, value: impl Into<Value>) {
        self.shared.world().document.insert(name, value.into());
    }

    pub(crate) fn odd(&self, oddity: &'static str) {
        self.shared.world().odd.insert(oddity);
    }

    /// How often a path was asked.
    pub(crate) fn calls(&self, path: &str) -> usize {
        self.shared.world().calls.iter().filter(|call| call.as_str() == path).count()
    }

    /// What token calls have said so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.shared.world().said.clone()
    }

    /// WeCom: somebody else fetches a token of the app, which ends ours.
    pub(crate) fn forget_app_token(&self) {
        self.shared.world().app_tokens.clear();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }
}

async fn serve(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Told, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let query = head.uri.query().unwrap_or_default();
    let path = head.uri.path().trim_start_matches('/').to_owned();
    let (host, path) = path.split_once('/').unwrap_or((&path, ""));
    shared.world().calls.push(format!("{host}/{path}"));
    let is_page = matches!(
        path,
        "login/oauth/authorize"
            | "o/oauth2/v2/auth"
            | "connect/qrconnect"
            | "wwlogin/sso/login"
            | "oauth2/auth"
            | "authorize"
    );
    let provider = host.trim_end_matches("-api");
    let mood = shared.world().moods.get(provider).cloned().unwrap_or_default();
    let asked = Asked {
        method: head.method,
        path: path.to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: head.headers,
        body,
    };
    if mood == Mood::Declined && is_page {
        return Ok(declined(provider, &asked));
    }
    if !is_page {
        match mood {
            Mood::Down(status) => return Ok(told(status, "text/html", "<h1>Sorry</h1>")),
            Mood::Silent => return std::future::pending().await,
            Mood::Says(text) => return Ok(told(200, "application/json", text)),
            Mood::Endless => return Ok(told(200, "application/json", vec![b' '; 4 << 20])),
            Mood::Well | Mood::Declined => {}
        }
    }
    Ok(match host {
        "github" | "github-api" => github::answer(&shared, &asked),
        "google" => openid::answer(&shared, "google", &asked),
        "oidc" => openid::answer(&shared, "oidc", &asked),
        "wechat" | "wechat-api" => chat::wechat(&shared, &asked),
        "wecom" | "wecom-api" => chat::wecom(&shared, &asked),
        "dingtalk" | "dingtalk-api" => chat::dingtalk(&shared, &asked),
        "company" => plain::answer(&shared, &asked),
        _ => told(404, "text/plain", "nobody"),
    })
}

fn declined(provider: &str, asked: &Asked) -> Told {
    let (back, state) = (asked.get("redirect_uri"), asked.get("state"));
    match provider {
        // The state and nothing else.
        "wechat" => sent_back(back, &[("state", state)]),
        _ => sent_back(
            back,
            &[("error", "access_denied"), ("error_description", "<b>no</b>"), ("state", state)],
        ),
    }
}

/// A browser at the sign-in page of a provider that speaks OAuth2.
fn signed_in(
    shared: &Shared,
    provider: &'static str,
    asked: &Asked,
    code_name: &str,
    more: &[(&str, &str)],
) -> Told {
    if asked.get("redirect_uri").is_empty() || asked.get("state").is_empty() {
        return error_page("redirect_uri or state is missing");
    }
    let of = |name: &str| Some(asked.get(name).to_owned()).filter(|text| !text.is_empty());
    if of("code_challenge").is_some() && asked.get("code_challenge_method") != "S256" {
        return error_page("only S256");
    }
    let mut world = shared.world();
    let person = world.people.get(provider).cloned().unwrap_or_else(|| "1001".to_owned());
    let code = world.new_code(Visit {
        provider,
        person,
        redirect_uri: asked.get("redirect_uri").to_owned(),
        challenge: of("code_challenge"),
        nonce: of("nonce"),
    });
    let mut pairs = vec![(code_name, code.as_str()), ("state", asked.get("state"))];
    pairs.extend_from_slice(more);
    sent_back(asked.get("redirect_uri"), &pairs)
}

/// What an OAuth2 token endpoint finds wrong with a code.
fn redeemed(
    world: &mut World,
    provider: &str,
    form: &HashMap<String, String>,
) -> Result<Visit, &'static str> {
    let get = |name: &str| form.get(name).map_or("", String::as_str);
    let visit = world.spend(provider, get("code")).map_err(|_| "invalid_grant")?;
    if get("redirect_uri") != visit.redirect_uri {
        return Err("redirect_uri_mismatch");
    }
    let fits = match &visit.challenge {
        Some(challenge) => s256(get("code_verifier")) == *challenge,
        None => !form.contains_key("code_verifier"),
    };
    if fits { Ok(visit) } else { Err("invalid_grant") }
}

/// What a person is called.
fn name_of(person: &str) -> String {
    format!("Person {person} 张三")
}

fn picture_of(person: &str) -> String {
    format!("https://pictures.example.com/{person}.png")
}

/// Facts that every test of a profile looks for.
pub(crate) fn about(person: &str) -> Value {
    json!({"name": name_of(person), "avatar": picture_of(person)})
}
