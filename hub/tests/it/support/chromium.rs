//! A real browser with one page in it, driven by its DevTools protocol.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;

use super::{SOON, eventually_within};

/// A page of a browser of its own, which ends with it.
pub(crate) struct Tab {
    child: Child,
    _profile: TempDir,
    socket: WebSocketStream<TcpStream>,
    session: String,
    asked: u64,
    /// What went wrong in the page: errors, exceptions, refusals by its policy, requests to elsewhere.
    troubles: Vec<String>,
    origin: String,
}

/// Keys by name; what they are to a page.
const KEYS: &[(&str, u32, &str)] = &[
    ("Tab", 9, ""),
    ("Enter", 13, "\r"),
    ("Escape", 27, ""),
    ("ArrowDown", 40, ""),
    ("ArrowUp", 38, ""),
    (" ", 32, " "),
];

impl Tab {
    /// Starts a browser that reaches this machine only.
    pub(crate) async fn start(width: u32, height: u32) -> Self {
        Self::start_knowing(width, height, "").await
    }

    /// As [`Tab::start`], and what is called `host` is at this address.
    pub(crate) async fn start_where(width: u32, height: u32, host: &str, at: SocketAddr) -> Self {
        Self::start_knowing(width, height, &format!("MAP {host} {at}, ")).await
    }

    async fn start_knowing(width: u32, height: u32, hosts: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let said = profile.path().join("said");
        let child = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--remote-debugging-port=0", "--lang=en"])
            // What is asked for by `http` is not tried with TLS first.
            .arg("--disable-features=HttpsUpgrades")
            .arg(format!("--host-resolver-rules={hosts}MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said).unwrap())
            .spawn()
            .expect("chromium: scripts/tools.sh installs it");
        let address = eventually_within("the browser listens", SOON * 2, || {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("DevTools listening on "));
            let address = line.map(str::to_owned);
            async move { address }
        })
        .await;
        let host = address.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(host).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(&address, stream).await.unwrap();
        let mut tab = Self {
            child,
            _profile: profile,
            socket,
            session: String::new(),
            asked: 0,
            troubles: vec![],
            origin: String::new(),
        };
        let made = tab.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let target = json!({"targetId": made["targetId"], "flatten": true});
        let attached = tab.call("Target.attachToTarget", target).await;
        tab.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        tab.resize(width, height).await;
        tab
    }

    /// Asks the browser for something and waits for its answer.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.asked += 1;
        let id = self.asked;
        let mut question = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            question["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(question.to_string())).await.unwrap();
        loop {
            let next = tokio::time::timeout(SOON * 4, self.socket.next()).await;
            let message = next.unwrap_or_else(|_| panic!("{method}: no answer")).unwrap().unwrap();
            let Ok(text) = message.to_text() else { continue };
            let Ok(said) = serde_json::from_str::<Value>(text) else { continue };
            if said["id"] == id {
                return match said.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(said["result"].clone()),
                };
            }
            self.notice(&said);
        }
    }

