//! The clock of this machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::report::{Finding, fail, ok, warn};

/// How long both clocks are watched.
const WATCHED: Duration = Duration::from_millis(200);

/// By how much they may differ over that time. NTP slews by half a thousandth.
const DRIFT_MAX: Duration = Duration::from_millis(5);

/// Before this nobody had this program: 2025-01-01T00:00:00Z.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);

/// By how much the clock of a server may differ from ours before it is said. Half a second is where nodes
/// begin to follow the database's.
pub(super) const AHEAD_MAX_MICROS: u64 = 500_000;

pub(super) async fn examine() -> Vec<Finding> {
    vec![steady().await, synchronised()]
}

/// Whether the time of day goes as fast as the one that is never set.
async fn steady() -> Finding {
    const CHECK: &str = "clock.steady";
    let (wall, steady) = (SystemTime::now(), Instant::now());
    tokio::time::sleep(WATCHED).await;
    let passed = steady.elapsed();
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since < EARLIEST {
        let found = "it stands before the year 2025: tokens, expiry and certificates will fail";
        return fail(CHECK, found, "set it: timedatectl set-ntp true");
    }
    // An error says that it was set back.
    let differ = match wall.elapsed() {
        Ok(elapsed) => elapsed.abs_diff(passed),
        Err(error) => error.duration() + passed,
    };
    let found = format!(
        "differs by {:.3} ms from the monotonic clock over {} ms",
        differ.as_secs_f64() * 1e3,
        passed.as_millis()
    );
    if differ > DRIFT_MAX {
        warn(CHECK, found, "see who sets it: two programs that keep the time?")
    } else {
        ok(CHECK, found)
    }
}

/// Whether something keeps it.
fn synchronised() -> Finding {
    const CHECK: &str = "clock.sync";
    // SAFETY: all zeros are a valid timex, and with modes 0 adjtimex only writes to it.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if state < 0 {
        let error = std::io::Error::last_os_error();
        return warn(CHECK, format!("the kernel does not say: {error}"), "see timedatectl");
    }
    if timex.status & libc::STA_UNSYNC != 0 {
        return warn(
            CHECK,
            "nothing keeps it (the kernel says that it is not synchronised)",
            "run chrony or systemd-timesyncd; in a container or guest the host's clock counts",
        );
    }
    ok(CHECK, format!("kept by NTP, within {:.1} ms", timex.maxerror as f64 / 1e3))
}

/// How another clock stands to ours.
pub(super) fn compare(check: &'static str, whose: &str, ahead: i64, doubt: Duration) -> Finding {
    let off = ahead.unsigned_abs();
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    let found = format!("{whose} is {:.1} ms {way} this machine's", off as f64 / 1e3);
    let doubt = u64::try_from(doubt.as_micros() / 2).unwrap_or(u64::MAX);
    if off > AHEAD_MAX_MICROS.saturating_add(doubt) {
        warn(check, found, "let both be kept by NTP: logs and certificates go by this machine's")
    } else {
        ok(check, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Status;

    #[test]
    fn clocks_are_compared_both_ways() {
        let status = |ahead, doubt| {
            compare("clock.database", "it", ahead, Duration::from_millis(doubt)).status
        };
        assert_eq!(status(400_000, 0), Status::Ok);
        assert_eq!(status(-600_000, 0), Status::Warn);
        assert_eq!(status(600_000, 400), Status::Ok);
        assert_eq!(status(i64::MIN, 0), Status::Warn);
    }
}
