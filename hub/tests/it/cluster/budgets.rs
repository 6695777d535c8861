//! Rate limits of a caller who uses several nodes: the rate once, not once for each node; and all of it on
//! one node.

use std::{
    fmt,
    time::{Duration, Instant},
};

use servers::{Proxy, Redis};

use crate::support::{Answer, Api, Cluster, TestServer, eventually, server::Builder};

const RATE: f64 = 20.0;
const BURST: f64 = 20.0;
const LIMIT: &str = "20/s:20";

/// How often a caller asks each node, where the machine is quick enough: five times what it gives.
const PAUSE: Duration = Duration::from_millis(10);

/// Long enough that what three nodes let through before they hear of each other is paid back.
const LONG: Duration = Duration::from_secs(5);

/// How late a node may hear of what is used on another: the 0.2 s between two tellings, and the rest for a
/// busy machine.
const LATE: f64 = 1.0;

const COUNT: &str = "/api/v3/messages/unread-count";

fn limited(builder: Builder) -> Builder {
    builder
        .env("RATE_LIMIT_USER", LIMIT)
        .env("RATE_LIMIT_SERVICE", LIMIT)
        .env("RATE_LIMIT_IP", LIMIT)
        .env("RATE_LIMIT_CONNECT", LIMIT)
        .env("TRUSTED_PROXIES", "127.0.0.1")
}

async fn nodes(cluster: &Cluster) -> [TestServer; 3] {
    let starts = ["a", "b", "c"].map(|name| limited(cluster.node(name)).start());
    let nodes: Vec<_> = futures_util::future::join_all(starts).await;
    for node in &nodes {
        hears_others(node, nodes.len()).await;
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!("as many as were started"))
}

async fn hears_others(node: &TestServer, nodes: usize) {
    eventually("it hears the others", || async {
        let metrics = node.metrics().await;
        metrics.contains(&format!("\npushhub_bus_nodes {nodes}\n"))
            && metrics.contains("pushhub_bus_state{state=\"up\"} 1")
    })
    .await;
}

/// Whether it was answered; a refusal must say what a refusal says.
fn answered(answer: &Answer, scope: &str) -> bool {
    let header = answer.header("ratelimit");
    let (_, left) = header.split_once(";r=").unwrap_or_else(|| panic!("{:?}", answer.headers));
    let (left, reset) = left.split_once(";t=").unwrap();
    let (left, reset): (u64, u64) = (left.parse().unwrap(), reset.parse().unwrap());
    assert!(header.starts_with(&format!("\"{scope}\";")), "{header}");
    assert!(left < BURST as u64, "{header}");
    assert_eq!(answer.header("ratelimit-policy"), format!("\"{scope}\";q=20;w=1"));
    if answer.status == 200 {
        assert!(reset <= 1, "{header}");
        return true;
    }
    answer.refused(429, "rate_limited");
    assert_eq!((left, answer.header("retry-after")), (0, reset.to_string().as_str()));
    // Nobody waits for longer than it takes until what three nodes have let through has come back.
    // At most the own second of burst, and what two others let through while they were alone: three
    // seconds' worth each. Rounded up.
    assert!(reset <= 8, "{header}");
    false
}

/// What became of asking some nodes.
struct Outcome {
    scope: &'static str,
    /// How often each node was asked, and said yes.
    asked: Vec<u32>,
    yes: Vec<u32>,
    seconds: f64,
}

impl Outcome {
    /// How much a caller may use in this time on one node.
    fn once(&self) -> f64 {
        BURST + RATE * self.seconds
    }

    fn sum(&self) -> f64 {
        f64::from(self.yes.iter().sum::<u32>())
    }

    /// The most, by the promise: see "In a cluster" in the README.
    fn is_within_the_bound(&self) {
        let others = self.yes.len() as f64 - 1.0;
        let bound = self.once() + others * (BURST + RATE * LATE);
        assert!(self.sum() <= bound, "{self}; bound {bound:.0}");
    }

    /// Most of the rate, or of what was asked for: on a busy machine a caller pauses.
    fn has_most_of_the_rate(&self) {
        let asked = f64::from(self.asked.iter().sum::<u32>());
        assert!(self.sum() >= 0.7 * asked.min(self.once()), "{self}");
    }

    /// As if each was the only one.
    fn is_of_each_alone(&self) {
        for (yes, asked) in self.yes.iter().zip(&self.asked) {
            let (yes, asked) = (f64::from(*yes), f64::from(*asked));
            assert!(yes <= self.once() + 1.0, "{self}");
            assert!(yes >= 0.7 * asked.min(self.once()), "{self}");
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, asked, yes, seconds } = self;
        write!(f, "{scope}: {yes:?} of {asked:?} in {seconds:.2} s; once {:.0}", self.once())
    }
}

