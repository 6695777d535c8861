//! Who may call, and whose a thing is.

use crate::admin::Role;

/// A chapter of the description.
#[derive(Debug)]
pub struct Tag {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
}

/// A kind of caller (seed 003 §4.8, contract §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user whose token's scope says `read` and not `write`.
    Reader,
    /// A user.
    User,
    /// A user with the role `department_admin`.
    DepartmentAdmin,
    /// A user with the role `system_admin`.
    SystemAdmin,
    /// A service of level `third_party`, approved, with nothing in its scope.
    ThirdParty,
    /// A service of level `business`.
    Business,
    /// A service of level `system`.
    System,
    /// The bearer of `ADMIN_TOKEN`.
    Admin,
    /// An admin who has logged in, of role `viewer`.
    Viewer,
    /// One of role `operator`.
    Operator,
    /// One of role `admin`.
    Administrator,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Reader,
        Self::User,
        Self::DepartmentAdmin,
        Self::SystemAdmin,
        Self::ThirdParty,
        Self::Business,
        Self::System,
        Self::Admin,
        Self::Viewer,
        Self::Operator,
        Self::Administrator,
    ];

    /// Admins who have logged in, by role.
    pub const BY_ROLE: [(Role, Self); 3] = [
        (Role::Viewer, Self::Viewer),
        (Role::Operator, Self::Operator),
        (Role::Admin, Self::Administrator),
    ];

    /// Its word in the description.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::User => "user",
            Self::DepartmentAdmin => "department_admin",
            Self::SystemAdmin => "system_admin",
            Self::ThirdParty => "third_party",
            Self::Business => "business",
            Self::System => "system",
            Self::Admin => "admin",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }

    /// Whether it shows a user's token.
    #[must_use]
    pub const fn is_user(self) -> bool {
        matches!(self, Self::Reader | Self::User | Self::DepartmentAdmin | Self::SystemAdmin)
    }

    /// Whether it shows a service's key.
    #[must_use]
    pub const fn is_service(self) -> bool {
        matches!(self, Self::ThirdParty | Self::Business | Self::System)
    }
}

/// Who may call an endpoint. Whoever is not named gets 401 or 403.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// Everybody, without saying who they are.
    Public,
    /// These, in a sentence and as a list.
    These(&'static str, &'static [Kind]),
}

impl Who {
    /// Users, whatever their token is for: what they do to their own inbox concerns nobody else.
    pub const USERS: Self = Self::These(
        "Users, for their own inbox.",
        &[Kind::Reader, Kind::User, Kind::DepartmentAdmin, Kind::SystemAdmin],
    );

    /// Users and services.
    pub const CALLERS: Self = Self::These(
        "Users and services.",
        &[
            Kind::Reader,
            Kind::User,
            Kind::DepartmentAdmin,
            Kind::SystemAdmin,
            Kind::ThirdParty,
            Kind::Business,
            Kind::System,
        ],
    );

    /// Who may send, each within what the README says of levels and roles.
    pub const SENDERS: Self = Self::These(
        "Services within their level and scope, users within their roles; a token whose scope says \
         `read` and not `write` may not.",
        &[Kind::User, Kind::DepartmentAdmin, Kind::SystemAdmin, Kind::Business, Kind::System],
    );

    /// Admins.
    pub const ADMINS: Self = Self::These(
        "The bearer of `ADMIN_TOKEN`, and users with the role `system_admin`.",
        &[Kind::SystemAdmin, Kind::Admin],
    );

    /// Admins who have logged in, for themselves: roles are added by the description.
    pub const SIGNED_IN: Self = Self::These("No token but that of an admin's login.", &[]);

    /// The kinds that may.
    #[must_use]
    pub const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Public => &[],
            Self::These(_, kinds) => kinds,
        }
    }

    /// The sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Public => "Everybody; no token is looked at.",
            Self::These(sentence, _) => sentence,
        }
    }
}

/// What somebody else of a kind that may call sees with the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// 403 or 404: the thing belongs to whoever made it, or received it.
    Refused,
    /// What is theirs: no thing of anybody is named.
    Theirs,
    /// The same, within the tenant.
    Same,
}

impl Others {
    /// Its word in the description.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Theirs => "theirs",
            Self::Same => "same",
        }
    }
}
