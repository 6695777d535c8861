use super::*;

const TIMING: Timing =
    Timing { ping_interval: Duration::from_secs(30), stall_timeout: Duration::from_secs(10) };
const HOUR: Duration = Duration::from_secs(3_600);

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn text(frame: &str) -> Message {
    Message::text(frame)
}

fn act(session: &mut Session, frame: &str, now: Instant) -> Action {
    session.on_message(&text(frame), Codec::Json, now).0
}

#[test]
fn pings_at_a_steady_pace_and_ends_after_silence() {
    let start = Instant::now();
    let mut session = Session::new(start, Duration::from_secs(5), HOUR);
    assert_eq!(session.deadline(TIMING, None), after(start, 5));
    assert_eq!(session.due(after(start, 4), TIMING, None), None);
    assert_eq!(session.due(after(start, 5), TIMING, None), Some(Due::Ping { app: false }));
    assert_eq!(session.due(after(start, 5), TIMING, None), None);
    session.heard(after(start, 6));
    assert_eq!(session.deadline(TIMING, None), after(start, 35));
    assert_eq!(session.due(after(start, 35), TIMING, None), Some(Due::Ping { app: false }));
    // Nothing came since second 6: gone at 6 + 30 + 7, and a second for the goodbye.
    assert_eq!(session.deadline(TIMING, None), after(start, 43));
    assert_eq!(session.due(after(start, 42), TIMING, None), None);
    let gone = Some(Due::Close(CloseReason::NoHeartbeat));
    assert_eq!(session.due(after(start, 43), TIMING, None), gone);
}

#[test]
fn a_machine_that_slept_pings_once() {
    let start = Instant::now();
    let mut session = Session::new(start, Duration::ZERO, HOUR);
    session.heard(after(start, 1_000));
    assert_eq!(session.due(after(start, 1_000), TIMING, None), Some(Due::Ping { app: false }));
    assert_eq!(session.due(after(start, 1_001), TIMING, None), None);
}

#[test]
fn a_pong_tells_the_time_it_took_and_unasked_ones_are_counted() {
    let start = Instant::now();
    let mut session = Session::new(start, Duration::ZERO, HOUR);
    session.due(start, TIMING, None);
    let pong = Message::Pong(Default::default());
    let rtt = session.on_message(&pong, Codec::Json, after(start, 2));
    assert_eq!(rtt, (Action::Rtt(Duration::from_secs(2)), Received::Control));
    let flood = (0..200).map(|_| session.on_message(&pong, Codec::Json, after(start, 3)).0);
    let actions: Vec<_> = flood.collect();
    assert_eq!(actions[0], Action::None);
    assert_eq!(actions[199], Action::Close(CloseReason::TooManyFrames));
}

#[test]
fn while_something_waits_only_progress_counts() {
    let start = Instant::now();
    let mut session = Session::new(start, Duration::from_secs(1_000), HOUR);
    let waiting_since = Some(after(start, 60));
    assert_eq!(session.deadline(TIMING, waiting_since), after(start, 70));
    assert_eq!(session.due(after(start, 69), TIMING, waiting_since), None, "silent for 69 s");
    let stuck = Some(Due::Close(CloseReason::NoProgress));
    assert_eq!(session.due(after(start, 70), TIMING, waiting_since), stuck);
    let silent = Some(Due::Close(CloseReason::NoHeartbeat));
    assert_eq!(session.due(after(start, 70), TIMING, None), silent);
}

#[test]
fn a_token_ends_unless_refreshed() {
    let start = Instant::now();
    let mut session = Session::new(start, HOUR, Duration::from_secs(10));
    // Told a tenth of its life before, once, and never more than a minute.
    assert_eq!(session.deadline(TIMING, None), after(start, 9));
    let warned = |seconds| Some(Due::Warn { left: Duration::from_secs(seconds) });
    assert_eq!(session.due(after(start, 9), TIMING, None), warned(1));
    assert_eq!(session.due(after(start, 9), TIMING, None), None);
    assert_eq!(session.deadline(TIMING, None), after(start, 10));
    session.refreshed(after(start, 9), Duration::from_secs(20));
    assert_eq!(session.due(after(start, 10), TIMING, None), None);
    assert_eq!(session.due(after(start, 27), TIMING, None), warned(2));
    let expired = Some(Due::Close(CloseReason::TokenExpired));
    assert_eq!(session.due(after(start, 29), TIMING, None), expired);
    let mut endless = Session::new(start, HOUR, Duration::MAX);
    assert_eq!(endless.due(after(start, 36), TIMING, None), None);
}

