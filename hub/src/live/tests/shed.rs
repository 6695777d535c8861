//! Shedding, as several nodes with a load balancer would do it.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

/// Where a client that was sent away comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Balancer {
    LeastConnections,
    RoundRobin,
    Random,
    /// By the client's address: always to the same node.
    Sticky,
}

struct Node {
    shedder: Shedder,
    holds: u64,
    /// What the others know of it: the count of its last heartbeat.
    told: u64,
    heartbeat_at: u64,
    shed: u64,
    gave_up: u64,
}

/// A cluster in steps of [`LOOK_EVERY`]; heartbeats once a second, each node at a time of its own.
struct Cluster {
    nodes: Vec<Node>,
    balancer: Balancer,
    /// On their way: when they are back, and from where they come.
    away: Vec<(u64, usize)>,
    turn: usize,
    rng: StdRng,
    start: Instant,
    step: u64,
}

const STEPS_PER_SECOND: u64 = 4;

impl Cluster {
    fn new(balancer: Balancer, holds: &[u64], rate: &str) -> Self {
        let node = |(at, holds): (usize, &u64)| Node {
            shedder: Shedder::new(rate.parse().unwrap()),
            holds: *holds,
            told: *holds,
            heartbeat_at: at as u64 % STEPS_PER_SECOND,
            shed: 0,
            gave_up: 0,
        };
        Self {
            nodes: holds.iter().enumerate().map(node).collect(),
            balancer,
            away: vec![],
            turn: 0,
            rng: StdRng::seed_from_u64(7),
            start: Instant::now(),
            step: 0,
        }
    }

    fn place(&mut self, from: usize) {
        let nodes = self.nodes.len();
        let to = match self.balancer {
            Balancer::Sticky => from,
            Balancer::Random => self.rng.random_range(0..nodes),
            Balancer::RoundRobin => {
                self.turn += 1;
                self.turn % nodes
            }
            Balancer::LeastConnections => {
                (0..nodes).min_by_key(|at| self.nodes[*at].holds).unwrap()
            }
        };
        self.nodes[to].holds += 1;
    }

    /// Runs for so long; answers how many were sent away meanwhile.
    fn run(&mut self, seconds: u64) -> u64 {
        let before = self.shed();
        let average = self.total() as f64 / self.nodes.len() as f64;
        for _ in 0..seconds * STEPS_PER_SECOND {
            self.step += 1;
            let (back, away) = self.away.iter().partition(|(at, _)| *at <= self.step);
            self.away = away;
            let back: Vec<(u64, usize)> = back;
            back.into_iter().for_each(|(_, from)| self.place(from));
            for node in &mut self.nodes {
                if self.step % STEPS_PER_SECOND == node.heartbeat_at {
                    node.told = node.holds;
                }
            }
            let told: Vec<(u64, u64)> =
                self.nodes.iter().enumerate().map(|(at, node)| (at as u64, node.told)).collect();
            let now = self.start + LOOK_EVERY * u32::try_from(self.step).unwrap();
            for at in 0..self.nodes.len() {
                let others = told.iter().filter(|(other, _)| *other != at as u64).copied();
                let node = &mut self.nodes[at];
                let view = View { here: node.holds, others: others.collect(), calm: true };
                let Step { shed, event } = node.shedder.step(&view, now);
                assert!(
                    shed == 0 || (node.holds - shed) as f64 >= average - 1.0,
                    "{:?}: node {at} goes down to {} of {average} on average",
                    self.balancer,
                    node.holds - shed
                );
                node.holds -= shed;
                node.shed += shed;
                node.gave_up += u64::from(matches!(event, Some(Event::GaveUp(_))));
                for _ in 0..shed {
                    let back_at = self.step + self.rng.random_range(1..=STEPS_PER_SECOND);
                    self.away.push((back_at, at));
                }
            }
        }
        self.shed() - before
    }

    fn shed(&self) -> u64 {
        self.nodes.iter().map(|node| node.shed).sum()
    }

    fn total(&self) -> u64 {
        self.nodes.iter().map(|node| node.holds).sum::<u64>() + self.away.len() as u64
    }

