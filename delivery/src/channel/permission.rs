//! Who keeps channels: services of level system and business within their scope, and system admins.

use protocol::ChannelId;

use crate::{
    control::{Level, Service},
    identity::{AdminCaller, Caller, UserCaller},
};

/// The caller is known, but may not do this with channels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelRefusal {
    /// A third-party service, or an ordinary user.
    #[error(
        "channels are kept by services of level system or business, and by users with the role \
         system_admin"
    )]
    NoKeeper,
    /// A token for reading.
    #[error("the token's scope does not allow to write")]
    ReadOnlyToken,
    /// Outside a service's scope; said whether there is such a channel or not.
    #[error("the service's scope does not include this channel")]
    OutOfScope,
}

/// Somebody who may keep channels.
#[derive(Clone, Debug)]
pub struct Keeper {
    name: String,
    /// The service whose scope limits it; none for those who may keep all.
    service: Option<std::sync::Arc<Service>>,
}

impl Keeper {
    /// Whether a caller may keep channels at all.
    ///
    /// # Errors
    /// [`ChannelRefusal::NoKeeper`], [`ChannelRefusal::ReadOnlyToken`].
    pub fn new(caller: &Caller) -> Result<Self, ChannelRefusal> {
        let of_user = |user: &UserCaller| match (user.is_system_admin(), user.may_write()) {
            (false, _) => Err(ChannelRefusal::NoKeeper),
            (true, false) => Err(ChannelRefusal::ReadOnlyToken),
            (true, true) => Ok(Self { name: user.user().as_str().to_owned(), service: None }),
        };
        match caller {
            Caller::User(user) | Caller::Admin(AdminCaller::User(user)) => of_user(user),
            Caller::Admin(
                AdminCaller::Token | AdminCaller::Account(_) | AdminCaller::Within(..),
            ) => Ok(Self { name: "admin".to_owned(), service: None }),
            Caller::Service(service) => match service.level {
                Level::System | Level::Business => Ok(Self {
                    name: service.id.as_str().to_owned(),
                    service: Some(service.clone()),
                }),
                Level::ThirdParty => Err(ChannelRefusal::NoKeeper),
            },
        }
    }

    /// What a channel that it makes says of its maker.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this channel is among those that it may keep.
    ///
    /// # Errors
    /// [`ChannelRefusal::OutOfScope`].
    pub fn may_keep(&self, id: &ChannelId) -> Result<(), ChannelRefusal> {
        match &self.service {
            Some(service) if !service.scope_allows(&service.scope.channels, id.as_str()) => {
                Err(ChannelRefusal::OutOfScope)
            }
            Some(_) | None => Ok(()),
        }
    }
}
