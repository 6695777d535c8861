//! What the kernel says of this process, under the names all Prometheus clients use.
//!
//! Written as text at each scrape, not kept in the recorder: a counter there is a whole number, and
//! `process_cpu_seconds_total` in whole seconds is too coarse for a rate. `/proc` has all of it;
//! where there is none (not Linux), nothing is written.

use std::{
    fmt::{Display, Write},
    fs,
    time::Duration,
};

/// Appends the metrics in Prometheus's text format.
pub fn render(out: &mut String) {
    let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse)
    else {
        return;
    };
    let page = rustix::param::page_size() as u64;
    let cpu = ticks(stat.cpu_ticks).as_secs_f64();
    metric(
        out,
        "process_cpu_seconds_total",
        "counter",
        "User and system time used, in seconds.",
        cpu,
    );
    metric(
        out,
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory, in bytes.",
        stat.resident_pages * page,
    );
    metric(
        out,
        "process_virtual_memory_bytes",
        "gauge",
        "Virtual memory, in bytes.",
        stat.virtual_bytes,
    );
    metric(out, "process_threads", "gauge", "Threads.", stat.threads);
    if let Some(open) = open_descriptors() {
        metric(out, "process_open_fds", "gauge", "Open descriptors.", open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(max) = limit.current {
        metric(out, "process_max_fds", "gauge", "Most descriptors that may be open.", max);
    }
    if let Some(boot) = boot_time_seconds() {
        let started = boot as f64 + ticks(stat.start_ticks).as_secs_f64();
        metric(
            out,
            "process_start_time_seconds",
            "gauge",
            "Start of the process, in seconds since 1970.",
            started,
        );
    }
}

/// Since Linux 6.2 the folder's size says it; listing 15,000 sockets at each scrape takes
/// milliseconds of a core.
fn open_descriptors() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // One of them is the folder that is being read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

fn metric(out: &mut String, name: &str, kind: &str, help: &str, value: impl Display) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
        .expect("a String takes every text");
}

fn ticks(count: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs(count / per_second)
        + Duration::from_nanos(count % per_second * 1_000_000_000 / per_second)
}

/// When the machine was started, in seconds since 1970.
fn boot_time_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Fields as numbered in proc(5). The second one is the program's name in parentheses, which
    /// may itself hold spaces and parentheses: counting begins after the last one.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "1 (a) b (c) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.cpu_ticks, stat.threads, stat.start_ticks), (29, 20, 22));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (23, 24));
    }

    #[test]
    fn this_process_is_described() {
        let mut out = String::new();
        render(&mut out);
        let value = |name: &str| -> f64 {
            let line = out.lines().find(|line| line.starts_with(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} in {out}"))[name.len() + 1..].parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = jiff::Timestamp::now().as_second() as f64;
        let age = now - value("process_start_time_seconds");
        assert!((-5.0..86_400.0).contains(&age), "{age}");
    }
}
