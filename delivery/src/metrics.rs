//! Metrics without a global: names are constants with their help, handles belong to whoever counts.
//!
//! Each area of the code lists its metrics as constants and in one `ALL` table, from which the
//! reference in the docs is made. A labelled series is registered with every value its label can
//! have at start, so that `rate()` sees the first event.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};

/// Where metrics go; one per process, handed down, never global: two apps run in one process.
pub type SharedRecorder = Arc<dyn Recorder + Send + Sync>;

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in the unit its name ends with.
    Histogram,
}

/// A metric's name and meaning. Labels have few values: never a user, message or token.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Full name, with the prefix `pushhub_`.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// Label names, comma separated; empty for none.
    pub labels: &'static str,
}

const METADATA: Metadata<'static> = Metadata::new("pushhub", Level::INFO, None);

impl Metric {
    /// A counter.
    #[must_use]
    pub const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, help, labels }
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, help, labels }
    }

    /// A histogram.
    #[must_use]
    pub const fn histogram(name: &'static str, labels: &'static str, help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, help, labels }
    }

    /// Tells the recorder the help text. Call once for each metric of an `ALL` table at start.
    pub fn describe(&self, recorder: &dyn Recorder) {
        let name = KeyName::from_const_str(self.name);
        match self.kind {
            Kind::Counter => recorder.describe_counter(name, None, self.help.into()),
            Kind::Gauge => recorder.describe_gauge(name, None, self.help.into()),
            Kind::Histogram => {
                let unit = self.name.ends_with("_seconds").then_some(Unit::Seconds);
                recorder.describe_histogram(name, unit, self.help.into());
            }
        }
    }

    fn key(&self, labels: &[(&'static str, &'static str)]) -> Key {
        debug_assert_eq!(
            self.labels.split(',').filter(|l| !l.is_empty()).count(),
            labels.len(),
            "{} has the labels {:?}",
            self.name,
            self.labels
        );
        let labels: Vec<Label> =
            labels.iter().map(|&(name, value)| Label::from_static_parts(name, value)).collect();
        Key::from_parts(self.name, labels)
    }

    /// A handle on a counter.
    pub fn to_counter(
        &self,
        recorder: &dyn Recorder,
        labels: &[(&'static str, &'static str)],
    ) -> Counter {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        recorder.register_counter(&self.key(labels), &METADATA)
    }

    /// A handle on a gauge.
    pub fn to_gauge(
        &self,
        recorder: &dyn Recorder,
        labels: &[(&'static str, &'static str)],
    ) -> Gauge {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        recorder.register_gauge(&self.key(labels), &METADATA)
    }

    /// A handle on a histogram.
    pub fn to_histogram(
        &self,
        recorder: &dyn Recorder,
        labels: &[(&'static str, &'static str)],
    ) -> Histogram {
        debug_assert_eq!(self.kind, Kind::Histogram, "{}", self.name);
        recorder.register_histogram(&self.key(labels), &METADATA)
    }
}
