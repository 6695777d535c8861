//! What a node is built on, by the shape it runs in: SQLite and nobody else, or PostgreSQL and Redis.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use delivery::{
    Fanout,
    clock::SharedClock,
    content::{ContentStore, Opening as ContentOpening},
    metrics::SharedRecorder,
    spans::Spans,
    store::{
        Keeping, Storage, TenantRetention, Witness,
        postgres::{
            Company, Place, PostgresConfig, PostgresStore, ProbeError, connecting, may_pass, probe,
        },
        single::{SingleConfig, SingleStore, hub_dir},
    },
    webhook::Webhooks,
};
use protocol::NodeId;

use super::settings::LiveSettings;
use crate::{
    bus::{Bus, ClusterFanout, LocalBus, RedisBus, RedisConfig},
    config::{Config, Loaded, store_open_files},
    foundation::Foundation,
    live::Registry,
};

/// Pause before a database that is away at the start is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Opened, and nothing served yet.
pub(super) struct Parts {
    pub(super) foundation: Foundation,
    pub(super) webhooks: Webhooks,
    pub(super) store: Arc<dyn Storage>,
    pub(super) bus: Arc<dyn Bus>,
    /// What it is set to.
    pub(super) settings: Arc<LiveSettings>,
    /// What the store keeps.
    pub(super) keeping: Arc<Keeping>,
    /// What only a node of a cluster has.
    pub(super) cluster: Option<Cluster>,
}

/// What only a node of a cluster has.
pub(super) struct Cluster {
    /// The store again, for what other nodes say of groups.
    pub(super) store: Arc<PostgresStore>,
    /// The bus again, to be started and closed; none where the node is the only one.
    pub(super) redis: Option<Arc<RedisBus>>,
    /// Held as long as the node runs.
    pub(super) place: Arc<Place>,
}

/// What is needed to open them.
pub(super) struct Opening<'a> {
    pub(super) loaded: &'a Loaded,
    /// The process's limit of open files.
    pub(super) descriptors: usize,
    pub(super) node: &'a NodeId,
    pub(super) registry: &'a Arc<Registry>,
    pub(super) recorder: &'a SharedRecorder,
    /// Follows the database's, where nodes share one.
    pub(super) clock: &'a SharedClock,
    /// What is recorded of requests.
    pub(super) spans: &'a Spans,
}

