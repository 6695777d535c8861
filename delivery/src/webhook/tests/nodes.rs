//! Several nodes on one database, and one that goes away.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use protocol::ServiceId;
use tokio::sync::watch;

use super::{
    fixture::{At, Fixture, Node, TIMING, blocking, eventually},
    proxy::Proxy,
    receiver::{Receiver, Reply},
};
use crate::{
    control::NewService,
    sql::{SqlError, postgres::Server},
    webhook::{
        Actor, DisabledBy, ENDPOINT_SLOTS, Event, EventSink, SERVICE_SLOTS, SHARES, Webhook,
        WebhookError, WebhookStatus, Webhooks, cluster::shares::of_service,
    },
};

/// What one node did, another one acts upon. The promise is a look; the machine is busy with other tests.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Services with an endpoint each: of every share that matters, so that every node has some.
fn endpoints(fixture: &Fixture, receiver: &Receiver, count: usize) -> Vec<(ServiceId, Webhook)> {
    let make = |n: usize| {
        let new = NewService { id: Some(format!("service{n}")), ..NewService::named("one") };
        let service = fixture.control.create_service(new).unwrap().0.id;
        let (webhook, _) = fixture.endpoint_of(&service, &format!("{}&n={n}", receiver.url()));
        (service, webhook)
    };
    (0..count).map(make).collect()
}

/// How many shares a node sends for.
fn shares(webhooks: &Webhooks) -> usize {
    (0..SHARES).filter(|share| webhooks.0.tenure.term(*share).is_some()).count()
}

/// All shares have an owner, and each of these nodes has some.
async fn settled(what: &str, nodes: &[&Webhooks]) {
    eventually(what, || {
        let have: Vec<_> = nodes.iter().map(|node| shares(node)).collect();
        have.iter().sum::<usize>() == SHARES && have.iter().all(|count| *count > 0)
    })
    .await;
}

fn record(webhooks: &Webhooks, events: Vec<Event>) {
    blocking(|| webhooks.record(events)).unwrap();
}

fn delivered(fixture: &Fixture, webhooks: &[(ServiceId, Webhook)]) -> u64 {
    webhooks.iter().map(|(_, webhook)| fixture.get(webhook).delivered).sum()
}

