//! Work on the store that an admin asks for.

pub(super) mod docs;

use axum::{extract::State, response::Response};
use protocol::{TenantId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::Admin,
    error::ApiError,
    shape::{ID, Shape, may},
    trace::Trace,
};
use crate::{identity::AdminCaller, problems::Problems, store::InboxKey};

/// The body of a prune; left out, every inbox is meant.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Prune {
    tenant_id: Option<String>,
    user_id: Option<String>,
}

impl Payload for Prune {
    const SHAPE: Shape = Shape::Object(&[
        may("tenant_id", ID, "The user's tenant; not without `user_id`."),
        may("user_id", ID, "Whose inbox."),
    ]);
    const OPTIONAL: bool = true;
}

impl Prune {
    /// The inbox that is meant; none for all of them.
    fn inbox(self, admin: &AdminCaller) -> Result<Option<InboxKey>, ApiError> {
        let mut problems = Problems::default();
        let said =
            self.tenant_id.as_ref().and_then(|id| problems.id("tenant_id", TenantId::new(id)));
        let user = self.user_id.as_ref().and_then(|id| problems.id("user_id", UserId::new(id)));
        if said.is_some() && self.user_id.is_none() {
            problems.say("user_id", "is missing: inboxes are pruned one, or all");
        }
        let tenant = match admin.tenant() {
            None => said.unwrap_or_default(),
            Some(own) => {
                if said.is_some_and(|said| said != *own) {
                    problems.say("tenant_id", "must be your own tenant");
                }
                own.clone()
            }
        };
        if problems.0.is_empty() {
            Ok(user.map(|user| InboxKey::new(tenant, user)))
        } else {
            Err(ApiError::Invalid(problems.0))
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct Pruned {
    /// Messages that were forgotten.
    pruned: u64,
}

/// `POST /admin/maintenance/prune`
pub(super) async fn prune(
    State(state): State<ApiState>,
    Admin(admin): Admin,
    trace: Trace,
    answer: Answer,
    Decoded(body): Decoded<Prune>,
) -> Result<Response, ApiError> {
    let store = &state.0.store;
    let pruned = match body.inbox(&admin)? {
        Some(inbox) => {
            trace.of_tenant(&inbox.tenant);
            store.prune(&inbox, state.0.keeping.of(&inbox.tenant)).await?
        }
        // Of all tenants.
        None if admin.tenant().is_some() => return Err(ApiError::TokenOnly),
        None => store.prune_all().await?,
    };
    trace.after(Pruned { pruned });
    Ok(answer.success(&Pruned { pruned }))
}
