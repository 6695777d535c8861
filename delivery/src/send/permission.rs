//! Who may send what (seed 003 §4.8, contract §4 and §11).

use protocol::{RoleId, SenderInfo};

use super::{limits::USER_RECIPIENTS_MAX, validate::Checked};
use crate::{
    control::{Author, AuthorKind, Level, ON_BEHALF_OF, Service},
    identity::{AdminCaller, Caller, UserCaller},
    template::Category,
};

/// Message types of alerts and announcements: for system services and system admins.
pub const RESERVED_TYPES: [&str; 3] = ["alert", "system", "announcement"];

/// The caller is known, but may not send this. One sentence says what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Alerts and announcements.
    #[error("messages of type {RESERVED_TYPES:?} need a service of level system or a system admin")]
    ReservedType,
    /// A template of category `system`.
    #[error("templates of category system need a service of level system or a system admin")]
    SystemTemplate,
    /// Everybody.
    #[error("sending to all needs a service of level system or a system admin")]
    Everyone,
    /// In a user's name.
    #[error("sending on behalf of a user, or as one, needs the permission on_behalf_of")]
    OnBehalfOf,
    /// As the platform.
    #[error("a sender of type system needs a service of level system or a system admin")]
    SystemSender,
    /// More recipients than a user may address.
    #[error(
        "users may send to at most {USER_RECIPIENTS_MAX} recipients at a time, admins of a department \
         to more of its members"
    )]
    TooManyRecipients,
    /// Everybody who carries a role.
    #[error(
        "sending to a role needs a service of level system or business, a system admin, or the admin \
         of the department"
    )]
    Role,
    /// A token for reading.
    #[error("the token's scope does not allow to send")]
    ReadOnlyToken,
    /// Outside a service's scope.
    #[error("the service's scope does not include this {0}")]
    OutOfScope(&'static str),
}

/// Whether a message type is for system services and system admins. Without regard to case: clients
/// that show "Alert" like "alert" must not be fooled.
pub(crate) fn is_reserved_type(message_type: &str) -> bool {
    RESERVED_TYPES.iter().any(|word| word.eq_ignore_ascii_case(message_type))
}

pub(super) fn check(caller: &Caller, message: &Checked) -> Result<(), Refusal> {
    check_write(caller)?;
    match caller {
        Caller::Admin(_) => Ok(()),
        Caller::User(user) => check_user(user, message),
        Caller::Service(service) => check_service(service, message),
    }
}

/// Whether a caller may change anything of what is sent.
pub(crate) fn check_write(caller: &Caller) -> Result<(), Refusal> {
    match caller {
        Caller::User(user) if !user.may_write() => Err(Refusal::ReadOnlyToken),
        Caller::User(_) | Caller::Service(_) | Caller::Admin(_) => Ok(()),
    }
}

fn check_user(user: &UserCaller, message: &Checked) -> Result<(), Refusal> {
    if user.is_system_admin() {
        return Ok(());
    }
    if message.on_behalf_of.is_some() {
        return Err(Refusal::OnBehalfOf);
    }
    check_ordinary(message)?;
    // Who the many are is looked at in `recipients`, for those who may address more.
    if message.recipient_count() > USER_RECIPIENTS_MAX && user.department_led().is_none() {
        return Err(Refusal::TooManyRecipients);
    }
    Ok(())
}

fn check_service(service: &Service, message: &Checked) -> Result<(), Refusal> {
    let sender_kind = message.request.sender.as_ref().map(|sender| sender.kind.as_str());
    if (message.on_behalf_of.is_some() || sender_kind == Some("user")) && !service.may(ON_BEHALF_OF)
    {
        return Err(Refusal::OnBehalfOf);
    }
    let may_be_system = match service.level {
        Level::System => true,
        Level::Business | Level::ThirdParty => {
            check_ordinary(message)?;
            false
        }
    };
    if sender_kind == Some("system") && !may_be_system {
        return Err(Refusal::SystemSender);
    }
    check_scope(service, message)
}

