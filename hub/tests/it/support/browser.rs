//! A person's browser: keeps cookies, and goes where it is sent.

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;
use url::Url;

use super::{Answer, Api, TestServer, providers::ADMIN_PORT};

/// What browsers ask for when a person follows a link.
pub(crate) const NAVIGATING: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

/// One browser. Only the hub's cookies matter.
#[derive(Clone)]
pub(crate) struct Browser {
    api: Api,
    http: reqwest::Client,
    base: String,
    /// By what providers know the hub.
    known_as: String,
    pub(crate) cookies: Vec<(String, String)>,
}

/// A login that was begun.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) auth_url: String,
    pub(crate) state: String,
}

impl Browser {
    pub(crate) fn new(server: &TestServer) -> Self {
        let base = format!("http://{}", server.user);
        let known_as = base.clone();
        Self { api: server.api(), http: Api::http(), base, known_as, cookies: vec![] }
    }

    /// At the admin port.
    pub(crate) fn at_admin(server: &TestServer) -> Self {
        let (api, base) = (server.admin_port(), format!("http://{}", server.admin));
        Self { api, base, known_as: ADMIN_PORT.to_owned(), ..Self::new(server) }
    }

    /// The same browser with other cookies.
    pub(crate) fn with_cookies(self, cookies: Vec<(String, String)>) -> Self {
        Self { cookies, ..self }
    }

    /// The same browser, its user logged in.
    pub(crate) fn bearer(&self, token: &str) -> Self {
        Self { api: self.api.clone().bearer(token), ..self.clone() }
    }

    /// A request to the hub by a program in the browser.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let api = match cookies.is_empty() {
            true => self.api.clone(),
            false => self.api.clone().header("Cookie", &cookies.join("; ")),
        };
        let answer = api.call(method, path, body).await;
        self.keep(&answer.headers);
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    fn keep(&mut self, headers: &HeaderMap) {
        for line in headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Begins a login; `query` may be empty.
    pub(crate) async fn begin(&mut self, provider: &str, query: &str) -> Begun {
        let data = self.get(&format!("/api/v3/auth/{provider}/login?{query}")).await.ok();
        let text = |name: &str| data[name].as_str().expect(name).to_owned();
        Begun { auth_url: text("auth_url"), state: text("state") }
    }

    /// Signs in at the provider; where it sends the browser back to, as path and query.
    pub(crate) async fn sign_in(&self, auth_url: &str) -> String {
        let response = self.http.get(auth_url).send().await.unwrap();
        let status = response.status();
        let Some(location) = response.headers().get("location") else {
            panic!("{auth_url}: {status}: {}", response.text().await.unwrap());
        };
        let location = location.to_str().unwrap();
        let back = location.strip_prefix(&self.known_as);
        back.unwrap_or_else(|| panic!("the browser is sent to {location}")).to_owned()
    }

    /// All the way, as a program: what the callback answers.
    pub(crate) async fn log_in(&mut self, provider: &str, query: &str) -> Answer {
        let begun = self.begin(provider, query).await;
        let back = self.sign_in(&begun.auth_url).await;
        self.get(&back).await
    }

    /// As [`Browser::log_in`], for an app: what it is told.
    pub(crate) async fn log_in_app(&mut self, provider: &str, query: &str) -> Returned {
        Returned::of(&self.log_in(provider, query).await)
    }

    /// As a person follows a link: the answer without its body parsed.
    pub(crate) async fn navigate(&mut self, path: &str) -> Page {
        let mut request =
            self.http.get(format!("{}{path}", self.base)).header("Accept", NAVIGATING);
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header("Cookie", cookies.join("; "));
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        self.keep(&headers);
        Page { status, headers, text: response.text().await.unwrap() }
    }
}

/// What a person sees.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What an app is told where a login leads back to it.
#[derive(Clone, Debug)]
pub(crate) struct Returned {
    /// The address without its query.
    pub(crate) to: String,
    pairs: Vec<(String, String)>,
}

impl Returned {
    pub(crate) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 302, "{}", answer.body);
        let mut url = Url::parse(answer.header("location")).unwrap();
        let pairs = url.query_pairs().into_owned().collect();
        url.set_query(None);
        Self { to: url.into(), pairs }
    }

    /// A parameter; nothing where it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}