/// Asks all of them, each again and again for a while.
async fn insist(
    scope: &'static str,
    on: &[TestServer],
    time: Duration,
    ask: impl AsyncFn(&TestServer, u32) -> bool,
) -> Outcome {
    let began = Instant::now();
    let asking = on.iter().map(|node| async {
        let mut ticks = tokio::time::interval(PAUSE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut asked, mut yes) = (0, 0);
        while began.elapsed() < time {
            ticks.tick().await;
            yes += u32::from(ask(node, asked).await);
            asked += 1;
        }
        (asked, yes)
    });
    let (asked, yes) = futures_util::future::join_all(asking).await.into_iter().unzip();
    Outcome { scope, asked, yes, seconds: began.elapsed().as_secs_f64() }
}

/// What callers of each kind, `name` among them, are answered; of addresses the last number is `host`.
async fn insist_as_each(
    on: &[TestServer],
    time: Duration,
    (name, host): (&str, u8),
    service: &Api,
) -> [Outcome; 4] {
    let address = format!("203.0.113.{host}");
    let user = async |node: &TestServer, _| answered(&node.as_user(name).get(COUNT).await, "user");
    // As one of many, so that it is the address that is limited.
    let one_of_many = |round: u32| format!("{name}-{}", round % 16);
    let ip = async |node: &TestServer, round| {
        let api = node.as_user(&one_of_many(round)).header("x-forwarded-for", &address);
        answered(&api.get(COUNT).await, "ip")
    };
    let sends = async |node: &TestServer, _| {
        answered(&service.moved_to(node.user).send_to(name, "t").await, "service")
    };
    let connects = async |node: &TestServer, round| {
        let socket = node.socket(&one_of_many(round)).header("x-forwarded-for", &address);
        match socket.try_connect().await {
            Ok(_) => true,
            Err(tungstenite::Error::Http(answer)) if answer.status() == 429 => false,
            Err(other) => panic!("{other:?}"),
        }
    };
    let outcomes = tokio::join!(
        insist("user", on, time, user),
        insist("ip", on, time, ip),
        insist("service", on, time, sends),
        insist("connect", on, time, connects),
    );
    outcomes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_all_nodes_has_his_rate_once_and_who_asks_one_has_all_of_it() {
    let nodes = nodes(&Cluster::new()).await;
    let (spread, alone) = (nodes[0].service().await, nodes[0].service().await);
    let (everywhere, on_one) = tokio::join!(
        insist_as_each(&nodes, LONG, ("ann", 1), &spread),
        insist_as_each(&nodes[..1], LONG, ("bob", 2), &alone),
    );
    for outcome in everywhere.iter().chain(&on_one) {
        println!("{outcome}");
        outcome.is_within_the_bound();
        outcome.has_most_of_the_rate();
    }
    for node in &nodes {
        let metrics = node.metrics().await;
        for Outcome { scope, .. } in &everywhere {
            let name = format!("\npushhub_rate_limit_charged_total{{scope=\"{scope}\"}} ");
            let (_, value) = metrics.split_once(&name).unwrap_or_else(|| panic!("{metrics}"));
            assert!(!value.starts_with("0\n"), "{name}{value:.10}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_to_another_node_finds_there_what_was_used_on_the_first() {
    let cluster = Cluster::new();
    let node = |name| cluster.node(name).env("RATE_LIMIT_USER", "1/s:100").start();
    let (a, b) = tokio::join!(node("a"), node("b"));
    hears_others(&a, 2).await;
    hears_others(&b, 2).await;
    let began = Instant::now();
    for _ in 0..80 {
        a.as_user("ann").get(COUNT).await.data();
    }
    eventually("b is told of all of it", || async {
        b.metrics().await.contains("\npushhub_rate_limit_charged_total{scope=\"user\"} 80\n")
    })
    .await;
    let there = b.as_user("ann").get(COUNT).await;
    there.data();
    let left = there.header("ratelimit").strip_prefix("\"user\";r=").unwrap();
    let left: u64 = left.split_once(';').unwrap().0.parse().unwrap();
    assert!((18..=20 + began.elapsed().as_secs()).contains(&left), "{left}");
    // Neither's own.
    let bob = b.as_user("bob").get(COUNT).await;
    assert!(bob.header("ratelimit").starts_with("\"user\";r=99;"), "{:?}", bob.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_bus_each_node_limits_by_itself_and_with_it_they_share_again() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port).await;
    let mut cluster = Cluster::new();
    cluster.redis = proxy.redis_url();
    let nodes = nodes(&cluster).await;
    proxy.swallow(true);
    for node in &nodes {
        eventually("it is alone", || async {
            node.metrics().await.contains("pushhub_bus_state{state=\"up\"} 0")
        })
        .await;
    }
    let service = nodes[0].service().await;
    let time = Duration::from_secs(2);
    for outcome in insist_as_each(&nodes, time, ("ann", 1), &service).await {
        println!("each alone, {outcome}");
        outcome.is_of_each_alone();
    }
    proxy.swallow(false);
    for node in &nodes {
        hears_others(node, 3).await;
    }
    // Another caller each: those before owe what each node let through alone.
    let service = nodes[0].service().await;
    for outcome in insist_as_each(&nodes, LONG, ("bob", 2), &service).await {
        println!("together again, {outcome}");
        outcome.is_within_the_bound();
        outcome.has_most_of_the_rate();
    }
}
