//! Connections and nodes, as far as an admin asks: the one question that `delivery`, which knows no
//! sockets, has for whoever holds them.

use std::time::Duration;

use protocol::{
    NodeId,
    envelope::{ConnectionFacts, NodeAbout, Then, Which},
};

use crate::store::BoxFuture;

/// Who is connected, on all nodes.
pub trait Connections: Send + Sync + 'static {
    /// Names or closes connections, wherever they are. Waits for other nodes, a second or so.
    ///
    /// Cancel safe: what was asked of others may be done all the same.
    ///
    /// # Errors
    /// [`TooManyAsk`] where too many ask already.
    fn ask(&self, which: Which, then: Then) -> BoxFuture<'_, Result<Found, TooManyAsk>>;

    /// The nodes that are known here, this one first.
    fn nodes(&self) -> Vec<NodeReport>;
}

/// What came of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many were meant, on the nodes that answered.
    pub matching: u64,
    /// Those that are named and their nodes, by id, at most as many as were asked for.
    pub connections: Vec<(NodeId, ConnectionFacts)>,
    /// Nodes that hold connections and did not answer in time: what is said is without them.
    pub missing: Vec<NodeId>,
    /// Whether other nodes could not be asked, the bus being away: what is said is this node's alone.
    pub unheard: bool,
}

impl Found {
    /// Whether all nodes that hold connections have answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.unheard && self.missing.is_empty()
    }
}

/// Too many questions to other nodes are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many questions to other nodes are under way; try again")]
pub struct TooManyAsk;

/// A node, as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Its name.
    pub node: NodeId,
    /// What it says of itself; none of a node of an older build.
    pub about: Option<NodeAbout>,
    /// Its connections; none where it holds none by its role.
    pub connections: Option<u64>,
    /// The state of the way to other nodes, for this node; of another one, whether it is heard: `up` or
    /// `silent`.
    pub bus: &'static str,
    /// When it was heard last, ago; none for this node.
    pub silent_for: Option<Duration>,
}
