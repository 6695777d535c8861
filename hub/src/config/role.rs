//! Which parts a process runs.

/// `PUSHHUB_ROLE` (contract §3): sockets, REST and administration scale apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    #[default]
    All,
    /// Sockets and event streams.
    Hub,
    /// The REST API of users and services, and what is sent by itself: webhooks.
    Delivery,
    /// The admin API.
    Admin,
}

impl Role {
    /// All of them.
    pub const EACH: [Self; 4] = [Self::All, Self::Hub, Self::Delivery, Self::Admin];

    /// As it is written.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Hub => "hub",
            Self::Delivery => "delivery",
            Self::Admin => "admin",
        }
    }

    /// Of a word that the settings' table allows.
    pub(super) fn of(word: &str) -> Option<Self> {
        Self::EACH.into_iter().find(|role| role.label() == word)
    }

    /// Whether it holds sockets and event streams.
    #[must_use]
    pub const fn holds_sockets(self) -> bool {
        matches!(self, Self::All | Self::Hub)
    }

    /// Whether it answers the REST API of users and services, and sends webhooks.
    #[must_use]
    pub const fn delivers(self) -> bool {
        matches!(self, Self::All | Self::Delivery)
    }

    /// Whether it answers the admin API.
    #[must_use]
    pub const fn administers(self) -> bool {
        matches!(self, Self::All | Self::Admin)
    }

    /// Whether it listens on `USER_SERVER_PORT` at all.
    #[must_use]
    pub const fn has_users(self) -> bool {
        self.holds_sockets() || self.delivers()
    }
}
