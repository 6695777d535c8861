//! Who is asking.
//!
//! A request comes from a user (JWT), a service (API key) or an admin; the answer is a [`Caller`],
//! which handlers take as an argument, so that none can forget to ask.

use protocol::{DeviceId, TenantId, Time, UserId};

use crate::InboxKey;

/// A user, as a valid token says.
#[derive(Clone, Debug)]
pub struct UserCaller {
    /// Whose inbox.
    pub inbox: InboxKey,
    /// The device, where the token names one.
    pub device: Option<DeviceId>,
    /// The login, where the token names one.
    pub session: Option<String>,
    /// What to show as the sender's name.
    pub username: String,
    /// Names the user carries, such as `system_admin`.
    pub roles: Vec<String>,
    /// When the token ends.
    pub expires_at: Time,
}

impl UserCaller {
    /// The user's id.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.inbox.user
    }

    /// The user's tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.inbox.tenant
    }
}
