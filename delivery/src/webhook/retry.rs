//! When an event is tried again, and when an endpoint has failed for too long.

use std::time::Duration;

use protocol::Time;

const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3_600)
}

/// Pauses before the second and every further attempt: ten attempts over three days, as Standard
/// Webhooks 1.0 proposes ("Deliverability and reliability"). After the last one the event is a dead
/// letter.
pub const RETRY_DELAYS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    hours(2),
    hours(5),
    hours(10),
    hours(14),
    hours(20),
    hours(24),
];

/// By how much a pause may be shorter or longer, as a part of it: what failed together must not come
/// back together.
pub const JITTER: f64 = 0.2;

/// Longest `Retry-After` that is heeded.
pub const RETRY_AFTER_MAX: Duration = hours(24);

/// An endpoint at which every attempt failed for this long is disabled.
pub const DISABLE_AFTER: Duration = hours(5 * 24);

/// Two failures further apart than this are no failure "all the time": nothing was tried between
/// them. Twice the longest pause.
const FAILURE_GAP_MAX: Duration = hours(48);

/// The pause before the next attempt, after this many; none when those were all. `jitter` is from -1
/// to 1.
pub(super) fn pause(attempts: u32, jitter: f64, retry_after: Option<Duration>) -> Option<Duration> {
    let done = usize::try_from(attempts).unwrap_or(usize::MAX);
    let delay = RETRY_DELAYS.get(done.checked_sub(1)?)?;
    let delay = delay.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0));
    Some(delay.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)))
}

/// Since when an endpoint has been failing, now that it failed again.
pub(super) fn failing_since(since: Option<Time>, last_failure: Option<Time>, now: Time) -> Time {
    match (since, last_failure) {
        (Some(since), Some(last)) if between(last, now) <= FAILURE_GAP_MAX => since,
        _ => now,
    }
}

/// Whether that is too long.
pub(super) fn is_hopeless(since: Time, now: Time) -> bool {
    between(since, now) >= DISABLE_AFTER
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
pub(super) fn retry_after(text: &str, now: Time) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
            between(now, Time::from_millis(at))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// From one time to a later one; nothing where it is no later one.
pub(super) fn between(from: Time, to: Time) -> Duration {
    Duration::from_millis(u64::try_from(to.millis().saturating_sub(from.millis())).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn at(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn ten_attempts_over_three_days() {
        let mut total = Duration::ZERO;
        let mut attempts = 1;
        while let Some(pause) = pause(attempts, 0.0, None) {
            total += pause;
            attempts += 1;
        }
        assert_eq!(attempts, 10);
        assert_eq!(total, hours(75) + Duration::from_secs(35 * 60 + 5));
        assert!(total < DISABLE_AFTER, "an event alone does not disable its endpoint");
        assert_eq!(pause(0, 0.0, None), None);
        assert_eq!(pause(u32::MAX, 0.0, None), None);
    }

    #[test]
    fn jitter_spreads_by_a_fifth_and_no_more() {
        assert_eq!(pause(2, -1.0, None), Some(Duration::from_secs(240)));
        assert_eq!(pause(2, 1.0, None), Some(Duration::from_secs(360)));
        assert_eq!(pause(2, 99.0, None), Some(Duration::from_secs(360)));
    }

    #[test]
    fn the_receiver_may_ask_for_more_time_and_not_for_less() {
        let asked = |seconds| pause(1, 0.0, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(1), Some(Duration::from_secs(5)));
        assert_eq!(asked(120), Some(Duration::from_secs(120)));
        assert_eq!(asked(u64::MAX), Some(RETRY_AFTER_MAX));
        assert_eq!(pause(10, 0.0, Some(Duration::from_secs(120))), None, "no attempt is added");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = at(784_111_777_000);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:00:00 GMT", Some(86_400)),
            ("18446744073709551615", Some(86_400)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let read = retry_after(text, now).map(|wait| wait.as_secs());
            assert_eq!(read, seconds, "{text:?}");
        }
    }

    #[test]
    fn failing_for_five_days_is_hopeless_only_when_it_was_tried_all_the_time() {
        let begin = failing_since(None, None, at(0));
        assert_eq!(begin, at(0));
        let mut since = begin;
        for day in 1..=5 {
            since = failing_since(Some(since), Some(at((day - 1) * DAY)), at(day * DAY));
            assert_eq!(is_hopeless(since, at(day * DAY)), day == 5, "{day}");
        }
        // One event failed in January, the next one in June.
        let since = failing_since(Some(at(0)), Some(at(DAY)), at(150 * DAY));
        assert_eq!(since, at(150 * DAY));
    }
}
