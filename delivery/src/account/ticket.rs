//! Tickets: a socket opened without a token in its URL (contract §6).

use std::{sync::Arc, time::Duration};

use protocol::{DeviceId, TenantId, Time, UserId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{AccountError, Accounts, OnceKind, random_secret};
use crate::{
    InboxKey,
    identity::{AuthError, UserCaller, signing::KeyMark},
};

/// How long a ticket can be used.
pub const TICKET_LIFE: Duration = Duration::from_secs(30);

/// What every ticket begins with, so that secret scanners find one that leaked.
const PREFIX: &str = "pht_";

/// Longest text that is looked up as a ticket, in bytes.
const TICKET_BYTES_MAX: usize = 64;

/// Opens one socket, once.
pub struct Ticket {
    /// For `?ticket=`.
    pub ticket: SecretString,
    /// How long it can be used.
    pub life: Duration,
}

/// What the socket's token would have said.
#[derive(Serialize, Deserialize)]
struct Carried {
    tenant: TenantId,
    user: UserId,
    device: Option<DeviceId>,
    session: Option<String>,
    token_id: Option<String>,
    #[serde(default)]
    signed_by: Option<KeyMark>,
    username: String,
    email: String,
    roles: Vec<String>,
    department: Option<String>,
    scope: Vec<String>,
    issued_at: Time,
    expires_at: Time,
}

impl Accounts {
    /// Makes a ticket for whoever shows this token. The socket lives as long as the token.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn ticket(self: &Arc<Self>, caller: &UserCaller) -> Result<Ticket, AccountError> {
        let carried = Carried {
            tenant: caller.inbox.tenant.clone(),
            user: caller.inbox.user.clone(),
            device: caller.device.clone(),
            session: caller.session.clone(),
            token_id: caller.token_id.clone(),
            signed_by: caller.signed_by,
            username: caller.username.clone(),
            email: caller.email.clone(),
            roles: caller.roles.clone(),
            department: caller.department.clone(),
            scope: caller.scope.clone(),
            issued_at: caller.issued_at,
            expires_at: caller.expires_at,
        };
        let ticket = random_secret(PREFIX);
        self.keep_once(OnceKind::Ticket, &ticket, &carried, TICKET_LIFE).await?;
        Ok(Ticket { ticket: ticket.into(), life: TICKET_LIFE })
    }

    /// Whose a ticket is, for the first who comes with it.
    ///
    /// # Errors
    /// [`AuthError::BadTicket`], [`AuthError::Expired`] where the token behind it has ended,
    /// [`AuthError::Revoked`], [`AuthError::UserDisabled`]; [`AuthError::Unavailable`] when the
    /// database cannot be asked.
    pub async fn redeem(self: &Arc<Self>, ticket: &str) -> Result<UserCaller, AuthError> {
        if !ticket.starts_with(PREFIX) || ticket.len() > TICKET_BYTES_MAX {
            return Err(AuthError::BadTicket);
        }
        let taken = self.take_once::<Carried>(OnceKind::Ticket, ticket).await;
        let carried = taken.map_err(|error| match error {
            AccountError::Control(error) => AuthError::Unavailable(Box::new(error)),
            _ => AuthError::BadTicket,
        })?;
        let Some(carried) = carried else { return Err(AuthError::BadTicket) };
        let inbox = InboxKey::new(carried.tenant, carried.user);
        let caller = UserCaller {
            device: carried.device,
            session: carried.session,
            token_id: carried.token_id,
            signed_by: carried.signed_by,
            username: carried.username,
            email: carried.email,
            roles: carried.roles,
            department: carried.department,
            scope: carried.scope,
            issued_at: carried.issued_at,
            ..UserCaller::new(inbox, carried.expires_at)
        };
        if caller.expires_at <= self.now() {
            return Err(AuthError::Expired);
        }
        self.identity.check_login(&caller)?;
        Ok(caller)
    }
}
