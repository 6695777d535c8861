//! What the server and the command line share: the storage folder's secrets, services and tokens.

use std::sync::Arc;

use delivery::{
    control::Control,
    identity::{Identity, IdentityConfig},
    store::single::{check_not_moved, hub_dir, own_dir},
};

use crate::{
    config::{Config, StoreConfig},
    storage_secrets::Secrets,
};

/// The parts of a storage folder that say who is who.
pub struct Foundation {
    /// The secrets, configured or kept.
    pub secrets: Secrets,
    /// Services and their keys.
    pub control: Arc<Control>,
    /// Who is asking.
    pub identity: Arc<Identity>,
}

impl Foundation {
    /// Opens the storage folder, making what is missing.
    ///
    /// # Errors
    /// When the folder, a secret or `control.db` can neither be used nor made.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let secrets = Secrets::open(&config.auth, &config.store)?;
        let control = open_control(&config.store)?;
        let identity = IdentityConfig {
            jwt_secret: secrets.jwt_secret.clone(),
            issuer: config.auth.issuer.clone(),
            audience: vec![config.auth.audience.clone()],
            admin_token: secrets.admin_token.clone(),
            access_ttl: config.auth.access_ttl,
        };
        let identity = Arc::new(Identity::new(identity, Arc::clone(&control)));
        Ok(Self { secrets, control, identity })
    }
}

/// Opens `control.db` below the storage folder, making both where they are missing.
///
/// # Errors
/// When neither is possible, or the folder's data is in a database: whatever is changed here nobody would
/// see.
pub fn open_control(store: &StoreConfig) -> anyhow::Result<Arc<Control>> {
    check_not_moved(&store.path)?;
    let folder = hub_dir(&store.path);
    own_dir(&folder)
        .map_err(|error| anyhow::anyhow!("cannot use {}: {error}", folder.display()))?;
    Ok(Arc::new(Control::open(&folder)?))
}
