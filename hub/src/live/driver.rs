//! The one task of a connection: everything that waits, waits here.
//!
//! Inputs, in the order in which they are served: a request to close, room in the socket, a page of
//! the backlog, a finished read mark, bytes from the client, the time. They are polled by hand and
//! not by `select!`, because an idle connection then keeps no futures: what it holds is this struct
//! and one timer.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use delivery::{
    StoreError,
    store::{BoxFuture, Mark, MarkTarget, Marked, WatchGuard},
};
use protocol::{
    ChannelId, CloseReason, DeviceInfo, ErrorType, ReadTarget, Seq, ServerFrame,
    client_frame::Token,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
    time::{Sleep, sleep_until},
};

use super::{
    Live,
    channels::Admission,
    connection::Connection,
    frame_reader::{FrameReader, Messages},
    framing::{Framing, Transport},
    last_ack::since_last_ack,
    outbox::{Flushed, Next},
    presence::{JOINED_MAX, TooManyJoined},
    replay::{PageResult, read_page},
    session::{Action, Due, Received, Session, error_frame, refused_by_store},
    verifier::token_life,
    wire_frame::WireFrame,
};

/// Steps of one connection before others get their turn.
const STEPS_PER_POLL_MAX: usize = 32;

thread_local! {
    /// What one read takes. It holds nothing between reads: connections keep only what is
    /// incomplete, in their [`FrameReader`].
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the client asked for in one read and that has to wait for the store. No more is read from it
/// while there is any, so one read buffer bounds them.
type Tasks = VecDeque<Task>;

/// See [`Tasks`].
enum Task {
    Read(ReadTarget),
    Join(ChannelId),
    Leave(ChannelId),
}

/// What has become of a task.
enum Done {
    /// The changes themselves come back through the fan-out, to every device.
    Read(Result<Marked, StoreError>),
    Joined(ChannelId, Result<Option<Admission>, StoreError>),
}

/// A connection's task.
pub(super) struct Driver {
    live: Arc<Live>,
    connection: Arc<Connection>,
    session: Session,
    reader: OwnedReadHalf,
    frames: FrameReader,
    page: Option<BoxFuture<'static, PageResult>>,
    task: Option<BoxFuture<'static, Done>>,
    tasks: Option<Box<Tasks>>,
    timer_at: Instant,
    /// While it lives, the store publishes this inbox.
    _watch: Box<dyn WatchGuard>,
}

impl Driver {
    pub(super) fn new(
        live: Arc<Live>,
        connection: Arc<Connection>,
        session: Session,
        reader: OwnedReadHalf,
        watch: Box<dyn WatchGuard>,
    ) -> Self {
        let timer_at = session.deadline(live.timing(), None);
        Self {
            live,
            connection,
            session,
            reader,
            frames: FrameReader::default(),
            page: None,
            task: None,
            tasks: None,
            timer_at,
            _watch: watch,
        }
    }

    /// Bytes that came together with the handshake.
    pub(super) fn feed_early(&mut self, bytes: &[u8]) -> Result<(), CloseReason> {
        if bytes.is_empty() { Ok(()) } else { self.received(bytes, Instant::now()) }
    }

    /// Runs until the connection must end, and says why.
    pub(super) async fn run(&mut self) -> CloseReason {
        let mut timer = pin!(sleep_until(self.timer_at.into()));
        poll_fn(|cx| self.poll(cx, timer.as_mut())).await
    }

    /// Lets go of the reader for the goodbye; the rest ends here.
    pub(super) fn into_reader(self) -> (OwnedReadHalf, FrameReader) {
        (self.reader, self.frames)
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<CloseReason> {
        // Registered before anything is looked at, so that no wake falls in between.
        self.connection.waker().register(cx.waker());
        for _ in 0..STEPS_PER_POLL_MAX {
            match self.step(cx, timer.as_mut()) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(reason) => return Poll::Ready(reason),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Serves each input once; answers whether any had something.
    fn step(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Result<bool, CloseReason> {
        let now = Instant::now();
        Ok(self.write(cx, now)?
            | self.catch_up(cx, now)?
            | self.run_tasks(cx, now)?
            | self.read(cx, now)?
            | self.tick(cx, timer, now)?)
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        let mut progress = false;
        loop {
            let flushed = {
                let mut outbox = self.connection.outbox().lock();
                if let Some(reason) = outbox.close_requested() {
                    return Err(reason);
                }
                outbox.flush(self.live.io(&self.connection, now))
            };
            let (flushed, delivered) = flushed.map_err(|_| CloseReason::ConnectionLost)?;
            self.live.registry().note_delivered(&self.connection, delivered);
            match flushed {
                Flushed::Empty { unblocked } => {
                    if unblocked {
                        self.session.heard(now);
                    }
                    return Ok(progress);
                }
                Flushed::More { unblocked } => {
                    progress = true;
                    if unblocked {
                        self.session.heard(now);
                        // A socket that was full takes a piece at a time: others first.
                        return Ok(true);
                    }
                }
                Flushed::Blocked => {
                    let socket = self.connection.socket().as_ref();
                    match socket.poll_write_ready(cx) {
                        Poll::Pending => return Ok(progress),
                        Poll::Ready(Ok(())) => progress = true,
                        Poll::Ready(Err(_)) => return Err(CloseReason::ConnectionLost),
                    }
                }
            }
        }
    }

    fn catch_up(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        if self.page.is_none() {
            let next = {
                let io = self.live.io(&self.connection, now);
                self.connection.outbox().lock().next(self.connection.framing(), io)
            };
            match next {
                Next::Wait => return Ok(false),
                Next::WentLive => return Ok(true),
                Next::Read(request) => {
                    self.page = Some(read_page(
                        self.live.registry().clone(),
                        self.live.store().clone(),
                        self.live.page_permits().clone(),
                        self.connection.clone(),
                        request,
                    ));
                }
            }
        }
        let Some(page) = self.page.as_mut() else { return Ok(false) };
        let Poll::Ready(result) = page.as_mut().poll(cx) else { return Ok(false) };
        self.page = None;
        match result {
            Ok((request, page)) => {
                let io = self.live.io(&self.connection, now);
                let framing = self.connection.framing();
                self.connection.outbox().lock().accept_page(request, page, framing, io);
                Ok(true)
            }
            Err(error) => {
                let connection = self.connection.id().simple().to_string();
                tracing::warn!(%connection, error = &error as &dyn std::error::Error,
                    "backlog could not be read");
                Err(CloseReason::TryLater)
            }
        }
    }

    fn run_tasks(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        if self.task.is_none() {
            let Some(task) = self.tasks.as_mut().and_then(|tasks| tasks.pop_front()) else {
                self.tasks = None;
                return Ok(false);
            };
            match self.begin(task) {
                Some(begun) => self.task = Some(begun),
                None => return Ok(true),
            }
        }
        let Some(task) = self.task.as_mut() else { return Ok(false) };
        let Poll::Ready(done) = task.as_mut().poll(cx) else { return Ok(false) };
        self.task = None;
        match done {
            Done::Read(Ok(_)) => {}
            Done::Read(Err(error)) => self.reply(&refused_by_store(&error, "read"), now)?,
            Done::Joined(channel, Ok(admission)) => self.joined(channel, admission, now)?,
            Done::Joined(_, Err(error)) => self.reply(&refused_by_store(&error, "join"), now)?,
        }
        Ok(true)
    }

    /// Begins what has to wait; does at once what has not.
    fn begin(&self, task: Task) -> Option<BoxFuture<'static, Done>> {
        let (live, connection) = (self.live.clone(), self.connection.clone());
        match task {
            Task::Read(target) => {
                let target = match target {
                    ReadTarget::Ids { message_ids } => MarkTarget::Many(message_ids),
                    ReadTarget::UpTo { up_to_seq } => MarkTarget::UpTo(up_to_seq),
                };
                Some(Box::pin(async move {
                    let device = Some(connection.device().clone());
                    let inbox = connection.inbox();
                    Done::Read(live.store().mark(inbox, device, Mark::Read, target).await)
                }))
            }
            Task::Join(channel) => Some(Box::pin(async move {
                let admitted = live.channels().admit(connection.inbox(), &channel).await;
                Done::Joined(channel, admitted)
            })),
            Task::Leave(channel) => {
                live.presence().leave(&live, &connection, &channel);
                None
            }
        }
    }

    fn joined(
        &self,
        channel: ChannelId,
        admission: Option<Admission>,
        now: Instant,
    ) -> Result<(), CloseReason> {
        let refused = |kind, text: String| error_frame(kind, text, Some("join".to_owned()));
        let answer = match admission {
            // Not there, and not for this user, answer alike (contract §2.5).
            None => refused(ErrorType::NotFound, "there is no such channel".to_owned()),
            Some(Admission { presence: true }) => {
                match self.live.presence().join(&self.live, &self.connection, &channel) {
                    // The list that comes is the answer.
                    Ok(()) => return Ok(()),
                    Err(TooManyJoined) => refused(
                        ErrorType::Invalid,
                        format!("a connection may join at most {JOINED_MAX} channels"),
                    ),
                }
            }
            Some(Admission { presence: false }) => ServerFrame::Presence {
                channel_id: channel,
                user_id: self.connection.inbox().user.clone(),
                online: true,
            },
        };
        self.reply(&answer, now)
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        if self.tasks.is_some() || self.task.is_some() {
            return Ok(false);
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(self.live.config().read_buffer_size.max(READ_BYTES_MIN), 0);
            let mut buffer = ReadBuf::new(buffer);
            match Pin::new(&mut self.reader).poll_read(cx, &mut buffer) {
                Poll::Pending => Ok(false),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.received(buffer.filled(), now)?;
                    Ok(true)
                }
                // A stream has no other way to say goodbye.
                Poll::Ready(Ok(())) if self.connection.transport() == Transport::EventStream => {
                    Err(CloseReason::ClientClosed)
                }
                Poll::Ready(Ok(()) | Err(_)) => Err(CloseReason::ConnectionLost),
            }
        })
    }

    fn received(&mut self, bytes: &[u8], now: Instant) -> Result<(), CloseReason> {
        self.session.heard(now);
        let codec = match self.connection.framing() {
            Framing::WebSocket(codec) => codec,
            Framing::EventStream => return self.session.on_stray_bytes(bytes.len()),
        };
        let mut messages = Messages::new();
        let answer = self.frames.read(bytes, &mut messages);
        // Good frames before a bad one still count; answers to pings go out before a goodbye.
        for message in &messages {
            let (action, received) = self.session.on_message(message, codec, now);
            let metrics = self.live.metrics();
            match received {
                Received::Frame(name) => metrics.received(name),
                Received::Control => metrics.received_control.increment(1),
                Received::Invalid => metrics.received_invalid.increment(1),
            }
            if action == Action::Close(CloseReason::ClientClosed)
                && let Ok(bytes) = &answer
            {
                self.queue(WireFrame::raw(bytes.clone()), now)?;
            }
            self.perform(action, now)?;
        }
        let answer = answer.inspect_err(|_| self.live.metrics().received_invalid.increment(1))?;
        if !answer.is_empty() {
            self.queue(WireFrame::raw(answer), now)?;
        }
        Ok(())
    }

    fn perform(&mut self, action: Action, now: Instant) -> Result<(), CloseReason> {
        match action {
            Action::None => Ok(()),
            Action::Reply(frame) => self.reply(&frame, now),
            Action::Device(device) => {
                self.device(device);
                Ok(())
            }
            Action::Ack(seq) => {
                self.ack(seq, now);
                Ok(())
            }
            Action::Read(target) => self.wait_for(Task::Read(target)),
            Action::Join(channel) => self.wait_for(Task::Join(channel)),
            Action::Leave(channel) => self.wait_for(Task::Leave(channel)),
            Action::Sync(since) => {
                self.connection.outbox().lock().sync(since, self.live.metrics());
                Ok(())
            }
            Action::Refresh(token) => self.refresh(&token, now),
            Action::Rtt(rtt) => {
                self.live.metrics().ping_rtt.record(rtt);
                Ok(())
            }
            Action::Close(reason) => Err(reason),
        }
    }

    /// In the order in which the client asked.
    #[expect(clippy::unnecessary_wraps, reason = "the other actions can end the connection")]
    fn wait_for(&mut self, task: Task) -> Result<(), CloseReason> {
        self.tasks.get_or_insert_default().push_back(task);
        Ok(())
    }

    fn device(&mut self, device: DeviceInfo) {
        self.session.set_app_ping(&device);
        let (metrics, framing) = (self.live.metrics(), self.connection.framing());
        metrics.connections(device.device_type, framing).increment(1.0);
        let before = self.connection.set_info(device);
        metrics.connections(before, framing).decrement(1.0);
    }

    fn ack(&self, seq: Seq, now: Instant) {
        let seq = self.connection.outbox().lock().acked(seq, now, self.live.metrics());
        self.connection.confirmed(seq);
        if let Some(device) = self.connection.known_device() {
            self.live.store().ack(self.connection.inbox(), device, seq);
        }
    }

    fn refresh(&mut self, token: &Token, now: Instant) -> Result<(), CloseReason> {
        let verified = self.live.verifier().verify_token(&token.0);
        let refusal = match verified {
            Ok(caller) if !self.connection.is_same(&caller) => {
                (ErrorType::Forbidden, "the token is of another user, tenant or device".to_owned())
            }
            Ok(caller) => {
                self.session.refreshed(now, token_life(&caller, self.live.wall().now()));
                self.connection.set_login(&caller);
                // Revoked after it was checked and before it was kept, nobody would have found it here.
                if !self.live.verifier().is_valid(self.connection.inbox(), &self.connection.login())
                {
                    return Err(CloseReason::Revoked);
                }
                let (live, address) = (Arc::clone(&self.live), self.connection.address());
                self.live.tasks.spawn(async move { live.verifier().note(&caller, address).await });
                return Ok(());
            }
            Err(refusal) => (refusal.kind(), refusal.to_string()),
        };
        // The old token still counts: the client may try again with another before it ends.
        self.reply(&error_frame(refusal.0, refusal.1, Some("refresh".to_owned())), now)
    }

    fn reply(&self, frame: &ServerFrame, now: Instant) -> Result<(), CloseReason> {
        self.queue(WireFrame::server(frame, self.connection.framing()), now)
    }

    fn queue(&self, frame: WireFrame, now: Instant) -> Result<(), CloseReason> {
        let io = self.live.io(&self.connection, now);
        let queued = self.connection.outbox().lock().reply(frame, io);
        queued.map_err(|_| CloseReason::NoProgress)
    }

    fn tick(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        now: Instant,
    ) -> Result<bool, CloseReason> {
        let timing = self.live.timing();
        let waiting_since = self.connection.outbox().lock().waiting_since();
        let deadline = self.session.deadline(timing, waiting_since);
        // A timer that fires too early costs one look; moving it with every byte costs more.
        if deadline < self.timer_at {
            self.timer_at = deadline;
            timer.as_mut().reset(deadline.into());
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        if self.connection.transport() == Transport::EventStream
            && let Ok(ago) = since_last_ack(self.connection.socket().as_ref())
            && let Some(at) = now.checked_sub(ago)
        {
            self.session.heard(at);
        }
        match self.session.due(now.max(self.timer_at), timing, waiting_since) {
            Some(Due::Close(reason)) => return Err(reason),
            Some(Due::Ping { app }) => {
                self.queue(WireFrame::ping(self.connection.framing()), now)?;
                if app {
                    self.reply(&ServerFrame::Ping, now)?;
                }
            }
            Some(Due::Warn { left }) => {
                let expires_in_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                self.reply(&ServerFrame::TokenExpiring { expires_in_ms }, now)?;
            }
            None => {}
        }
        self.timer_at = self.session.deadline(timing, waiting_since);
        timer.reset(self.timer_at.into());
        Ok(true)
    }
}

/// Least of what one read takes, in bytes, whatever `WS_READ_BUFFER_SIZE` says: a frame header.
const READ_BYTES_MIN: usize = 64;
