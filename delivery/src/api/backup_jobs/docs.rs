//! What backups that are made in the background tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{Deleted, LINK, List, Shown, WAIT};
use crate::api::{
    backups::docs::{TAG, key},
    doc::{By, Doc, Example, Field, Form, Given, Others, Reply, Who, formed, may, must, text},
};

const JOB: &str = "0194691a2f40704180bd2a7b0f3c9d11";
const FILE: &str = "0194691a2f40704180bd2a7b0f3c9d22.db.gz";
const QUERY: &str = "expires=1737023400&signature=Vb0Tq3LkXn9sYw7RgQ2eJdUhAf5oIiT8rSyVwMmC4zE";
const LINK_TO_IT: &str = "/api/v3/backup/files/0194691a2f40704180bd2a7b0f3c9d22.db.gz?expires=1737023400&signature=Vb0Tq3LkXn9sYw7RgQ2eJdUhAf5oIiT8rSyVwMmC4zE";

const ABOUT_JOB: &str = "For large inboxes: the backup is made on the server, and its file can be downloaded in parts, \
    again and again, until `expires_at`. Jobs are of the node that made them: behind a load balancer, other nodes answer \
    404. One is made at a time on a node, in the order in which they were asked for; a node that is restarted begins what \
    was under way again, unless it is encrypted with an `X-Backup-Key`, which is kept nowhere.";

const ABOUT_FILE: &str = "As it was made, gzip included. The `ETag` is its SHA-256: with `Range` and `If-Range` a download \
    that broke off goes on, or begins again where the file is another. One range is answered; more than one, or what is no \
    range of bytes, as if none was said.";

fn asked() -> Given {
    Given::post(By::User, "/api/v3/backup/jobs", "{}").keep(JOB, "/data/job_id")
}

fn made() -> Given {
    Given::call(
        By::User,
        Method::GET,
        "/api/v3/backup/jobs/0194691a2f40704180bd2a7b0f3c9d11?wait=30s",
    )
    .keep(LINK_TO_IT, "/data/download_url")
}

fn id() -> Vec<Field> {
    vec![must("id", formed(Form::Line, 1, 64), "The job's id.")]
}

fn none() -> Reply {
    Reply::refusal(ErrorType::NotFound, "The user has no such job here.")
}

fn unavailable() -> Reply {
    Reply::refusal(ErrorType::Unavailable, "The database cannot be asked now.")
}

fn ranges() -> Vec<Field> {
    vec![
        may("Range", text(usize::MAX), "`bytes=first-`, `bytes=first-last` or `bytes=-last`."),
        may(
            "If-Range",
            text(usize::MAX),
            "The `ETag` of the file of which a part is there already.",
        ),
    ]
}

fn of_file() -> Vec<Reply> {
    vec![
        Reply::media(206, "application/octet-stream", "The part that was asked for."),
        Reply::refusal(ErrorType::NotFound, "There is no such job here, or its file is gone."),
        Reply::refusal(ErrorType::Conflict, "It is not made yet."),
        Reply::refusal(ErrorType::RangeNotSatisfiable, "The range begins behind the file's end."),
        Reply::refusal(
            ErrorType::Unavailable,
            "As many files are sent as may be, or the database cannot be asked now.",
        ),
    ]
}

fn doc(summary: &'static str, answer: Reply) -> Doc {
    Doc {
        tag: &TAG,
        summary,
        about: ABOUT_JOB,
        who: Who::USERS,
        others: Others::Refused,
        path: id(),
        query: &[],
        headers: vec![],
        answer,
        more: vec![none(), unavailable()],
        examples: vec![],
    }
}

pub(crate) fn create() -> Doc {
    Doc {
        others: Others::Theirs,
        path: vec![],
        headers: vec![key()],
        more: vec![
            Reply::refusal(ErrorType::NotFound, "The user was deleted just now."),
            Reply::refusal(
                ErrorType::RateLimited,
                "The user has four jobs that wait, run or are kept, or the node has as many as may be.",
            ),
            Reply::refusal(
                ErrorType::InsufficientStorage,
                "The files of jobs take `BACKUP_JOBS_SIZE_MAX`, or the disk is full.",
            ),
            unavailable(),
        ],
        examples: vec![
            Example::new("full", "The whole inbox", By::User).body("{}"),
            Example::new("incremental", "What changed after a position", By::User)
                .body(r#"{"type": "incremental", "since": "0", "compress": false}"#),
            Example::new("no_since", "Since when?", By::User)
                .body(r#"{"type": "incremental"}"#)
                .answers(422),
        ],
        ..doc("Have a backup of the own inbox made", Reply::data::<Shown>("It waits for its turn."))
    }
}

pub(crate) fn list() -> Doc {
    Doc {
        about: "Those that wait, are made, are kept, have failed or have expired, the oldest first.",
        others: Others::Theirs,
        path: vec![],
        more: vec![unavailable()],
        examples: vec![Example::new("one", "One is kept", By::User).after(asked()).after(made())],
        ..doc("List the own backup jobs", Reply::data::<List>("All there are here."))
    }
}

pub(crate) fn get() -> Doc {
    Doc {
        query: WAIT,
        examples: vec![
            Example::new("made", "Wait until it is made", By::User)
                .after(asked())
                .path("id", JOB)
                .query("wait=30s"),
            Example::new("none", "There is none", By::User).path("id", "none").answers(404),
        ],
        ..doc("Look after a backup job", Reply::data::<Shown>("How it stands."))
    }
}

pub(crate) fn remove() -> Doc {
    Doc {
        about: "With its file, whatever it does: links to it are void, but what a cache has of it.",
        examples: vec![
            Example::new("one", "It is not needed any more", By::User)
                .after(asked())
                .path("id", JOB),
        ],
        ..doc("Delete a backup job", Reply::data::<Deleted>("It is gone."))
    }
}

pub(crate) fn file() -> Doc {
    Doc {
        about: ABOUT_FILE,
        headers: ranges(),
        more: of_file(),
        examples: vec![
            Example::new("whole", "All of it", By::User)
                .after(asked())
                .after(made())
                .path("id", JOB),
            Example::new("part", "Its first bytes", By::User)
                .after(asked())
                .after(made())
                .path("id", JOB)
                .header("Range", "bytes=0-15")
                .answers(206),
            Example::new("behind", "There is nothing there", By::User)
                .after(asked())
                .after(made())
                .path("id", JOB)
                .header("Range", "bytes=99999999-")
                .answers(416),
        ],
        ..doc("Download a backup", Reply::media(200, "application/octet-stream", "The backup."))
    }
}

pub(crate) fn linked() -> Doc {
    let mut more = of_file();
    more.push(Reply::refusal(
        ErrorType::Forbidden,
        "The link is not one of ours, was changed, or has expired.",
    ));
    Doc {
        about: "The `download_url` of a job that is done. It needs no token: whoever has it can have the backup until \
            `expires_at`, and caches may keep it until then. As `/backup/jobs/{id}/file` otherwise.",
        who: Who::Public,
        path: vec![must("name", formed(Form::Line, 1, 64), "The file's name.")],
        query: LINK,
        headers: ranges(),
        more,
        examples: vec![
            Example::new("whole", "All of it", By::Nobody)
                .after(asked())
                .after(made())
                .path("name", FILE)
                .query(QUERY),
            Example::new("forged", "Who made this link?", By::Nobody)
                .path("name", FILE)
                .query("expires=1737023400&signature=none")
                .answers(403),
        ],
        ..doc(
            "Download a backup by its link",
            Reply::media(200, "application/octet-stream", "The backup."),
        )
    }
}
