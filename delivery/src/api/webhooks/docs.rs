//! What the endpoints of webhooks tell of themselves. They are the same for services and for admins,
//! whose paths name the service.

use http::Method;
use protocol::ErrorType;

use super::{
    DEAD_LETTERS_QUERY, DELIVERIES_QUERY, DeadLetterList, DeliveryList, WebhookList, WithSecret,
    owner::Owner,
};
use crate::{
    api::{
        doc::{By, Doc, Example, Field, Given, ID, Kind, Others, Reply, Tag, Who, must},
        messages::docs::sent,
    },
    webhook::{Attempt, Delivery, Webhook},
};

const TAG: Tag = Tag {
    name: "Webhooks",
    about: "A service is told by HTTP what became of its messages: delivered, acked, read, unread, \
            archived, a button pressed. Signed as \
            [Standard Webhooks 1.0](https://www.standardwebhooks.com). An event is sent at least once, \
            always with the same `webhook-id`; what is not answered with a 2xx is tried ten times over \
            three days, then it is a dead letter.",
};

const SERVICES: Who = Who::These(
    "Services, for their own webhooks.",
    &[Kind::ThirdParty, Kind::Business, Kind::System],
);

/// A webhook's id as examples write it.
const WEBHOOK_ID: &str = "wh_0194691a2f40704180bd2a7b0f3c9d11";

/// An event's id as examples write it.
const EVENT_ID: &str = "evt_0194691a2f40704180bd2a7b0f3c9d11";

const WEBHOOKS: &str = "/api/v3/webhooks";
const DISABLE: &str = "/api/v3/webhooks/wh_0194691a2f40704180bd2a7b0f3c9d11/disable";
const DISABLE_BY_ADMIN: &str =
    "/api/v3/admin/services/netdrive/webhooks/wh_0194691a2f40704180bd2a7b0f3c9d11/disable";
const DELIVERIES: &str =
    "/api/v3/admin/services/netdrive/webhooks/wh_0194691a2f40704180bd2a7b0f3c9d11/deliveries";
const SUSPEND: &str = "/api/v3/admin/services/netdrive/suspend";
const ACTIVATE: &str = "/api/v3/admin/services/netdrive/activate";

const RECEIPTS: &str = r#"{
  "url": "https://hooks.company.com/pushhub",
  "events": ["message.read", "message.action"],
  "description": "已读回执与按钮"
}"#;

const ALL: &str = r#"{"url": "https://hooks.company.com/pushhub/v2", "events": ["*"]}"#;

/// A webhook of the service `netdrive`, whose id is [`WEBHOOK_ID`].
fn made() -> Given {
    Given::post(By::Service, WEBHOOKS, RECEIPTS).keep(WEBHOOK_ID, "/data/id")
}

/// The same to a name that stands for an address inside, as it does on every machine.
fn made_inside() -> Given {
    let body = r#"{"url": "https://localhost/pushhub", "events": ["*"]}"#;
    Given::post(By::Service, WEBHOOKS, body).keep(WEBHOOK_ID, "/data/id")
}

fn post(by: By, path: &'static str) -> Given {
    Given::call(by, Method::POST, path)
}

