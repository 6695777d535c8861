//! The served description, and whether an answer is what it says.
//!
//! Every answer that a test gets through [`super::Api`] is compared with it, so that the description
//! cannot say what is not so without many tests failing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jsonschema::Validator;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{TestServer, api::Port};

/// The description of a port.
pub(crate) struct Document {
    pub(crate) whole: Value,
    validators: Mutex<HashMap<(String, u16), Arc<Validator>>>,
}

/// An operation as the document has it.
#[derive(Clone, Copy)]
pub(crate) struct Described<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) value: &'a Value,
}

impl Described<'_> {
    /// Its name.
    pub(crate) fn id(&self) -> String {
        self.value["operationId"].as_str().expect("operationId").to_owned()
    }
}

impl Document {
    pub(crate) fn new(whole: Value) -> Self {
        Self { whole, validators: Mutex::default() }
    }

    /// Every operation.
    pub(crate) fn operations(&self) -> Vec<Described<'_>> {
        let paths = self.whole["paths"].as_object().expect("paths");
        paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods.iter().map(move |(method, value)| Described { method, path, value })
            })
            .collect()
    }

    /// The operation that answers a request; none where the path is not there, or not with this
    /// method. A part that is written out wins over one in braces, as in the router.
    fn find(&self, method: &Method, path: &str) -> Option<Described<'_>> {
        let path = path.split('?').next().unwrap_or_default();
        let method = method.as_str().to_ascii_lowercase();
        let mut found: Vec<_> =
            self.operations().into_iter().filter(|operation| fits(operation.path, path)).collect();
        found.sort_by_key(|operation| operation.path.matches('{').count());
        let exact = found.first()?.path;
        found.into_iter().find(|operation| operation.path == exact && operation.method == method)
    }

    /// Fails where an answer is not what is described.
    pub(crate) fn check(
        &self,
        method: &Method,
        path: &str,
        status: u16,
        headers: &HeaderMap,
        body: &Value,
    ) {
        let Some(Described { value, .. }) = self.find(method, path) else { return };
        let what = format!("{method} {path}: {status}: {body}");
        let responses = &value["responses"];
        let response = &responses[status.to_string()];
        assert!(response.is_object(), "{what}: not described, only {responses}");
        let response = self.resolve(response);
        let media = headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        let media = media.split(';').next().unwrap_or_default();
        let Some(content) = response.get("content") else {
            return assert!(media.is_empty(), "{what}: {media} is not described");
        };
        assert!(content.get(media).is_some(), "{what}: {media:?} is not described");
        if media != "application/json" {
            return;
        }
        let id = value["operationId"].as_str().expect("operationId").to_owned();
        let validator = self.validator(&id, status, &content[media]["schema"]);
        let found: Vec<String> = validator
            .iter_errors(body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(found.is_empty(), "{what}: {found:#?}");
    }

    fn validator(&self, id: &str, status: u16, schema: &Value) -> Arc<Validator> {
        let key = (id.to_owned(), status);
        if let Some(known) = self.validators.lock().unwrap().get(&key) {
            return Arc::clone(known);
        }
        let mut schema = schema.clone();
        let mut schemas = self.whole["components"]["schemas"].clone();
        // Closed, so that a field that is not described is a failure.
        protocol::schema::close(&mut schema);
        schemas.as_object_mut().unwrap().values_mut().for_each(protocol::schema::close);
        schema["components"] = json!({ "schemas": schemas });
        let made = Arc::new(jsonschema::draft202012::new(&schema).unwrap());
        self.validators.lock().unwrap().insert(key, Arc::clone(&made));
        made
    }

    /// What a reference leads to.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(target) => self.whole.pointer(&target[1..]).expect("a reference leads somewhere"),
            None => value,
        }
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (mut of_template, mut of_path) = (template.split('/'), path.split('/'));
    loop {
        match (of_template.next(), of_path.next()) {
            (None, None) => return true,
            (Some(named), Some(part)) if named.starts_with('{') && !part.is_empty() => {}
            (Some(same), Some(part)) if same == part => {}
            _ => return false,
        }
    }
}

/// The descriptions of both ports.
pub(crate) struct Documents {
    pub(crate) user: Document,
    pub(crate) admin: Document,
}

static DOCUMENTS: OnceCell<Documents> = OnceCell::const_new();

impl Documents {
    /// What answers are held against, once it was learned.
    pub(crate) fn get() -> Option<&'static Self> {
        DOCUMENTS.get()
    }

    /// Asks a server of its own: all servers of a test run are of one build, and what others count
    /// must not depend on who was first.
    pub(crate) async fn learn() -> &'static Self {
        DOCUMENTS
            .get_or_init(async || {
                let server = TestServer::builder().start_unlearned().await;
                let path = "/api/v3/openapi.json";
                let user = server.api().get(path).await.body;
                let admin = server.as_admin().get(path).await.body;
                Self { user: Document::new(user), admin: Document::new(admin) }
            })
            .await
    }

    /// The one of a port.
    pub(crate) fn of(&self, port: Port) -> &Document {
        match port {
            Port::User => &self.user,
            Port::Admin => &self.admin,
        }
    }
}

/// Which port serves a path.
pub(crate) fn port_of(path: &str) -> Port {
    let of_admin = ["/api/v3/admin", "/health", "/metrics"];
    if of_admin.iter().any(|begin| path.starts_with(begin)) { Port::Admin } else { Port::User }
}
