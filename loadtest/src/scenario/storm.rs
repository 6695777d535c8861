//! Everybody is cut at once and comes back with jitter, while sends go on.

use anyhow::Result;

use super::{
    Run,
    dialer::{Dialer, Resume},
    load::{Choice, Load},
    nanos,
    phase::Phase,
    seconds,
    send::{latencies, online},
};
use crate::{
    cli::{Rate, Storm},
    clock::{self, SECOND},
    timings::Timings,
};

pub(crate) fn run(run: &mut Run, args: &Storm) -> Result<()> {
    online(run, &args.online)?;
    let sockets = run.engine.users.sockets();
    let mut load = Load::new(Rate::PerSecond(args.rate), 1, Choice::Any { recipients: 1 });
    run.engine.phase("before the cut");
    load.run_until(run, clock::now() + nanos(args.before))?;

    let phase = Phase::begin(run);
    run.engine.phase("storm");
    let replayed = run.engine.sockets.stats.replayed;
    run.engine.timings = Timings::new(run.engine.checker.sends());
    run.keeper = Dialer::closed(sockets, u32::MAX, Resume::Cursor)
        .with_backoff(args.backoff, args.backoff_max);
    let cut = clock::now();
    for socket in 0..sockets {
        run.engine.sockets.cut(socket);
        run.keeper.dial_later(socket, 0);
    }
    let mut half = None;
    let some_away = |run: &Run, now: u64| {
        let ready = run.engine.sockets.ready;
        if half.is_none() && ready >= sockets / 2 {
            half = Some(now);
        }
        ready < sockets && !run.keeper.is_done()
    };
    load.run_while(run, some_away, clock::now() + 3_600 * SECOND)?;
    let back = clock::now();
    let stretch = phase.end(run);
    let back_again = f64::from(run.engine.sockets.ready);
    if back_again < f64::from(sockets) {
        run.report.note(format!("not all came back: {}", run.keeper.refusals()));
    }
    run.report.set("storm.back", back_again);
    run.report.set("storm.all_back_s", seconds(cut, back));
    if let Some(half) = half {
        run.report.set("storm.half_back_s", seconds(cut, half));
    }
    run.report.set("storm.broken", run.keeper.broken as f64);
    for (status, count) in &run.keeper.refused {
        run.report.set(format!("storm.http_{status}"), *count as f64);
    }
    run.report.set("rate", back_again / seconds(cut, back));

    run.engine.phase("after the storm");
    load.run_until(run, clock::now() + nanos(args.after))?;
    run.drain()?;
    let came_back = run.engine.sockets.stats.replayed - replayed;
    run.report.set("storm.replayed", came_back as f64);
    run.report.latency("handshake", &run.engine.timings.handshake);
    run.report.latency("ready", &run.engine.timings.ready);
    latencies(run);
    stretch.report(run, "connect", back_again);
    Ok(())
}
