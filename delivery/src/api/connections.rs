//! Who is connected on all nodes, being disconnected, and the nodes (contract §9, §11).

pub(super) mod docs;

use std::net::IpAddr;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::{
    ConnectionId, DeviceId, DeviceType, NodeId, Seq, TenantId, Time, UserId,
    envelope::{Close, ConnectionFacts, Then, Which},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ApiState,
    answer::Answer,
    caller::Admin,
    error::ApiError,
    query::{ANY_TENANT, ID_CURSOR_PARAMETER, PageMeta, Parameters, SIZE, TENANT_ID},
    shape::{Field, ID, Shape, may, must},
    tenants::AboveTenants,
    trace::Trace,
};
use crate::connections::{Found, NodeReport};

const RECONNECT: Field = may(
    "reconnect",
    Shape::Word(&["true", "false"]),
    "Whether the client is asked to come back by itself (1012), likely to another node; if not (4502), it \
     stays away until its user acts. `false` unless said.",
);

const NODE_ID: Field = may("node_id", ID, "On this node.");

/// The query of a list.
const LIST_QUERY: &[Field] =
    &[ANY_TENANT, may("user_id", ID, "Of this user."), NODE_ID, ID_CURSOR_PARAMETER, SIZE];

/// The query of disconnecting one.
const ONE_QUERY: &[Field] = &[ANY_TENANT, RECONNECT];

/// The query of disconnecting a user.
const USER_QUERY: &[Field] =
    &[must("user_id", ID, "Whose connections."), TENANT_ID, NODE_ID, RECONNECT];

/// A connection.
#[derive(Serialize, JsonSchema)]
struct Connection<'a> {
    /// Its id, which its `welcome` told.
    connection_id: &'a ConnectionId,
    /// Whose.
    user_id: &'a UserId,
    /// The user's tenant.
    tenant_id: &'a TenantId,
    /// Which device: as the token says, else made up for this connection.
    device_id: &'a DeviceId,
    /// Kind of device, as it says itself.
    device_type: &'static str,
    /// Version of the app, as it says itself; empty where it did not.
    app_version: &'a str,
    /// The node that holds it.
    node_id: &'a NodeId,
    /// `websocket` or `sse`.
    transport: &'static str,
    /// `json` or `msgpack`.
    codec: &'static str,
    /// Where the client is, as far as `TRUSTED_PROXIES` tell.
    address: Option<IpAddr>,
    /// Since when, by its node's clock.
    connected_at: Time,
    /// The last change that was given to it.
    last_seq: Seq,
    /// The last change that it confirmed with an `ack`; 0 where it sent none.
    acked_seq: Seq,
    /// Memory of what waits for it, in bytes.
    queued_bytes: u64,
    /// Whether it is still being given what was before: it has just come, or reads too slowly.
    catching_up: bool,
}

impl<'a> Connection<'a> {
    fn new((node_id, facts): &'a (NodeId, ConnectionFacts)) -> Self {
        Self {
            connection_id: &facts.id,
            user_id: &facts.user,
            tenant_id: &facts.tenant,
            device_id: &facts.device,
            device_type: DeviceType::as_str(facts.device_type),
            app_version: &facts.app_version,
            node_id,
            transport: facts.transport.word(),
            codec: facts.codec.label(),
            address: facts.address,
            connected_at: facts.connected_at,
            last_seq: facts.last,
            acked_seq: facts.acked,
            queued_bytes: facts.queued_bytes,
            catching_up: !facts.live,
        }
    }
}

/// Connections of all nodes.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConnectionList")]
struct List<'a> {
    /// The page, in the order in which they began.
    connections: Vec<Connection<'a>>,
    /// How many there are, on the nodes that answered.
    total: u64,
}

/// The paging of a list that other nodes were asked for.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PageMetaOfNodes")]
struct Meta<'a> {
    #[serde(flatten)]
    page: PageMeta,
    /// Nodes that hold connections and did not answer in time; the list is without theirs.
    missing_nodes: &'a [NodeId],
    /// Whether all nodes have answered; `false` too while the way to the other nodes is away.
    complete: bool,
}

/// What was disconnected.
#[derive(Serialize, JsonSchema)]
struct Disconnected<'a> {
    /// How many connections are being closed.
    disconnected: u64,
    /// Nodes that hold connections and did not answer in time. They do it as soon as they can, where they
    /// only stood still; ask again to be sure.
    missing_nodes: &'a [NodeId],
    /// Whether all nodes have answered; `false` too while the way to the other nodes is away.
    complete: bool,
}

