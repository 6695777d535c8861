//! Sleeping until an answer is there.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::{Duration, Instant},
};

struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread for something that another one brings forward; none if that takes too long.
pub(super) fn wait<T>(future: impl Future<Output = T>, most: Duration) -> Option<T> {
    let began = Instant::now();
    let waker = Arc::new(Sleeper(thread::current())).into();
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
        let left = most.checked_sub(began.elapsed())?;
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[test]
    fn what_comes_is_waited_for_and_what_does_not_is_not() {
        assert_eq!(wait(ready(1), Duration::ZERO), Some(1));
        assert_eq!(wait(pending::<()>(), Duration::from_millis(5)), None);
        let (tell, told) = tokio::sync::oneshot::channel();
        let teller = thread::spawn(move || tell.send(2).unwrap());
        assert_eq!(wait(told, Duration::from_secs(10)), Some(Ok(2)));
        teller.join().unwrap();
    }
}
