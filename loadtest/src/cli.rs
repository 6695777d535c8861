//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::Codec;

use crate::{report::Bound, token::Secret};

/// Load generator and checker for pushhub. It knows only the wire: REST in, WebSocket out.
#[derive(Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// Options of every scenario.
#[derive(Args)]
pub(crate) struct Common {
    /// The server; given several times, the nodes of a cluster. Sockets and posts go round them, and on to the
    /// next one from a node that ends or refuses them.
    #[arg(long = "url", global = true, default_value = "http://127.0.0.1:8080")]
    pub(crate) urls: Vec<String>,
    /// Its admin port, for CPU, memory and lag from /metrics; of each node. `off` leaves them out.
    #[arg(long = "admin-url", global = true, default_value = "http://127.0.0.1:8081")]
    pub(crate) admin_urls: Vec<String>,
    /// Token for /metrics, where it wants one.
    #[arg(long, global = true, env = "ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<Secret>,
    /// The server's process, or each node's: CPU and memory from /proc instead of /metrics.
    #[arg(long = "server-pid", global = true)]
    pub(crate) server_pids: Vec<u32>,
    /// The server's JWT_SECRET, to mint users' tokens.
    #[arg(long, global = true, env = "JWT_SECRET", hide_env_values = true)]
    pub(crate) jwt_secret: Option<Secret>,
    /// A file with it, such as the one the server made in its storage folder.
    #[arg(long, global = true, conflicts_with = "jwt_secret")]
    pub(crate) jwt_secret_file: Option<PathBuf>,
    /// Key of the sending service. Without it a minted system_admin sends.
    #[arg(long, global = true, env = "PUSHHUB_SERVICE_KEY", hide_env_values = true)]
    pub(crate) service_key: Option<Secret>,
    /// Encoding of the sockets' frames; requests are JSON.
    #[arg(long, global = true, value_enum, default_value_t = Encoding::Json)]
    pub(crate) codec: Encoding,
    /// Users are called PREFIX-000000 and so on.
    #[arg(long, global = true, default_value = "lt", value_parser = prefix)]
    pub(crate) user_prefix: String,
    /// Users no run has used before; scenarios with a backlog always take such.
    #[arg(long, global = true)]
    pub(crate) fresh: bool,
    /// Length of a message's content, in bytes.
    #[arg(long, global = true, default_value_t = 128, value_parser = clap::value_parser!(u32).range(41..=65_536))]
    pub(crate) content_bytes: u32,
    /// Keep-alive connections that post; also how many requests are in flight at most.
    #[arg(short = 'C', long = "concurrency", global = true, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) concurrency: u32,
    /// Each socket acks after so many messages; 0 never.
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) ack_every: u64,
    /// How long accepted messages may stay out after the last one came, before they are lost.
    #[arg(long, global = true, default_value = "10s", value_parser = duration)]
    pub(crate) grace: Duration,
    /// The whole run ends after this, with a report.
    #[arg(long, global = true, default_value = "10m", value_parser = duration)]
    pub(crate) time_limit: Duration,
    /// The gauge that is 0 when the users' files are filled.
    #[arg(long, global = true, default_value = "pushhub_store_lag_records")]
    pub(crate) lag_metric: String,
    /// A demand on a figure: `push.p99_ms<2`, `rate>25000`. Exit code 1 when one is missed.
    #[arg(long = "bound", global = true)]
    pub(crate) bounds: Vec<Bound>,
    /// What goes to stdout.
    #[arg(long, global = true, value_enum, default_value_t = Form::Text)]
    pub(crate) report: Form,
    /// Also write the JSON report here.
    #[arg(long, global = true)]
    pub(crate) out: Option<PathBuf>,
    /// End stdout with one line of JSON.
    #[arg(long, global = true)]
    pub(crate) json_summary: bool,
    /// No progress lines.
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    /// Allow a target that is not this machine.
    #[arg(long, global = true)]
    pub(crate) allow_remote: bool,
}

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum Scenario {
    /// Open many sockets: rate, handshake latency, memory and CPU of each.
    Connect(Connect),
    /// One message to one user per request, while all are online: latency, rate, loss.
    Send(Send),
    /// Many messages per request, or many recipients per message: deliveries, files filled.
    Batch(Batch),
    /// Messages to everybody, or everybody's backlog: until the last one has it.
    Broadcast(Broadcast),
    /// Cut all sockets at once while sends go on: until all are back and nothing is lost.
    Storm(Storm),
    /// End one node of several in order while sends go on: until its sockets are elsewhere.
    Rollout(Rollout),
    /// Some sockets stop reading: what it costs the others and the server.
    Slow(Slow),
}

/// Who is online.
#[derive(Args, Clone)]
pub(crate) struct Online {
    /// Users.
    #[arg(short = 'U', long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=999_999))]
    pub(crate) users: u32,
    /// Sockets of each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) devices: u32,
    /// Handshakes at a time.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connecting: u32,
    /// Send one message to each user first, so that no inbox is created in the measured time.
    #[arg(long)]
    pub(crate) touch: bool,
}

