//! Messages to everybody online, until the last one has each; or everybody's backlog, read at once.

use anyhow::Result;

use super::{
    Run,
    dialer::{Dialer, Resume},
    phase::Phase,
    send::{latencies, online},
};
use crate::{
    cli::{Broadcast, BroadcastMode},
    clock::{self, MS},
    http_client::Shape,
};

pub(crate) fn run(run: &mut Run, args: &Broadcast) -> Result<()> {
    match args.mode {
        BroadcastMode::Live => live(run, args),
        BroadcastMode::Backlog => backlog(run, args),
    }
}

fn live(run: &mut Run, args: &Broadcast) -> Result<()> {
    online(run, &args.online)?;
    run.engine.phase("broadcasting");
    let users = run.engine.users.count;
    let phase = Phase::begin(run);
    run.engine.timings.measure_from = run.engine.checker.sends();
    let mut left = args.messages;
    while left > 0 && !run.engine.stopped() {
        let burst = args.burst.min(left);
        left -= burst;
        for _ in 0..burst {
            let everybody = std::iter::once((0, users));
            run.engine.submit(Shape::All, everybody, clock::now(), true)?;
        }
        let until = clock::now() + run.grace;
        while (run.engine.checker.owed() > 0 || !run.engine.http.is_quiet())
            && clock::now() < until
            && !run.engine.stopped()
        {
            run.turn(clock::now() + 100 * MS)?;
        }
    }
    let stretch = phase.end(run);
    run.drain()?;
    run.report.set("rate", stretch.deliveries / stretch.seconds);
    run.report.latency("complete", &run.engine.timings.complete);
    latencies(run);
    stretch.report(run, "delivery", stretch.deliveries);
    Ok(())
}

fn backlog(run: &mut Run, args: &Broadcast) -> Result<()> {
    run.prepare(args.messages, true)?;
    run.engine.phase("replaying");
    let sockets = run.engine.users.sockets();
    let mut dialer = Dialer::closed(sockets, args.online.connecting, Resume::Start);
    let phase = Phase::begin(run);
    dialer.dial_now(0..sockets);
    run.dial(&mut dialer)?;
    run.drain()?;
    let stretch = phase.end(run);
    run.report.set("rate", stretch.deliveries / stretch.seconds);
    run.report.set("connects_per_s", f64::from(run.engine.sockets.ready) / stretch.seconds);
    run.report.latency("handshake", &run.engine.timings.handshake);
    run.report.latency("ready", &run.engine.timings.ready);
    stretch.report(run, "delivery", stretch.deliveries);
    if run.engine.sockets.ready < sockets {
        run.report.note(format!("not all came online: {}", dialer.refusals()));
    }
    Ok(())
}
