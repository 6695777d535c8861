//! Where log lines wait for stderr.
//!
//! A write to stderr blocks while its reader sleeps (a paused terminal, a full pipe to a log
//! collector). Made from a runtime's thread it would stop every socket on that thread. So lines go
//! into a buffer, and a thread of their own writes them, many in one system call. What does not fit
//! any more is dropped, counted, and said as soon as the reader is back.

use std::{
    io::{self, Write},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use delivery::metrics::Metric;
use metrics::{Counter, Recorder};
use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Most bytes of lines that wait: at 200 bytes a line some 20,000 lines, which a living reader takes
/// in well under a second.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Longest wait for the last lines when the process ends: a stuck reader must not hold up its exit.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) const DROPPED: Metric = Metric::counter(
    "pushhub_log_lines_dropped_total",
    "",
    "Log lines dropped because whoever reads stderr did not keep up.",
);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
    /// The thread is writing what it took.
    writing: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    counter: OnceLock<Counter>,
}

/// Takes lines; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct LogWriter(Arc<Shared>);

impl LogWriter {
    /// Begins to write to `out`.
    pub(super) fn spawn(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self::default();
        let shared = Arc::clone(&writer.0);
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            loop {
                let bytes = shared.take();
                // A closed stderr has nobody to tell.
                let _ = out.write_all(&bytes);
                shared.waiting.lock().writing = false;
                shared.changed.notify_all();
            }
        })?;
        Ok(writer)
    }

    /// Counts dropped lines from here on; the first recorder is kept.
    pub(super) fn count_into(&self, recorder: &dyn Recorder) {
        DROPPED.describe(recorder);
        self.0.counter.get_or_init(|| DROPPED.to_counter(recorder, &[]));
    }

    /// Waits until everything is written, or [`LAST_LINES_TIMEOUT`] has passed.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + LAST_LINES_TIMEOUT;
        let mut waiting = self.0.waiting.lock();
        while waiting.writing || !waiting.bytes.is_empty() {
            if self.0.changed.wait_until(&mut waiting, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    fn take(&self) -> Vec<u8> {
        let mut waiting = self.waiting.lock();
        while waiting.bytes.is_empty() {
            self.changed.wait(&mut waiting);
        }
        waiting.writing = true;
        let mut bytes = std::mem::take(&mut waiting.bytes);
        let dropped = std::mem::take(&mut waiting.dropped);
        if dropped > 0 {
            bytes.extend_from_slice(format!("{dropped} log lines were dropped here\n").as_bytes());
        }
        bytes
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        if waiting.bytes.len() + line.len() > WAITING_BYTES_MAX {
            waiting.dropped += 1;
            if let Some(counter) = self.counter.get() {
                counter.increment(1);
            }
            return;
        }
        let was_empty = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if was_empty {
            self.changed.notify_all();
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// One event's line: the formatter writes it whole.
pub(super) struct Line<'a>(&'a Shared);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes what is written only when it is let; gives it on.
    struct Gate(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_no_time_and_is_told() {
        let (open, gate) = mpsc::channel();
        let (given, out) = mpsc::channel();
        let writer = LogWriter::spawn(Gate(gate, given)).unwrap();
        let metrics = crate::telemetry::Metrics::new().unwrap();
        writer.count_into(&*metrics.recorder());
        writer.make_writer().write_all(b"first\n").unwrap();
        // The thread has taken it and is stuck with it.
        while !writer.0.waiting.lock().writing {
            thread::yield_now();
        }
        let line = vec![b'x'; WAITING_BYTES_MAX / 4];
        for _ in 0..6 {
            writer.make_writer().write_all(&line).unwrap();
        }
        assert!(metrics.render().contains("pushhub_log_lines_dropped_total 2"));
        open.send(()).unwrap();
        assert_eq!(out.recv().unwrap(), b"first\n");
        open.send(()).unwrap();
        let rest = out.recv().unwrap();
        assert!(rest.ends_with(b"\n") || rest.ends_with(b"here\n"));
        let said = String::from_utf8_lossy(&rest[rest.len() - 40..]).into_owned();
        assert!(said.ends_with("2 log lines were dropped here\n"), "{said}");
        writer.flush();
    }
}
