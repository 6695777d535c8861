//! Why a login elsewhere did not work.

/// Longest word of a provider that is repeated, in bytes: an error code, never a description, in which
/// anything may stand.
const WORD_BYTES_MAX: usize = 64;

/// Why a provider gave nobody.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It does not take the code: it is old, was used, or is not its own.
    #[error("{provider} does not accept this login ({said}); begin again")]
    Refused {
        /// The provider's name.
        provider: String,
        /// Its error code.
        said: String,
    },
    /// The person said no, there or by being nobody that this hub is for.
    #[error("{provider}: {why}")]
    NotAllowed {
        /// The provider's name.
        provider: String,
        /// In words.
        why: &'static str,
    },
    /// It does not take our id, secret, address or agent: the operator has to act.
    #[error("{provider} does not accept this hub ({said}); its settings are wrong")]
    Misconfigured {
        /// The provider's name.
        provider: String,
        /// Its error code.
        said: String,
    },
    /// It cannot be reached, or says itself that it cannot answer now.
    #[error("{provider} cannot be reached now; try again")]
    Unreachable {
        /// The provider's name.
        provider: String,
        /// What happened.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Its answers took longer than `OAUTH_TIMEOUT`, all together.
    #[error("{provider} did not answer in time; try again")]
    Slow {
        /// The provider's name.
        provider: String,
    },
    /// It answered something that cannot be used.
    #[error("{provider} answered something that cannot be used: {what}")]
    Nonsense {
        /// The provider's name.
        provider: String,
        /// In words.
        what: String,
    },
    /// Its `id_token` is not to be believed (OpenID Connect Core §3.1.3.7).
    #[error("the id_token from {provider} is not to be believed: {why}")]
    NotBelieved {
        /// The provider's name.
        provider: String,
        /// In words.
        why: &'static str,
    },
    /// It names an address of its own at which it must not be looked for.
    #[error("{provider} names an address that is not allowed: {what}")]
    Address {
        /// The provider's name.
        provider: String,
        /// Which of its addresses.
        what: String,
    },
}

impl ProviderError {
    /// Every label of a metric.
    pub const LABELS: [&'static str; 8] = [
        "refused",
        "not_allowed",
        "misconfigured",
        "unreachable",
        "slow",
        "nonsense",
        "not_believed",
        "address",
    ];

    /// A metric label, and the `error` of a redirect.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::NotAllowed { .. } => "not_allowed",
            Self::Misconfigured { .. } => "misconfigured",
            Self::Unreachable { .. } => "unreachable",
            Self::Slow { .. } => "slow",
            Self::Nonsense { .. } => "nonsense",
            Self::NotBelieved { .. } => "not_believed",
            Self::Address { .. } => "address",
        }
    }
}

/// An error code of a provider, fit to be repeated.
pub(super) fn word(text: &str) -> String {
    let legal = |c: &char| c.is_ascii_alphanumeric() || "_-.".contains(*c);
    let word: String = text.chars().filter(legal).take(WORD_BYTES_MAX).collect();
    if word.is_empty() { "no reason given".to_owned() } else { word }
}

/// What a provider is called, for errors about it.
#[derive(Clone, Debug)]
pub(super) struct Named(pub(super) String);

impl Named {
    pub(super) fn refused(&self, said: &str) -> ProviderError {
        ProviderError::Refused { provider: self.0.clone(), said: word(said) }
    }

    pub(super) fn not_allowed(&self, why: &'static str) -> ProviderError {
        ProviderError::NotAllowed { provider: self.0.clone(), why }
    }

    pub(super) fn misconfigured(&self, said: &str) -> ProviderError {
        ProviderError::Misconfigured { provider: self.0.clone(), said: word(said) }
    }

    /// It says so itself.
    pub(super) fn away(&self) -> ProviderError {
        ProviderError::Unreachable { provider: self.0.clone(), source: None }
    }

    pub(super) fn unreachable(
        &self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> ProviderError {
        ProviderError::Unreachable { provider: self.0.clone(), source: Some(Box::new(source)) }
    }

    pub(super) fn slow(&self) -> ProviderError {
        ProviderError::Slow { provider: self.0.clone() }
    }

    pub(super) fn nonsense(&self, what: impl Into<String>) -> ProviderError {
        ProviderError::Nonsense { provider: self.0.clone(), what: what.into() }
    }

    pub(super) fn not_believed(&self, why: &'static str) -> ProviderError {
        ProviderError::NotBelieved { provider: self.0.clone(), why }
    }

    pub(super) fn address(&self, what: impl Into<String>) -> ProviderError {
        ProviderError::Address { provider: self.0.clone(), what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_code_is_repeated() {
        assert_eq!(word("invalid_grant"), "invalid_grant");
        assert_eq!(word("<script>alert(1)</script>"), "scriptalert1script");
        assert_eq!(word(&"x".repeat(999)).len(), WORD_BYTES_MAX);
        assert_eq!(word("\r\n"), "no reason given");
    }
}
