//! The host: what the figures depend on, what the kernel keeps, and what we cost ourselves.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Descriptors besides sockets: poll, timer, files, the scrape.
const DESCRIPTORS_SPARE: u64 = 64;

/// What the figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) memory_mib: u64,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let cpu = text("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned());
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: kib(&text("/proc/meminfo"), "MemTotal:") / 1024,
        }
    }
}

/// What the kernel keeps for sockets, both ends of each being on this host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KernelMemory {
    /// Bytes of slab: socket structures, dentries, inodes.
    pub(crate) slab: f64,
    /// Bytes of TCP buffers in use.
    pub(crate) tcp: f64,
}

impl KernelMemory {
    pub(crate) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let pages: u64 = text("/proc/net/sockstat")
            .lines()
            .find_map(|line| line.strip_prefix("TCP:")?.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0);
        Self {
            slab: (kib(&text("/proc/meminfo"), "Slab:") * 1024) as f64,
            tcp: (pages * rustix::param::page_size() as u64) as f64,
        }
    }
}

fn kib(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Our own CPU seconds, user and system.
pub(crate) fn own_cpu_s() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: getrusage fills the struct it is given, and answers 0 for RUSAGE_SELF.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return 0.0;
        }
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Raises the limit of open files as far as it goes, and says so if `wanted` sockets do not fit.
pub(crate) fn make_room(wanted: u32) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("raising the limit of open files")?;
    let needed = u64::from(wanted) + DESCRIPTORS_SPARE;
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        bail!("{wanted} connections need {needed} open files, but the hard limit is {maximum}");
    }
    Ok(())
}

/// The commit of the tree we were started in, if there is one.
pub(crate) fn commit() -> Option<String> {
    if let Ok(commit) = std::env::var("PUSHHUB_COMMIT") {
        return Some(commit);
    }
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Asks a process to end (SIGTERM).
pub(crate) fn terminate(pid: u32) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1);
    let pid = pid.ok_or_else(|| std::io::Error::other("this is no process that may be ended"))?;
    // SAFETY: kill has no memory effects.
    match unsafe { libc::kill(pid, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