/// An event that waits, whose id is [`EVENT_ID`]. Its service is suspended before it happens, so that
/// no attempt is made meanwhile and the answer is always the same.
fn read_by_user<O: Owner>(example: Example) -> Example {
    let example = example
        .after(made())
        .after(sent())
        .after(post(By::Admin, SUSPEND))
        .after(Given::post(By::User, "/api/v3/messages/read-batch", r#"{"up_to_seq": 1}"#))
        // What a question to the inbox's file counts is written, and so are the events of it.
        .after(Given::call(By::User, Method::GET, "/api/v3/messages/unread-count"))
        .after(
            Given::call(By::Admin, Method::GET, DELIVERIES)
                .keep(EVENT_ID, "/data/deliveries/0/event_id"),
        );
    if O::ADMIN { example } else { example.after(post(By::Admin, ACTIVATE)) }
}

/// An example on the port that `O` is for.
fn example<O: Owner>(name: &'static str, about: &'static str) -> Example {
    if O::ADMIN {
        Example::new(name, about, By::Admin).path("id", "netdrive")
    } else {
        Example::new(name, about, By::Service)
    }
}

/// An example that is about one webhook.
fn of_one<O: Owner>(name: &'static str, about: &'static str) -> Example {
    example::<O>(name, about).path("webhook_id", WEBHOOK_ID)
}

/// Of all webhooks of a service.
fn all<O: Owner>(
    summary: &'static str,
    about: &'static str,
    answer: Reply,
    examples: Vec<Example>,
) -> Doc {
    let (who, others, path, more) = if O::ADMIN {
        let none = Reply::refusal(ErrorType::NotFound, "There is no such service.");
        (Who::ADMINS, Others::Same, vec![must("id", ID, "The service's id.")], vec![none])
    } else {
        (SERVICES, Others::Theirs, vec![], vec![])
    };
    let (query, headers): (&[Field], _) = (&[], vec![]);
    Doc { tag: &TAG, summary, about, who, others, path, query, headers, answer, more, examples }
}

/// Of one webhook.
fn one<O: Owner>(
    summary: &'static str,
    about: &'static str,
    answer: Reply,
    examples: Vec<Example>,
) -> Doc {
    let mut doc = all::<O>(summary, about, answer, examples);
    doc.path.push(must("webhook_id", ID, "The webhook's id."));
    let none = if O::ADMIN {
        "There is no such service, or it has no such webhook."
    } else {
        doc.others = Others::Refused;
        "There is no such webhook; whether another service has it is not told."
    };
    doc.more = vec![Reply::refusal(ErrorType::NotFound, none)];
    doc
}

pub(crate) fn list<O: Owner>() -> Doc {
    all::<O>(
        "List webhooks",
        "All of the service, with how each stands: what waits, what was delivered, what failed.",
        Reply::data::<WebhookList>("The webhooks."),
        vec![example::<O>("one", "A service with one webhook").after(made())],
    )
}

pub(crate) fn create<O: Owner>() -> Doc {
    // Examples' service is registered when it first asks for something.
    let registered = || Given::call(By::Service, Method::GET, WEBHOOKS);
    let mut doc = all::<O>(
        "Make a webhook",
        "Answers its `secret`, here and never again. A service has at most ten. The name in `url` is \
         not looked up before something is sent.",
        Reply::data::<WithSecret<'static>>("The webhook and its secret."),
        vec![
            example::<O>("receipts", "Who has read, and who pressed a button")
                .after(registered())
                .body(RECEIPTS),
            example::<O>("private", "Nothing is sent to addresses inside")
                .after(registered())
                .body(r#"{"url": "https://10.0.0.1/hooks", "events": ["*"]}"#)
                .answers(422),
        ],
    );
    doc.more.push(Reply::refusal(
        ErrorType::Invalid,
        "A field is not valid, or the service has as many webhooks as it may.",
    ));
    doc
}

pub(crate) fn get<O: Owner>() -> Doc {
    one::<O>(
        "One webhook",
        "How it stands. Its secret is not shown again.",
        Reply::data::<Webhook>("The webhook."),
        vec![of_one::<O>("one", "A webhook").after(made())],
    )
}

pub(crate) fn update<O: Owner>() -> Doc {
    one::<O>(
        "Change a webhook",
        "Replaces url, events and description. Events that wait go to the new url.",
        Reply::data::<Webhook>("How it stands now."),
        vec![of_one::<O>("all_events", "Everything, to another path").after(made()).body(ALL)],
    )
}

pub(crate) fn remove<O: Owner>() -> Doc {
    one::<O>(
        "Delete a webhook",
        "With everything that waits for it.",
        Reply::data::<Webhook>("How it stood."),
        vec![of_one::<O>("one", "For good").after(made())],
    )
}

pub(crate) fn enable<O: Owner>() -> Doc {
    let mut doc = one::<O>(
        "Enable a webhook",
        "What waits is sent on. What an admin disabled only an admin can enable.",
        Reply::data::<Webhook>("How it stands now."),
        vec![of_one::<O>("again", "Again").after(made()).after(post(By::Service, DISABLE))],
    );
    if !O::ADMIN {
        doc.more.push(Reply::refusal(
            ErrorType::Forbidden,
            "The caller is no service, or an admin disabled the webhook.",
        ));
        doc.examples.push(
            of_one::<O>("by_admin", "An admin disabled it")
                .after(made())
                .after(post(By::Admin, DISABLE_BY_ADMIN))
                .answers(403),
        );
    }
    doc
}

pub(crate) fn disable<O: Owner>() -> Doc {
    let about = if O::ADMIN {
        "Nothing is sent to it, and no new events are kept for it; what waits goes on waiting. Only an \
         admin can enable it again."
    } else {
        "Nothing is sent to it, and no new events are kept for it; what waits goes on waiting."
    };
    one::<O>(
        "Disable a webhook",
        about,
        Reply::data::<Webhook>("How it stands now."),
        vec![of_one::<O>("pause", "For a while").after(made())],
    )
}

pub(crate) fn rotate<O: Owner>() -> Doc {
    one::<O>(
        "Make a new secret",
        "Answers it in `secret`, here and never again. Until the older ones end there is a signature \
         of each. At most four are good at a time: one more ends the oldest.",
        Reply::data::<WithSecret<'static>>("The webhook and its new secret."),
        vec![
            of_one::<O>("rotation", "The old one signs on for an hour")
                .after(made())
                .body(r#"{"overlap_seconds": 3600}"#),
            of_one::<O>("leaked", "The old one ends at once")
                .after(made())
                .body(r#"{"overlap_seconds": 0}"#),
        ],
    )
}

pub(crate) fn test<O: Owner>() -> Doc {
    let mut doc = one::<O>(
        "Send a test",
        "Sends an event of the type `webhook.test` now, once, also to a webhook that is disabled, and \
         answers what came of it. It is not kept.",
        Reply::data::<Attempt>("What came of it; that nothing arrived is no refusal."),
        vec![
            of_one::<O>("inside", "A name that stands for an address inside").after(made_inside()),
        ],
    );
    doc.more.push(Reply::refusal(
        ErrorType::Unavailable,
        "As many tests as may be are running, or who is asking cannot be checked now; try again.",
    ));
    doc
}

pub(crate) fn deliveries<O: Owner>() -> Doc {
    Doc {
        query: DELIVERIES_QUERY,
        ..one::<O>(
            "List deliveries",
            "Events and how they stand with this webhook, newest first. What was delivered or given up \
             is remembered for 14 days.",
            Reply::page::<DeliveryList>("A page of deliveries."),
            vec![
                read_by_user::<O>(of_one::<O>("pending", "What waits"))
                    .query("status=pending&size=50"),
                of_one::<O>("lost", "There is no such status")
                    .after(made())
                    .query("status=lost")
                    .answers(422),
            ],
        )
    }
}

pub(crate) fn redeliver<O: Owner>() -> Doc {
    let mut doc = one::<O>(
        "Send an event again",
        "From the first attempt on, whatever became of it. It has the same `webhook-id` as before.",
        Reply::data::<Delivery>("How it stands now."),
        vec![
            read_by_user::<O>(of_one::<O>("again", "An event").path("event_id", EVENT_ID)),
            of_one::<O>("disabled", "Nothing is sent to a webhook that is disabled")
                .path("event_id", EVENT_ID)
                .after(made())
                .after(post(By::Service, DISABLE))
                .answers(422),
        ],
    );
    doc.path.push(must("event_id", ID, "The event's id, as in the header `webhook-id`."));
    doc.more.push(Reply::refusal(
        ErrorType::Invalid,
        "The webhook is disabled; `fields` names `status`.",
    ));
    doc
}

pub(crate) fn dead_letters() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List dead letters",
        about: "Events that were given up, of all webhooks, newest first. They can be sent again as \
                long as they are remembered.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: DEAD_LETTERS_QUERY,
        headers: vec![],
        answer: Reply::page::<DeadLetterList>("A page of dead letters."),
        more: vec![],
        examples: vec![Example::new("first_page", "None so far", By::Admin).query("size=50")],
    }
}
