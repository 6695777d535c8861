//! What is measured. Each scenario is a function that drives a [`Run`] and fills its report.

mod batch;
mod broadcast;
mod connect;
mod dialer;
mod load;
mod phase;
mod rollout;
mod send;
mod slow;
mod storm;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    checker::Checker,
    cli::{Cli, Common, Scenario},
    clock::{self, MS, SECOND},
    engine::{Engine, Parts},
    http_client::{Http, Shape},
    machine,
    progress::Progress,
    report::Report,
    scenario::dialer::{Dialer, Resume},
    server_stats::Server,
    sockets::Sockets,
    target::{Target, Targets},
    token::{Minter, Secret},
    users::Users,
};

/// Longest wait for the server to accept the first connection.
const REACH_TIMEOUT: Duration = Duration::from_secs(5);
/// Recipients of one preparing send: few requests, and no request that stalls the others.
const PREPARE_RECIPIENTS: u32 = 1_000;
/// Preparing requests in flight: more would only fill the server's queue.
const PREPARE_IN_FLIGHT: usize = 8;
/// Longest wait for the last deliveries or for the files, in grace times: the grace begins anew with
/// each delivery, and must end all the same.
const DRAIN_GRACES: u64 = 6;
/// How often the lag is asked for.
const LAG_EVERY_NS: u64 = 20 * MS;

/// A run: the engine, the server's figures, the report.
pub(crate) struct Run {
    pub(crate) engine: Engine,
    pub(crate) server: Server,
    pub(crate) report: Report,
    /// Brings back sockets that end.
    pub(crate) keeper: Dialer,
    /// The server's figures could be read at the start.
    pub(crate) has_server: bool,
    pub(crate) grace: u64,
    pub(crate) concurrency: usize,
    pub(crate) lag_metric: String,
}

/// Runs what the command line says.
pub(crate) fn run(cli: &Cli, command: String, stop: Arc<AtomicBool>) -> Result<Report> {
    let begin = |name, users, devices, fresh| {
        Run::begin(&cli.common, name, command, stop, (users, devices), fresh)
    };
    let mut run = match &cli.scenario {
        Scenario::Connect(args) => {
            let mut run = begin("connect", args.connections, 1, args.backlog > 0)?;
            connect::run(&mut run, args)?;
            run
        }
        Scenario::Send(args) => {
            let mut run = begin("send", args.online.users, args.online.devices, false)?;
            send::run(&mut run, args)?;
            run
        }
        Scenario::Batch(args) => {
            let mut run = begin("batch", args.online.users, args.online.devices, false)?;
            batch::run(&mut run, args)?;
            run
        }
        Scenario::Broadcast(args) => {
            let fresh = args.mode == crate::cli::BroadcastMode::Backlog;
            let mut run = begin("broadcast", args.online.users, args.online.devices, fresh)?;
            broadcast::run(&mut run, args)?;
            run
        }
        Scenario::Storm(args) => {
            let mut run = begin("storm", args.online.users, args.online.devices, false)?;
            storm::run(&mut run, args)?;
            run
        }
        Scenario::Rollout(args) => {
            let mut run = begin("rollout", args.online.users, args.online.devices, false)?;
            rollout::run(&mut run, args)?;
            run
        }
        Scenario::Slow(args) => {
            let mut run = begin("slow", args.online.users, args.online.devices, false)?;
            slow::run(&mut run, args)?;
            run
        }
    };
    run.conclude();
    Ok(run.report)
}

