//! The end of a run: everything is quiet, and what everybody holds is compared.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use protocol::{MessageId, ServerFrame};
use serde_json::Value;

use super::{
    senders::{World, edit_of},
    site::{Site, name},
};
use crate::support::{
    Api, TestServer,
    device::{Device, Lived},
    history::{ARCHIVED, Event, Op, READ, Register, UNREAD, op_of},
};

/// How long it may take until nothing changes any more: what was begun is finished, and devices hear of it.
const QUIET_WITHIN: Duration = Duration::from_secs(20);

/// Nothing changes any more when nothing has for so long: a mark that a device sent over its socket is not
/// answered, and may still be on its way.
const STEADY: Duration = Duration::from_secs(2);

/// Where the inboxes of devices stand, by their names.
pub(super) type Heads = HashMap<String, u64>;

/// Asks any node. All of them must answer.
pub(super) async fn heads(world: &World, devices: &[Device]) -> Heads {
    let mut heads = Heads::new();
    for (tenant, user) in world.people() {
        let inbox = World::inbox(tenant, &user);
        let of = devices.iter().filter(|device| device.inbox == inbox);
        let from = of.map(Device::seq).min().unwrap_or_default();
        let api = world.api(&World::token(tenant, &user));
        let later = api.changes_after(from).await;
        let head = later.last().and_then(ServerFrame::seq).map_or(from, |seq| seq.0);
        heads.insert(inbox, head);
    }
    heads
}

fn all_hold(devices: &[Device], heads: &Heads) -> bool {
    devices.iter().all(|device| device.seq() >= heads[&device.inbox])
}

/// Waits until every device has what its inbox had, or long enough.
pub(super) async fn hold(devices: &[Device], heads: &Heads) {
    let began = Instant::now();
    while !all_hold(devices, heads) && began.elapsed() < QUIET_WITHIN {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until nothing changes any more, and ends the devices. One that does not follow stays behind: the
/// checker says so.
pub(super) async fn settle(world: &World, devices: Vec<Device>) -> Vec<(String, Lived)> {
    let began = Instant::now();
    let (mut before, mut since) = (heads(world, &devices).await, Instant::now());
    while since.elapsed() < STEADY && began.elapsed() < QUIET_WITHIN {
        hold(&devices, &before).await;
        let now = heads(world, &devices).await;
        if now != before || !all_hold(&devices, &now) {
            (before, since) = (now, Instant::now());
        }
    }
    let mut lives = Vec::new();
    for device in devices {
        let inbox = device.inbox.clone();
        lives.push((inbox, device.quiet().await));
    }
    lives
}

/// Writes down what devices and nodes hold.
pub(super) async fn take(world: &World, site: &Site, lives: Vec<(String, Lived)>) {
    for (n, (user, lived)) in lives.into_iter().enumerate() {
        let (who, read) = (format!("device {n}"), lived.holding.read());
        world.history.note(Event::Read { user, who, read });
    }
    let ops = world.history.ops();
    let messages = |id: &MessageId| ops.get(&world.history.message(id)).copied();
    for (tenant, user) in world.people() {
        let inbox = World::inbox(tenant, &user);
        let token = World::token(tenant, &user).sign();
        let api = |node: &TestServer| node.api().bearer(&token);
        let log = api(&site.nodes[0]).changes_after(0).await;
        let changes = log.iter().filter_map(|frame| world.history.change(frame)).collect();
        world.history.note(Event::Store { user: inbox.clone(), changes });
        for (n, node) in site.nodes.iter().enumerate() {
            view(world, &inbox, &name(n), &api(node), &messages).await;
        }
    }
}

/// Writes down how an inbox looks on a node.
async fn view(
    world: &World,
    inbox: &str,
    node: &str,
    api: &Api,
    ops: &impl Fn(&MessageId) -> Option<Op>,
) {
    let history = &world.history;
    let who = format!("{inbox} on {node}");
    let listed = api.listed("status=all&include=recalled").await;
    let (mut read, mut unread) = (BTreeSet::new(), 0);
    for message in &listed {
        let text = |field: &str| message[field].as_str().unwrap_or_default();
        let id = MessageId::new(text("id")).unwrap();
        let recalled = text("status") == "recalled";
        let Some(op) = ops(&id).or_else(|| (!recalled).then(|| op_of(text("title")))) else {
            continue;
        };
        let note = |register, value| {
            history.note(Event::Holds { who: who.clone(), register, value });
        };
        note(Register::Recall { op }, recalled.into());
        if recalled {
            continue;
        }
        note(Register::Text { op }, edit_of(text("content")));
        let value = match text("status") {
            "unread" => UNREAD,
            "read" => READ,
            "archived" => ARCHIVED,
            other => panic!("{op} of {inbox} is {other}"),
        };
        note(Register::Mark { user: inbox.to_owned(), op }, value);
        unread += u64::from(value == UNREAD);
        if message["is_read"] == Value::Bool(true) {
            read.insert(op);
        }
    }
    let counted = Event::Counted {
        user: inbox.to_owned(),
        who: node.to_owned(),
        said: api.unread().await,
        listed: unread,
    };
    history.note(counted);
    history.note(Event::Read { user: inbox.to_owned(), who: node.to_owned(), read });
}
