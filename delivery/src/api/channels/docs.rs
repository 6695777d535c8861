//! What the endpoints of channels tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{
    LIST, LIST_OF_ADMIN, List, MEMBERS, MEMBERS_OF_ADMIN, Members, Seen, of_port, query_of_one,
};
use crate::{
    api::{
        caller::Asker,
        doc::{By, Doc, Example, Field, Given, ID, Kind, Others, Reply, Tag, Who, must},
    },
    store::MembersChanged,
};

pub(in crate::api) const TAG: Tag = Tag {
    name: "Channels",
    about: "Named groups of users. Services and system admins make them and say who is in them; users \
            join and leave open ones by themselves. A closed channel is not there for a user who is \
            not in it. A message to a channel goes to those who are in it when it is stored.",
};

/// Who sees members, beside admins.
const MEMBERS_SEEN_BY: Who = Who::These(
    "Users who are in it, users with the role `system_admin`, and services of level `system` and \
     `business` within their scope.",
    &[
        Kind::Reader,
        Kind::User,
        Kind::DepartmentAdmin,
        Kind::SystemAdmin,
        Kind::Business,
        Kind::System,
    ],
);

/// Who joins and leaves.
const JOINERS: Who = Who::These(
    "Users, for themselves; a token whose scope says `read` and not `write` may not.",
    &[Kind::User, Kind::DepartmentAdmin, Kind::SystemAdmin],
);

pub(in crate::api) const CHANNEL_ID: Field = must("id", ID, "The channel's id.");

/// A closed channel.
pub(in crate::api) const PROJECT: &str = r#"{
  "id": "channel-456",
  "name": "项目组",
  "description": "项目的进展和文件",
  "history": true,
  "metadata": {"department": "研发部"}
}"#;

/// An open one.
const CLUB: &str = r#"{
  "id": "reading-club",
  "name": "读书会",
  "description": "每周读一本书",
  "open": true,
  "presence": true
}"#;

/// [`PROJECT`], with nobody in it.
pub(in crate::api) fn project() -> Given {
    Given::post(By::Service, "/api/v3/channels", PROJECT)
}

/// `user123` and another join [`PROJECT`].
pub(in crate::api) fn project_members() -> Given {
    Given::post(
        By::Service,
        "/api/v3/channels/channel-456/members",
        r#"{"join": ["user123", "user456"]}"#,
    )
}

/// [`CLUB`], with nobody in it.
fn club() -> Given {
    Given::post(By::Service, "/api/v3/channels", CLUB)
}

/// The same of another tenant.
fn club_of_tenant() -> Given {
    Given::post(By::Admin, "/api/v3/admin/channels?tenant_id=acme", CLUB)
}

/// What stands at a port.
pub(in crate::api) fn at_port<A: Asker, T>(user: T, admin: T) -> T {
    if A::ADMIN { admin } else { user }
}

fn none() -> Reply {
    Reply::refusal(
        ErrorType::NotFound,
        "There is no such channel, or none that the caller may know of.",
    )
}

pub(crate) fn list<A: Asker>() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List channels",
        about: at_port::<A, _>(
            "Users see the channels that they are in, and with `show=open` those that they can join; \
             services see all of their scope. Where most channels are not shown, a page may be \
             shorter than `size` and more may come: `meta.next_cursor` says so.",
            "All of a tenant. Where most channels are not shown, a page may be shorter than `size` \
             and more may come: `meta.next_cursor` says so.",
        ),
        who: at_port::<A, _>(Who::CALLERS, Who::ADMINS),
        others: at_port::<A, _>(Others::Theirs, Others::Same),
        path: vec![],
        query: of_port::<A>(LIST, LIST_OF_ADMIN),
        headers: vec![],
        answer: Reply::page::<List>("A page of channels."),
        more: at_port::<A, _>(
            vec![Reply::refusal(
                ErrorType::Forbidden,
                "A user asked for `show=all` who is no system admin, or whose token is for reading.",
            )],
            vec![],
        ),
        examples: at_port::<A, _>(
            vec![
                Example::new("mine", "Those that one is in", By::User)
                    .after(project())
                    .after(project_members())
                    .query("page=1&size=20"),
                Example::new("open", "Those that one can join", By::User)
                    .after(club())
                    .query("show=open&size=50"),
                Example::new("service", "Those that a service may keep", By::Service)
                    .after(project())
                    .after(club())
                    .query("size=50"),
                Example::new("all", "Not all, for an ordinary user", By::User)
                    .query("show=all")
                    .answers(403),
            ],
            vec![
                Example::new("all", "All of the default tenant", By::Admin)
                    .after(project())
                    .after(club())
                    .query("size=50"),
                Example::new("tenant", "The open ones of another tenant", By::Admin)
                    .after(club_of_tenant())
                    .query("show=open&tenant_id=acme"),
            ],
        ),
    }
}

