//! Questions about the connections of all nodes, and what nodes find.
//!
//! A node asks on the topic that all hear, and each node that holds sockets answers on the asker's own
//! topic, once. The answer of a list is bounded by what is asked for, and by [`CONNECTIONS_MAX`].

use std::net::IpAddr;

use super::{
    DecodeError, Read,
    pack::{Reader, Writer},
    read::{id, list, text},
};
use crate::{
    Codec, ConnectionId, DeviceId, DeviceType, NodeId, Seq, TenantId, Time, Transport, UserId,
};

/// Most connections that one node names in an answer: the largest page of a list and one more, with
/// some room. Of ids of 128 bytes each they are some 170 KiB, so that they fit into one envelope.
pub const CONNECTIONS_MAX: usize = 256;

/// Asks for connections, or has them closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Drawn by the asker: answers name it.
    pub id: u64,
    /// Which are meant.
    pub which: Which,
    /// What is to be done about them.
    pub then: Then,
}

/// Which connections are meant: all of which everything holds that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// Behind this wall.
    pub tenant: Option<TenantId>,
    /// Of users of this id.
    pub user: Option<UserId>,
    /// On the node of this name.
    pub node: Option<NodeId>,
    /// This one.
    pub connection: Option<ConnectionId>,
}

/// What is to be done about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// They are to be named, in the order of their ids, which is that of their beginnings.
    List {
        /// Only those behind this one.
        after: Option<ConnectionId>,
        /// At most so many.
        limit: u64,
    },
    /// They are to be closed.
    Close(Close),
}

/// What those that are closed are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Not to come back by themselves.
    StayAway,
    /// To come back, likely to another node.
    ComeBack,
}

/// What one node found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The inquiry it answers.
    pub inquiry: u64,
    /// Whose answer it is.
    pub node: NodeId,
    /// How many were meant; where they were to be closed, they are being closed.
    pub matching: u64,
    /// Those that are named.
    pub connections: Vec<ConnectionFacts>,
}

/// A connection, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The connection.
    pub id: ConnectionId,
    /// The wall.
    pub tenant: TenantId,
    /// Whose.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Kind of device.
    pub device_type: DeviceType,
    /// Version of the app, as the device says.
    pub app_version: String,
    /// The way it came.
    pub transport: Transport,
    /// How its frames are encoded.
    pub codec: Codec,
    /// Where the client is, as far as it is known behind proxies.
    pub address: Option<IpAddr>,
    /// Since when, by its node's clock.
    pub connected_at: Time,
    /// The last change that was given to it.
    pub last: Seq,
    /// The last change that it confirmed on this connection; 0 where none was.
    pub acked: Seq,
    /// Memory of what waits for it, in bytes.
    pub queued_bytes: u64,
    /// Whether it has all there is and gets what comes at once; else it reads from the store.
    pub live: bool,
}

/// Numbers of what may stand in a payload.
mod form {
    pub(super) const LIST: u64 = 0;
    pub(super) const STAY_AWAY: u64 = 1;
    pub(super) const COME_BACK: u64 = 2;
}

pub(super) fn write_inquiry(out: &mut Writer, Inquiry { id, which, then }: &Inquiry) {
    let Which { tenant, user, node, connection } = which;
    let (number, after, limit) = match then {
        Then::List { after, limit } => (form::LIST, after.as_ref(), *limit),
        Then::Close(Close::StayAway) => (form::STAY_AWAY, None, 0),
        Then::Close(Close::ComeBack) => (form::COME_BACK, None, 0),
    };
    out.array(8);
    out.uint(*id);
    out.maybe(tenant.as_ref().map(TenantId::as_str));
    out.maybe(user.as_ref().map(UserId::as_str));
    out.maybe(node.as_ref().map(NodeId::as_str));
    out.maybe(connection.as_ref().map(ConnectionId::as_str));
    out.uint(number);
    out.maybe(after.map(ConnectionId::as_str));
    out.uint(limit);
}

