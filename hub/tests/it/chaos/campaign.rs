//! A run from its begin to its verdict.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::Codec;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    nemesis::{Fault, Harm, Strike},
    report::Report,
    senders::{Senders, World},
    site::{Form, Site},
    verdict,
};
use crate::support::{
    SOON,
    device::{Device, Habits, Mischief},
    eventually_within,
    history::History,
};

/// What is done, and how hard.
pub(super) struct Campaign {
    pub(super) seed: u64,
    pub(super) form: Form,
    pub(super) nodes: usize,
    /// Of each tenant.
    pub(super) users: usize,
    /// Of each tenant.
    pub(super) senders: usize,
    /// Between two operations of a sender, on average.
    pub(super) pause: Duration,
    /// Events before the first fault.
    pub(super) calm: usize,
    /// How long a fault lasts at least, and at most.
    pub(super) lasting: (Duration, Duration),
    /// After a bus is back every device has everything within this.
    pub(super) caught_up_within: Duration,
    pub(super) faults: Faults,
    /// What goes wrong with recording, by the number of the device.
    pub(super) mischief: Vec<Mischief>,
    /// Statements that change the database behind everybody's back, when all is quiet.
    pub(super) tampering: Vec<&'static str>,
}

/// Which faults.
pub(super) enum Faults {
    /// These, in this order.
    Each(Vec<Fault>),
    /// Any that can happen, until so many things have happened.
    Until(usize),
}

impl Campaign {
    /// One of a few seconds that a busy machine of two cores bears.
    pub(super) fn short(form: Form, faults: &[Fault]) -> Self {
        Self {
            seed: seed(),
            form,
            nodes: 3,
            users: 5,
            senders: 4,
            pause: Duration::from_millis(10),
            calm: 200,
            lasting: (Duration::from_millis(800), Duration::from_millis(1_800)),
            // The figure that is promised.
            caught_up_within: Duration::from_secs(5),
            faults: Faults::Each(faults.to_vec()),
            mischief: vec![],
            tampering: vec![],
        }
    }

    /// Runs it.
    pub(super) async fn run(self) -> Report {
        let history = Arc::new(History::default());
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut site = Site::start(self.form, self.nodes).await;
        let world = World::new(Arc::clone(&history), site.addresses.clone(), self.users);
        world.prepare().await;
        let devices = self.devices(&world);
        eventually_within("every device is there", SOON * 2, || async {
            devices.iter().all(Device::has_begun).then_some(())
        })
        .await;
        let senders = Senders::spawn(&world, self.senders, self.seed, self.pause);
        let begun = history.len();
        eventually_within("it is going on", SOON, || async {
            (history.len() > begun + self.calm).then_some(())
        })
        .await;
        let mut strikes = Vec::new();
        match &self.faults {
            Faults::Each(faults) => {
                for fault in faults {
                    strikes
                        .push(self.strike(*fault, &mut site, &world, &devices, &mut random).await);
                }
            }
            Faults::Until(operations) => {
                let all = Fault::of(self.form);
                let mut told = Instant::now();
                while history.len() < *operations {
                    let fault = all[random.random_range(0..all.len())];
                    strikes
                        .push(self.strike(fault, &mut site, &world, &devices, &mut random).await);
                    if told.elapsed() > Duration::from_secs(30) {
                        told = Instant::now();
                        println!("{} operations, {} faults", history.len(), strikes.len());
                    }
                }
            }
        }
        senders.stop().await;
        let operations = history.len();
        let lives = verdict::settle(&world, devices).await;
        self.tampering.iter().for_each(|sql| servers::ask(&site.database, sql));
        verdict::take(&world, &site, lives).await;
        let violations = history.check();
        let Self { seed, caught_up_within, .. } = self;
        Report { seed, operations, caught_up_within, strikes, history, violations, site }
    }

    fn devices(&self, world: &Arc<World>) -> Vec<Device> {
        let mut mischief = self.mischief.iter();
        let mut devices = Vec::new();
        for (tenant, user) in world.people() {
            for (device, codec, hangs_up_within) in
                [("phone", Codec::Json, Some(60)), ("tablet", Codec::MsgPack, None)]
            {
                let habits = Habits {
                    inbox: World::inbox(tenant, &user),
                    token: World::token(tenant, &user).device(device),
                    codec,
                    hangs_up_within,
                    attentive: true,
                    mischief: mischief.next().copied(),
                };
                let (history, addresses) = (Arc::clone(&world.history), world.addresses.clone());
                devices.push(Device::spawn(history, addresses, habits));
            }
        }
        devices
    }

    /// One fault, what follows it, and a pause.
    async fn strike(
        &self,
        fault: Fault,
        site: &mut Site,
        world: &World,
        devices: &[Device],
        random: &mut StdRng,
    ) -> Strike {
        let lasting = random.random_range(self.lasting.0..self.lasting.1);
        let begun = world.history.elapsed();
        let harm = Harm::begin(site, fault, random).await;
        let victim = harm.victim();
        let noticed = harm.last(site, lasting).await;
        harm.end(site).await;
        let (ended, end) = (world.history.elapsed(), Instant::now());
        let heads = async {
            // Not before it is well: it is asked of the nodes.
            let heads = verdict::heads(world, devices).await;
            verdict::hold(devices, &heads).await;
            end.elapsed()
        };
        let recovered = async {
            site.well().await;
            end.elapsed()
        };
        let (recovered, caught_up) = if fault.is_of_redis() {
            tokio::join!(recovered, heads)
        } else {
            (recovered.await, heads.await)
        };
        let strike = Strike { fault, victim, begun, ended, noticed, recovered, caught_up };
        println!("{strike}");
        strike
    }
}

/// `CHAOS_SEED`, or one by the clock.
fn seed() -> u64 {
    match std::env::var("CHAOS_SEED") {
        Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("CHAOS_SEED={seed:?} is not a number")),
        Err(_) => rand::random_range(0..1_000_000),
    }
}