impl Opening<'_> {
    pub(super) async fn open(&self) -> anyhow::Result<Parts> {
        match &self.loaded.config.cluster.database {
            None => self.open_single().await,
            Some(database) => self.open_cluster(database).await,
        }
    }

    /// Waits for a database that is away; whatever else is wrong with it ends the start. `away` is
    /// called once, when it is found to be; its failure ends the start.
    pub(super) async fn open_when_there(
        &self,
        away: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Parts> {
        let mut away = Some(away);
        loop {
            let error = match self.open().await {
                Ok(parts) => return Ok(parts),
                Err(error) => error,
            };
            if !self.may_pass(&error).await {
                return Err(error);
            }
            if let Some(away) = away.take() {
                tracing::warn!("{error:#}: not ready; trying again every second");
                away()?;
            }
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
        }
    }

    /// Whether an error may be over in a moment. Where it does not say so itself, another look decides.
    async fn may_pass(&self, error: &anyhow::Error) -> bool {
        if may_pass(error.as_ref()) {
            return true;
        }
        match (error.downcast_ref::<ProbeError>(), &self.loaded.config.cluster.database) {
            (Some(error), _) => error.may_pass(),
            (None, Some(database)) => probe(database).await.is_err_and(|error| error.may_pass()),
            (None, None) => false,
        }
    }

    async fn open_single(&self) -> anyhow::Result<Parts> {
        let foundation = self.foundation().await?;
        let settings = self.settings(&foundation).await?;
        let webhooks = self.webhooks(&foundation).await?;
        let config = SingleConfig {
            witness: Some(Arc::new(webhooks.clone())),
            tenants: Some(Arc::clone(&foundation.control) as Arc<dyn TenantRetention>),
            ..single_config(&settings.config(), self.descriptors)
        };
        let fanout = self.opening(Arc::clone(self.registry) as Arc<dyn Fanout>);
        let recorder = Arc::clone(self.recorder);
        // A long journal is replayed before the first answer; not on a thread of the runtime.
        let open = move || SingleStore::open(&config, fanout, &*recorder);
        let store =
            tokio::task::spawn_blocking(open).await?.context("the store cannot be opened")?;
        let keeping = Arc::clone(store.keeping());
        let store = self.with_content(store);
        let bus = Arc::new(LocalBus);
        Ok(Parts { foundation, webhooks, store, bus, settings, keeping, cluster: None })
    }

    async fn open_cluster(&self, database: &PostgresConfig) -> anyhow::Result<Parts> {
        probe(database).await?;
        let company = match self.loaded.config.cluster.redis {
            Some(_) => Company::Others,
            None => Company::Alone,
        };
        let place = Arc::new(company.join(database).await?);
        let foundation = self.foundation().await?;
        let settings = self.settings(&foundation).await?;
        let webhooks = self.webhooks(&foundation).await?;
        let (marks, clock) = (foundation.secrets.marks(), self.clock.clock());
        let (given, spans) = (&self.loaded.config.cluster, self.spans.clone());
        let redis = RedisConfig::from_settings(given, self.node.clone(), marks, clock, spans)
            .context("REDIS_CA_FILE cannot be read")?
            .map(|settings| RedisBus::new(settings, &**self.recorder));
        let witness: Arc<dyn Witness> = Arc::new(webhooks.clone());
        let kept = settings.config().store;
        let config = PostgresConfig {
            witness: Some(witness),
            tenants: Some(Arc::clone(&foundation.control) as Arc<dyn TenantRetention>),
            retention: kept.retention,
            sent_kept: kept.sent_kept(),
            ..database.clone()
        };
        let bus: Arc<dyn Bus> = match &redis {
            Some(redis) => Arc::clone(redis) as Arc<dyn Bus>,
            None => Arc::new(LocalBus),
        };
        let fanout = ClusterFanout::new(Arc::clone(self.registry), Arc::clone(&bus));
        let fanout = self.opening(Arc::new(fanout));
        let store = PostgresStore::open(config, fanout, &**self.recorder)
            .await
            .context("the database cannot be used")?;
        let cluster = Cluster { store: Arc::clone(&store), redis, place };
        let keeping = Arc::clone(store.keeping());
        let (store, cluster) = (self.with_content(store), Some(cluster));
        Ok(Parts { foundation, webhooks, store, bus, settings, keeping, cluster })
    }

    /// In front of a fan-out, so that what is published can be read.
    fn opening(&self, to: Arc<dyn Fanout>) -> Arc<ContentOpening> {
        ContentOpening::new(to, Arc::clone(&self.loaded.config.store.content), &**self.recorder)
    }

    /// In front of a store, which keeps content encrypted where there are keys.
    fn with_content(&self, store: Arc<dyn Storage>) -> Arc<dyn Storage> {
        ContentStore::new(store, Arc::clone(&self.loaded.config.store.content), &**self.recorder)
    }

    async fn foundation(&self) -> anyhow::Result<Foundation> {
        let (config, clock) = (self.loaded.config.clone(), self.clock.clone());
        let recorder = Arc::clone(self.recorder);
        tokio::task::spawn_blocking(move || Foundation::open(&config, clock, &*recorder)).await?
    }

    /// What admins have changed wins over what was given, before anything is kept or forgotten by it.
    async fn settings(&self, foundation: &Foundation) -> anyhow::Result<Arc<LiveSettings>> {
        let (loaded, control) = (self.loaded.clone(), Arc::clone(&foundation.control));
        let recorder = Arc::clone(self.recorder);
        let open = move || LiveSettings::open(loaded, control, &*recorder);
        Ok(tokio::task::spawn_blocking(open).await??)
    }

    async fn webhooks(&self, foundation: &Foundation) -> anyhow::Result<Webhooks> {
        let (config, control) = (self.loaded.config.clone(), Arc::clone(&foundation.control));
        let recorder = Arc::clone(self.recorder);
        let open = move || -> anyhow::Result<Webhooks> {
            let settings = config.webhook.clone();
            Ok(match &config.cluster.database {
                None => {
                    Webhooks::open(&hub_dir(&config.store.path), settings, control, &*recorder)?
                }
                Some(database) => {
                    let (driver, tls) = connecting(database)?;
                    Webhooks::open_postgres(driver, tls, settings, control, &*recorder)?
                }
            })
        };
        tokio::task::spawn_blocking(open).await?.context("webhooks cannot be opened")
    }
}

fn single_config(config: &Config, descriptors: usize) -> SingleConfig {
    SingleConfig {
        root: config.store.path.clone(),
        flush_interval: config.store.flush_interval,
        open_inboxes: store_open_files(config, descriptors),
        journal_sync: config.store.journal_sync,
        retention: config.store.retention,
        sent_kept: config.store.sent_kept(),
        ..SingleConfig::default()
    }
}
