//! Those who make the requests of examples, on a server of their own.

use delivery::api::doc::{TOMORROW, TOTP_NOW, TOTP_SECRET};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Api, TestClient, TestServer, Token, admins,
    api::Port,
    browser::Browser,
    document::{Described, port_of},
    providers::{Fakes, Forge},
    server::ADMIN_TOKEN,
};

/// Where a request before an example opens a socket.
const SOCKET: &str = "/ws";

/// Where a login of a user begins and ends, of which the other half is at a provider.
const LOGINS: &str = "/api/v3/auth/";
const LOGIN: &str = "/login";
const ADMIN_LOGIN: &str = "/api/v3/admin/login/oidc";

/// The code of an admin who is let in, in the place of the provider's.
const LOGIN_CODE: &str = "login_code";

/// The user of examples.
pub(super) const USER: &str = "user123";

/// An example, as the document has it.
pub(super) struct Example<'a>(pub(super) &'a Value);

/// A server with the callers of examples.
pub(super) struct Stage {
    pub(super) server: TestServer,
    /// Made when an example first needs it: lists of services show it.
    service: Option<String>,
    /// The session of an admin, made as late.
    signed_in: Option<String>,
    /// What the requests before an example have made: as the example writes it, and as it really is.
    pub(super) kept: Vec<(String, String)>,
    /// Sockets that were opened before an example.
    sockets: Vec<TestClient>,
    /// Where the users of examples sign in.
    _fakes: Fakes,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let fakes = Fakes::start().await;
        let roles = [("ADMIN_OIDC_ROLE_CLAIM", "groups"), ("ADMIN_OIDC_ROLES", "ops=operator")];
        fakes.forge(Forge::Claims(json!({"groups": ["ops"]})));
        let server = TestServer::builder()
            .envs(fakes.env())
            .envs(fakes.admin_env())
            .envs(roles.map(|(name, value)| (name, value.to_owned())).to_vec())
            .start()
            .await;
        Self {
            server,
            service: None,
            signed_in: None,
            kept: vec![],
            sockets: vec![],
            _fakes: fakes,
        }
    }

    /// The user of examples, to be bent.
    pub(super) fn user() -> Token {
        Token::of(USER).device("device-789")
    }

    /// The system's admin among users.
    pub(super) fn root() -> Token {
        Token::of("root").claim("roles", json!(["system_admin"]))
    }

    /// `Authorization` of a caller of examples.
    pub(super) async fn credentials(&mut self, by: &str) -> String {
        match by {
            "nobody" => String::new(),
            "user" => format!("Bearer {}", Self::user().sign()),
            "root" => format!("Bearer {}", Self::root().sign()),
            "admin" => format!("Bearer {ADMIN_TOKEN}"),
            "signed_in" => match &self.signed_in {
                Some(known) => known.clone(),
                None => {
                    let admin = self.server.sign_in("lin", "operator", None).await;
                    self.signed_in.insert(format!("Bearer {}", admin.token)).clone()
                }
            },
            "service" => match &self.service {
                Some(known) => known.clone(),
                None => {
                    let service = json!({"id": "netdrive", "name": "企业网盘", "level": "system",
                        "permissions": ["on_behalf_of"]});
                    let made = self.service(service).await;
                    self.service.insert(made).clone()
                }
            },
            other => panic!("{other} is nobody"),
        }
    }

    /// Registers a service and gives its `Authorization`.
    pub(super) async fn service(&self, service: Value) -> String {
        let made = self.server.create_service(service).await.ok();
        format!("Service {}", made["api_key"].as_str().expect("data.api_key"))
    }

    /// Nobody at a port.
    fn at(&self, port: Port) -> Api {
        match port {
            Port::User => self.server.api(),
            Port::Admin => self.server.as_admin().without_credentials(),
        }
    }

    /// A caller at the port of a path.
    pub(super) fn api(&self, path: &str, credentials: &str) -> Api {
        let api = self.at(port_of(path));
        if credentials.is_empty() { api } else { api.authorization(credentials) }
    }

    /// Makes the requests that an example needs made before.
    pub(super) async fn prepare(&mut self, example: &Example<'_>) {
        self.kept.clear();
        for given in example.0["given"].as_array().expect("given") {
            let text = |name: &str| given[name].as_str().expect("a text").to_owned();
            let credentials = self.credentials(&text("by")).await;
            let path = self.real(&text("path"));
            if path == SOCKET {
                self.open_socket(given).await;
                continue;
            }
            let bare = path.split('?').next().unwrap_or_default();
            if bare == ADMIN_LOGIN || (bare.starts_with(LOGINS) && bare.ends_with(LOGIN)) {
                self.sign_in(&path, given).await;
                continue;
            }
            let method = Method::from_bytes(text("method").as_bytes()).unwrap();
            let body = given["body"].as_str();
            let body = body.map(|body| serde_json::from_str(&self.real(body)).unwrap());
            let answer = self.api(&path, &credentials).call(method, &path, body).await;
            answer.data();
            for (written, pointer) in given["keep"].as_object().expect("keep") {
                let real = answer.body.pointer(pointer.as_str().unwrap());
                let real = real.and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}"));
                self.kept.push((written.clone(), real.to_owned()));
            }
        }
    }

    /// Opens a socket as the user of examples, until the stage ends; its `welcome` is the answer.
    async fn open_socket(&mut self, given: &Value) {
        assert_eq!(given["by"], "user", "sockets are a user's");
        let socket = self.server.socket(USER).token(Self::user()).query("device_type", "mobile");
        let mut socket = socket.since(0).connect().await;
        // It is live then: examples show it as it mostly is.
        socket.backlog().await;
        let welcome = serde_json::to_value(&socket.welcome).unwrap();
        let answer = json!({ "data": welcome });
        for (written, pointer) in given["keep"].as_object().expect("keep") {
            let real = answer.pointer(pointer.as_str().unwrap()).and_then(Value::as_str);
            self.kept.push((written.clone(), real.expect("a text of the welcome").to_owned()));
        }
        self.sockets.push(socket);
    }

    /// Goes through a login as a browser does: to its end where there is an app, whose code is kept, else
    /// until the provider sends the browser back.
    async fn sign_in(&mut self, path: &str, given: &Value) {
        let of_admin = path == ADMIN_LOGIN;
        let mut browser = match of_admin {
            true => Browser::at_admin(&self.server),
            false => Browser::new(&self.server),
        };
        let auth_url = browser.get(path).await.ok()["auth_url"].as_str().unwrap().to_owned();
        let mut url = format!("http://hub{}", browser.sign_in(&auth_url).await);
        if path.contains("redirect_uri") {
            let back = url.strip_prefix("http://hub").unwrap();
            browser.get(back).await.header("location").clone_into(&mut url);
        }
        let url = url::Url::parse(&url).unwrap();
        let mut answer: serde_json::Map<String, Value> =
            url.query_pairs().map(|(name, value)| (name.into_owned(), json!(value))).collect();
        let (_, secret) = browser.cookies.first().expect("a cookie");
        answer.insert("browser".to_owned(), json!(secret));
        let keep = given["keep"].as_object().expect("keep");
        if of_admin && keep.values().any(|pointer| *pointer == json!(format!("/data/{LOGIN_CODE}")))
        {
            let back = url.as_str().strip_prefix("http://hub").unwrap();
            let code = browser.get(back).await.ok()["code"].clone();
            answer.insert(LOGIN_CODE.to_owned(), code);
        }
        let answer = json!({ "data": answer });
        for (written, pointer) in keep {
            let real = answer.pointer(pointer.as_str().unwrap()).and_then(Value::as_str);
            self.kept.push((written.clone(), real.expect("a text of the answer").to_owned()));
        }
    }

    /// With what is really there in the place of what is written.
    fn real(&self, text: &str) -> String {
        let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
        let mut text = text.replace(TOMORROW, &format!("{tomorrow:.3}"));
        let secret = self.kept.iter().find(|(written, _)| written == TOTP_SECRET);
        if let Some((_, secret)) = secret {
            text = text.replace(TOTP_NOW, &admins::code(secret, 0));
        }
        self.kept.iter().fold(text, |text, (written, real)| text.replace(written, real))
    }

    /// The path and query of an example.
    pub(super) fn path(&self, operation: &Described<'_>, example: &Example<'_>) -> String {
        let mut path = operation.path.to_owned();
        for (name, value) in example.0["path"].as_object().expect("path") {
            path = path.replace(&format!("{{{name}}}"), value.as_str().unwrap());
        }
        match example.0["query"].as_str().expect("query") {
            "" => self.real(&path),
            query => self.real(&format!("{path}?{query}")),
        }
    }

    /// The body of an example.
    pub(super) fn body(&self, example: &Example<'_>) -> Option<Value> {
        let body = example.0["body"].as_str()?;
        Some(serde_json::from_str(&self.real(body)).unwrap())
    }

    /// Makes the request of an example as somebody, at the port it is described at.
    pub(super) async fn call(
        &self,
        operation: &Described<'_>,
        port: Port,
        example: &Example<'_>,
        credentials: &str,
    ) -> Answer {
        let path = self.path(operation, example);
        let mut api = self.at(port);
        if !credentials.is_empty() {
            api = api.authorization(credentials);
        }
        for (name, value) in example.0["headers"].as_object().expect("headers") {
            api = api.header(name, &self.real(value.as_str().unwrap()));
        }
        if is_stream(operation) {
            return api.head_of(&path).await;
        }
        let method = Method::from_bytes(operation.method.to_ascii_uppercase().as_bytes()).unwrap();
        api.call(method, &path, self.body(example)).await
    }
}

/// Whether its answer does not end.
pub(super) fn is_stream(operation: &Described<'_>) -> bool {
    operation.value["responses"]["200"]["content"].get("text/event-stream").is_some()
}