    fn notice(&mut self, said: &Value) {
        let params = &said["params"];
        let trouble = match said["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => params["exceptionDetails"].to_string(),
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                format!("{} {}", params["entry"]["text"], params["entry"]["url"])
            }
            "Runtime.consoleAPICalled" if params["type"] == "error" => params["args"].to_string(),
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                let own = ["data:", "about:", self.origin.as_str()];
                if own.into_iter().any(|own| !own.is_empty() && url.starts_with(own)) {
                    return;
                }
                format!("it asks {url}")
            }
            _ => return,
        };
        self.troubles.push(trouble);
    }

    /// What went wrong so far, without what was expected.
    pub(crate) fn troubles(&mut self, expected: &[&str]) -> Vec<String> {
        let mut all = std::mem::take(&mut self.troubles);
        all.retain(|trouble| !expected.iter().any(|known| trouble.contains(known)));
        all
    }

    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Goes to an address and waits until it is loaded.
    pub(crate) async fn open(&mut self, url: &str) {
        url.parse::<url::Url>()
            .unwrap()
            .origin()
            .ascii_serialization()
            .clone_into(&mut self.origin);
        self.call("Page.navigate", json!({"url": url})).await;
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    /// What came of an expression; nothing where its page was left meanwhile, as by a reload that it asks for.
    async fn evaluate(&mut self, question: Value) -> Value {
        match self.ask("Runtime.evaluate", question).await {
            Ok(answer) => answer,
            Err(error) if error["message"] == "Inspected target navigated or closed" => Value::Null,
            Err(error) => panic!("Runtime.evaluate: {error}"),
        }
    }

    /// The value of an expression, which may be a promise.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let question = json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let answer = self.evaluate(question).await;
        let failed = &answer["exceptionDetails"];
        assert!(failed.is_null(), "{expression}: {failed}");
        answer["result"]["value"].clone()
    }

    /// Waits until it is true in the page; answers what it was.
    pub(crate) async fn until(&mut self, expression: &str) -> Value {
        let began = Instant::now();
        loop {
            // While a page is being left there is nothing to ask.
            let question =
                json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
            let value = self.evaluate(question).await["result"]["value"].clone();
            if !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0 {
                return value;
            }
            if began.elapsed() > SOON * 2 {
                let text = self.eval("document.body.innerText").await;
                panic!("never so: {expression}\n{text}\n{:?}", self.troubles);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Clicks the first of `selector` that shows this text, once it is there.
    pub(crate) async fn click(&mut self, selector: &str, text: &str) {
        let found = format!(
            "[...document.querySelectorAll({selector:?})].find((one) => !one.disabled && \
             (one.innerText.trim() === {text:?} || one.getAttribute('aria-label') === {text:?}))"
        );
        self.until(&format!("{found} !== undefined")).await;
        self.eval(&format!("{found}.click()")).await;
    }

    /// Writes into the field of this name, as a person would, over what was there.
    pub(crate) async fn fill(&mut self, name: &str, text: &str) {
        let field = format!(
            "(document.querySelector('dialog[open] [name={name:?}]') ?? document.querySelector('[name={name:?}]'))"
        );
        self.until(&format!("{field} !== null")).await;
        self.eval(&format!("{field}.focus(), {field}.select?.()")).await;
        self.write(text).await;
    }

    /// Writes where the focus is.
    pub(crate) async fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Presses a key, by name or by what it writes; `modifiers` as the protocol counts them (2: Ctrl, 8: Shift).
    pub(crate) async fn press(&mut self, key: &str, modifiers: u32) {
        let known = KEYS.iter().find(|(name, ..)| *name == key);
        let code = known
            .map_or_else(|| u32::from(key.as_bytes()[0].to_ascii_uppercase()), |known| known.1);
        let text = known.map_or(key, |known| known.2);
        let written = if modifiers & 2 == 0 { text } else { "" };
        let mut down = json!({"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers});
        if !written.is_empty() {
            down["text"] = json!(written);
        }
        self.call("Input.dispatchKeyEvent", down).await;
        let up = json!({"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers});
        self.call("Input.dispatchKeyEvent", up).await;
    }

    /// A picture of the page, into a folder that is there only where somebody wants to look.
    pub(crate) async fn picture(&mut self, name: &str) {
        let Ok(folder) = std::env::var("CONSOLE_PICTURES") else { return };
        let shot = self
            .call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}))
            .await;
        let bytes = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            shot["data"].as_str().unwrap(),
        );
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes.unwrap()).unwrap();
    }

    /// As [`Tab::picture`], wide and narrow, light and dark.
    pub(crate) async fn pictures(&mut self, name: &str) {
        if std::env::var_os("CONSOLE_PICTURES").is_none() {
            return;
        }
        for scheme in ["dark", "light"] {
            let features = json!([{"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"}]);
            self.call("Emulation.setEmulatedMedia", json!({"features": features})).await;
            for (width, height) in [(390, 844), (1280, 900)] {
                self.resize(width, height).await;
                self.picture(&format!("{name}-{width}-{scheme}")).await;
            }
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
