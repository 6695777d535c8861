//! One message to one user per request, while everybody is online.

use anyhow::Result;

use super::{
    Run,
    load::{Choice, Load},
    nanos,
    phase::Phase,
};
use crate::{
    cli::{Online, Send},
    clock,
    timings::Timings,
};

/// Fills inboxes if asked, and connects everybody.
pub(crate) fn online(run: &mut Run, online: &Online) -> Result<()> {
    if online.touch {
        run.prepare(1, false)?;
    }
    run.bring_online(online.connecting)
}

/// Writes the latencies of the phase.
pub(crate) fn latencies(run: &mut Run) {
    let timings = &run.engine.timings;
    run.report.latency("push", &timings.push);
    run.report.latency("push_sent", &timings.push_sent);
    run.report.latency("push_answer", &timings.push_answer);
    run.report.set("push_before_answer", timings.before_answer as f64);
    run.report.latency("post", &timings.post);
    run.report.latency("post_scheduled", &timings.post_scheduled);
}

pub(crate) fn run(run: &mut Run, args: &Send) -> Result<()> {
    online(run, &args.online)?;
    let mut load = Load::new(args.rate, 1, Choice::Any { recipients: 1 });
    if !args.warmup.is_zero() {
        run.engine.phase("warming up");
        load.run_until(run, clock::now() + nanos(args.warmup))?;
    }
    run.engine.phase("sending");
    // The server's figures are read first: the scrape stands still for milliseconds, which must
    // fall into the warm-up's sends, not into the measured ones.
    let phase = Phase::begin(run);
    run.engine.timings = Timings::new(run.engine.checker.sends());
    load.catch_up();
    if !load.run_until(run, clock::now() + nanos(args.duration))? {
        run.report.note("ended early: the ledger is full");
    }
    let stretch = phase.end(run);
    run.drain()?;
    run.report.set("rate", stretch.accepted / stretch.seconds);
    latencies(run);
    stretch.report(run, "delivery", stretch.deliveries);
    Ok(())
}
