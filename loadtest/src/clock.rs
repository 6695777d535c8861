//! Time of this host: nanoseconds of the monotonic clock, and an alarm finer than `epoll_wait`'s
//! millisecond, without which an open-loop load of 5,000/s would measure its own rounding.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// A millisecond in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;
/// A second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000 * MS;

/// Now, in nanoseconds since an arbitrary start of this host.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Wakes the poll loop at a moment.
pub(crate) struct Alarm {
    fd: OwnedFd,
    set_to: u64,
}

impl Alarm {
    pub(crate) fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags).context("timerfd_create")?;
        Ok(Self { fd, set_to: 0 })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Rings at `at`. Setting it again takes back a ring that was not heard, so it is never read.
    pub(crate) fn set(&mut self, at: u64) -> Result<()> {
        if at == self.set_to {
            return Ok(());
        }
        self.set_to = at;
        let at = at.max(1);
        let value = Timespec {
            tv_sec: i64::try_from(at / SECOND).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(at % SECOND).unwrap_or(0),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once).context("timerfd_settime")?;
        Ok(())
    }
}
