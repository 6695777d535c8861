//! Opens sockets: how fast, how long each takes, what each costs the server while it is held.

use anyhow::Result;

use super::{
    Run,
    dialer::{Dialer, Resume},
    nanos,
    phase::Phase,
};
use crate::{
    cli::Connect,
    clock::{self, SECOND},
    machine::KernelMemory,
};

pub(crate) fn run(run: &mut Run, args: &Connect) -> Result<()> {
    if args.backlog > 0 {
        run.prepare(args.backlog, true)?;
    }
    run.engine.phase("connecting");
    let resume = if args.backlog > 0 { Resume::Start } else { Resume::Head };
    let mut dialer = match args.rate {
        None => {
            let mut dialer = Dialer::closed(args.connections, args.connecting, resume);
            dialer.dial_now(0..args.connections);
            dialer
        }
        Some(rate) => {
            let mut dialer = Dialer::scheduled(args.connections, resume);
            let begun = clock::now();
            for socket in 0..args.connections {
                let after = f64::from(socket) / rate * SECOND as f64;
                dialer.dial_at(begun + after as u64, socket);
            }
            dialer
        }
    };
    let kernel = KernelMemory::read();
    let phase = Phase::begin(run);
    run.dial(&mut dialer)?;
    let stretch = phase.end(run);
    let ready = f64::from(run.engine.sockets.ready);
    run.report.set("rate", ready / stretch.seconds);
    run.report.set("connects.ready", ready);
    run.report.set("connects.broken", dialer.broken as f64);
    run.report.set("connects.given_up", dialer.given_up as f64);
    for (status, count) in &dialer.refused {
        run.report.set(format!("connects.http_{status}"), *count as f64);
    }
    for (code, count) in &dialer.closed {
        run.report.set(format!("connects.closed_{code}"), *count as f64);
    }
    run.report.latency("handshake", &run.engine.timings.handshake);
    run.report.latency("ready", &run.engine.timings.ready);
    stretch.report(run, "connect", ready);
    if ready < f64::from(args.connections) {
        run.report.note(format!("not all came online: {}", dialer.refusals()));
    }

    if args.touch {
        run.prepare(1, true)?;
        run.drain()?;
    } else {
        run.report.note("RSS without --touch: buffers that no message has used do not show");
    }
    // RSS from before the first socket to after the last, so that --touch is in it.
    if let Some((_, grown)) = phase.end(run).server_rss {
        run.report.set("server.rss_bytes_per_connection", grown / ready.max(1.0));
    }
    let after = KernelMemory::read();
    run.report.set("kernel.slab_bytes_per_connection", (after.slab - kernel.slab) / ready.max(1.0));
    run.report.set("kernel.tcp_bytes_per_connection", (after.tcp - kernel.tcp) / ready.max(1.0));
    run.report
        .note("kernel figures are of the whole host: both ends of each connection, and all else");

    if let Some(hold) = args.hold {
        run.engine.phase("holding");
        let phase = Phase::begin(run);
        let until = clock::now() + nanos(hold);
        while clock::now() < until && !run.engine.stopped() {
            run.turn(until)?;
        }
        let stretch = phase.end(run);
        run.report.set("hold.seconds", stretch.seconds);
        let per_connection = 1e6 / stretch.seconds / ready.max(1.0);
        run.report.set("hold.generator_cpu_us_per_s", stretch.own_cpu_s * per_connection);
        if let Some(cpu_s) = stretch.server_cpu_s {
            run.report.set("hold.server_cpu_us_per_s", cpu_s * per_connection);
        }
        if let Some((rss, _)) = stretch.server_rss {
            run.report.set("hold.server_rss_mib", rss / f64::from(1 << 20));
        }
    }
    run.drain()
}
