//! What the server costs: from its `/metrics`, or from `/proc` where its process id is given.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{target::Target, token::Secret};

/// Longest wait for `/metrics`.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often memory is sampled in the background.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Where figures of the server come from.
#[derive(Clone)]
pub(crate) struct Server {
    /// Its admin port; of each node.
    pub(crate) admins: Vec<Target>,
    /// For an admin port that wants one.
    pub(crate) admin_token: Option<Secret>,
    /// Its process; each node's.
    pub(crate) pids: Vec<u32>,
}

/// CPU and memory at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// CPU seconds, user and system.
    pub(crate) cpu_s: f64,
    /// Resident bytes.
    pub(crate) rss: f64,
}

impl Server {
    /// CPU and memory now, of all nodes together.
    pub(crate) fn usage(&self) -> Result<Usage> {
        if !self.pids.is_empty() {
            let usages =
                self.pids.iter().map(|pid| proc_usage(*pid)).collect::<Result<Vec<_>>>()?;
            let sum = |of: fn(&Usage) -> f64| usages.iter().map(of).sum();
            return Ok(Usage { cpu_s: sum(|usage| usage.cpu_s), rss: sum(|usage| usage.rss) });
        }
        Ok(Usage {
            cpu_s: self.metric("process_cpu_seconds_total")?,
            rss: self.metric("process_resident_memory_bytes")?,
        })
    }

    /// A metric, summed over its labels and over the nodes.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        if self.admins.is_empty() {
            bail!("no --admin-url");
        }
        let one = |admin| {
            metric(&self.scrape(admin)?, name).with_context(|| format!("/metrics has no {name}"))
        };
        self.admins.iter().map(one).sum()
    }

    fn scrape(&self, admin: &Target) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&admin.address, SCRAPE_TIMEOUT)
            .with_context(|| format!("connecting to {}", admin.authority))?;
        stream.set_read_timeout(Some(SCRAPE_TIMEOUT))?;
        let authorization = self.admin_token.as_ref().map_or_else(String::new, |token| {
            format!("Authorization: Bearer {}\r\n", token.reveal())
        });
        // HTTP/1.0, so that the answer is neither chunked nor kept open.
        write!(
            stream,
            "GET /metrics HTTP/1.0\r\nHost: {}\r\n{authorization}\r\n",
            admin.authority
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("reading /metrics")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("/metrics: no HTTP answer")?;
        if head.get(9..12) != Some("200") {
            bail!("/metrics answered {}", head.lines().next().unwrap_or_default());
        }
        Ok(body.to_owned())
    }

    /// Samples memory until the sampler is stopped; from a thread, because a scrape in the loop
    /// would stand in the latencies.
    pub(crate) fn sample(&self) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let (server, seen) = (self.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut peak = 0.0_f64;
            while !seen.load(Ordering::Relaxed) {
                if let Ok(usage) = server.usage() {
                    peak = peak.max(usage.rss);
                }
                std::thread::park_timeout(SAMPLE_EVERY);
            }
            peak
        });
        Sampler { stop, thread }
    }
}

/// Memory samples in the background.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Sampler {
    /// Ends it; the largest sample in bytes, 0 without any.
    pub(crate) fn finish(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or(0.0)
    }
}

/// The sum of a metric's series in the text format.
fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| {
            let value = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
            value.split_ascii_whitespace().next()?.parse::<f64>().ok()
        })
        .reduce(|sum, value| sum + value)
}

fn proc_usage(pid: u32) -> Result<Usage> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).with_context(|| path)
    };
    let stat = read("stat")?;
    // The name in brackets may hold spaces; the numbers begin behind the last bracket.
    let numbers = stat.rsplit_once(')').context("/proc/…/stat: unknown form")?.1;
    let ticks: f64 = numbers
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|number| number.parse::<f64>().ok())
        .sum();
    let status = read("status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<f64>().ok())
        .context("/proc/…/status has no VmRSS")?;
    Ok(Usage { cpu_s: ticks / rustix::param::clock_ticks_per_second() as f64, rss: kib * 1024.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text =
            "# HELP a_total x\na_total{x=\"1\"} 2\na_total{x=\"}\"} 3.5\na_totals 9\nb 4 1700\n";
        assert_eq!(metric(text, "a_total"), Some(5.5));
        assert_eq!(metric(text, "b"), Some(4.0));
        assert_eq!(metric(text, "c"), None);
    }

    #[test]
    fn this_process_has_cpu_and_memory() {
        let usage = proc_usage(std::process::id()).unwrap();
        assert!(usage.rss > 1e5 && usage.cpu_s >= 0.0);
    }
}
