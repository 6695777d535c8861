//! One node of several is told to go (SIGTERM) while sends go on: until all its sockets are elsewhere.

use anyhow::{Context, Result, bail};

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
    cli::{Rate, Rollout},
    clock::{self, SECOND},
    machine,
    timings::Timings,
};

pub(crate) fn run(run: &mut Run, args: &Rollout) -> Result<()> {
    let nodes = run.engine.targets.iter().count();
    let node = args.node as usize - 1;
    if nodes < 2 || node >= nodes || run.server.pids.len() != nodes {
        bail!("give --url and --server-pid of each of two or more nodes, in one order, and --node");
    }
    online(run, &args.online)?;
    let sockets = run.engine.users.sockets();
    let mut load = Load::new(Rate::PerSecond(args.rate), 1, Choice::Any { recipients: 1 });
    run.engine.phase("before it goes");
    load.run_until(run, clock::now() + nanos(args.before))?;

    let there = run.engine.sockets.of_node(node, nodes);
    // The figures of the server are those of the nodes that stay.
    let gone = run.server.pids.remove(node);
    if run.server.admins.len() == nodes {
        run.server.admins.remove(node);
    }
    let phase = Phase::begin(run);
    run.engine.phase("rollout");
    let replayed = run.engine.sockets.stats.replayed;
    run.engine.timings = Timings::new(run.engine.checker.sends());
    run.keeper = Dialer::closed(sockets, u32::MAX, Resume::Cursor);
    let told = clock::now();
    machine::terminate(gone).with_context(|| format!("ending the process {gone}"))?;
    let ended = |run: &Run| run.keeper.closed.values().sum::<u64>();
    let (mut half, mut all_told) = (None, None);
    let on_the_move = |run: &Run, now: u64| {
        let (ended, ready) = (ended(run), run.engine.sockets.ready);
        if all_told.is_none() && ended >= u64::from(there) {
            all_told = Some(now);
        }
        let back = ended.saturating_sub(u64::from(sockets - ready));
        if half.is_none() && back >= u64::from(there / 2) {
            half = Some(now);
        }
        ended < u64::from(there) || (ready < sockets && !run.keeper.is_done())
    };
    load.run_while(run, on_the_move, clock::now() + 3_600 * SECOND)?;
    let back = clock::now();
    let stretch = phase.end(run);
    let online = f64::from(run.engine.sockets.ready);
    if online < f64::from(sockets) {
        run.report.note(format!("not all came back: {}", run.keeper.refusals()));
    }
    run.report.set("rollout.sockets", f64::from(there));
    run.report.set("rollout.ended", ended(run) as f64);
    run.report.set("rollout.not_back", f64::from(sockets) - online);
    run.report.set("rollout.all_back_s", seconds(told, back));
    for (figure, at) in [("rollout.half_back_s", half), ("rollout.all_told_s", all_told)] {
        if let Some(at) = at {
            run.report.set(figure, seconds(told, at));
        }
    }
    run.report.set("rollout.broken", run.keeper.broken as f64);
    for (status, count) in &run.keeper.refused {
        run.report.set(format!("rollout.http_{status}"), *count as f64);
    }
    run.report.set("rate", f64::from(there) / seconds(told, back));

    run.engine.phase("after the rollout");
    load.run_until(run, clock::now() + nanos(args.after))?;
    run.drain()?;
    let came_back = run.engine.sockets.stats.replayed - replayed;
    run.report.set("rollout.replayed", came_back as f64);
    run.report.latency("handshake", &run.engine.timings.handshake);
    run.report.latency("ready", &run.engine.timings.ready);
    latencies(run);
    stretch.report(run, "connect", f64::from(there));
    Ok(())
}
