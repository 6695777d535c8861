//! Many messages per request, or many recipients per message: deliveries, and files filled.

use anyhow::Result;

use super::{
    Run,
    load::{Choice, Load},
    nanos,
    phase::Phase,
    send::{latencies, online},
};
use crate::{cli::Batch, clock};

pub(crate) fn run(run: &mut Run, args: &Batch) -> Result<()> {
    online(run, &args.online)?;
    run.engine.phase("sending batches");
    let choice = Choice::Any { recipients: args.recipients_per_send };
    let phase = Phase::begin(run);
    run.engine.timings.measure_from = run.engine.checker.sends();
    let mut load = Load::new(args.rate, args.messages, choice);
    if !load.run_until(run, clock::now() + nanos(args.duration))? {
        run.report.note("ended early: the ledger is full");
    }
    run.drain()?;
    let delivered = phase.end(run);
    run.report.set("rate", delivered.deliveries / delivered.seconds);
    latencies(run);
    run.report.latency("complete", &run.engine.timings.complete);
    if args.no_lag || !run.has_server {
        delivered.report(run, "delivery", delivered.deliveries);
        return Ok(());
    }
    run.engine.phase("waiting for the files");
    match run.wait_filled() {
        Ok(true) => {
            let filled = phase.end(run);
            run.report.set("rate_files_filled", filled.deliveries / filled.seconds);
            run.report.set("filled_after_s", filled.seconds - delivered.seconds);
            filled.report(run, "delivery", filled.deliveries);
            run.report.set("seconds", delivered.seconds);
            run.report.set("deliveries_per_s", delivered.deliveries / delivered.seconds);
        }
        Ok(false) => {
            run.report.note(format!("{} did not become 0", run.lag_metric));
            delivered.report(run, "delivery", delivered.deliveries);
        }
        Err(error) => {
            run.report.note(format!("files filled: not known: {error:#}"));
            delivered.report(run, "delivery", delivered.deliveries);
        }
    }
    Ok(())
}
