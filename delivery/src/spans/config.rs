//! What can be set about spans, by the names and in the forms that OpenTelemetry gives them.

use http::{HeaderName, HeaderValue};
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};

use crate::{outbound::OutboundUrl, words::words};

/// Most headers beside what is exported: a key, a tenant of the collector's, and some more.
const HEADERS_MAX: usize = 16;

words! {
    /// Which traces are recorded (`OTEL_TRACES_SAMPLER`).
    SamplerName {
        /// All.
        AlwaysOn = "always_on",
        /// None.
        AlwaysOff = "always_off",
        /// A part, by the trace's id.
        Ratio = "traceidratio",
        /// What the caller records, and all that no caller traces.
        ParentOn = "parentbased_always_on",
        /// What the caller records.
        ParentOff = "parentbased_always_off",
        /// What the caller records, and a part of what no caller traces.
        ParentRatio = "parentbased_traceidratio",
    }
}

/// Which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    name: SamplerName,
    ratio: f64,
}

impl Sampling {
    /// By its name ([`SamplerName::WORDS`]), with the part from 0 to 1 for the two that have one. None for another name.
    #[must_use]
    pub fn new(name: &str, ratio: f64) -> Option<Self> {
        let name = SamplerName::ALL.iter().find(|known| known.as_str() == name)?;
        Some(Self { name: *name, ratio })
    }

    pub(super) fn sampler(self) -> Sampler {
        let ratio = Sampler::TraceIdRatioBased(self.ratio);
        match self.name {
            SamplerName::AlwaysOn => Sampler::AlwaysOn,
            SamplerName::AlwaysOff => Sampler::AlwaysOff,
            SamplerName::Ratio => ratio,
            SamplerName::ParentOn => Sampler::ParentBased(Box::new(Sampler::AlwaysOn)),
            SamplerName::ParentOff => Sampler::ParentBased(Box::new(Sampler::AlwaysOff)),
            SamplerName::ParentRatio => Sampler::ParentBased(Box::new(ratio)),
        }
    }
}

/// Headers of what is exported (`OTEL_EXPORTER_OTLP_HEADERS`). Keys are in them: no `Debug`.
#[derive(Clone, Default)]
pub struct Headers(Vec<(HeaderName, SecretString)>);

/// The text is no list of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "up to {HEADERS_MAX} pairs such as api-key=secret,x-tenant=acme, with values escaped as in a URL"
)]
pub struct NoHeaders;

impl Headers {
    /// Reads `name=value,name=value`.
    ///
    /// # Errors
    /// [`NoHeaders`].
    pub fn parse(text: &SecretString) -> Result<Self, NoHeaders> {
        let one = |pair: &str| {
            let (name, value) = pair.split_once('=').ok_or(NoHeaders)?;
            let name = name.trim().parse().map_err(|_| NoHeaders)?;
            let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| NoHeaders)?;
            HeaderValue::from_str(&value).map_err(|_| NoHeaders)?;
            Ok((name, SecretString::from(value.into_owned())))
        };
        let pairs: Vec<_> = text.expose_secret().split(',').map(one).collect::<Result<_, _>>()?;
        if pairs.len() > HEADERS_MAX { Err(NoHeaders) } else { Ok(Self(pairs)) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        self.0.iter().map(|(name, value)| (name, value.expose_secret()))
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub struct SpansConfig {
    /// `/v1/traces` of the endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT`).
    pub url: OutboundUrl,
    /// What goes beside them.
    pub headers: Headers,
    /// Which.
    pub sampling: Sampling,
    /// `service.name` (`OTEL_SERVICE_NAME`).
    pub service_name: String,
    /// `service.version`.
    pub version: String,
    /// `service.instance.id`.
    pub node: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pairs_with_escaped_values() {
        let parse = |text: &str| Headers::parse(&SecretString::from(text.to_owned()));
        let headers = parse("api-key=a%20b%2C, x-tenant = acme").unwrap();
        let all: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(all, [("api-key", "a b,"), ("x-tenant", "acme")]);
        assert_eq!(format!("{headers:?}"), r#"["api-key", "x-tenant"]"#);
        for wrong in ["", "a", "a b=c", "a=%0a", "a=%ff", "a=1,,b=2"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&["a=b"; HEADERS_MAX + 1].join(",")).is_err());
    }

    #[test]
    fn samplers_have_their_names() {
        for name in SamplerName::WORDS {
            assert!(Sampling::new(name, 0.5).is_some(), "{name}");
        }
        assert!(Sampling::new("jaeger_remote", 0.5).is_none());
    }
}
