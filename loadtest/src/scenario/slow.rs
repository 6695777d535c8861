//! Some sockets stop reading while messages go to them: what it costs the others and the server,
//! and whether the slow ones get everything in the end.

use anyhow::{Result, bail};

use super::{
    Run,
    dialer::{Dialer, Resume},
    load::{Choice, Load},
    nanos,
    phase::Phase,
    send::latencies,
};
use crate::{
    cli::{Rate, Slow},
    clock,
    timings::Timings,
};

pub(crate) fn run(run: &mut Run, args: &Slow) -> Result<()> {
    let (users, devices) = (run.engine.users.count, run.engine.users.devices);
    if args.slow >= users {
        bail!("--slow must leave some of the {users} users reading");
    }
    if args.online.touch {
        run.prepare(1, false)?;
    }
    let slow = args.slow * devices;
    for inbox in &mut run.engine.checker.inboxes[..slow as usize] {
        inbox.measured = false;
    }
    run.engine.phase("connecting");
    let sockets = run.engine.users.sockets();
    let mut dialer = Dialer::closed(sockets, args.online.connecting, Resume::Head);
    dialer.receive_buffer = Some((slow, args.receive_buffer));
    dialer.dial_now(0..sockets);
    run.dial(&mut dialer)?;
    if run.engine.sockets.ready < sockets && !run.engine.stopped() {
        bail!("not all came online: {}", dialer.refusals());
    }

    let choice = Choice::Split { first: args.slow, share: args.slow_share };
    let mut load = Load::new(Rate::PerSecond(args.rate), 1, choice);
    run.engine.phase("everybody reads");
    load.run_until(run, clock::now() + nanos(args.baseline))?;
    let baseline =
        std::mem::replace(&mut run.engine.timings, Timings::new(run.engine.checker.sends()));
    run.report.latency("baseline", &baseline.push);

    run.engine.phase("some do not read");
    let phase = Phase::begin(run);
    let sampler = run.has_server.then(|| run.server.sample());
    for socket in 0..slow {
        run.engine.sockets.pause(socket);
    }
    load.catch_up();
    load.run_until(run, clock::now() + nanos(args.stalled))?;
    let stretch = phase.end(run);
    latencies(run);
    for quantile in ["p50", "p99"] {
        let get = |name| run.report.get(&format!("{name}.{quantile}_ms"));
        if let Some((before, during)) = get("baseline").zip(get("push")) {
            run.report.set(format!("slowdown.{quantile}"), during / before.max(0.001));
        }
    }
    run.report.set("slow.owed_when_reading_again", run.engine.checker.owed() as f64);

    run.engine.phase("they read again");
    let again = clock::now();
    for socket in 0..slow {
        run.engine.resume(socket);
    }
    run.drain()?;
    run.report.set("slow.complete_after_s", super::seconds(again, clock::now()));
    stretch.report(run, "delivery", stretch.deliveries);
    run.report.set("rate", stretch.deliveries / stretch.seconds);
    if let Some(sampler) = sampler {
        let (peak, before) = (sampler.finish(), stretch.server_rss.map_or(0.0, |(at, by)| at - by));
        run.report.set("slow.server_rss_peak_mib", peak / f64::from(1 << 20));
        run.report.set("slow.server_rss_grown_mib", (peak - before).max(0.0) / f64::from(1 << 20));
    }
    Ok(())
}
