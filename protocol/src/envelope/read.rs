//! Bytes to envelopes, without trust.

use std::{str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{
    BODY_BYTES_MAX, CHANGES_MAX, Changes, Connected, DecodeError, ENVELOPE_BYTES_MAX, Envelope,
    Event, InboxChange, NodeAbout, NodeFacts, Read, SPENT_MAX, Spent, USERS_MAX, VERSION, What,
    form,
    inquiry::{read_findings, read_inquiry},
    kind,
    pack::Reader,
    write::STATUSES,
};
use crate::{Body, IdError, MessageState, PressedAction, Seq, Status, StatusUpdate, Time, UserId};

/// Longest text that is no id (a session, a token's id, a button's word), in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

impl Envelope {
    /// Reads what [`Envelope::encode`] wrote, here or on a newer or older node.
    ///
    /// # Errors
    /// [`DecodeError::Version`] and [`DecodeError::Kind`] for what a newer node may say, to be passed
    /// over; else the bytes are no envelope.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(DecodeError::TooBig);
        }
        let mut from = Reader(bytes);
        let more = from.fields(5)?;
        let version = from.uint()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let kind = from.uint()?;
        let (sender, number) = (from.uint()?, from.uint()?);
        let event = payload(&mut from, kind)?;
        from.rest(more)?;
        if !from.0.is_empty() {
            return Err(DecodeError::Malformed("something follows it"));
        }
        Ok(Self { sender, number, event })
    }
}

/// Who says it, and whether it is changes of an inbox, without reading them: what a node has published
/// comes back to itself wherever it listens too.
///
/// # Errors
/// As [`Envelope::decode`].
pub fn peek(bytes: &[u8]) -> Result<(u64, bool), DecodeError> {
    let mut from = Reader(bytes);
    from.fields(5)?;
    let version = from.uint()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let kind = from.uint()?;
    Ok((from.uint()?, kind == kind::CHANGES))
}

fn payload(from: &mut Reader<'_>, kind: u64) -> Read<Event> {
    let more;
    let event = match kind {
        kind::CHANGES => {
            more = from.fields(4)?;
            Event::Changes(changes(from)?)
        }
        kind::GROUP => {
            more = from.fields(2)?;
            Event::Group { tenant: id(from)?, pos: from.uint()? }
        }
        kind::CONNECTED => {
            more = from.fields(6)?;
            Event::Connected(Connected {
                tenant: id(from)?,
                user: id(from)?,
                device: id(from)?,
                connection: id(from)?,
                stamp: from.uint()?,
                again: from.bool()?,
            })
        }
        kind::PRESENCE => {
            more = from.fields(4)?;
            let (tenant, channel) = (id(from)?, id(from)?);
            Event::Presence { tenant, channel, joined: users(from)?, left: users(from)? }
        }
        kind::PRESENCE_LIST => {
            more = from.fields(4)?;
            let (tenant, channel) = (id(from)?, id(from)?);
            Event::PresenceList { tenant, channel, users: users(from)?, more: from.bool()? }
        }
        kind::PRESENCE_ASK => {
            more = from.fields(2)?;
            Event::PresenceAsk { tenant: id(from)?, channel: id(from)? }
        }
        kind::REVOKED => {
            more = from.fields(0)?;
            Event::Revoked
        }
        kind::HELLO => {
            let mut left = from.fields(3)?;
            let event = Event::Hello(facts(from, &mut left)?);
            more = left;
            event
        }
        kind::HEARTBEAT => {
            let mut left = from.fields(3)?;
            let event = Event::Heartbeat(facts(from, &mut left)?);
            more = left;
            event
        }
        kind::GOODBYE => {
            more = from.fields(1)?;
            Event::Goodbye { node: id(from)? }
        }
        kind::PING => {
            more = from.fields(1)?;
            Event::Ping { count: from.uint()? }
        }
        kind::INQUIRY => {
            more = from.fields(8)?;
            Event::Inquiry(read_inquiry(from)?)
        }
        kind::FINDINGS => {
            more = from.fields(4)?;
            Event::Findings(read_findings(from)?)
        }
        kind::SPENT => {
            more = from.fields(1)?;
            Event::Spent(list(from, SPENT_MAX, spent)?)
        }
        other => return Err(DecodeError::Kind(other)),
    };
    from.rest(more)?;
    Ok(event)
}

fn changes(from: &mut Reader<'_>) -> Read<Changes> {
    let (tenant, user) = (id(from)?, id(from)?);
    let bodies = list(from, CHANGES_MAX, body)?;
    let changes = list(from, CHANGES_MAX, |from| change(from, &bodies))?;
    let contiguous = changes.windows(2).all(|two| two[0].seq.next() == two[1].seq);
    if changes.is_empty() || !contiguous {
        return Err(DecodeError::Malformed("its changes are not contiguous"));
    }
    Ok(Changes { tenant, user, changes })
}

/// A body goes into clients' frames as it is, so it must be a JSON object with the brace that
/// [`Body`] keeps behind it, and nothing else.
fn body(from: &mut Reader<'_>) -> Read<Arc<Body>> {
    let more = from.fields(3)?;
    let message = id(from)?;
    let expire_at = time(from)?;
    let tail = from.bin()?;
    from.rest(more)?;
    let wrong = DecodeError::Malformed("a body is not a JSON object");
    if tail.len() > BODY_BYTES_MAX {
        return Err(DecodeError::Malformed("a body is too large"));
    }
    let [entries @ .., b'}'] = tail else { return Err(wrong) };
    let mut json = Vec::with_capacity(tail.len());
    json.push(b'{');
    json.extend_from_slice(entries);
    let text = std::str::from_utf8(&json).map_err(|_| wrong)?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| wrong)?;
    let starts_with_a_name = entries.first() == Some(&b'"');
    if !starts_with_a_name || entries.last() != Some(&b'}') {
        return Err(wrong);
    }
    Ok(Arc::new(Body::from_tail(message, expire_at, Bytes::copy_from_slice(tail))))
}

