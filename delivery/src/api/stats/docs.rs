//! What the endpoints for statistics tell of themselves.

use super::{OF_ALL, OF_SERVICE, Stats};
use crate::api::doc::{By, Doc, Example, Kind, Others, Reply, Tag, Who};

const TAG: Tag = Tag {
    name: "Statistics",
    about: "How many messages were sent in whole hours, and how many of those reached somebody and were \
            read since. They are counted aside from sends, some moments behind.",
};

pub(crate) fn of_service() -> Doc {
    Doc {
        tag: &TAG,
        summary: "What the calling service sent",
        about: "By hour unless `group_by` says otherwise.",
        who: Who::These(
            "Services, for their own messages.",
            &[Kind::ThirdParty, Kind::Business, Kind::System],
        ),
        others: Others::Theirs,
        path: vec![],
        query: OF_SERVICE,
        headers: vec![],
        answer: Reply::data::<Stats>("The counts."),
        more: vec![],
        examples: vec![
            Example::new("by_type", "The last day, by type", By::Service)
                .query("group_by=message_type"),
            Example::new("wrong", "What is not known is refused by name", By::Service)
                .query("group_by=typ")
                .answers(422),
        ],
    }
}

pub(crate) fn of_all() -> Doc {
    Doc {
        summary: "What was sent",
        who: Who::ADMINS,
        others: Others::Same,
        query: OF_ALL,
        examples: vec![
            Example::new("by_service", "The last day, by service", By::Admin)
                .query("group_by=service&tenant_id=default"),
        ],
        ..of_service()
    }
}
