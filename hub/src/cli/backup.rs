//! `pushhub backup`.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use delivery::{
    Fanout, InboxKey, Store as _,
    backup::{Area, Made, Outer, Since, Wanted},
    store::{
        Stored,
        postgres::PostgresStore,
        single::{SingleConfig, back_up_folder, hub_dir},
    },
};
use metrics::NoopRecorder;
use protocol::{TenantId, UserId};
use serde_json::json;

use super::{Output, out, progress::Bar};
use crate::{
    config::{Config, store_open_files},
    descriptors,
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Whose inbox.
    #[arg(long)]
    user: UserId,
    /// Of which tenant.
    #[arg(long, default_value = "default")]
    tenant: TenantId,
    /// What is in it.
    #[arg(long = "type", value_enum, default_value_t)]
    kind: Type,
    /// Of an incremental one: a position, or an RFC 3339 time.
    #[arg(long, required_if_eq("kind", "incremental"))]
    since: Option<Since>,
    /// With gzip.
    #[arg(long)]
    compress: bool,
    /// In the age format, for BACKUP_ENCRYPTION_KEY.
    #[arg(long)]
    encrypt: bool,
    /// The file, which must not be there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Type {
    #[default]
    Full,
    Messages,
    Incremental,
}

/// Hears of what is stored where no node runs.
pub(super) struct Nobody;

impl Fanout for Nobody {
    fn publish(&self, _: &[Stored]) {}
}

pub(super) fn run(arguments: &Arguments, output: Output, config: &Config) -> anyhow::Result<()> {
    let descriptors = descriptors::raise_limit();
    let wanted = match (arguments.kind, arguments.since) {
        (Type::Incremental, Some(since)) => Wanted::Incremental(since),
        (Type::Incremental, None) => bail!("--since is needed with --type incremental"),
        (_, Some(_)) => bail!("--since goes with --type incremental only"),
        (Type::Full, None) => Wanted::Full,
        (Type::Messages, None) => Wanted::Messages,
    };
    let key = match (arguments.encrypt, &config.backup.key) {
        (false, _) => None,
        (true, Some(key)) => Some(key.clone()),
        (true, None) => bail!("--encrypt needs BACKUP_ENCRYPTION_KEY"),
    };
    let outer = Outer { compress: arguments.compress, key };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let bar = Bar::new("copying the inbox", None);
    let made = runtime.block_on(make(arguments, config, descriptors, wanted))?;
    let (line, bytes) = (made.line().clone(), made.plain_bytes());
    write(made, &outer, &arguments.out)
        .with_context(|| format!("cannot write {}", arguments.out.display()))?;
    bar.end();
    out::line(&match output {
        Output::Json => json!({
            "file": arguments.out, "user_id": line.inbox.user, "tenant_id": line.inbox.tenant,
            "type": line.kind.word(), "since": line.since, "head": line.head, "bytes": bytes,
        })
        .to_string(),
        Output::Text => format!(
            "{}: {} backup of {} up to change {}",
            arguments.out.display(),
            line.kind.word(),
            line.inbox.user,
            line.head.0
        ),
    })?;
    Ok(())
}

async fn make(
    arguments: &Arguments,
    config: &Config,
    descriptors: usize,
    wanted: Wanted,
) -> anyhow::Result<Made> {
    let inbox = InboxKey::new(arguments.tenant.clone(), arguments.user.clone());
    let area = Area::new(config.backup.area.clone(), &NoopRecorder);
    let place = area.begin(&inbox)?;
    if let Some(database) = &config.cluster.database {
        let store = PostgresStore::open(database.clone(), Arc::new(Nobody), &NoopRecorder)
            .await
            .context("the database cannot be used")?;
        let made = place.make(&*store, wanted).await;
        store.close().await;
        return Ok(made?);
    }
    if !hub_dir(&config.store.path).join("shared.db").is_file() {
        bail!("{} is no storage folder of pushhub", config.store.path.display());
    }
    let folder = SingleConfig {
        root: config.store.path.clone(),
        open_inboxes: store_open_files(config, descriptors),
        sent_kept: config.store.sent_kept(),
        ..SingleConfig::default()
    };
    Ok(back_up_folder(&folder, &place, wanted).await?)
}

/// Writes it whole or not at all.
fn write(made: Made, outer: &Outer, path: &Path) -> io::Result<()> {
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = (|| {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = io::BufWriter::with_capacity(256 << 10, options.open(&part)?);
        made.write(outer, &mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&part, path)
    })();
    if written.is_err() {
        // A full disk needs what the first half took.
        let _ = fs::remove_file(&part);
    }
    written
}
