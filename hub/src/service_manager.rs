//! What a service manager is told: systemd's `sd_notify(3)`, which is a datagram with `NAME=value` lines to
//! the socket that `NOTIFY_SOCKET` names. Where none is named, nobody asks.
//!
//! - `READY=1` when the node has been ready for the first time, and not when its ports are open: what is
//!   ordered after the service may use it.
//! - `STATUS=` with every change of readiness, for `systemctl status`.
//! - `WATCHDOG=1` twice in the time that `WATCHDOG_USEC` names, from the runtime that serves. It says that
//!   tasks are run, and nothing of the store: a restart does not mend a full disk.
//! - `STOPPING=1` when the drain begins, with the time that it may take, so that a `DRAIN_TIMEOUT` above
//!   the unit's `TimeoutStopSec=` is waited for.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};

use crate::{config::Environment, health::HealthState};

/// How often readiness is looked at for the status line, and for `READY=1`.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an end may take beyond `DRAIN_TIMEOUT`: a second for a database that does not answer, one for
/// the webhooks, half a one for threads, and as much again.
const END_MARGIN: Duration = Duration::from_secs(5);

/// A service manager that wants to be told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServiceManager {
    socket: Arc<UnixDatagram>,
    /// In which time it wants a sign of life; none for never.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names; none where it names none.
    ///
    /// # Errors
    /// When its socket cannot be used.
    pub fn from_environment(environment: &Environment) -> io::Result<Option<Self>> {
        let named = environment.get("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let Some(path) = named else { return Ok(None) };
        let address = match path.strip_prefix('@') {
            // A name without a file: of the kernel's own.
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that stands still must not take a worker with it.
        socket.set_nonblocking(true)?;
        let for_another = environment
            .get("WATCHDOG_PID")
            .is_some_and(|pid| *pid != std::process::id().to_string());
        let watchdog = environment
            .get("WATCHDOG_USEC")
            .and_then(|text| text.parse().ok())
            .filter(|micros| *micros > 0 && !for_another)
            .map(Duration::from_micros);
        Ok(Some(Self { socket: Arc::new(socket), watchdog }))
    }

    /// A word for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// Says `READY=1` once the node is, and how it stands from then on, for ever.
    pub async fn follow(self, health: HealthState) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut was_ready, mut said) = (false, String::new());
        loop {
            ticks.tick().await;
            let (ready, words) = health.summary().await;
            if ready && !was_ready {
                was_ready = true;
                self.tell(&format!("READY=1\nSTATUS={words}"));
            } else if words != said {
                self.status(&words);
            }
            said = words;
        }
    }

    /// Gives signs of life, for ever, if they are wanted.
    pub async fn keep_alive(self) {
        let Some(within) = self.watchdog else { return };
        let mut ticks = tokio::time::interval(within / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // By a task of its own: where no worker takes a new one any more, there is no sign.
            if tokio::spawn(async {}).await.is_ok() {
                self.tell("WATCHDOG=1");
            }
        }
    }

    /// Says that the end has begun, which may take this long.
    pub fn stopping(&self, drain_timeout: Duration) {
        let most = (drain_timeout + END_MARGIN).as_micros();
        self.tell(&format!("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC={most}"));
    }

    fn tell(&self, words: &str) {
        // One that does not listen does what it does without the word; the next may arrive.
        if let Err(error) = self.socket.send(words.as_bytes()) {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nobody_is_told_where_nobody_asks() {
        for given in [&[][..], &[("NOTIFY_SOCKET", "")]] {
            assert!(ServiceManager::from_environment(&environment(given)).unwrap().is_none());
        }
        let missing = environment(&[("NOTIFY_SOCKET", "/nowhere/notify")]);
        assert!(ServiceManager::from_environment(&missing).is_err());
    }

    #[tokio::test]
    async fn a_socket_without_a_file_is_told_too() {
        let name = format!("pushhub-test-{}", uuid::Uuid::now_v7());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let named = [("NOTIFY_SOCKET", &*format!("@{name}")), ("WATCHDOG_USEC", "1000")];
        let heard = || {
            let mut buffer = [0; 256];
            let length = listener.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        let manager = ServiceManager::from_environment(&environment(&named)).unwrap().unwrap();
        manager.stopping(Duration::from_secs(30));
        assert_eq!(heard(), "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=35000000");
        let beat = tokio::spawn(manager.keep_alive());
        tokio::task::yield_now().await;
        let beats = tokio::task::spawn_blocking({
            let listener = listener.try_clone().unwrap();
            move || {
                let mut buffer = [0; 64];
                (0..2).all(|_| {
                    listener.recv(&mut buffer).is_ok_and(|n| &buffer[..n] == b"WATCHDOG=1")
                })
            }
        });
        assert!(beats.await.unwrap());
        beat.abort();
        // Signs of life are another process's.
        let other = [&named[..], &[("WATCHDOG_PID", "1")]].concat();
        let manager = ServiceManager::from_environment(&environment(&other)).unwrap().unwrap();
        assert_eq!(manager.watchdog, None);
    }
}