    fn largest(&self) -> u64 {
        self.nodes.iter().map(|node| node.holds).max().unwrap()
    }
}

#[test]
fn a_cluster_with_a_new_node_becomes_even_and_stays_so() {
    for balancer in [Balancer::LeastConnections, Balancer::RoundRobin, Balancer::Random] {
        let mut cluster = Cluster::new(balancer, &[5_000, 5_000, 0], "50/s");
        let total = cluster.total();
        let moved = cluster.run(600);
        assert_eq!(cluster.total(), total);
        let average = total / 3;
        assert!(cluster.largest() <= average + average / 10, "{balancer:?}: {}", cluster.largest());
        // A third has to move. By turns or by chance only each third of them comes to the new node.
        let least = average * 85 / 100;
        let most = if balancer == Balancer::LeastConnections { average } else { average * 3 };
        assert!((least..=most).contains(&moved), "{balancer:?}: {moved} of {average}");
        assert_eq!(cluster.run(600), 0, "{balancer:?}: it goes on");
    }
}

#[test]
fn it_keeps_to_its_pace() {
    let mut cluster = Cluster::new(Balancer::LeastConnections, &[10_000, 0], "20/s");
    let settling = SETTLED_AFTER.as_secs();
    assert_eq!(cluster.run(settling - 1), 0);
    let moved = cluster.run(11);
    assert!((180..=220).contains(&moved), "{moved}");
}

#[test]
fn what_chance_makes_is_left_alone() {
    for holds in [&[1_000, 900, 950][..], &[30, 12], &[5], &[0, 0, 0], &[109, 100]] {
        let mut cluster = Cluster::new(Balancer::LeastConnections, holds, "100/s");
        assert_eq!(cluster.run(120), 0, "{holds:?}");
    }
    let mut cluster = Cluster::new(Balancer::LeastConnections, &[60, 0], "100/s");
    assert!((25..=30).contains(&cluster.run(120)));
}

#[test]
fn where_they_come_back_it_gives_up_and_tries_again_much_later() {
    let mut cluster = Cluster::new(Balancer::Sticky, &[1_000, 0], "50/s");
    let moved = cluster.run(300);
    assert_eq!(moved, 1_000 - 510);
    assert_eq!(cluster.nodes[0].gave_up, 1);
    assert_eq!(cluster.run(250), 0);
    assert!(cluster.run(120) > 0, "it tries again");
}

#[test]
fn it_waits_until_nobody_comes_goes_or_is_silent() {
    let mut shedder = Shedder::new("10/s".parse().unwrap());
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let view = |others: &[(u64, u64)], calm| View { here: 1_000, others: others.to_vec(), calm };
    let one = [(7, 0)];
    let settled = u64::try_from(SETTLED_AFTER.as_millis()).unwrap();
    assert_eq!(shedder.step(&view(&one, true), at(0)), Step::default());
    assert_eq!(shedder.step(&view(&one, true), at(settled - 1)), Step::default());
    let began = Step { shed: 0, event: Some(Event::Began(490)) };
    assert_eq!(shedder.step(&view(&one, true), at(settled)), began);
    assert_eq!(shedder.step(&view(&one, true), at(settled + 500)).shed, 5);
    // Somebody is silent, or leaves, or the bus is away.
    let ended = Step { shed: 0, event: Some(Event::Ended(5)) };
    assert_eq!(shedder.step(&view(&one, false), at(settled + 600)), ended);
    assert_eq!(shedder.step(&view(&one, true), at(settled + 700)), Step::default());
    let later = 3 * settled;
    assert!(shedder.step(&view(&one, true), at(later)).event.is_some());
    // Another one has come; the one there was has started anew.
    for others in [&[(7, 0), (8, 0)][..], &[(8, 0), (9, 0)], &[]] {
        assert_eq!(shedder.step(&view(others, true), at(later + 100)).shed, 0);
        assert_eq!(shedder.step(&view(others, true), at(later + 5_000)), Step::default());
    }
}
