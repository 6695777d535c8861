//! The way to the server.

use std::{sync::mpsc, time::Duration};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{
    Client, Config, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use super::{CONNECT_TIMEOUT, IDLE_IN_TRANSACTION_TIMEOUT, LOCK_TIMEOUT, STATEMENT_TIMEOUT};
use crate::sql::SqlError;

/// A way to encrypt connections, or not to, for whichever thread makes them.
pub trait Tls:
    MakeTlsConnect<Socket, Stream: Send, TlsConnect: Send + TlsConnect<Socket, Future: Send>>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Tls for T where
    T: MakeTlsConnect<Socket, Stream: Send, TlsConnect: Send + TlsConnect<Socket, Future: Send>>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// What is said first on each connection.
pub(super) fn settings() -> String {
    let millis = |time: Duration| time.as_millis();
    format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}; SET synchronous_commit = on; \
         SET client_min_messages = warning",
        millis(STATEMENT_TIMEOUT),
        millis(LOCK_TIMEOUT),
        millis(IDLE_IN_TRANSACTION_TIMEOUT),
    )
}

type Made = Result<Client, SqlError>;
type Begin = dyn Fn(&Runtime, mpsc::SyncSender<Made>) + Send + Sync;

/// A server, and the thread that reads from it. Cheap to ask; shared by a node's connections.
pub(crate) struct Server {
    /// None while it is being dropped.
    runtime: Option<Runtime>,
    /// Begins to connect, and says through the channel what came of it.
    begin: Box<Begin>,
}

impl Server {
    /// `name` is that of the area, for logs.
    pub(crate) fn new(
        name: &'static str,
        mut config: Config,
        tls: impl Tls,
    ) -> std::io::Result<Self> {
        if config.get_application_name().is_none() {
            config.application_name("pushhub");
        }
        // Of each host; together they have no longer, and one that is gone must leave time for the next.
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        config.connect_timeout(CONNECT_TIMEOUT / hosts.max(1));
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("{name}-sql"))
            .enable_all()
            .build()?;
        let begin = move |runtime: &Runtime, made: mpsc::SyncSender<Made>| {
            let (config, tls) = (config.clone(), tls.clone());
            runtime.spawn(async move {
                let client = match config.connect(tls).await {
                    Ok((client, connection)) => {
                        tokio::spawn(async move {
                            if let Err(error) = connection.await {
                                let error = &error as &dyn std::error::Error;
                                tracing::info!(error, area = name, "a connection has ended");
                            }
                        });
                        Ok(client)
                    }
                    // Whatever the server says to it: nobody can be asked.
                    Err(error) => Err(SqlError::Unavailable(error.into())),
                };
                // Whoever asked may have stopped waiting; dropping the client ends the connection.
                let _ = made.try_send(client);
            });
        };
        Ok(Self { runtime: Some(runtime), begin: Box::new(begin) })
    }

    pub(super) fn connect(&self) -> Made {
        let (made, makes) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.runtime {
            (self.begin)(runtime, made);
        }
        makes.recv_timeout(CONNECT_TIMEOUT).unwrap_or_else(|_| {
            Err(SqlError::Unavailable("the database cannot be reached in time".into()))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Without waiting, which a thread of another runtime must not.
            runtime.shutdown_background();
        }
    }
}
