//! What waits for a disk or a database does so on a thread that may.

use std::sync::Arc;

use super::{ApiState, error::ApiError};
use crate::control::{Control, ControlError};

/// Does something on such a thread.
///
/// # Errors
/// Its own; [`ApiError::Panicked`].
pub(super) async fn aside<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(ApiError::Panicked),
    }
}

/// Asks the control data there.
///
/// # Errors
/// Those of the control data; [`ApiError::Panicked`].
pub(super) async fn blocking<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce(&Control) -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ApiError> {
    let control = Arc::clone(&state.0.control);
    aside(move || work(&control)).await
}
