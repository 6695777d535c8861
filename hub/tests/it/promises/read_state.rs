//! Promise 6: concurrent reads from any devices end in one state everywhere; counts are derived.

use std::{collections::BTreeSet, sync::Arc};

use protocol::ServerFrame;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{
    Api, TestClient, TestServer,
    history::{Event, History, Holding, op_of, title},
};

const MESSAGES: u64 = 60;
const DEVICES: usize = 6;
const OPERATIONS: usize = 60;

/// What is read, by what a device was told.
fn read_by(frames: &[ServerFrame]) -> BTreeSet<u64> {
    let mut holding = Holding::default();
    frames.iter().for_each(|frame| holding.take(frame));
    holding.read()
}

async fn operate(api: Api, mut device: TestClient, ids: Arc<Vec<String>>) -> TestClient {
    for _ in 0..OPERATIONS {
        let id = &ids[rand::random_range(0..ids.len())];
        let path = format!("/api/v3/messages/{id}");
        match rand::random_range(0..6) {
            0 => device.read(&[id]).await,
            1 => device.read_up_to(rand::random_range(1..=MESSAGES / 4)).await,
            2 | 3 => {
                api.post(&format!("{path}/unread"), json!({})).await.ok();
            }
            4 => {
                api.post(&format!("{path}/read"), json!({})).await.ok();
            }
            _ => {
                let batch = json!({"message_ids": [id, &ids[0]]});
                api.post("/api/v3/messages/read-batch", batch).await.ok();
            }
        }
        let unread = api.unread().await;
        assert!(unread <= MESSAGES, "{unread} of {MESSAGES} are unread");
    }
    device
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_6_read_state_converges() {
    converge(&[TestServer::start().await]).await;
}

/// Devices and callers of one user at these nodes, in turn.
pub(super) async fn converge(nodes: &[TestServer]) {
    let history = History::default();
    let node = |n: usize| &nodes[n % nodes.len()];
    let service = nodes[0].service().await;
    let mut devices = vec![];
    for n in 0..DEVICES {
        let device = node(n).socket("ann").device(&format!("d{n}")).since(0);
        devices.push(device.connect().await);
    }
    let mut ids = vec![];
    for op in 0..MESSAGES {
        ids.push(service.sent("ann", &title(op)).await);
    }
    let ids = Arc::new(ids);
    let mut tasks = JoinSet::new();
    for (n, device) in devices.into_iter().enumerate() {
        // What it says by REST it says elsewhere.
        tasks.spawn(operate(node(n + 1).as_user("ann"), device, ids.clone()));
    }
    let mut devices = tasks.join_all().await;
    // What a device said is done when its ping is answered; then nothing changes any more.
    for device in &mut devices {
        device.send(protocol::ClientFrame::Ping(None)).await;
        while device.next().await != ServerFrame::Pong {}
    }
    let head = nodes[0].as_user("ann").changes_after(0).await.last().unwrap().seq().unwrap().0;
    let note = |who: String, read| {
        history.note(Event::Read { user: "ann".into(), who, read });
    };
    for (n, node) in nodes.iter().enumerate() {
        let ann = node.as_user("ann");
        let listed = ann.all_messages().await;
        let read: BTreeSet<u64> = listed
            .iter()
            .filter(|message| message["is_read"] == true)
            .map(|message| op_of(message["title"].as_str().unwrap()))
            .collect();
        assert_eq!(ann.unread().await, MESSAGES - read.len() as u64);
        note(format!("the list of node {n}"), read);
        note(format!("sync by node {n}"), read_by(&ann.changes_after(0).await));
    }
    for mut device in devices {
        if device.last_seq < Some(head) {
            device.until_seq(head).await;
        }
        note(device.welcome.device_id.to_string(), read_by(&device.frames));
    }
    history.assert_clean();
}
