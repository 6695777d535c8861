//! What the server and the command line share: the storage folder's secrets, services and tokens.

use std::{sync::Arc, time::Duration};

use delivery::{
    account::{AccountConfig, Accounts},
    clock::SharedClock,
    control::Control,
    identity::{
        Identity, IdentityConfig, LEEWAY,
        signing::{SigningError, SigningKeys},
    },
    outbound::Outbound,
    store::{
        postgres::connecting,
        single::{check_not_moved, hub_dir, own_dir},
    },
};

use metrics::Recorder;

use crate::{config::Config, storage_secrets::Secrets};

/// What says who is who.
pub struct Foundation {
    /// The secrets, configured or kept.
    pub secrets: Secrets,
    /// Services and their keys.
    pub control: Arc<Control>,
    /// Who is asking.
    pub identity: Arc<Identity>,
    /// What signs tokens beside the secret.
    pub signing: Arc<SigningKeys>,
    /// Who logs in.
    pub accounts: Arc<Accounts>,
    /// Calls login providers and the issuers of tokens.
    pub outbound: Outbound,
}

impl Foundation {
    /// Opens the storage folder, making what is missing; or, with a database that nodes share, the control
    /// data there, and no folder. Waits for disk and network.
    ///
    /// # Errors
    /// When the folder, a secret or the control data can neither be used nor made.
    pub fn open(
        config: &Config,
        clock: SharedClock,
        recorder: &dyn Recorder,
    ) -> anyhow::Result<Self> {
        let secrets = Secrets::open(&config.auth, &config.store)?;
        let control = open_control(config, clock)?;
        let identity = IdentityConfig {
            jwt_secret: secrets.jwt_secret.clone(),
            issuer: config.auth.issuer.clone(),
            audience: config.auth.audience.clone(),
            admin_token: secrets.admin_token.clone(),
            access_ttl: config.auth.access_ttl,
        };
        let outbound = Outbound::new(recorder)?;
        let signing = open_signing_keys(config, &secrets, Arc::clone(&control))?;
        let issuers = config.auth.issuers.clone().open(&outbound)?;
        let identity =
            Identity::new(identity, Arc::clone(&control)).with_keys(Arc::clone(&signing), issuers);
        let identity = Arc::new(identity);
        let settings = AccountConfig {
            refresh_ttl: config.auth.refresh_ttl,
            refresh_key: secrets.of_refresh_tokens(),
        };
        let accounts = Accounts::open(Arc::clone(&control), Arc::clone(&identity), settings)?;
        Ok(Self { secrets, control, identity, signing, accounts, outbound })
    }
}

/// Opens the keys that tokens are signed with, making the first.
///
/// # Errors
/// When they can neither be read nor made.
pub fn open_signing_keys(
    config: &Config,
    secrets: &Secrets,
    control: Arc<Control>,
) -> anyhow::Result<Arc<SigningKeys>> {
    let sealing = secrets.of_signing_keys();
    SigningKeys::open(control, sealing, config.auth.signing, overlap(config)).map_err(|error| {
        match error {
            // As it is told of all control data, so that a database that is away is waited for.
            SigningError::Control(error) => error.into(),
            error => error.into(),
        }
    })
}

/// How long a key checks after another has begun to sign: as long as a token that it signed lives.
#[must_use]
pub fn overlap(config: &Config) -> Duration {
    config.auth.access_ttl + LEEWAY
}

/// Opens the control data: in the database that nodes share, or else in `control.db` below the storage
/// folder, making what is missing.
///
/// # Errors
/// When it can neither be used nor made, or the folder's data is in a database: whatever is changed here
/// nobody would see.
///
/// With a database `clock` follows that one's.
pub fn open_control(config: &Config, clock: SharedClock) -> anyhow::Result<Arc<Control>> {
    if let Some(database) = &config.cluster.database {
        let (driver, tls) = connecting(database)?;
        return Ok(Arc::new(Control::open_postgres(driver, tls, clock)?));
    }
    check_not_moved(&config.store.path)?;
    let folder = hub_dir(&config.store.path);
    own_dir(&folder)
        .map_err(|error| anyhow::anyhow!("cannot use {}: {error}", folder.display()))?;
    Ok(Arc::new(Control::open(&folder)?))
}
