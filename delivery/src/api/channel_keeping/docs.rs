//! What the endpoints that keep channels tell of themselves.

use protocol::ErrorType;

use crate::{
    api::{
        caller::Asker,
        channels::{
            docs::{CHANNEL_ID, PROJECT, TAG, at_port, project, project_members},
            query_of_one,
        },
        doc::{By, Doc, Example, Kind, Others, Reply, Who},
    },
    store::{ChannelInfo, MembersChanged},
};

const KEEPERS: Who = Who::These(
    "Services of level `system` and `business` within their scope, and users with the role \
     `system_admin`; a token whose scope says `read` and not `write` may not.",
    &[Kind::SystemAdmin, Kind::Business, Kind::System],
);

/// Who keeps channels at a port.
fn keeper<A: Asker>() -> By {
    at_port::<A, _>(By::Service, By::Admin)
}

fn refused() -> Reply {
    Reply::refusal(
        ErrorType::Forbidden,
        "The caller keeps no channels, or not this one: it is outside the service's scope.",
    )
}

fn none() -> Reply {
    Reply::refusal(ErrorType::NotFound, "There is no such channel.")
}

/// Of one channel.
fn one<A: Asker>(
    summary: &'static str,
    about: &'static str,
    answer: Reply,
    examples: Vec<Example>,
) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about,
        who: at_port::<A, _>(KEEPERS, Who::ADMINS),
        others: Others::Same,
        path: vec![CHANNEL_ID],
        query: query_of_one::<A>(),
        headers: vec![],
        answer,
        more: vec![refused(), none()],
        examples,
    }
}

pub(crate) fn create<A: Asker>() -> Doc {
    let made_up = r#"{"name": "临时讨论", "open": true}"#;
    let made_up = if A::ADMIN {
        Example::new("made_up", "In another tenant, with an id that is made up", By::Admin)
            .query("tenant_id=acme")
            .body(made_up)
    } else {
        Example::new("made_up", "With an id that is made up", By::Root).body(made_up)
    };
    Doc {
        // No thing of anybody is named; whose the id is, another is told.
        others: Others::Theirs,
        path: vec![],
        more: vec![
            refused(),
            Reply::state::<ChannelInfo>(
                ErrorType::Conflict,
                "There is a channel of this id; `data` is how it stands.",
            ),
            Reply::refusal(
                ErrorType::Invalid,
                "A field is not valid, or there are as many channels as the tenant may have.",
            ),
        ],
        ..one::<A>(
            "Make a channel",
            "Nobody is in it at first.",
            Reply::data::<ChannelInfo>("The channel, in its first version."),
            vec![
                Example::new("project", "A closed one", keeper::<A>()).body(PROJECT),
                made_up,
                Example::new("taken", "Its id is taken", keeper::<A>())
                    .after(project())
                    .body(PROJECT)
                    .answers(409),
            ],
        )
    }
}

pub(crate) fn update<A: Asker>() -> Doc {
    let mut doc = one::<A>(
        "Change a channel",
        "What is left out stays. A rename changes nothing but the name.",
        Reply::data::<ChannelInfo>("How it stands now."),
        vec![
            Example::new("rename", "Only if nobody else has changed it", keeper::<A>())
                .after(project())
                .path("id", "channel-456")
                .body(r#"{"name": "项目一组", "expected_version": 1}"#),
            Example::new("stale", "Somebody else has changed it", keeper::<A>())
                .after(project())
                .path("id", "channel-456")
                .body(r#"{"open": true, "expected_version": 7}"#)
                .answers(409),
        ],
    );
    doc.more.push(Reply::state::<ChannelInfo>(
        ErrorType::VersionConflict,
        "`expected_version` is not the current one; `data` is how the channel stands.",
    ));
    doc
}

pub(crate) fn remove<A: Asker>() -> Doc {
    one::<A>(
        "End a channel",
        "Nobody is in it any more, and its id may be used again. Messages that were received stay.",
        Reply::data::<ChannelInfo>("What it was."),
        vec![
            Example::new("project", "With all who are in it", keeper::<A>())
                .after(project())
                .after(project_members())
                .path("id", "channel-456"),
        ],
    )
}

pub(crate) fn change_members<A: Asker>() -> Doc {
    let mut doc = one::<A>(
        "Change the members of a channel",
        "Who is in it or out of it already is passed over. The change is made as a whole or not at \
         all.",
        Reply::data::<MembersChanged>("What changed."),
        vec![
            Example::new("change", "One comes, one goes", keeper::<A>())
                .after(project())
                .after(project_members())
                .path("id", "channel-456")
                .body(r#"{"join": ["user789"], "leave": ["user456"]}"#),
            Example::new("both", "Nobody comes and goes at once", keeper::<A>())
                .after(project())
                .path("id", "channel-456")
                .body(r#"{"join": ["user789"], "leave": ["user789"]}"#)
                .answers(422),
        ],
    );
    doc.more.push(Reply::refusal(
        ErrorType::Invalid,
        "A field is not valid, or the channel would have more members, or a user more channels, than \
         there may be.",
    ));
    doc
}