impl Run {
    fn begin(
        common: &Common,
        name: &'static str,
        command: String,
        stop: Arc<AtomicBool>,
        (count, devices): (u32, u32),
        fresh: bool,
    ) -> Result<Self> {
        let Some(sockets) = count.checked_mul(devices).filter(|sockets| *sockets < 1_000_000)
        else {
            bail!("users times devices is at most 999,999");
        };
        machine::make_room(sockets + common.concurrency)?;
        let targets = Targets::parse(&common.urls, common.allow_remote)?;
        for target in targets.iter() {
            // One clear sentence instead of twenty attempts of each socket.
            std::net::TcpStream::connect_timeout(&target.address, REACH_TIMEOUT)
                .with_context(|| format!("no server at {}", target.authority))?;
        }
        let admins = common.admin_urls.iter().filter(|url| *url != "off");
        let admins = admins
            .map(|url| Target::parse(url, common.allow_remote))
            .collect::<Result<Vec<_>>>()?;
        let secret = match (&common.jwt_secret, &common.jwt_secret_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?;
                Secret::from(text.trim())
            }
            (None, None) => bail!("give --jwt-secret or --jwt-secret-file, to mint users' tokens"),
        };
        let id: u32 = rand::random();
        let minter = Minter::new(&secret, id);
        let authorization = match &common.service_key {
            Some(key) => format!("Service {}", key.reveal()),
            None => format!("Bearer {}", minter.admin()),
        };
        let prefix = if fresh || common.fresh {
            format!("{}-{id:08x}", common.user_prefix)
        } else {
            common.user_prefix.clone()
        };
        let content_bytes = common.content_bytes as usize;
        let codec = common.codec.into();
        let http =
            Http::new(targets.clone(), common.concurrency, &authorization, id, content_bytes);
        let engine = Engine::new(Parts {
            targets,
            users: Users::new(&prefix, count, devices),
            sockets: Sockets::new(sockets, codec, minter, content_bytes, common.ack_every),
            http,
            checker: Checker::new(id, count, devices),
            stop,
            deadline: clock::now() + nanos(common.time_limit),
            progress: Progress::new(common.quiet),
        })?;
        let server = Server {
            admins,
            admin_token: common.admin_token.clone(),
            pids: common.server_pids.clone(),
        };
        let mut report = Report::new(name, command, &common.bounds);
        let usage = server.usage();
        if let Err(error) = &usage {
            report.note(format!("no figures of the server: {error:#}"));
        }
        Ok(Self {
            engine,
            keeper: Dialer::closed(sockets, 256, Resume::Cursor),
            has_server: usage.is_ok(),
            server,
            report,
            grace: nanos(common.grace),
            concurrency: common.concurrency as usize,
            lag_metric: common.lag_metric.clone(),
        })
    }

    /// Connects every socket, as a client that has never been there.
    fn bring_online(&mut self, connecting: u32) -> Result<()> {
        self.engine.phase("connecting");
        let sockets = self.engine.users.sockets();
        let mut dialer = Dialer::closed(sockets, connecting, Resume::Head);
        dialer.dial_now(0..sockets);
        self.dial(&mut dialer)?;
        let ready = self.engine.sockets.ready;
        if ready < sockets && !self.engine.stopped() {
            bail!("only {ready} of {sockets} sockets came online: {}", dialer.refusals());
        }
        Ok(())
    }

    /// Turns until the dialer has nothing left to try.
    fn dial(&mut self, dialer: &mut Dialer) -> Result<()> {
        while !dialer.is_done() && !self.engine.stopped() {
            let next = dialer.step(&mut self.engine);
            self.engine.turn(next)?;
            for notice in self.engine.notices() {
                dialer.take(notice);
            }
        }
        Ok(())
    }

    /// Turns once while sockets are online: one that ends comes back where it was.
    fn turn(&mut self, until: u64) -> Result<()> {
        let next = self.keeper.step(&mut self.engine);
        self.engine.turn(next.min(until))?;
        for notice in self.engine.notices() {
            self.keeper.take(notice);
        }
        Ok(())
    }

    /// Sends `messages` to each user and waits until they are answered. `expected`: sockets that
    /// connect later will read them.
    fn prepare(&mut self, messages: u32, expected: bool) -> Result<()> {
        self.engine.phase("preparing inboxes");
        let users = self.engine.users.count;
        for _ in 0..messages {
            let mut first = 0;
            while first < users && !self.engine.stopped() {
                let count = PREPARE_RECIPIENTS.min(users - first);
                while self.engine.http.idle() == 0
                    || self.engine.http.idle() + PREPARE_IN_FLIGHT < self.concurrency
                {
                    self.engine.turn(clock::now() + 100 * MS)?;
                    if self.engine.stopped() {
                        return Ok(());
                    }
                }
                let now = clock::now();
                let one = std::iter::once((first, count));
                if !self.engine.submit(Shape::Send, one, now, expected)? {
                    bail!("the ledger is full: fewer messages, please");
                }
                first += count;
            }
        }
        while !self.engine.http.is_quiet() && !self.engine.stopped() {
            self.engine.turn(clock::now() + 100 * MS)?;
        }
        if let Some(error) = &self.engine.http.stats.first_error {
            bail!("the inboxes could not be prepared: {error}");
        }
        if self.has_server && self.server.metric(&self.lag_metric).is_ok() {
            self.wait_filled()?;
        }
        Ok(())
    }

    /// Waits until every accepted send has arrived, or nothing has come for the grace time. Also
    /// after Ctrl-C: what is under way then would look lost.
    fn drain(&mut self) -> Result<()> {
        self.engine.phase("waiting for the last ones");
        let mut seen = self.engine.checker.deliveries;
        let limit = clock::now() + self.grace * DRAIN_GRACES;
        let mut until = clock::now() + self.grace;
        while !(self.engine.http.is_quiet() && self.engine.checker.owed() == 0) {
            let now = clock::now();
            if now > until || now > limit {
                break;
            }
            self.turn(until)?;
            if self.engine.checker.deliveries != seen {
                seen = self.engine.checker.deliveries;
                until = clock::now() + self.grace;
            }
        }
        Ok(())
    }

    /// Waits until the users' files are filled; false when they are not within the limit. Turns
    /// meanwhile, so that pings are answered.
    fn wait_filled(&mut self) -> Result<bool> {
        let until = clock::now() + self.grace * DRAIN_GRACES;
        while self.server.metric(&self.lag_metric)? > 0.0 {
            let now = clock::now();
            if now > until || self.engine.stopped() {
                return Ok(false);
            }
            self.turn(now + LAG_EVERY_NS)?;
        }
        Ok(true)
    }

    /// The figures every scenario has.
    fn conclude(&mut self) {
        let (engine, report) = (&self.engine, &mut self.report);
        let [accepted, refused, unknown, waiting] = engine.checker.outcomes();
        report.set("sends.accepted", accepted as f64);
        report.set("sends.refused", refused as f64);
        report.set("sends.unknown", unknown as f64);
        report.set("sends.unanswered", waiting as f64);
        report.set("sends.broken_connections", engine.http.stats.broken as f64);
        for (status, count) in &engine.http.stats.by_status {
            report.set(format!("sends.http_{status}"), *count as f64);
        }
        report.set("deliveries", engine.checker.deliveries as f64);
        report.set("lost", engine.checker.owed() as f64);
        let faults = engine.checker.faults;
        report.set("duplicated", faults.duplicated as f64);
        report.set("reordered", faults.reordered as f64);
        report.set("foreign", faults.foreign as f64);
        report.set("corrupt", faults.corrupt as f64);
        report.set("stored_twice", faults.stored_twice as f64);
        report.set("refused_arrived", faults.refused_arrived as f64);
        report.set("resync_required", faults.resync as f64);
        let wire = engine.sockets.stats;
        report.set("wire.frames", wire.frames as f64);
        report.set("wire.mib", wire.bytes as f64 / f64::from(1 << 20));
        report.set("wire.frames_per_read", wire.frames as f64 / (wire.reads.max(1)) as f64);
        report.set("wire.changes", engine.checker.changes as f64);
        report.set("wire.replayed", wire.replayed as f64);
        report.set("wire.pings", wire.pings as f64);
        report.set("wire.error_frames", wire.errors as f64);
        report.set("wire.decoded_whole", wire.decoded as f64);
        report.set("sockets.online_at_end", f64::from(engine.sockets.ready));
        for (code, count) in &self.keeper.closed {
            report.set(format!("sockets.closed_{code}"), *count as f64);
        }
        report.set("sockets.given_up", self.keeper.given_up as f64);
        report.set("generator.total_cpu_s", machine::own_cpu_s());
        if let Some(error) = &engine.http.stats.first_error {
            report.note(format!("first answer that was no success: {error}"));
        }
        for example in &engine.checker.examples {
            report.note(format!("fault: {example}"));
        }
        if engine.timed_out() {
            report.note("ended by --time-limit");
        } else if engine.stopped() {
            report.note("ended by Ctrl-C");
        }
        if accepted == 0 && refused + unknown + waiting > 0 {
            // Nothing owed, nothing lost: without this a server that refuses everything passes.
            report.set("lost", (refused + unknown + waiting) as f64);
            report.note("no send was accepted; all of them count as lost");
        }
    }
}

/// A duration on the clock.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Seconds between two moments, never 0.
fn seconds(from: u64, to: u64) -> f64 {
    (to.saturating_sub(from).max(1)) as f64 / SECOND as f64
}

#[cfg(test)]
mod tests;