/// A node.
#[derive(Serialize, JsonSchema)]
struct Node<'a> {
    /// Its name.
    node_id: &'a NodeId,
    /// `PUSHHUB_ROLE`; null of a node of an older build, as all that it does not say.
    role: Option<&'a str>,
    /// Its build.
    version: Option<&'a str>,
    /// When it was started, by its own clock.
    started_at: Option<Time>,
    /// Whether it is sending its connections away and will be gone.
    draining: Option<bool>,
    /// Its connections; null where its role holds none.
    connections: Option<u64>,
    /// Of the node that answers, its way to the others: `alone`, `up`, `doubtful`, `connecting` or `down`.
    /// Of another one, whether it is heard: `up` or `silent`.
    bus: &'static str,
    /// Milliseconds since it was heard last; null of the node that answers.
    silent_for_ms: Option<u64>,
}

impl<'a> Node<'a> {
    fn new(report: &'a NodeReport) -> Self {
        let about = report.about.as_ref();
        Self {
            node_id: &report.node,
            role: about.map(|about| about.role.as_str()),
            version: about.map(|about| about.version.as_str()),
            started_at: about.map(|about| about.started_at),
            draining: about.map(|about| about.draining),
            connections: report.connections,
            bus: report.bus,
            silent_for_ms: report
                .silent_for
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// The nodes of the cluster.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NodeList")]
struct Nodes<'a> {
    /// The one that answers, and then the others, by name.
    nodes: Vec<Node<'a>>,
}

fn close(parameters: &mut Parameters) -> Close {
    let words = [("true", Close::ComeBack), ("false", Close::StayAway)];
    parameters.word("reconnect", &words).unwrap_or(Close::StayAway)
}

/// `GET /admin/connections`
pub(super) async fn list(
    State(state): State<ApiState>,
    admin: Admin,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, LIST_QUERY)?;
    let tenant = admin.asked_tenant(&mut parameters);
    let (user, node) = (parameters.an_id("user_id"), parameters.an_id("node_id"));
    let (after, size) = parameters.id_paging();
    parameters.finish()?;
    let which = Which { tenant, user, node, connection: None };
    // One more shows whether there is a next page.
    let then = Then::List { after, limit: size as u64 + 1 };
    let found = state.0.connections.ask(which, then).await?;
    let complete = found.is_complete();
    let Found { matching, mut connections, missing, .. } = found;
    let more = connections.len() > size;
    connections.truncate(size);
    let last = connections.last().map(|(_, facts)| facts.id.as_str()).filter(|_| more);
    let meta = Meta { page: PageMeta::of_ids(size, last), missing_nodes: &missing, complete };
    let connections = connections.iter().map(Connection::new).collect();
    Ok(answer.page(&List { connections, total: matching }, &meta))
}

/// `DELETE /admin/connections/{id}`
pub(super) async fn disconnect(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, ONE_QUERY)?;
    let (tenant, close) = (admin.asked_tenant(&mut parameters), close(&mut parameters));
    parameters.finish()?;
    let Path(connection) = path.map_err(|_| ApiError::NoConnection)?;
    let connection = ConnectionId::new(connection).map_err(|_| ApiError::NoConnection)?;
    let which = Which { tenant, connection: Some(connection), ..Which::default() };
    let found = state.0.connections.ask(which, Then::Close(close)).await?;
    match found.matching {
        0 if found.is_complete() => Err(ApiError::NoConnection),
        // It may be there, and nobody who answered has it.
        0 => Err(ApiError::NodesMissing(found.missing)),
        disconnected => {
            // A connection is on one node: nobody else need have answered.
            let done = Disconnected { disconnected, missing_nodes: &[], complete: true };
            trace.after(&done);
            Ok(answer.success(&done))
        }
    }
}

/// `DELETE /admin/connections?user_id`
pub(super) async fn disconnect_user(
    State(state): State<ApiState>,
    admin: Admin,
    trace: Trace,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, USER_QUERY)?;
    let user: Option<UserId> = parameters.an_id("user_id");
    let tenant = admin.asked_tenant(&mut parameters).unwrap_or_default();
    let (node, close) = (parameters.an_id("node_id"), close(&mut parameters));
    parameters.finish()?;
    let user = user.ok_or_else(|| ApiError::field("user_id", "is missing"))?;
    trace.of_tenant(&tenant);
    trace.before(&user);
    let which = Which { tenant: Some(tenant), user: Some(user), node, connection: None };
    let found = state.0.connections.ask(which, Then::Close(close)).await?;
    let done = Disconnected {
        disconnected: found.matching,
        missing_nodes: &found.missing,
        complete: found.is_complete(),
    };
    trace.after(&done);
    Ok(answer.success(&done))
}

/// `GET /admin/nodes`
pub(super) async fn nodes(
    State(state): State<ApiState>,
    _: AboveTenants,
    answer: Answer,
) -> Result<Response, ApiError> {
    let reports = state.0.connections.nodes();
    Ok(answer.success(&Nodes { nodes: reports.iter().map(Node::new).collect() }))
}