/// How many different events came to different endpoints.
fn different(receiver: &Receiver) -> usize {
    let received = receiver.received();
    let one = |received: &super::receiver::Received| {
        (received.line.clone(), received.header("webhook-id").to_owned())
    };
    received.iter().map(one).collect::<HashSet<_>>().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nodes_come_and_go_each_event_is_delivered_once() {
    const SERVICES: usize = 12;
    const ROUNDS: usize = 30;
    let fixture = Fixture::start(At::Postgres);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Late(Duration::from_millis(3)));
    let webhooks = endpoints(&fixture, &receiver, SERVICES);
    let mut others: Vec<Node> = vec![];
    let mut round = 0;
    let mut some = |fixture: &Fixture, others: &[Node]| {
        // Whoever records, it is sent by whoever should.
        for _ in 0..ROUNDS / 6 {
            let node = match round % (others.len() + 1) {
                0 => &fixture.webhooks,
                other => &others[other - 1].webhooks,
            };
            let event = |(service, _): &(ServiceId, Webhook)| {
                (0..5).map(|n| fixture.event(service, &format!("m{round}-{n}"))).collect::<Vec<_>>()
            };
            record(node, webhooks.iter().flat_map(event).collect());
            round += 1;
        }
    };
    // A node keeps events for endpoints as soon as it has heard of them.
    settled("alone", &[&fixture.webhooks]).await;
    some(&fixture, &others);
    others.push(fixture.node());
    some(&fixture, &others);
    settled("two", &[&fixture.webhooks, &others[0].webhooks]).await;
    others.push(fixture.node());
    some(&fixture, &others);
    settled("three", &[&fixture.webhooks, &others[0].webhooks, &others[1].webhooks]).await;
    some(&fixture, &others);
    others.remove(0).stop().await;
    some(&fixture, &others);
    settled("two again", &[&fixture.webhooks, &others[0].webhooks]).await;
    others.remove(0).stop().await;
    some(&fixture, &others);
    let events = SERVICES * ROUNDS * 5;
    eventually("all are delivered", || delivered(&fixture, &webhooks) == events as u64).await;
    assert_eq!(different(&receiver), events);
    assert_eq!(receiver.count(), events, "none came twice");
    assert_eq!(receiver.most_open(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhooks_of_a_killed_node_are_taken_over_when_its_lease_ends() {
    const SERVICES: usize = 16;
    let fixture = Fixture::start(At::Postgres);
    let receiver = Receiver::start().await;
    receiver.always(Reply::Late(Duration::from_millis(5)));
    let webhooks = endpoints(&fixture, &receiver, SERVICES);
    let other = fixture.node();
    settled("two", &[&fixture.webhooks, &other.webhooks]).await;
    let events = |name: &str| {
        let of = |(service, _): &(ServiceId, Webhook)| {
            (0..40).map(|n| fixture.event(service, &format!("{name}{n}"))).collect::<Vec<_>>()
        };
        webhooks.iter().flat_map(of).collect::<Vec<_>>()
    };
    record(&other.webhooks, events("a"));
    eventually("some have arrived", || receiver.count() > SERVICES * 10).await;
    other.kill().await;
    let killed = Instant::now();
    record(&fixture.webhooks, events("b"));
    settled("one has all", &[&fixture.webhooks]).await;
    let longest = TIMING.lease + TIMING.members + AT_ONCE;
    assert!(killed.elapsed() < longest, "{:?}", killed.elapsed());
    let all = SERVICES * 80;
    eventually("all are delivered", || delivered(&fixture, &webhooks) == all as u64).await;
    assert_eq!(different(&receiver), all);
    let twice = receiver.count() - all;
    assert!(twice <= SERVICES * ENDPOINT_SLOTS, "only what was under way comes twice: {twice}");
    assert_eq!(receiver.most_open(), 1);
}

/// Who should have a share waits until nothing of it is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_is_handed_over_when_nothing_of_it_is_under_way() {
    handed_over(false).await;
}

/// The one for whom it was held back has gone before it was free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_that_was_to_be_handed_over_is_kept_after_all() {
    handed_over(true).await;
}

async fn handed_over(is_kept: bool) {
    let fixture = Fixture::start(At::Postgres);
    let receiver = Receiver::start().await;
    let (answer, answers) = watch::channel(false);
    receiver.always(Reply::When(answers));
    let webhooks = endpoints(&fixture, &receiver, 16);
    settled("alone", &[&fixture.webhooks]).await;
    let record_all = |name: &str| {
        let events = webhooks.iter().map(|(service, _)| fixture.event(service, name)).collect();
        record(&fixture.webhooks, events);
    };
    record_all("a");
    eventually("all are under way", || receiver.open() == webhooks.len()).await;
    let other = fixture.node();
    eventually("what is idle is handed over, and no more", || {
        let gone = |share: &usize| fixture.webhooks.0.tenure.term(*share).is_none();
        let services = webhooks.iter().map(|(service, _)| of_service(service));
        let held_back = services.filter(gone).collect::<HashSet<_>>().len();
        let moved = shares(&fixture.webhooks) + shares(&other.webhooks);
        held_back > 0 && moved + held_back == SHARES
    })
    .await;
    record_all("b");
    assert_eq!((receiver.open(), receiver.count()), (webhooks.len(), webhooks.len()));
    if is_kept {
        other.stop().await;
        settled("one has all again", &[&fixture.webhooks]).await;
        answer.send_replace(true);
    } else {
        answer.send_replace(true);
        settled("the rest too", &[&fixture.webhooks, &other.webhooks]).await;
    }
    let all = 2 * webhooks.len();
    eventually("all are delivered", || delivered(&fixture, &webhooks) == all as u64).await;
    assert_eq!((receiver.count(), receiver.most_open()), (all, 1));
}

/// The database says nothing to one node any more, which is in the middle of sending. The others cannot know
/// that it lives, and it must have let go before one of them begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_loses_its_lease_stops_before_another_one_begins() {
    let fixture = Fixture::start(At::Postgres);
    let receiver = Receiver::start().await;
    let (answer, answers) = watch::channel(false);
    receiver.always(Reply::When(answers));
    let url = fixture.url.clone().unwrap();
    let proxy = Proxy::before(&url).await;
    let cut_off = fixture.node_at(&proxy.url(&url));
    settled("two", &[&fixture.webhooks, &cut_off.webhooks]).await;
    let webhooks = endpoints(&fixture, &receiver, 8);
    let events = webhooks.iter().map(|(service, _)| fixture.event(service, "m")).collect();
    record(&fixture.webhooks, events);
    eventually("all are under way", || receiver.open() == webhooks.len()).await;
    let own = |node: &Webhooks| {
        let own = |(service, _): &&(ServiceId, Webhook)| {
            node.0.tenure.term(of_service(service)).is_some()
        };
        webhooks.iter().filter(own).count()
    };
    let lost = own(&cut_off.webhooks);
    assert!(lost > 0 && lost < webhooks.len(), "both have some: {lost}");
    proxy.silence();
    eventually("they are sent by the other", || receiver.count() == webhooks.len() + lost).await;
    assert_eq!(receiver.most_open(), 1, "an event was on its way twice at one time");
    assert_eq!(shares(&cut_off.webhooks), 0);
    answer.send_replace(true);
    proxy.mend();
    settled("it is back", &[&fixture.webhooks, &cut_off.webhooks]).await;
    eventually("all are delivered", || delivered(&fixture, &webhooks) == webhooks.len() as u64)
        .await;
    cut_off.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_service_are_few_over_all_nodes() {
    let fixture = Fixture::start(At::Postgres);
    let receiver = Receiver::start().await;
    let urls = |n| format!("{}&n={n}", receiver.url());
    let webhooks: Vec<_> = (0..4).map(|n| fixture.endpoint(&urls(n)).0).collect();
    let others = [fixture.node(), fixture.node()];
    let nodes = [&fixture.webhooks, &others[0].webhooks, &others[1].webhooks];
    settled("three", &nodes).await;
    // They earn their slots.
    let some = |name: &str| {
        let event = |n| fixture.event(&fixture.shop, &format!("{name}{n}"));
        (0..40).map(event).collect::<Vec<_>>()
    };
    record(nodes[0], some("a"));
    let all = || webhooks.iter().map(|webhook| fixture.get(webhook).delivered).sum::<u64>();
    eventually("all are delivered", || all() == 160).await;
    receiver.always(Reply::Late(Duration::from_millis(100)));
    for (node, name) in nodes.iter().zip(["b", "c", "d"]) {
        record(node, some(name));
    }
    let mut most = 0;
    eventually("all are delivered", || {
        most = most.max(receiver.open());
        all() == 640
    })
    .await;
    assert!(most <= SERVICE_SLOTS, "{most}");
    assert_eq!(receiver.count(), 640);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_on_one_node_bites_on_the_others_at_once() {
    let fixture = Fixture::start(At::Postgres);
    let receiver = Receiver::start().await;
    let other = fixture.node();
    settled("two", &[&fixture.webhooks, &other.webhooks]).await;
    let (here, there) = (&fixture.webhooks, &other.webhooks);
    let webhooks = endpoints(&fixture, &receiver, 8);
    let within = async |what: &str, holds: &mut dyn FnMut() -> bool| {
        let began = Instant::now();
        eventually(what, holds).await;
        assert!(began.elapsed() < AT_ONCE, "{what}: {:?}", began.elapsed());
    };
    for (service, webhook) in &webhooks {
        // One of the two sends for it: whoever it is hears of what either does.
        assert_eq!(there.get(service, &webhook.id).unwrap().id, webhook.id, "a read at once");
        assert!(there.test(service, &webhook.id).await.is_ok(), "a test at once");
        let wants = |node: &Webhooks| node.0.known.load().of(service).any(|one| one.active);
        within("it is heard of", &mut || wants(there)).await;
        let before = receiver.count();
        record(here, vec![fixture.event(service, "a")]);
        record(there, vec![fixture.event(service, "b")]);
        within("both are sent", &mut || receiver.count() == before + 2).await;
        within("both are noted", &mut || fixture.get(webhook).delivered == 2).await;
        let event = &fixture.deliveries(webhook)[0].event_id;
        for (sent, node) in [here, there].iter().enumerate() {
            blocking(|| node.redeliver(service, &webhook.id, event)).unwrap();
            within("it is sent again", &mut || receiver.count() == before + 3 + sent).await;
            within("it is noted", &mut || fixture.get(webhook).delivered == 2).await;
        }
        for (one, another) in [(here, there), (there, here)] {
            blocking(|| one.disable(service, &webhook.id, Actor::Admin)).unwrap();
            let shown = another.get(service, &webhook.id).unwrap();
            assert_eq!(shown.disabled.unwrap().by, DisabledBy::Admin);
            within("nothing is kept for it", &mut || !wants(another)).await;
            let refused = blocking(|| another.redeliver(service, &webhook.id, event));
            assert!(matches!(refused, Err(WebhookError::Disabled)));
            blocking(|| one.enable(service, &webhook.id, Actor::Admin)).unwrap();
            within("it goes on", &mut || wants(another)).await;
        }
        blocking(|| there.delete(service, &webhook.id)).unwrap();
        within("it is gone", &mut || !wants(here)).await;
        assert!(matches!(here.get(service, &webhook.id), Err(WebhookError::NotFound)));
    }
    other.stop().await;
}

/// What waits goes on when an endpoint that failed is given a new chance, by whomever.
#[tokio::test]
async fn a_new_url_is_used_by_whoever_sends() {
    let fixture = Fixture::start(At::Postgres);
    let other = fixture.node();
    let (bad, good) = (Receiver::start().await, Receiver::start().await);
    bad.always(Reply::Status(410, ""));
    settled("two", &[&fixture.webhooks, &other.webhooks]).await;
    for (service, webhook) in endpoints(&fixture, &bad, 6) {
        record(&fixture.webhooks, vec![fixture.event(&service, "m")]);
        let disabled = || fixture.get(&webhook).status == WebhookStatus::Disabled;
        eventually("it is disabled", disabled).await;
        let new = crate::webhook::NewWebhook {
            url: good.url(),
            events: vec!["*".to_owned()],
            description: String::new(),
        };
        let before = good.count();
        blocking(|| other.webhooks.update(&service, &webhook.id, new)).unwrap();
        blocking(|| other.webhooks.enable(&service, &webhook.id, Actor::Service)).unwrap();
        fixture.wait(Duration::from_secs(10));
        eventually("it is delivered", || good.count() == before + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_and_comes_back_loses_nothing() {
    let fixture = Fixture::start(At::Postgres);
    let receiver = Receiver::start().await;
    let (webhook, _) = fixture.endpoint(&receiver.url());
    settled("it sends", &[&fixture.webhooks]).await;
    let (answer, answers) = watch::channel(false);
    receiver.always(Reply::When(answers));
    fixture.record("m1");
    eventually("it is under way", || receiver.open() == 1).await;
    let url = fixture.url.clone().unwrap();
    let name = url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let elsewhere = url.replace(&name, "postgres");
    let allow = |allow: bool| {
        servers::ask(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allow}"));
        let cut = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        servers::ask(&elsewhere, &cut);
    };
    allow(false);
    // It was answered, and cannot be written down: it is not sent again.
    answer.send_replace(true);
    let event = || vec![fixture.event(&fixture.shop, "m2")];
    let refused = blocking(|| fixture.webhooks.record(event()));
    assert!(
        matches!(refused, Err(WebhookError::NotWritable(_) | WebhookError::Unknown(_))),
        "{refused:?}"
    );
    eventually("the lease is over", || shares(&fixture.webhooks) == 0).await;
    let unread = fixture.webhooks.get(&fixture.shop, &webhook.id);
    assert!(matches!(unread, Err(WebhookError::Database(SqlError::Unavailable(_)))), "{unread:?}");
    assert_eq!(receiver.count(), 1);
    allow(true);
    settled("it sends again", &[&fixture.webhooks]).await;
    eventually("it is kept", || blocking(|| fixture.webhooks.record(event())).is_ok()).await;
    eventually("both are delivered", || {
        fixture.webhooks.get(&fixture.shop, &webhook.id).is_ok_and(|shown| shown.delivered == 2)
    })
    .await;
    assert_eq!((receiver.count(), different(&receiver)), (2, 2));
}

#[tokio::test]
async fn nodes_that_start_at_once_make_the_tables_once_and_newer_ones_are_left_alone() {
    let fixture = Fixture::start(At::Postgres);
    let url = servers::empty_database();
    let open = || {
        let server = Server::new("webhooks", url.parse().unwrap(), tokio_postgres::NoTls);
        fixture.open_on(&std::sync::Arc::new(server.unwrap()))
    };
    blocking(|| {
        thread::scope(|scope| {
            let nodes: Vec<_> = (0..4).map(|_| scope.spawn(|| open().unwrap())).collect();
            nodes.into_iter().for_each(|node| node.join().unwrap().close());
        });
    });
    let newer = "INSERT INTO webhooks_migrations VALUES (99, 'later', 'x', ";
    servers::ask(&url, &format!("{newer} 1)"));
    open().unwrap().close();
    let age = "UPDATE webhooks_migrations SET compatible_from = 99 WHERE version = 99";
    servers::ask(&url, age);
    let refused = open().unwrap_err();
    let is_newer = |error: &WebhookError| {
        matches!(error, WebhookError::Database(SqlError::UnknownVersion { found: 99, .. }))
    };
    assert!(is_newer(&refused), "{refused:?}");
}