#[test]
fn frames_become_actions() {
    let now = Instant::now();
    let mut session = Session::new(now, HOUR, HOUR);
    for (frame, action) in [
        (r#"{"type":"ping"}"#, Action::Reply(ServerFrame::Pong)),
        (r#"{"type":"ping","data":{}}"#, Action::Reply(ServerFrame::Pong)),
        (r#"{"type":"pong"}"#, Action::None),
        (r#"{"type":"ack","data":{"seq":4}}"#, Action::Ack(Seq(4))),
        (r#"{"type":"sync","data":{"since":2}}"#, Action::Sync(Seq(2))),
        (
            r#"{"type":"read","data":{"up_to_seq":3}}"#,
            Action::Read(ReadTarget::UpTo { up_to_seq: Seq(3) }),
        ),
        (r#"{"type":"refresh","data":{"token":"t"}}"#, Action::Refresh(Token("t".to_owned()))),
        ("", Action::Close(CloseReason::BadFrame)),
        ("{", Action::Close(CloseReason::BadFrame)),
    ] {
        assert_eq!(act(&mut session, frame, now), action, "{frame}");
    }
    let device = r#"{"type":"device","data":{"capabilities":["app_ping"]}}"#;
    let Action::Device(device) = act(&mut session, device, now) else { panic!("a device") };
    session.set_app_ping(&device);
    assert_eq!(session.due(now + HOUR / 200, TIMING, Some(now + HOUR)), None);
}

#[test]
fn the_wrong_opcode_for_the_codec_ends_the_connection() {
    let now = Instant::now();
    let mut session = Session::new(now, HOUR, HOUR);
    let bad = Action::Close(CloseReason::BadFrame);
    assert_eq!(session.on_message(&Message::binary("{}"), Codec::Json, now).0, bad);
    assert_eq!(session.on_message(&text("{}"), Codec::MsgPack, now).0, bad);
}

#[test]
fn unknown_frames_are_answered_with_their_name_cut() {
    let now = Instant::now();
    let mut session = Session::new(now, HOUR, HOUR);
    let name = "é".repeat(100);
    let frame = format!(r#"{{"type":"{name}"}}"#);
    let Action::Reply(ServerFrame::Error { kind, reference, .. }) = act(&mut session, &frame, now)
    else {
        panic!("an answer");
    };
    assert_eq!(kind, ErrorType::Invalid);
    assert_eq!(reference.unwrap(), "é".repeat(32));
}

#[test]
fn a_steady_pace_is_allowed_and_a_flood_is_not() {
    let start = Instant::now();
    let mut session = Session::new(start, HOUR, HOUR);
    for at in 0..1_000_u32 {
        let now = start + Duration::from_millis(10) * at;
        assert_eq!(act(&mut session, r#"{"type":"pong"}"#, now), Action::None, "frame {at}");
    }
    let now = start + Duration::from_secs(60);
    let refused = (0..400).filter(|_| {
        act(&mut session, r#"{"type":"pong"}"#, now) == Action::Close(CloseReason::TooManyFrames)
    });
    assert_eq!(refused.count(), 200, "200 at once, no more");
}

#[test]
fn a_stream_client_may_say_a_little_and_no_more() {
    let mut session = Session::new(Instant::now(), Duration::ZERO, HOUR);
    assert_eq!(session.on_stray_bytes(2), Ok(()));
    assert_eq!(session.on_stray_bytes(usize::from(STRAY_BYTES_MAX) - 2), Ok(()));
    assert_eq!(session.on_stray_bytes(1), Err(CloseReason::BadFrame));
    assert_eq!(session.on_stray_bytes(usize::MAX), Err(CloseReason::BadFrame));
}

#[test]
fn life_that_is_found_out_late_counts_from_when_it_was() {
    let start = Instant::now();
    let mut session = Session::new(start, Duration::ZERO, HOUR);
    session.heard(after(start, 20));
    session.heard(after(start, 10));
    assert_eq!(session.due(after(start, 56), TIMING, None), Some(Due::Ping { app: false }));
    let gone = Some(Due::Close(CloseReason::NoHeartbeat));
    assert_eq!(session.due(after(start, 57), TIMING, None), gone);
}

#[test]
fn it_ends_at_its_age_and_without_one_never() {
    let start = Instant::now();
    let session = || Session::new(start, Duration::from_secs(20), HOUR);
    let mut session = [session(), session().ends_after(start, Some(Duration::from_secs(60)))];
    for session in &mut session {
        assert_eq!(session.due(after(start, 20), TIMING, None), Some(Due::Ping { app: false }));
        session.heard(after(start, 50));
        assert_eq!(session.due(after(start, 50), TIMING, None), Some(Due::Ping { app: false }));
        // A new token is no new connection.
        session.refreshed(after(start, 55), HOUR);
    }
    assert_eq!(session[0].due(after(start, 60), TIMING, None), None);
    assert_eq!(session[1].deadline(TIMING, None), after(start, 60));
    assert_eq!(session[1].due(after(start, 59), TIMING, None), None);
    let aged = Some(Due::Close(CloseReason::Aged));
    assert_eq!(session[1].due(after(start, 60), TIMING, None), aged);
}
