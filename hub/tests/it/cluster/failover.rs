//! A primary of PostgreSQL goes, and its standby takes over.

use std::time::Duration;

use protocol::{Seq, ServerFrame};
use servers::{Postgres, Proxy};

use crate::support::{
    Api, Cluster, SOON, TestServer, api::message_to, eventually, eventually_within,
};

/// How long it takes, on a busy machine, until a node has connections to the one that took over.
const AGAIN_WITHIN: Duration = Duration::from_secs(30);

/// More new inboxes than the ids that PostgreSQL writes into its log in advance (32).
const MANY: usize = 80;

async fn contents(api: &Api) -> Vec<String> {
    let all = api.all_messages().await;
    all.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

/// Sends until it is stored. What is refused meanwhile is refused with 503.
async fn sent_at_last(service: &Api, user: &str, text: &str) {
    eventually_within("a send is stored", AGAIN_WITHIN, || async {
        let answer = service.send_to(user, text).await;
        assert!([200, 503].contains(&answer.status), "{:?}", answer.body);
        (answer.status == 200).then_some(())
    })
    .await;
}

async fn to_many(service: &Api, name: &str) {
    let users: Vec<String> = (0..MANY).map(|n| format!("{name}-{n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    service.send(message_to(&users, name)).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_behind_one_address_and_who_is_ahead_of_it_starts_anew() {
    let primary = Postgres::start();
    let url = primary.database();
    let standby = primary.standby();
    let way = Proxy::start(primary.port()).await;
    let cluster = Cluster::at(way.postgres_url(&url), Cluster::new().redis);
    let node = |name: &str| cluster.node(name).env("WS_PING_INTERVAL", "5s").start();
    let nodes: [TestServer; 2] = [node("a").await, node("b").await];
    let service = nodes[0].service().await;
    let mut phone = nodes[1].socket("ann").device("phone").connect().await;
    service.send_to("ann", "one").await.ok();
    phone.expect_seq(1).await;
    servers::eventually("the standby has it", SOON, || standby.has_all_of(&primary)).await;

    // What comes now is lost with the primary, as where nobody waits for the standby.
    standby.stop_following().await;
    service.send_to("ann", "two").await.ok();
    service.send_to("ann", "three").await.ok();
    phone.expect_seq(2).await;
    phone.expect_seq(3).await;
    phone.ack(3).await;
    to_many(&service, "lost").await;
    primary.kill();
    for node in &nodes {
        let refused = service.moved_to(node.user).send_to("ann", "nowhere").await;
        assert!(refused.header("retry-after").parse::<u32>().is_ok());
        refused.refused(503, "unavailable");
        eventually("it is not ready", || async { !node.ready().await }).await;
    }

    standby.promote();
    way.aim(standby.port());
    sent_at_last(&service, "ann", "four").await;
    for node in &nodes {
        eventually("it is ready", || async { node.ready().await }).await;
    }
    // Who comes back is told at once, who stayed when positions are compared.
    let mut tablet = nodes[0].socket("ann").device("tablet").since(3).connect().await;
    assert_eq!(tablet.next().await, ServerFrame::ResyncRequired { min_seq: Seq(0) });
    assert_eq!(phone.next().await, ServerFrame::ResyncRequired { min_seq: Seq(0) });
    let counted = "pushhub_position_check_rewound_total 1";
    assert!(nodes[1].metrics().await.contains(counted), "{}", nodes[1].metrics().await);
    for device in [&mut phone, &mut tablet] {
        assert!(device.backlog().await.is_empty());
    }
    assert_eq!(contents(&nodes[1].as_user("ann")).await, ["one", "four"]);
    service.send_to("ann", "five").await.ok();
    for device in [&mut phone, &mut tablet] {
        assert_eq!(device.next_message().await.fields.content, "five");
    }

    // Ids that were given to inboxes which are lost are given again: nobody gets what is another's.
    to_many(&service.moved_to(nodes[1].user), "new").await;
    to_many(&service, "lost").await;
    for name in ["new", "lost"] {
        for n in 0..MANY {
            let user = nodes[n % 2].as_user(&format!("{name}-{n}"));
            assert_eq!(contents(&user).await, [name], "{name}-{n}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_hosts_the_one_that_can_be_written_is_used() {
    let primary = Postgres::start();
    let url = primary.database();
    let standby = primary.standby();
    let own = format!("127.0.0.1:{}", primary.port());
    let both = format!("127.0.0.1:{},{own}", standby.port());
    let several = url.replace(&own, &both) + "&target_session_attrs=read-write";
    let node = Cluster::new().node("a").env("DATABASE_URL", several).start().await;
    let service = node.service().await;
    let mut phone = node.connect("ann").await;
    service.send_to("ann", "one").await.ok();
    assert_eq!(phone.next_message().await.fields.content, "one");
    servers::eventually("the standby has it", SOON, || standby.has_all_of(&primary)).await;
    primary.kill();
    standby.promote();
    sent_at_last(&service, "ann", "two").await;
    assert_eq!(phone.next_message().await.fields.content, "two");
    assert_eq!(contents(&node.as_user("ann")).await, ["one", "two"]);
}
