//! What the endpoints of connections and nodes tell of themselves.

use http::Method;
use protocol::ErrorType;

use super::{Disconnected, LIST_QUERY, List, Meta, Nodes, ONE_QUERY, USER_QUERY};
use crate::api::doc::{By, Doc, Example, Given, ID, Kind, Others, Reply, Tag, Who, must};

const TAG: Tag = Tag {
    name: "Connections",
    about: "Sockets and event streams, on whatever node they are, and the nodes. A node asks the others when \
            it is asked, and waits a second for them: who does not answer is named in `missing_nodes`.",
};

/// The connection of examples.
const CONNECTION: &str = "01946c1b2f4a70418d0e2a7b0f3c9d55";

/// A user who has a socket open.
fn connected() -> Given {
    Given::call(By::User, Method::GET, "/ws").keep(CONNECTION, "/data/connection_id")
}

pub(crate) fn list() -> Doc {
    Doc {
        tag: &TAG,
        summary: "List connections",
        about: "Of all nodes, in the order in which they began.",
        who: Who::ADMINS,
        others: Others::Same,
        path: vec![],
        query: LIST_QUERY,
        headers: vec![],
        answer: Reply::page_with::<List<'static>, Meta<'static>>("A page of connections."),
        more: vec![],
        examples: vec![
            Example::new("all", "The first page", By::Admin).after(connected()).query("size=50"),
            Example::new("of_user", "Those of one user", By::Admin)
                .after(connected())
                .query("user_id=user123&tenant_id=default"),
            Example::new("elsewhere", "Those of a node that is not there", By::Admin)
                .query("node_id=node-9"),
        ],
    }
}

pub(crate) fn disconnect() -> Doc {
    Doc {
        summary: "Disconnect one",
        about: "Wherever it is. Its user may connect again at any time: to prevent that, end the session or \
                disable the user.",
        path: vec![must("id", ID, "The connection's id.")],
        query: ONE_QUERY,
        answer: Reply::data::<Disconnected<'static>>("It is being closed."),
        more: vec![
            Reply::refusal(ErrorType::NotFound, "No node has such a connection."),
            Reply::refusal(
                ErrorType::Unavailable,
                "No node that answered has it, and not all did: it may be on one of those that are named.",
            ),
        ],
        examples: vec![
            Example::new("one", "A connection", By::Admin)
                .after(connected())
                .path("id", CONNECTION),
            Example::new("moved", "To come back, likely to another node", By::Admin)
                .after(connected())
                .path("id", CONNECTION)
                .query("reconnect=true"),
            Example::new("none", "It is gone", By::Admin).path("id", CONNECTION).answers(404),
        ],
        ..list()
    }
}

pub(crate) fn disconnect_user() -> Doc {
    Doc {
        summary: "Disconnect a user",
        about: "All connections of the user, on all nodes.",
        query: USER_QUERY,
        answer: Reply::data::<Disconnected<'static>>("How many are being closed."),
        examples: vec![
            Example::new("user", "All devices of a user", By::Admin)
                .after(connected())
                .query("user_id=user123"),
            Example::new("nobody", "Whose connections, has to be said", By::Admin).answers(422),
        ],
        ..list()
    }
}

pub(crate) fn nodes() -> Doc {
    Doc {
        summary: "List nodes",
        about: "As the node that answers hears them: each says once a second how it is. One that is silent \
                for 15 seconds is taken for gone.",
        who: Who::These("The bearer of `ADMIN_TOKEN`.", &[Kind::Admin]),
        query: &[],
        answer: Reply::data::<Nodes<'static>>("The nodes."),
        examples: vec![Example::new("all", "A node that is alone", By::Admin)],
        ..list()
    }
}
