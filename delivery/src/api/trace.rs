//! What a request by an admin leaves in the audit log.
//!
//! [`super::observe`] gives each request that may change something a [`Trace`], on the port of admins; the
//! extractor [`super::caller::Admin`] says who it is, and the handler what was before and after. So an endpoint
//! that forgets to say more still leaves its entry.

use std::{collections::HashMap, convert::Infallible, net::IpAddr, sync::Arc};

use axum::extract::{FromRequestParts, Request};
use http::{Method, StatusCode, request::Parts};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use protocol::{TenantId, Time};
use serde::Serialize;
use serde_json::Value;

use super::{
    caller::{LETTERS, LOOKS},
    doc::{Endpoint, Part},
};
use crate::{
    audit::{Actor, ActorKind, NewEntry, detail, made_up},
    identity::AdminCaller,
};

/// What paths of admins begin with.
const BELOW: &str = "/api/v3/admin/";

/// Most bytes of a request's path that are kept; ids in a path have no more together.
const TARGET_BYTES_MAX: usize = 1_024;

/// The ids of the operations that leave a trace.
pub(crate) struct Actions(HashMap<(Method, &'static str), String>);

impl Actions {
    /// All that change something, and what reads [`LETTERS`]: whose letters an admin has read is known.
    pub(crate) fn new<S>(endpoints: &[Endpoint<S>]) -> Self {
        let all = endpoints.iter().map(|endpoint| &endpoint.operation);
        let leaving = all.filter(|operation| {
            LETTERS.contains(&operation.path)
                || operation.method != Method::GET && operation.path != LOOKS
        });
        let actions = leaving
            .map(|operation| ((operation.method.clone(), operation.path), operation.id.clone()));
        Self(actions.collect())
    }

    /// The trace of a request, where it leaves one.
    pub(crate) fn trace(&self, request: &Request, route: Option<&str>) -> Trace {
        let below = route.filter(|route| route.starts_with(BELOW));
        let action = below.and_then(|route| self.0.get(&(request.method().clone(), route)));
        let Some(action) = action else { return Trace(None) };
        let path = request.uri().path();
        let path = path.strip_prefix(BELOW).unwrap_or(path);
        let path = percent_decode_str(path).decode_utf8_lossy().replace('\0', "");
        let target = path[..path.floor_char_boundary(TARGET_BYTES_MAX)].to_owned();
        let draft = Draft { action: action.clone(), target, ..Draft::default() };
        Trace(Some(Arc::new(Mutex::new(draft))))
    }
}

#[derive(Default)]
struct Draft {
    action: String,
    target: String,
    by: Option<AdminCaller>,
    tenant: Option<TenantId>,
    before: Value,
    after: Value,
}

/// Of one request; its clones share what they know. Says nothing where the request leaves no entry: handlers
/// of both ports need not ask.
#[derive(Clone)]
pub(crate) struct Trace(Option<Arc<Mutex<Draft>>>);

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

impl Part for Trace {}

/// As it is shown to admins, so that no secret is in it.
fn shown(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl Trace {
    /// The one of a request.
    pub(crate) fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or(Self(None))
    }

    /// Whether it leaves an entry.
    pub(crate) const fn leaves_one(&self) -> bool {
        self.0.is_some()
    }

    /// Who it is.
    pub(crate) fn by(&self, admin: &AdminCaller) {
        self.say(|draft| draft.by = Some(admin.clone()));
    }

    /// Whose it is that changes.
    pub(crate) fn of_tenant(&self, tenant: &TenantId) {
        self.say(|draft| draft.tenant = Some(tenant.clone()));
    }

    /// What it was.
    pub(crate) fn before(&self, value: impl Serialize) {
        self.say(|draft| draft.before = shown(value));
    }

    /// What it is now.
    pub(crate) fn after(&self, value: impl Serialize) {
        self.say(|draft| draft.after = shown(value));
    }

    fn say(&self, what: impl FnOnce(&mut Draft)) {
        if let Some(draft) = &self.0 {
            what(&mut draft.lock());
        }
    }

    /// The entry, once the answer is known. None where nobody is known who asked, and for what was refused for
    /// another reason than who asked: nothing was changed.
    pub(crate) fn entry(
        &self,
        at: Time,
        address: IpAddr,
        request_id: &str,
        status: StatusCode,
    ) -> Option<NewEntry> {
        let mut draft = self.0.as_ref()?.lock();
        if status.is_client_error() && status != StatusCode::FORBIDDEN {
            return None;
        }
        let by = draft.by.take()?;
        let (before, after) = (draft.before.take(), draft.after.take());
        let told = [&after, &before].into_iter().find_map(|value| value["tenant_id"].as_str());
        let told = told.and_then(|tenant| TenantId::new(tenant).ok());
        let tenant = draft.tenant.take().or(told).or_else(|| by.tenant().cloned());
        let done = status.is_success();
        Some(NewEntry {
            id: made_up(),
            at,
            tenant,
            actor: actor(&by),
            address: address.to_string(),
            request_id: request_id.to_owned(),
            action: std::mem::take(&mut draft.action),
            target: std::mem::take(&mut draft.target),
            status: status.as_u16(),
            // What was refused has no after.
            detail: if done { detail(before, after) } else { None },
        })
    }
}

/// Who it is, as the log names them.
pub(crate) fn actor(by: &AdminCaller) -> Actor {
    let (kind, id) = match by {
        AdminCaller::Token => (ActorKind::AdminToken, ""),
        AdminCaller::User(user) => (ActorKind::User, user.user().as_str()),
        AdminCaller::Account(admin) => (ActorKind::Admin, &*admin.account.id),
        AdminCaller::Within(admin, _) => return actor(admin),
    };
    Actor { kind, id: id.to_owned(), name: by.name().to_owned() }
}
