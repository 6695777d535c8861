//! Edits and recalls.

use protocol::{Body, Seq, Status, Time};
use rusqlite::{OptionalExtension, params};

use super::{
    super::{
        record::RewriteRecord,
        schema::{kind, status_code},
        shared::body_of,
    },
    write::{Change, Row, Writer, row},
};
use crate::store::{is_live, recalled::without_content};

impl Writer<'_> {
    /// Takes over an edit or a recall. It takes its place in the log whatever has become of the
    /// message meanwhile.
    pub(super) fn rewrite(&mut self, seq: Seq, rewrite: &RewriteRecord) -> rusqlite::Result<()> {
        let found = self
            .db
            .prepare_cached(
                "SELECT seq, status, ifnull(channel_id, ''), id, expire_at, body FROM message
                 WHERE id = ?1",
            )?
            .query_row([rewrite.id.as_str()], |found| Ok((row(found)?, body_of(found, 3)?)))
            .optional()?;
        let (message_seq, status) = match &found {
            // It was pruned.
            None => (Seq::ZERO, Status::Expired),
            Some((message, before)) => {
                let status = self.expire(message, before, rewrite.at)?;
                let status = match &rewrite.body {
                    Some(body) if is_live(status) => {
                        self.edit(seq, message, body)?;
                        status
                    }
                    Some(_) => status,
                    None => self.recall(seq, message, status, before)?,
                };
                (message.seq, status)
            }
        };
        let kind = if rewrite.body.is_some() { kind::EDIT } else { kind::RECALL };
        let (id, at) = (&rewrite.id, rewrite.at);
        self.log(&Change { seq, message_seq, id, kind, status, device: None, at, action: None })
    }

    /// What a message is when something comes for it: expired if its time had passed.
    fn expire(&mut self, message: &Row, body: &Body, at: Time) -> rusqlite::Result<Status> {
        if !is_live(message.status) || !body.expired(at) {
            return Ok(message.status);
        }
        self.tally.becomes(&message.channel, message.status, Status::Expired);
        self.db
            .prepare_cached("UPDATE message SET status = ?1 WHERE seq = ?2")?
            .execute(params![status_code(Status::Expired), message.seq.0.cast_signed()])?;
        Ok(Status::Expired)
    }

    fn edit(&mut self, seq: Seq, message: &Row, body: &Body) -> rusqlite::Result<()> {
        let facts = body.facts();
        let channel = facts.channel_id.as_ref().map(protocol::ChannelId::as_str);
        self.expiring |= body.expire_at().is_some();
        self.tally.add(&message.channel, message.status, -1);
        self.tally.add(channel.unwrap_or_default(), message.status, 1);
        self.db
            .prepare_cached(
                "UPDATE message SET version = ?1, body_version = ?1, priority = ?2,
                 created_at = ifnull(?3, created_at), expire_at = ?4, channel_id = ?5,
                 message_type = ?6, sender = ?7, collapse_key = ?8, body = ?9 WHERE seq = ?10",
            )?
            .execute(params![
                seq.0.cast_signed(),
                facts.priority,
                facts.created_at.map(Time::millis),
                body.expire_at().map(Time::millis),
                channel,
                facts.message_type,
                facts.sender,
                facts.collapse_key,
                std::str::from_utf8(&body.json()).expect("a body is JSON"),
                message.seq.0.cast_signed(),
            ])
            .map(drop)
    }

    /// Takes the content away, whatever the message is; one that could be seen is recalled from now
    /// on.
    fn recall(
        &mut self,
        seq: Seq,
        message: &Row,
        status: Status,
        body: &Body,
    ) -> rusqlite::Result<Status> {
        let becomes = if is_live(status) { Status::Recalled } else { status };
        self.tally.becomes(&message.channel, status, becomes);
        self.db
            .prepare_cached(
                "UPDATE message SET version = ?1, body_version = ?1, status = ?2,
                 collapse_key = NULL, body = ?3 WHERE seq = ?4",
            )?
            .execute(params![
                seq.0.cast_signed(),
                status_code(becomes),
                std::str::from_utf8(&without_content(body).json()).expect("a body is JSON"),
                message.seq.0.cast_signed(),
            ])?;
        Ok(becomes)
    }
}
