//! What the frames of a socket mean: the checker hears of changes, the clocks of pushes.

use protocol::{ClientFrame, Seq, ServerFrame};

use super::{Desk, End, LOST, Notice, OUT_BYTES_MAX, Phase, Socket, Sockets};
use crate::{
    scan::{Change, Stamp},
    ws_client::{self, Kind, Parsed},
};

/// Frames decoded whole at the start of a run, and then every so many: enough to see that the fast
/// scan and the codec agree, too few to cost.
const DECODED_FIRST: u64 = 16;
const DECODED_EVERY: u64 = 1_000;

impl Sockets {
    /// Takes every whole frame; how many bytes they were.
    pub(super) fn take_all(
        &mut self,
        number: u32,
        socket: &mut Socket,
        bytes: &[u8],
        now: u64,
        desk: &mut Desk<'_>,
    ) -> Result<usize, End> {
        let mut taken = 0;
        if socket.phase == Phase::Handshake {
            match ws_client::answer_head(bytes) {
                Ok(None) => return Ok(0),
                Ok(Some(head)) if head.status == 101 && head.accepted => {
                    desk.timings.handshake.record(now.saturating_sub(socket.started));
                    socket.phase = Phase::Open;
                    taken = head.length;
                }
                Ok(Some(head)) => {
                    let (status, retry_after_s) = (head.status, head.retry_after);
                    return Err(End::Refused { status, retry_after_s });
                }
                Err(what) => {
                    desk.checker.corrupt(number, what);
                    return Err(LOST);
                }
            }
        }
        loop {
            match ws_client::parse(&bytes[taken..]) {
                Parsed::Frame(kind, payload, length) => {
                    taken += length;
                    self.take_frame(number, socket, kind, payload, now, desk)?;
                }
                Parsed::Incomplete => return Ok(taken),
                Parsed::Bad(what) => {
                    desk.checker.corrupt(number, what);
                    return Err(LOST);
                }
            }
        }
    }

    fn take_frame(
        &mut self,
        number: u32,
        socket: &mut Socket,
        kind: Kind,
        payload: &[u8],
        now: u64,
        desk: &mut Desk<'_>,
    ) -> Result<(), End> {
        match kind {
            Kind::Data => {
                self.stats.frames += 1;
                match self.scanner.change(payload) {
                    Some(change) => self.take_change(number, socket, change, payload, now, desk),
                    None => self.take_other(number, socket, payload, now, desk),
                }
                Ok(())
            }
            Kind::Ping => {
                self.stats.pings += 1;
                ws_client::write(&mut socket.out, Kind::Pong, self.codec, payload);
                Ok(())
            }
            Kind::Pong => Ok(()),
            Kind::Close => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                ws_client::write(&mut socket.out, Kind::Close, self.codec, payload);
                let _ = socket.flush();
                Err(End::Code(code))
            }
        }
    }

    fn take_change(
        &mut self,
        number: u32,
        socket: &mut Socket,
        change: Change,
        payload: &[u8],
        now: u64,
        desk: &mut Desk<'_>,
    ) {
        let changes = desk.checker.changes;
        if changes < DECODED_FIRST || changes.is_multiple_of(DECODED_EVERY) {
            self.stats.decoded += 1;
            if let Err(what) = self.whole(change, payload) {
                desk.checker.corrupt(number, &what);
            }
        }
        let is_new = desk.checker.change(number, change.seq);
        let inbox = desk.checker.inboxes[number as usize];
        if !inbox.live {
            self.stats.replayed += 1;
        }
        if let Some(stamp) = change.stamp.filter(|_| is_new)
            && let Some(send) = desk.checker.deliver(number, stamp).copied()
            && stamp.send >= desk.timings.measure_from
            && inbox.measured
        {
            let timings = &mut *desk.timings;
            if inbox.live {
                timings.push.record(now.saturating_sub(send.scheduled));
                timings.push_sent.record(now.saturating_sub(send.sent));
                if send.answered == 0 {
                    timings.before_answer += 1;
                } else {
                    timings.push_answer.record(now.saturating_sub(send.answered));
                }
            }
            if desk.checker.complete(&send) {
                timings.complete.record(now.saturating_sub(send.sent));
            }
        }
        socket.unacked += 1;
        if self.ack_every > 0
            && socket.unacked >= self.ack_every
            && socket.out.len() < OUT_BYTES_MAX
        {
            socket.unacked = 0;
            let ack = self.codec.encode_client(&ClientFrame::Ack { seq: Seq(inbox.cursor) });
            ws_client::write(&mut socket.out, Kind::Data, self.codec, &ack);
        }
    }

    /// Decodes a change with the real codec and holds it against what the scan found.
    fn whole(&self, change: Change, payload: &[u8]) -> Result<(), String> {
        let frame = self.codec.decode_server(payload).map_err(|error| error.to_string())?;
        if frame.seq() != Some(Seq(change.seq)) {
            return Err(format!("scanned seq {} but decoded {:?}", change.seq, frame.seq()));
        }
        if let (ServerFrame::Message { data, .. }, Some(stamp)) = (&frame, change.stamp) {
            let content = data.fields.content.as_bytes();
            if Stamp::read(content) != Some(stamp) {
                return Err("the stamp is not at the start of the content".to_owned());
            }
            if content.len() != self.content_bytes {
                let (got, want) = (content.len(), self.content_bytes);
                return Err(format!("content has {got} bytes, {want} were sent"));
            }
        }
        Ok(())
    }

    fn take_other(
        &mut self,
        number: u32,
        socket: &mut Socket,
        payload: &[u8],
        now: u64,
        desk: &mut Desk<'_>,
    ) {
        let ready = match self.codec.decode_server(payload) {
            Err(error) => return desk.checker.corrupt(number, &error.to_string()),
            Ok(ServerFrame::Welcome(welcome)) => {
                match socket.since {
                    Some(since) => desk.checker.begin(number, since, false),
                    None => desk.checker.begin(number, welcome.seq.0, true),
                }
                socket.since.is_none()
            }
            Ok(ServerFrame::SyncComplete { .. }) => {
                desk.checker.inboxes[number as usize].live = true;
                true
            }
            Ok(ServerFrame::ResyncRequired { .. }) => {
                desk.checker.faults.resync += 1;
                true
            }
            Ok(ServerFrame::Disconnect { reconnect_after_ms, .. }) => {
                socket.after_ms = reconnect_after_ms;
                false
            }
            Ok(ServerFrame::Error { .. }) => {
                self.stats.errors += 1;
                false
            }
            Ok(ServerFrame::Message { seq, .. } | ServerFrame::StatusUpdate { seq, .. }) => {
                // Another order of members than the scan knows: right, only slower.
                let stamp = self.scanner.stamp(payload);
                let change = Change { seq: seq.0, stamp };
                return self.take_change(number, socket, change, payload, now, desk);
            }
            Ok(ServerFrame::Ping) => {
                let pong = self.codec.encode_client(&ClientFrame::Pong(None));
                ws_client::write(&mut socket.out, Kind::Data, self.codec, &pong);
                false
            }
            Ok(
                ServerFrame::Presence { .. }
                | ServerFrame::TokenExpiring { .. }
                | ServerFrame::Pong,
            ) => false,
        };
        if ready && socket.phase == Phase::Open {
            socket.phase = Phase::Ready;
            desk.timings.ready.record(now.saturating_sub(socket.started));
            desk.notices.push(Notice::Ready(number));
        }
    }
}
