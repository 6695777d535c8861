//! What this process has used.

use std::time::Duration;

/// CPU time of the process at a moment.
pub(crate) struct Usage(Duration);

impl Usage {
    pub(crate) fn now() -> Self {
        Self(cpu())
    }

    pub(crate) fn since(&self) -> Duration {
        cpu() - self.0
    }
}

/// User and system time of the process.
pub(crate) fn cpu() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the struct it is given, and an all-zero rusage is valid.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Resident memory of the process.
pub(crate) fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
