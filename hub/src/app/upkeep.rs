//! What other nodes say that concerns the store.

use std::sync::Arc;

use delivery::store::postgres::PostgresStore;
use protocol::{TenantId, envelope::Revoked};

use crate::live::Upkeep;

/// Hands it to this node's part of the store.
pub(super) struct FromOthers {
    store: Arc<PostgresStore>,
}

impl FromOthers {
    pub(super) const fn new(store: Arc<PostgresStore>) -> Self {
        Self { store }
    }
}

impl Upkeep for FromOthers {
    fn group(&self, tenant: &TenantId, pos: u64) {
        self.store.catch_up(tenant, pos);
    }

    /// Nothing is kept here that could go on being believed: keys and services are compared with the
    /// control data every second, and tokens are not revoked one by one.
    fn revoked(&self, _what: &Revoked) {}

    /// As [`Upkeep::revoked`].
    fn doubt(&self) {}
}
