//! `RateLimit` and `RateLimit-Policy`, as draft-ietf-httpapi-ratelimit-headers-10 writes them: lists
//! of strings with parameters. Earlier revisions had other fields and parameters; only `Retry-After`
//! is understood by every client, and goes with every 429.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Rate, Scope};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How a bucket stands after a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub(super) scope: Scope,
    pub(super) remaining: u32,
    /// Until it is full, or of a refused request, until it fits.
    pub(super) reset: Duration,
    pub(super) policy: HeaderValue,
}

impl Reading {
    /// Of two that a request was counted by, the one that runs out first.
    #[must_use]
    pub fn tighter(self, other: Self) -> Self {
        if other.remaining < self.remaining { other } else { self }
    }

    /// Tells the client.
    pub fn write(&self, headers: &mut HeaderMap) {
        let (scope, remaining, reset) =
            (self.scope.label(), self.remaining, seconds_up(self.reset));
        let now = format!("\"{scope}\";r={remaining};t={reset}");
        headers.insert(RATELIMIT, HeaderValue::try_from(now).expect("digits and a label"));
        headers.insert(RATELIMIT_POLICY, self.policy.clone());
    }
}

/// The burst is the quota, and the time in which it comes back the window.
pub(super) fn policy(scope: Scope, rate: Rate) -> HeaderValue {
    let (scope, quota) = (scope.label(), rate.burst());
    let window = seconds_up(rate.time_of(quota)).max(1);
    let text = format!("\"{scope}\";q={quota};w={window}");
    HeaderValue::try_from(text).expect("digits and a label")
}

/// Whole seconds, rounded up: whoever comes back then comes late enough.
pub(super) fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_draft() {
        let reading = |scope, remaining| Reading {
            scope,
            remaining,
            reset: Duration::from_millis(1_200),
            policy: policy(scope, Rate::new(10, 25)),
        };
        let mut headers = HeaderMap::new();
        reading(Scope::Ip, 9).tighter(reading(Scope::User, 7)).write(&mut headers);
        assert_eq!(headers["ratelimit"], "\"user\";r=7;t=2");
        assert_eq!(headers["ratelimit-policy"], "\"user\";q=25;w=3");
        assert_eq!(policy(Scope::Service, Rate::new(1_000_000, 1)), "\"service\";q=1;w=1");
    }
}
