//! Who is connected on any node: this node's live side, and, by the bus, the others.

use std::sync::Arc;

use delivery::{
    connections::{Connections, Found, NodeReport, TooManyAsk},
    store::BoxFuture,
};
use protocol::envelope::{Inquiry, NodeAbout, Then, Which};

use crate::{
    bus::{Asked, Bus, PeerInfo, SILENT_AFTER, State, named_max},
    live::Live,
};

/// Asks all nodes, this one included.
pub struct Census {
    live: Arc<Live>,
    bus: Arc<dyn Bus>,
    about: NodeAbout,
}

impl Census {
    /// Of a node that says this of itself; whether it is draining, the live side knows.
    #[must_use]
    pub fn new(live: Arc<Live>, bus: Arc<dyn Bus>, about: NodeAbout) -> Self {
        Self { live, bus, about }
    }

    fn here(&self) -> NodeReport {
        NodeReport {
            node: self.live.node_id().clone(),
            about: Some(NodeAbout { draining: self.live.is_draining(), ..self.about.clone() }),
            connections: self.live.holds_connections().then(|| self.live.open_connections() as u64),
            bus: self.bus.state().label(),
            silent_for: None,
        }
    }
}

fn report(peer: PeerInfo) -> NodeReport {
    let PeerInfo { node, epoch: _, silent_for, connections, about } = peer;
    let state = if silent_for < SILENT_AFTER { State::Up.label() } else { "silent" };
    NodeReport { node, about, connections, bus: state, silent_for: Some(silent_for) }
}

impl Connections for Census {
    fn ask(&self, which: Which, then: Then) -> BoxFuture<'_, Result<Found, TooManyAsk>> {
        Box::pin(async move {
            let limit = named_max(&then);
            // All at the same time, the others' first: what is closed here may come back there within a
            // second, and is not to be closed again.
            let others = self.bus.ask(which.clone(), then.clone());
            let here = async { self.live.inquire(&Inquiry { id: 0, which, then }) };
            let (others, here) = futures_util::future::join(others, here).await;
            let mut all = others.map_err(|_| TooManyAsk)?;
            if let Some(here) = here {
                all.add(here, limit);
            }
            let Asked { matching, connections, missing, unheard } = all;
            Ok(Found { matching, connections, missing, unheard })
        })
    }

    fn nodes(&self) -> Vec<NodeReport> {
        let mut others: Vec<NodeReport> = self.bus.peers().into_iter().map(report).collect();
        others.sort_unstable_by(|a, b| a.node.as_str().cmp(b.node.as_str()));
        std::iter::once(self.here()).chain(others).collect()
    }
}
