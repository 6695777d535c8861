//! URLs that calls go to, and who said so.

use std::fmt;

use ::url::Position;

use super::{address::Allowed, target::Target};

/// A URL that may be called. Its query is in no log: some providers take their secrets there.
#[derive(Clone, PartialEq, Eq)]
pub struct OutboundUrl {
    pub(super) target: Target,
    pub(super) allowed: Allowed,
}

/// Why a text is no URL that may be called: the rest of a sentence that begins with the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlProblem(String);

impl fmt::Debug for OutboundUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.without_query())
    }
}

impl OutboundUrl {
    fn parse(text: &str, allowed: Allowed) -> Result<Self, UrlProblem> {
        Ok(Self { target: Target::parse(text, &allowed).map_err(UrlProblem)?, allowed })
    }

    /// A URL of the settings. It may lead to a private address; without TLS it must.
    ///
    /// # Errors
    /// [`UrlProblem`]: no URL, longer than [`super::URL_BYTES_MAX`], another scheme than `https` and
    /// `http`, with a user name, a password or a fragment.
    pub fn configured(text: &str) -> Result<Self, UrlProblem> {
        Self::parse(text, Allowed::Configured)
    }

    /// A URL that stands in a document which this one, a URL of the settings, led to. On the same host
    /// it may lead where this one may, yet not without TLS where this one has it; elsewhere only to
    /// public addresses, by TLS: whoever writes the document must not choose what this node calls
    /// inside its network.
    ///
    /// # Errors
    /// As [`OutboundUrl::configured`], and for an address that is not public.
    pub fn found(&self, text: &str) -> Result<Self, UrlProblem> {
        let same = Self::parse(text, self.allowed.clone()).ok().filter(|url| {
            url.target.host == self.target.host
                && (url.target.tls.is_some() || self.target.tls.is_none())
        });
        match same {
            Some(url) => Ok(url),
            None => Self::parse(text, Allowed::Found),
        }
    }

    /// This URL with a path behind its own: `https://example.com/a/` and `/b` make
    /// `https://example.com/a/b`. A query of this one is dropped.
    ///
    /// # Errors
    /// [`UrlProblem`] for a URL that is too long.
    pub fn at(&self, path: &str) -> Result<Self, UrlProblem> {
        let mut url = self.target.url().clone();
        let joined =
            format!("{}/{}", url.path().trim_end_matches('/'), path.trim_start_matches('/'));
        url.set_path(&joined);
        url.set_query(None);
        Self::parse(url.as_str(), self.allowed.clone())
    }

    /// This URL with more in its query, escaped as a form is.
    ///
    /// # Errors
    /// [`UrlProblem`] for a URL that is too long.
    pub fn with_query(&self, pairs: &[(&str, &str)]) -> Result<Self, UrlProblem> {
        let mut url = self.target.url().clone();
        url.query_pairs_mut().extend_pairs(pairs);
        Self::parse(url.as_str(), self.allowed.clone())
    }

    /// All of it, for a browser's address bar. Not for logs.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.target.as_str()
    }

    /// For logs and sentences.
    #[must_use]
    pub fn without_query(&self) -> &str {
        &self.target.url()[..Position::AfterPath]
    }
}