/// The first eight elements.
pub(super) fn read_inquiry(from: &mut Reader<'_>) -> Read<Inquiry> {
    let number = from.uint()?;
    let which = Which {
        tenant: maybe(from, id)?,
        user: maybe(from, id)?,
        node: maybe(from, id)?,
        connection: maybe(from, id)?,
    };
    let then = from.uint()?;
    let (after, limit) = (maybe(from, id)?, from.uint()?);
    let then = match then {
        form::LIST => Then::List { after, limit },
        form::STAY_AWAY => Then::Close(Close::StayAway),
        form::COME_BACK => Then::Close(Close::ComeBack),
        _ => return Err(DecodeError::Malformed("what is to be done is not known here")),
    };
    Ok(Inquiry { id: number, which, then })
}

pub(super) fn write_findings(out: &mut Writer, findings: &Findings) {
    let Findings { inquiry, node, matching, connections } = findings;
    let connections = &connections[..connections.len().min(CONNECTIONS_MAX)];
    out.array(4);
    out.uint(*inquiry);
    out.str(node.as_str());
    out.uint(*matching);
    out.array(connections.len());
    connections.iter().for_each(|facts| write_facts(out, facts));
}

/// The first four elements.
pub(super) fn read_findings(from: &mut Reader<'_>) -> Read<Findings> {
    let (inquiry, node, matching) = (from.uint()?, id(from)?, from.uint()?);
    Ok(Findings { inquiry, node, matching, connections: list(from, CONNECTIONS_MAX, facts)? })
}

fn write_facts(out: &mut Writer, facts: &ConnectionFacts) {
    out.array(14);
    out.str(facts.id.as_str());
    out.str(facts.tenant.as_str());
    out.str(facts.user.as_str());
    out.str(facts.device.as_str());
    out.str(facts.device_type.as_str());
    out.str(&facts.app_version);
    out.str(facts.transport.word());
    out.str(facts.codec.label());
    out.maybe(facts.address.map(|address| address.to_string()).as_deref());
    out.int(facts.connected_at.millis());
    out.uint(facts.last.0);
    out.uint(facts.acked.0);
    out.uint(facts.queued_bytes);
    out.bool(facts.live);
}

fn facts(from: &mut Reader<'_>) -> Read<ConnectionFacts> {
    let more = from.fields(14)?;
    let facts = ConnectionFacts {
        id: id(from)?,
        tenant: id(from)?,
        user: id(from)?,
        device: id(from)?,
        // Of a newer node it may be a kind that is not known here.
        device_type: word(from, DeviceType::ALL, DeviceType::as_str)?.unwrap_or_default(),
        app_version: text(from)?,
        transport: word(from, Transport::ALL, Transport::word)?
            .ok_or(DecodeError::Malformed("a transport is not known here"))?,
        codec: word(from, Codec::SUBPROTOCOLS.map(|(_, codec)| codec), Codec::label)?
            .ok_or(DecodeError::Malformed("an encoding is not known here"))?,
        address: maybe(from, address)?,
        connected_at: Time::from_millis(from.int()?),
        last: Seq(from.uint()?),
        acked: Seq(from.uint()?),
        queued_bytes: from.uint()?,
        live: from.bool()?,
    };
    from.rest(more)?;
    Ok(facts)
}

fn word<T: Copy, const N: usize>(
    from: &mut Reader<'_>,
    all: [T; N],
    of: impl Fn(T) -> &'static str,
) -> Read<Option<T>> {
    let word = from.str()?;
    Ok(all.into_iter().find(|one| of(*one) == word))
}

fn address(from: &mut Reader<'_>) -> Read<IpAddr> {
    from.str()?.parse().map_err(|_| DecodeError::Malformed("an address is not one"))
}

fn maybe<'a, T>(
    from: &mut Reader<'a>,
    one: impl FnOnce(&mut Reader<'a>) -> Read<T>,
) -> Read<Option<T>> {
    if from.nil() { Ok(None) } else { one(from).map(Some) }
}
