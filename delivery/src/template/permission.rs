//! Who may write templates: services of level system and system admins all of them, services of
//! level business their own ones. Whoever may send may read them.

use super::{Category, Template};
use crate::{
    control::{Author, AuthorKind, Level, Service},
    identity::{AdminCaller, Caller, UserCaller},
    send::is_reserved_type,
};

/// The caller is known, but may not write this template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYours {
    /// A third-party service, or an ordinary user.
    #[error(
        "templates are written by services of level system or business, and by users with the role \
         system_admin"
    )]
    NoWriter,
    /// A token for reading.
    #[error("the token's scope does not allow to write")]
    ReadOnlyToken,
    /// Another's.
    #[error("services of level business may change their own templates only")]
    Anothers,
    /// What only the system sends.
    #[error(
        "templates of category system, or of a message type that is reserved for the system, need a \
         service of level system or a system admin"
    )]
    System,
    /// Outside a service's scope.
    #[error("the service's scope does not include this {0}")]
    OutOfScope(&'static str),
}

/// Somebody who may write templates.
#[derive(Clone, Debug)]
pub struct Writer {
    author: Author,
    /// The service's scope limits it; none for those who may write all.
    business: Option<std::sync::Arc<Service>>,
}

impl Writer {
    /// Whether a caller may write templates at all.
    ///
    /// # Errors
    /// [`NotYours::NoWriter`], [`NotYours::ReadOnlyToken`].
    pub fn new(caller: &Caller) -> Result<Self, NotYours> {
        let everything =
            |kind, id: &str| Self { author: Author { kind, id: id.to_owned() }, business: None };
        let of_user = |user: &UserCaller| match (user.is_system_admin(), user.may_write()) {
            (false, _) => Err(NotYours::NoWriter),
            (true, false) => Err(NotYours::ReadOnlyToken),
            (true, true) => Ok(everything(AuthorKind::User, user.user().as_str())),
        };
        match caller {
            Caller::User(user) | Caller::Admin(AdminCaller::User(user)) => of_user(user),
            Caller::Admin(
                AdminCaller::Token | AdminCaller::Account(_) | AdminCaller::Within(..),
            ) => Ok(everything(AuthorKind::Admin, "admin")),
            Caller::Service(service) => {
                let all = everything(AuthorKind::Service, service.id.as_str());
                match service.level {
                    Level::System => Ok(all),
                    Level::Business => Ok(Self { business: Some(service.clone()), ..all }),
                    Level::ThirdParty => Err(NotYours::NoWriter),
                }
            }
        }
    }

    /// Whose templates it makes.
    #[must_use]
    pub const fn author(&self) -> &Author {
        &self.author
    }

    /// Whether it may change a template that is there.
    pub(super) fn may_change(&self, author: &Author, present: &Template) -> Result<(), NotYours> {
        if self.business.is_none() {
            return Ok(());
        }
        if *author != self.author {
            return Err(NotYours::Anothers);
        }
        // An admin may have made a system template of it.
        if present.category == Category::System { Err(NotYours::System) } else { Ok(()) }
    }

    /// Whether it may save this. A service must not get by its own template what its scope does not
    /// let it send.
    pub(super) fn may_save(&self, template: &Template) -> Result<(), NotYours> {
        let Some(service) = &self.business else { return Ok(()) };
        if template.category == Category::System || is_reserved_type(&template.message_type) {
            return Err(NotYours::System);
        }
        let allows =
            |list: &[String], word: &str| list.is_empty() || list.iter().any(|w| w == word);
        if !allows(&service.scope.templates, &template.id) {
            return Err(NotYours::OutOfScope("template"));
        }
        if !allows(&service.scope.message_types, &template.message_type) {
            return Err(NotYours::OutOfScope("message type"));
        }
        Ok(())
    }
}
