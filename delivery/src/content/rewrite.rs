//! What stands under which key, and its rewriting with the one that writes.

use std::{collections::BTreeMap, sync::Arc};

use protocol::{Body, TenantId};

use super::{ContentError, ContentKeys};

/// How many bodies there are of each key, by its name; those that are not encrypted by [`super::PLAIN`]. What was
/// sent to many may be there several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census(pub BTreeMap<String, u64>);

impl Census {
    pub(crate) fn add(&mut self, body: &Body) {
        self.count(ContentKeys::id_of(body), 1);
    }

    pub(crate) fn count(&mut self, id: &str, bodies: u64) {
        *self.0.entry(id.to_owned()).or_default() += bodies;
    }
}

/// What a pass over all bodies does with each.
#[derive(Clone)]
pub struct Rewriting {
    /// Opens and seals.
    pub keys: Arc<ContentKeys>,
    /// Whether bodies of other keys are written anew; else they are counted only.
    pub rewrite: bool,
}

impl Rewriting {
    /// What is to stand in a body's place: with [`Rewriting::rewrite`] the same message by the key that writes, or
    /// readable where none does; else, and where it is that already, itself.
    ///
    /// # Errors
    /// As [`ContentKeys::open`]: what cannot be opened stays as it is.
    pub(crate) fn renewed(
        &self,
        tenant: &TenantId,
        body: &Arc<Body>,
    ) -> Result<Arc<Body>, ContentError> {
        if !self.rewrite || ContentKeys::id_of(body) == self.keys.writing_id() {
            return Ok(Arc::clone(body));
        }
        let readable = self.keys.open(tenant, body)?;
        match self.keys.seal(tenant, &readable) {
            // What is left where nobody has the message any more.
            Err(ContentError::NoMessage { .. }) => Ok(readable),
            sealed => sealed,
        }
    }
}
