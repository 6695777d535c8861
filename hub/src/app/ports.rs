//! The two ports: bound before anything is opened, served from then on.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::Router;
use delivery::metrics::SharedRecorder;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, ProcessConfig},
    http::{self, HttpLimits, HttpMetrics, Listener, Pages},
};

/// What is served on each.
pub(super) struct Routers {
    pub(super) user: Router,
    pub(super) admin: Router,
}

/// A bound port. Kept as the system's own handle, because it is served more than once: first by what a
/// starting node says, then by the node.
struct Port {
    listener: std::net::TcpListener,
    address: SocketAddr,
    pages: Pages,
    counts: Arc<HttpMetrics>,
}

impl Port {
    async fn bind(
        variable: &str,
        address: SocketAddr,
        pages: Pages,
        counts: HttpMetrics,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} ({variable}, BIND_ADDRESS)"))?;
        let address = listener.local_addr()?;
        Ok(Self { listener: listener.into_std()?, address, pages, counts: Arc::new(counts) })
    }
}

/// The ports of a node.
pub(super) struct Ports {
    /// None where the role has no users.
    user: Option<Port>,
    admin: Port,
    limits: HttpLimits,
}

/// Ports that are being served.
pub(super) struct Serving {
    /// Ends accepting, and each connection after the request it is at.
    pub(super) shutdown: CancellationToken,
    /// The connections.
    pub(super) tracker: TaskTracker,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Ports {
    pub(super) async fn bind(config: &Config, recorder: &SharedRecorder) -> anyhow::Result<Self> {
        let ProcessConfig { role, user_address, admin_address, .. } = config.process;
        let counts = |which| HttpMetrics::new(&**recorder, which);
        let pages = |which| Pages::new(which, &config.socket.allowed_origins);
        let user = if role.has_users() {
            let (pages, counts) = (pages(Listener::User), counts(Listener::User));
            Some(Port::bind("USER_SERVER_PORT", user_address, pages, counts).await?)
        } else {
            None
        };
        let (pages, counts) = (pages(Listener::Admin), counts(Listener::Admin));
        let admin = Port::bind("ADMIN_SERVER_PORT", admin_address, pages, counts).await?;
        Ok(Self { user, admin, limits: HttpLimits::from(&config.http) })
    }

    pub(super) fn user_address(&self) -> Option<SocketAddr> {
        self.user.as_ref().map(|port| port.address)
    }

    pub(super) const fn admin_address(&self) -> SocketAddr {
        self.admin.address
    }

    /// Serves until it is told to end.
    pub(super) fn serve(&self, routers: Routers) -> io::Result<Serving> {
        let serving = Serving { shutdown: CancellationToken::new(), tracker: TaskTracker::new() };
        let serve = |port: &Port, router: Router| -> io::Result<()> {
            let listener = TcpListener::from_std(port.listener.try_clone()?)?;
            serving.tracker.spawn(http::serve(
                listener,
                router,
                self.limits,
                port.pages.clone(),
                Arc::clone(&port.counts),
                serving.shutdown.clone(),
                serving.tracker.clone(),
            ));
            Ok(())
        };
        if let Some(port) = &self.user {
            serve(port, routers.user)?;
        }
        serve(&self.admin, routers.admin)?;
        Ok(serving)
    }
}