pub(crate) fn get<A: Asker>() -> Doc {
    Doc {
        tag: &TAG,
        summary: "One channel",
        about: at_port::<A, _>(
            "An open channel shows itself to all users of the tenant, a closed one to those who are \
             in it and to system admins. A service sees those of its scope.",
            "",
        ),
        who: at_port::<A, _>(Who::CALLERS, Who::ADMINS),
        others: Others::Same,
        path: vec![CHANNEL_ID],
        query: query_of_one::<A>(),
        headers: vec![],
        answer: Reply::data::<Seen>("The channel."),
        more: vec![none()],
        examples: at_port::<A, _>(
            vec![
                Example::new("open", "An open one", By::User)
                    .after(club())
                    .path("id", "reading-club"),
                Example::new("closed", "One that one is in", By::User)
                    .after(project())
                    .after(project_members())
                    .path("id", "channel-456"),
                Example::new("outside", "A closed one that one is not in", By::User)
                    .after(project())
                    .path("id", "channel-456")
                    .answers(404),
            ],
            vec![
                Example::new("project", "Of the default tenant", By::Admin)
                    .after(project())
                    .path("id", "channel-456"),
                Example::new("elsewhere", "Another tenant has none of that id", By::Admin)
                    .after(project())
                    .path("id", "channel-456")
                    .query("tenant_id=acme")
                    .answers(404),
            ],
        ),
    }
}

pub(crate) fn members<A: Asker>() -> Doc {
    let by = at_port::<A, _>(By::Service, By::Admin);
    let mut examples = vec![
        Example::new("project", "Who is in it", by)
            .after(project())
            .after(project_members())
            .path("id", "channel-456")
            .query("size=100"),
    ];
    if !A::ADMIN {
        examples.push(
            Example::new("outside", "Not for who is not in it, though it is open", By::User)
                .after(club())
                .path("id", "reading-club")
                .answers(404),
        );
    }
    Doc {
        tag: &TAG,
        summary: "Members of a channel",
        about: "By id.",
        who: at_port::<A, _>(MEMBERS_SEEN_BY, Who::ADMINS),
        others: Others::Same,
        path: vec![CHANNEL_ID],
        query: of_port::<A>(MEMBERS, MEMBERS_OF_ADMIN),
        headers: vec![],
        answer: Reply::page::<Members>("A page of members."),
        more: vec![none()],
        examples,
    }
}

pub(crate) fn join() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Join a channel",
        about: "An open one. Who is in it already stays in it; `joined` is 0 then.",
        who: JOINERS,
        others: Others::Theirs,
        path: vec![CHANNEL_ID],
        query: &[],
        headers: vec![],
        answer: Reply::data::<MembersChanged>("What changed."),
        more: vec![
            Reply::refusal(
                ErrorType::NotFound,
                "There is no such channel, or it is closed and the caller is not in it.",
            ),
            Reply::refusal(
                ErrorType::Invalid,
                "The channel has as many members, or the user as many channels, as there may be.",
            ),
        ],
        examples: vec![
            Example::new("open", "An open one", By::User).after(club()).path("id", "reading-club"),
            Example::new("closed", "A closed one is not there", By::User)
                .after(project())
                .path("id", "channel-456")
                .answers(404),
        ],
    }
}

pub(crate) fn leave() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Leave a channel",
        about: "An open one. Messages that were received stay. Who is not in it stays out; `left` is 0 \
                then.",
        who: JOINERS,
        others: Others::Theirs,
        path: vec![CHANNEL_ID],
        query: &[],
        headers: vec![],
        answer: Reply::data::<MembersChanged>("What changed."),
        more: vec![
            Reply::refusal(
                ErrorType::Forbidden,
                "The channel is closed: whoever keeps it says who is in it. Or the token is for \
                 reading.",
            ),
            Reply::refusal(
                ErrorType::NotFound,
                "There is no such channel, or it is closed and the caller is not in it.",
            ),
        ],
        examples: vec![
            Example::new("open", "An open one", By::User)
                .after(club())
                .after(Given::call(By::User, Method::POST, "/api/v3/channels/reading-club/join"))
                .path("id", "reading-club"),
            Example::new("closed", "A closed one is not left by oneself", By::User)
                .after(project())
                .after(project_members())
                .path("id", "channel-456")
                .answers(403),
        ],
    }
}
