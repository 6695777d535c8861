//! Counts by which keys the content of messages is encrypted, and writes it anew with another one, while nodes work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{MessageId, TenantId};

use super::{
    PostgresConfig, PostgresStore,
    columns::Columns as _,
    errors::Failure,
    import,
    pool::{Db, PoolError, execute, rows},
};
use crate::{
    content::{Census, ContentError, Rewriting, body_of, text_of},
    store::metadata::askable,
};

/// Bodies that are read and written at a time: how long a row is locked that a send may want.
const PAGE: i64 = 256;

/// Longest rest after a page. Rests are as long as the page took, so that half of the time is for others.
const REST_MAX: Duration = Duration::from_millis(100);

/// The content of a database cannot be rewritten. Nothing is lost: what was written anew stays, the rest is as it
/// was.
#[derive(Debug, thiserror::Error)]
pub enum RecodeError {
    /// The database cannot be reached.
    #[error(transparent)]
    Open(#[from] super::OpenError),
    /// It cannot be used.
    #[error("the database cannot be used")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A message cannot be opened.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl From<Failure> for RecodeError {
    fn from(failure: Failure) -> Self {
        Self::Database(Box::new(failure))
    }
}

impl From<PoolError> for RecodeError {
    fn from(error: PoolError) -> Self {
        Self::Database(Box::new(error))
    }
}

/// Looks through a database, which nodes may work on. `done` is told of each page of messages,
/// with how many it had.
///
/// # Errors
/// [`RecodeError`].
pub async fn recode_database(
    config: &PostgresConfig,
    rewriting: Rewriting,
    done: impl Fn(u64),
) -> Result<Census, RecodeError> {
    PostgresStore::migrate(config).await?;
    let db = import::connect(config)?;
    let (mut census, mut after) = (Census::default(), 0);
    loop {
        let began = Instant::now();
        let Some((last, count)) = page(&db, &rewriting, after, &mut census).await? else { break };
        after = last;
        done(count);
        tokio::time::sleep(began.elapsed().min(REST_MAX)).await;
    }
    if rewriting.rewrite && !rewriting.keys.is_empty() {
        // Which words which messages have. Without keys it is made anew by the next searches.
        let client = db.client().await?;
        for table in ["search_texts", "search_states"] {
            execute(&client, &format!("DELETE FROM {table}"), &[]).await?;
        }
    }
    db.close();
    Ok(census)
}

/// The next bodies; answers the last one, and how many they were.
async fn page(
    db: &Db,
    rewriting: &Rewriting,
    after: i64,
    census: &mut Census,
) -> Result<Option<(i64, u64)>, RecodeError> {
    let client = db.client().await?;
    let sql = "SELECT id, tenant, message_id, body FROM bodies WHERE id > $1 ORDER BY id LIMIT $2";
    let found = rows(&client, sql, &[&after, &PAGE]).await?;
    let (mut ids, mut old, mut new, mut metadata) = (vec![], vec![], vec![], vec![]);
    let mut last = None;
    for row in &found {
        let id: i64 = row.column(0)?;
        last = Some(id);
        let (tenant, message): (TenantId, MessageId) = (row.id(1)?, row.id(2)?);
        let json: &str = row.column(3)?;
        let body = body_of(message.as_str(), json.as_bytes()).map_err(Failure::unreadable)?;
        let now = rewriting.renewed(&tenant, &body)?;
        census.add(&now);
        if !Arc::ptr_eq(&now, &body) {
            let text = text_of(&now);
            ids.push(id);
            old.push(json);
            metadata.push(askable(&text));
            new.push(text);
        }
    }
    if !ids.is_empty() {
        // One that was edited meanwhile is by the key that its node has.
        let sql = "UPDATE bodies b SET body = k.new, metadata = k.metadata
            FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]::jsonb[])
                AS k (id, old, new, metadata)
            WHERE b.id = k.id AND b.body = k.old";
        execute(&client, sql, &[&ids, &old, &new, &metadata]).await?;
    }
    Ok(last.map(|last| (last, found.len() as u64)))
}
