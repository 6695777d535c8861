//! What backups of everybody tell of themselves.

use protocol::ErrorType;

use super::{JOBS, JobList, List};
use crate::{
    api::doc::{By, Doc, Example, Given, Kind, Others, Reply, Tag, Who},
    backup::UnderWay,
};

const TAG: Tag = Tag {
    name: "Backups of everybody",
    about: "All inboxes and control data, made by `BACKUP_SCHEDULE` into `DATABASE_BACKUP_PATH` or a bucket and kept as \
            long as `BACKUP_KEEP_AGE` and `BACKUP_KEEP_COUNT` say. `pushhub restore --run` brings them back.",
};

fn away() -> Reply {
    Reply::refusal(ErrorType::Unavailable, "Where they are kept cannot be reached or used now.")
}

fn doc(summary: &'static str, answer: Reply) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about: "",
        who: Who::These("The bearer of `ADMIN_TOKEN`, and admins for all tenants.", &[Kind::Admin]),
        others: Others::Same,
        path: vec![],
        query: &[],
        headers: vec![],
        answer,
        more: vec![],
        examples: vec![],
    }
}

pub(crate) fn list() -> Doc {
    Doc {
        about: "What is kept: each run with when it was made, on which other it is put, how many inboxes and bytes it has, \
                the SHA-256 of its parts, and which runs were removed by it. Whose inboxes are in one is in its \
                `index.db.gz`; `pushhub backups RUN` shows it. The latest 500. For the bearer of `ADMIN_TOKEN` and admins \
                of all tenants.",
        more: vec![Reply::refusal(ErrorType::Forbidden, "They are of all tenants."), away()],
        examples: vec![Example::new("all", "What is kept", By::Admin)],
        ..doc("List backups of everybody", Reply::data::<List>("What is kept."))
    }
}

pub(crate) fn ask() -> Doc {
    Doc {
        about: "Beside those of the schedule, which counts from it. It goes on after the answer; `GET /admin/backups` tells \
                how far it is. One at a time, over all nodes.",
        more: vec![
            Reply::refusal(ErrorType::Conflict, "One is under way, here or on another node."),
            away(),
        ],
        examples: vec![
            Example::new("full", "Everything, now", By::Admin).body(r#"{"type": "full"}"#),
            Example::new("other", "There is no such type", By::Admin)
                .body(r#"{"type": "messages"}"#)
                .answers(422),
        ],
        ..doc("Back everybody up now", Reply::data::<UnderWay>("It has begun."))
    }
}

pub(crate) fn jobs() -> Doc {
    Doc {
        about: "Backups that users have had made in the background, on the node that answers. Their files are their \
                users'.",
        who: Who::ADMINS,
        query: JOBS,
        examples: vec![
            Example::new("all", "Those of all tenants", By::Admin).after(Given::post(
                By::User,
                "/api/v3/backup/jobs",
                "{}",
            )),
            Example::new("tenant", "Those of one", By::Admin).query("tenant_id=default"),
        ],
        ..doc("List the backup jobs of users", Reply::data::<JobList>("All there are here."))
    }
}