fn change(from: &mut Reader<'_>, bodies: &[Arc<Body>]) -> Read<InboxChange> {
    let more = from.fields(2)?;
    let seq = Seq(from.uint()?);
    let short = DecodeError::Malformed("a change is too short");
    let beyond = |known: usize| more.checked_sub(known).ok_or(short);
    let (what, mut more) = match from.uint()? {
        form::MESSAGE => {
            let more = beyond(6)?;
            let missing = DecodeError::Malformed("a change names a body that is not there");
            let place = usize::try_from(from.uint()?).map_err(|_| missing)?;
            let body = Arc::clone(bodies.get(place).ok_or(missing)?);
            let state = MessageState {
                seq: Seq(from.uint()?),
                version: Seq(from.uint()?),
                is_read: from.bool()?,
                status: status(from)?,
                read_at: time(from)?,
            };
            (What::Message { state, body }, more)
        }
        form::STATUS => {
            let more = beyond(5)?;
            let message_id = id(from)?;
            let status = status(from)?;
            let device_id = if from.nil() { None } else { Some(id(from)?) };
            let at = Time::from_millis(from.int()?);
            let action = if from.nil() { None } else { Some(action(from)?) };
            (What::Status(StatusUpdate { message_id, status, device_id, at, action }), more)
        }
        // What a newer node says of a change stands in the store too, in words that this one knows.
        _ => (What::InStore, more),
    };
    let (mut age, mut span) = (None, None);
    if !matches!(what, What::InStore) {
        age = added(from, &mut more, Reader::uint)?;
        // One of another length is of a version that means something else by it.
        span = added(from, &mut more, Reader::bin)?.and_then(|bytes| bytes.try_into().ok());
    }
    from.rest(more)?;
    Ok(InboxChange { seq, what, age, span })
}

fn action(from: &mut Reader<'_>) -> Read<PressedAction> {
    let more = from.fields(2)?;
    let range = DecodeError::Malformed("a button is out of range");
    let index = u8::try_from(from.uint()?).map_err(|_| range)?;
    let action = text(from)?;
    from.rest(more)?;
    Ok(PressedAction { index, action })
}

/// `more` elements follow the first three.
fn facts(from: &mut Reader<'_>, more: &mut usize) -> Read<NodeFacts> {
    let (node, clock, lost) = (id(from)?, from.uint()?, from.uint()?);
    let connections = added(from, more, Reader::uint)?;
    let secrets = added(from, more, Reader::uint)?;
    let about = added(from, more, about)?;
    let admin = added(from, more, Reader::uint)?;
    Ok(NodeFacts { node, clock, lost, connections, secrets, about, admin })
}

/// Something that was added at the end of a payload: an older node says nothing there.
fn added<'a, T>(
    from: &mut Reader<'a>,
    more: &mut usize,
    read: impl FnOnce(&mut Reader<'a>) -> Read<T>,
) -> Read<Option<T>> {
    if *more == 0 {
        return Ok(None);
    }
    *more -= 1;
    if from.nil() { Ok(None) } else { read(from).map(Some) }
}

fn about(from: &mut Reader<'_>) -> Read<NodeAbout> {
    let more = from.fields(4)?;
    let about = NodeAbout {
        role: text(from)?,
        version: text(from)?,
        started_at: Time::from_millis(from.int()?),
        draining: from.bool()?,
    };
    from.rest(more)?;
    Ok(about)
}

fn spent(from: &mut Reader<'_>) -> Read<Spent> {
    let more = from.fields(3)?;
    let spent = Spent { scope: from.uint()?, key: from.uint()?, nanos: from.uint()? };
    from.rest(more)?;
    Ok(spent)
}

pub(super) fn id<T: FromStr<Err = IdError>>(from: &mut Reader<'_>) -> Read<T> {
    let text = from.str()?;
    text.parse().map_err(|_| DecodeError::Malformed("an id is not valid"))
}

pub(super) fn text(from: &mut Reader<'_>) -> Read<String> {
    let text = from.str()?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(DecodeError::Malformed("a text is too long"));
    }
    Ok(text.to_owned())
}

fn time(from: &mut Reader<'_>) -> Read<Option<Time>> {
    Ok(if from.nil() { None } else { Some(Time::from_millis(from.int()?)) })
}

fn status(from: &mut Reader<'_>) -> Read<Status> {
    let unknown = DecodeError::Malformed("a status is not known here");
    let number = usize::try_from(from.uint()?).map_err(|_| unknown)?;
    STATUSES.get(number).copied().ok_or(unknown)
}

fn users(from: &mut Reader<'_>) -> Read<Vec<UserId>> {
    list(from, USERS_MAX, id)
}

pub(super) fn list<T>(
    from: &mut Reader<'_>,
    max: usize,
    mut one: impl FnMut(&mut Reader<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    let length = from.array()?;
    if length > max {
        return Err(DecodeError::Malformed("a list is too long"));
    }
    (0..length).map(|_| one(from)).collect()
}