#[derive(Args)]
pub(crate) struct Connect {
    /// Sockets.
    #[arg(short = 'N', long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=999_999))]
    pub(crate) connections: u32,
    /// Connects per second, on a schedule; without it as fast as --connecting allows.
    #[arg(long, value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Handshakes at a time, when there is no rate.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connecting: u32,
    /// Hold them this long, and measure what holding costs.
    #[arg(long, value_parser = duration)]
    pub(crate) hold: Option<Duration>,
    /// Each user has this many messages waiting, and reads them all before the connect counts.
    #[arg(long, default_value_t = 0)]
    pub(crate) backlog: u32,
    /// One message to each socket before memory is read: buffers no one has used do not show.
    #[arg(long)]
    pub(crate) touch: bool,
}

#[derive(Args)]
pub(crate) struct Send {
    #[command(flatten)]
    pub(crate) online: Online,
    /// Sends per second on a schedule, or `max` for as fast as --concurrency allows.
    #[arg(long, default_value = "1000")]
    pub(crate) rate: Rate,
    /// How long.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Sends in the first time are checked, but not measured.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,
}

#[derive(Args)]
pub(crate) struct Batch {
    #[command(flatten)]
    pub(crate) online: Online,
    /// Messages in each request; 1 posts to /send, more to /send-batch.
    #[arg(short = 'B', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) messages: u32,
    /// Recipients of each message.
    #[arg(short = 'K', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) recipients_per_send: u32,
    /// Requests per second on a schedule, or `max`.
    #[arg(long, default_value = "max")]
    pub(crate) rate: Rate,
    /// How long.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Do not wait for the users' files.
    #[arg(long)]
    pub(crate) no_lag: bool,
}

/// What a broadcast run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BroadcastMode {
    /// One message to everybody at a time.
    Live,
    /// Everybody connects with since=0 and reads what waits.
    Backlog,
}

#[derive(Args)]
pub(crate) struct Broadcast {
    #[command(flatten)]
    pub(crate) online: Online,
    /// Live messages, or a backlog.
    #[arg(long, value_enum, default_value_t = BroadcastMode::Live)]
    pub(crate) mode: BroadcastMode,
    /// Messages.
    #[arg(short = 'M', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) messages: u32,
    /// Send so many at once without waiting, so that the server may coalesce them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) burst: u32,
}

#[derive(Args)]
pub(crate) struct Storm {
    #[command(flatten)]
    pub(crate) online: Online,
    /// Sends per second that go on meanwhile.
    #[arg(long, default_value_t = 500.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// How long before the cut.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(crate) before: Duration,
    /// How long after all are back.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(crate) after: Duration,
    /// The first wait is a random part of this; it doubles with each attempt (full jitter).
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) backoff: Duration,
    /// Longest wait before an attempt.
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub(crate) backoff_max: Duration,
}

#[derive(Args)]
pub(crate) struct Rollout {
    #[command(flatten)]
    pub(crate) online: Online,
    /// Sends per second that go on meanwhile.
    #[arg(long, default_value_t = 500.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// Which node gets SIGTERM: a place in the order of --url and --server-pid, from 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) node: u32,
    /// How long before.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(crate) before: Duration,
    /// How long after all are elsewhere.
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub(crate) after: Duration,
}

#[derive(Args)]
pub(crate) struct Slow {
    #[command(flatten)]
    pub(crate) online: Online,
    /// Users whose sockets stop reading.
    #[arg(short = 'S', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slow: u32,
    /// Sends per second.
    #[arg(long, default_value_t = 1_000.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// Which part of the sends goes to the slow ones.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub(crate) slow_share: f64,
    /// How long everybody reads, for the baseline.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) baseline: Duration,
    /// How long the slow ones do not read.
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub(crate) stalled: Duration,
    /// Receive buffer of the slow sockets in bytes: the smaller, the sooner the server notices.
    #[arg(long, default_value_t = 4_096)]
    pub(crate) receive_buffer: usize,
}

/// Encoding of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// Text frames.
    Json,
    /// Binary frames.
    Msgpack,
}

impl From<Encoding> for Codec {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => Self::Json,
            Encoding::Msgpack => Self::MsgPack,
        }
    }
}

/// Form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Open loop at a rate, or closed loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// Per second, on a schedule.
    PerSecond(f64),
    /// As fast as the connections allow.
    Max,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" { Ok(Self::Max) } else { positive(text).map(Self::PerSecond) }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.001..=10_000_000.0).contains(rate))
        .ok_or_else(|| "a number per second between 0.001 and 10000000".to_owned())
}

/// It is written into JSON and tokens as it stands.
fn prefix(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 letters, digits, - and _".to_owned())
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a part between 0 and 1".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis);
    number
        .parse::<u64>()
        .ok()
        .zip(millis)
        .and_then(|(number, millis)| number.checked_mul(millis))
        .filter(|millis| *millis <= 24 * 3_600_000)
        .map(Duration::from_millis)
        .ok_or_else(|| "a time of at most 24h, as 500ms, 10s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_and_rates() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "s", "1d", "25h", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("2.5".parse(), Ok(Rate::PerSecond(2.5)));
        assert!("0".parse::<Rate>().is_err());
    }
}
