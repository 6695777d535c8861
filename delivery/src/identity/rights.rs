//! What the directory knows of users beside their tokens.

use std::sync::Arc;

use super::{Caller, UserCaller};
use crate::store::{Directory, StoreError};

/// Tells the directory what a valid token says of its user, once for each token in memory. Nothing
/// that was asked for depends on it, so a store that cannot write takes no read away: the next
/// request tells it again.
pub async fn note(directory: &dyn Directory, user: &UserCaller) {
    if user.noted.is_set() {
        return;
    }
    match directory.note_token(&user.inbox, user.facts()).await {
        Ok(()) => user.noted.set(),
        Err(error) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "what a token says could not be remembered"
        ),
    }
}

/// A caller with all their rights: roles that an admin added count like those of the token.
///
/// # Errors
/// [`StoreError`] where the directory cannot be asked.
pub async fn with_all_rights(
    directory: &dyn Directory,
    caller: &Caller,
) -> Result<Caller, StoreError> {
    match caller {
        Caller::User(user) if !user.is_system_admin() => {
            let record = directory.user(&user.inbox).await?;
            Ok(record.map_or_else(
                || caller.clone(),
                |record| Caller::User(Arc::new(user.with_record(&record))),
            ))
        }
        Caller::User(_) | Caller::Service(_) | Caller::Admin(_) => Ok(caller.clone()),
    }
}
