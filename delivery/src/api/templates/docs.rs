//! What the endpoints of templates tell of themselves.

use protocol::ErrorType;

use super::{List, Preview, Shown, get_query, list_query, query, versions_query};
use crate::{
    api::{
        caller::Asker,
        doc::{By, Doc, Example, Given, ID, Kind, Others, Reply, Tag, Who, must},
    },
    template::{Deleted, Template, VersionPage},
};

const TAG: Tag = Tag {
    name: "Templates",
    about: "`{{name}}` in title, content and an action's text and url is replaced, and nothing else \
            happens. `file_share`, `doc_collaboration` and `system_alert` are there from the start and \
            cannot be changed.",
};

const WRITERS: Who = Who::These(
    "Services of level `system` and users with the role `system_admin`, for all templates; services \
     of level `business`, for their own ones.",
    &[Kind::SystemAdmin, Kind::Business, Kind::System],
);

const ORDER: &str = r#"{
  "id": "order",
  "name": "订单",
  "category": "business",
  "title": "{{name}} 的订单",
  "content": "{{name}}：{{total}}",
  "message_type": "order",
  "priority": 7,
  "variables": [
    {"name": "name", "type": "string", "required": true, "description": "客户"},
    {"name": "total", "type": "number", "required": true}
  ],
  "actions": [{"type": "link", "text": "查看", "url": "https://shop.example/o/{{order_id}}", "style": "primary"}],
  "locales": {"en": {"title": "Order of {{name}}", "content": "{{name}}: {{total}}"}}
}"#;

fn made() -> Given {
    Given::post(By::Service, "/api/v3/messages/templates", ORDER)
}

/// As it is at a port: at the one of admins, theirs.
fn at_port<A: Asker>(doc: Doc) -> Doc {
    if !A::ADMIN {
        return doc;
    }
    let by_admin = |example: Example| Example { by: By::Admin, ..example };
    let examples = doc.examples.into_iter().map(by_admin).collect();
    Doc { who: Who::ADMINS, others: Others::Same, examples, ..doc }
}

/// Of one template.
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
        who: Who::CALLERS,
        others: Others::Same,
        path: vec![must("id", ID, "The template's id.")],
        query: query::<A>(),
        headers: vec![],
        answer,
        more: vec![Reply::refusal(ErrorType::NotFound, "There is no such template.")],
        examples,
    }
}

fn refused_to_write() -> Reply {
    Reply::refusal(
        ErrorType::Forbidden,
        "The caller may not write templates, or not this one: it is another's, is built in, or is \
         outside the service's scope.",
    )
}

pub(crate) fn list<A: Asker>() -> Doc {
    at_port::<A>(Doc {
        tag: &TAG,
        summary: "List templates",
        about: "Of the tenant, the built-in ones included.",
        who: Who::CALLERS,
        others: Others::Same,
        path: vec![],
        query: list_query::<A>(),
        headers: vec![],
        answer: Reply::page::<List<'static>>("A page of templates."),
        more: vec![],
        examples: vec![
            Example::new("system", "Those of the system", By::User).query("category=system"),
        ],
    })
}

pub(crate) fn create<A: Asker>() -> Doc {
    at_port::<A>(Doc {
        tag: &TAG,
        summary: "Make a template",
        about: "Any `{{` that begins no variable is refused. A variable that is not declared is taken \
                as an optional text, but is needed where it stands in a link.",
        who: WRITERS,
        others: Others::Theirs,
        path: vec![],
        query: query::<A>(),
        headers: vec![],
        answer: Reply::data::<Template>("The template, in its first version."),
        more: vec![
            refused_to_write(),
            Reply::state::<Template>(
                ErrorType::VersionConflict,
                "There is a template of this id; `data` is how it stands.",
            ),
        ],
        examples: vec![
            Example::new("order", "In two languages", By::Service).body(ORDER),
            Example::new("loop", "No blocks, filters or calls", By::Service)
                .body(r#"{"name": "n", "category": "business", "content": "{{#each a}}{{b}}{{/each}}"}"#)
                .answers(422),
        ],
    })
}

pub(crate) fn get<A: Asker>() -> Doc {
    at_port::<A>(Doc {
        query: get_query::<A>(),
        ..one::<A>(
            "One template",
            "With `locale` as it reads in that language, and `locale` says which variant that is.",
            Reply::data::<Shown>("The template; `locale` is there where one was asked for."),
            vec![
                Example::new("file_share", "A built-in one", By::User).path("id", "file_share"),
                Example::new("english", "As it reads in English", By::Service)
                    .after(made())
                    .path("id", "order")
                    .query("version=1&locale=en-GB"),
            ],
        )
    })
}

pub(crate) fn update<A: Asker>() -> Doc {
    at_port::<A>(Doc {
        who: WRITERS,
        others: Others::Refused,
        more: vec![
            refused_to_write(),
            Reply::refusal(ErrorType::NotFound, "There is no such template."),
            Reply::state::<Template>(
                ErrorType::VersionConflict,
                "`expected_version` is not the current one; `data` is how the template stands.",
            ),
        ],
        ..one::<A>(
            "Change a template",
            "Replaces it as a whole and makes a new version. Sends take the latest.",
            Reply::data::<Template>("The new version."),
            vec![
                Example::new("order", "Only if nobody else has changed it", By::Service)
                    .after(made())
                    .path("id", "order")
                    .body(
                        r#"{
  "name": "订单",
  "category": "business",
  "title": "{{name}} 的新订单",
  "content": "{{name}}：{{total}}",
  "message_type": "order",
  "expected_version": 1
}"#,
                    ),
                Example::new("built_in", "Those are for ever", By::Service)
                    .path("id", "file_share")
                    .body(r#"{"name": "n", "category": "business", "content": "c"}"#)
                    .answers(403),
            ],
        )
    })
}

pub(crate) fn remove<A: Asker>() -> Doc {
    at_port::<A>(Doc {
        who: WRITERS,
        others: Others::Refused,
        more: vec![
            refused_to_write(),
            Reply::refusal(ErrorType::NotFound, "There is no such template."),
        ],
        ..one::<A>(
            "Delete a template",
            "It is gone for sends; its versions stay readable, and whoever could change it may make \
             it again.",
            Reply::data::<Deleted>("What was deleted."),
            vec![Example::new("order", "One's own", By::Service).after(made()).path("id", "order")],
        )
    })
}

pub(crate) fn versions<A: Asker>() -> Doc {
    at_port::<A>(Doc {
        query: versions_query::<A>(),
        ..one::<A>(
            "Versions of a template",
            "Newest first, also of a deleted one.",
            Reply::page::<VersionPage>("Its versions."),
            vec![
                Example::new("order", "The one there is", By::Service)
                    .after(made())
                    .path("id", "order")
                    .query("page=1&size=10"),
            ],
        )
    })
}

pub(crate) fn preview<A: Asker>() -> Doc {
    at_port::<A>(one::<A>(
        "What a send would say",
        "Renders the template and sends nothing.",
        Reply::data::<Preview<'static>>("The message's text and buttons."),
        vec![
            Example::new("order", "In English", By::Service)
                .after(made())
                .path("id", "order")
                .body(r#"{"variables": {"name": "Han Mei", "total": 12.5, "order_id": "A 1"}, "locale": "en"}"#),
            Example::new("missing", "Every missing value is named", By::Service)
                .after(made())
                .path("id", "order")
                .body(r#"{"variables": {}}"#)
                .answers(422),
        ],
    ))
}
