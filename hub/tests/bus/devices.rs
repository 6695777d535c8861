//! One device, connected on two nodes.

use hub::bus::Bus;
use protocol::ConnectionId;

use crate::support::{
    SOON, eventually,
    node::{Node, inbox},
};
use servers::Redis;

fn connection(name: &str) -> ConnectionId {
    name.parse().unwrap()
}

impl Node {
    fn connected(&self, user: &str, name: &str) {
        self.bus.connected(&inbox(user), &"phone".parse().unwrap(), &connection(name));
    }

    fn replaced(&self) -> Vec<ConnectionId> {
        self.ears.replaced.lock().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_connection_goes() {
    let redis = Redis::start().await;
    let (a, b) = (Node::up("a", &redis.url()).await, Node::up("b", &redis.url()).await);
    let _ann = (a.attend("ann").await, b.attend("ann").await);
    // By name the first is the greater: neither names nor clocks decide.
    a.connected("ann", "z-first");
    a.reaches(&b, "ann", 1).await;
    b.connected("ann", "a-second");
    eventually("the first goes", SOON, || a.replaced() == [connection("z-first")]).await;
    b.reaches(&a, "ann", 100).await;
    a.connected("ann", "m-third");
    eventually("the second goes", SOON, || b.replaced() == [connection("a-second")]).await;
    assert_eq!(a.replaced().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_once_exactly_one_stays() {
    let redis = Redis::start().await;
    let (a, b) = (Node::up("a", &redis.url()).await, Node::up("b", &redis.url()).await);
    for round in 0..50 {
        let user = format!("user-{round}");
        let _both = (a.attend(&user).await, b.attend(&user).await);
        a.connected(&user, &format!("a{round}"));
        b.connected(&user, &format!("b{round}"));
        let gone = || a.replaced().len() + b.replaced().len();
        eventually("one goes", SOON, || gone() == round + 1).await;
    }
    // What follows on both ways has been seen to: nothing more comes.
    let _both = (a.attend("last").await, b.attend("last").await);
    a.reaches(&b, "last", 1).await;
    b.reaches(&a, "last", 1).await;
    assert_eq!(a.replaced().len() + b.replaced().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_is_said_again() {
    let mut redis = Redis::start().await;
    let (a, b) = (Node::up("a", &redis.url()).await, Node::up("b", &redis.url()).await);
    let _ann = (a.attend("ann").await, b.attend("ann").await);
    a.connected("ann", "z-first");
    a.reaches(&b, "ann", 1).await;
    redis.kill();
    a.is(hub::bus::State::Down, SOON).await;
    b.is(hub::bus::State::Down, SOON).await;
    // While nobody hears anybody the device comes to the other node.
    b.connected("ann", "a-second");
    redis.restart().await;
    eventually("the first goes", SOON, || a.replaced() == [connection("z-first")]).await;
    b.reaches(&a, "ann", 100).await;
    assert_eq!(b.replaced(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_two_stays_that_came_while_nobody_heard() {
    let mut redis = Redis::start().await;
    let (a, b) = (Node::up("a", &redis.url()).await, Node::up("b", &redis.url()).await);
    let _ann = (a.attend("ann").await, b.attend("ann").await);
    redis.kill();
    a.is(hub::bus::State::Down, SOON).await;
    b.is(hub::bus::State::Down, SOON).await;
    a.connected("ann", "z-first");
    // The clocks of both are this machine's; one millisecond between two connections of a device is little.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    b.connected("ann", "a-second");
    redis.restart().await;
    eventually("the first goes", SOON, || a.replaced() == [connection("z-first")]).await;
    a.reaches(&b, "ann", 1).await;
    b.reaches(&a, "ann", 100).await;
    assert_eq!(b.replaced(), []);
}