/// What everybody may send who is not the system.
fn check_ordinary(message: &Checked) -> Result<(), Refusal> {
    if message.to_everyone() {
        return Err(Refusal::Everyone);
    }
    if is_reserved_type(&message.message_type) {
        return Err(Refusal::ReservedType);
    }
    match message.template.as_ref().map(|template| template.source.category) {
        Some(Category::System) => Err(Refusal::SystemTemplate),
        Some(Category::Business | Category::Notification) | None => Ok(()),
    }
}

/// Whether everybody who carries this role may be addressed.
pub(super) fn allows_role(caller: &Caller, role: &RoleId) -> bool {
    match caller {
        Caller::Admin(_) => true,
        Caller::User(user) => {
            user.is_system_admin() || user.department_led().as_ref() == Some(role)
        }
        Caller::Service(service) => match service.level {
            Level::System | Level::Business => true,
            Level::ThirdParty => false,
        },
    }
}

/// Whether a message may be sent to this channel, if there is one.
pub(super) fn allows_channel(service: &Service, channel: &str) -> bool {
    service.scope_allows(&service.scope.channels, channel)
}

fn check_scope(service: &Service, message: &Checked) -> Result<(), Refusal> {
    let allows = |list: &[String], word: &str| service.scope_allows(list, word);
    if let Some(template) = &message.template
        && !allows(&service.scope.templates, &template.source.id)
    {
        return Err(Refusal::OutOfScope("template"));
    }
    if let Some(channel) = &message.channel_id
        && !allows(&service.scope.channels, channel.as_str())
    {
        return Err(Refusal::OutOfScope("channel"));
    }
    // A template that is allowed brings its type with it; but nobody allows himself a type.
    let by_others = message.template.as_ref().is_some_and(|template| {
        let is_own = |author: &Author| {
            author.kind == AuthorKind::Service && author.id == service.id.as_str()
        };
        !template.author.as_ref().is_some_and(is_own)
    });
    if !by_others && !allows(&service.scope.message_types, &message.message_type) {
        return Err(Refusal::OutOfScope("message type"));
    }
    Ok(())
}

/// Who the message is shown to come from. Ordinary users are always themselves, whatever they say;
/// a service is always named, also behind a user.
pub(super) fn sender(caller: &Caller, message: &Checked) -> SenderInfo {
    let said = message.request.sender.clone();
    let info = |id: &str, kind: &str, name: &str, service_id: Option<String>| SenderInfo {
        id: id.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        avatar: String::new(),
        service_id,
    };
    let on_behalf = message.on_behalf_of.as_ref();
    match caller {
        Caller::User(user) | Caller::Admin(AdminCaller::User(user)) => {
            let own = || info(user.user().as_str(), "user", &user.username, None);
            if !user.is_system_admin() {
                return own();
            }
            match (said, on_behalf) {
                (Some(said), _) => SenderInfo { service_id: None, ..said },
                (None, Some(other)) => info(other.as_str(), "user", "", None),
                (None, None) => own(),
            }
        }
        Caller::Service(service) => {
            let id = service.id.as_str();
            let service_id = Some(id.to_owned());
            match (said, on_behalf) {
                (Some(said), _) => SenderInfo { service_id, ..said },
                (None, Some(user)) => info(user.as_str(), "user", "", service_id),
                (None, None) => info(id, "service", &service.name, service_id),
            }
        }
        Caller::Admin(AdminCaller::Token | AdminCaller::Account(_) | AdminCaller::Within(..)) => {
            match (said, on_behalf) {
                (Some(said), _) => SenderInfo { service_id: None, ..said },
                (None, Some(user)) => info(user.as_str(), "user", "", None),
                (None, None) => info("admin", "system", "admin", None),
            }
        }
    }
}
