//! What asking the limits costs a request, with nothing else around it: `cargo bench -p delivery --bench limit`.
//!
//! Nobody is refused here: the way that every request goes.

#![expect(clippy::unwrap_used, reason = "a program for a terminal")]

use std::{
    hint::black_box,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use criterion::Criterion;
use delivery::{
    InboxKey,
    control::{Level, Scope, Service, ServiceStatus, ServiceType},
    identity::{Caller, UserCaller},
    limit::{BudgetSecret, LimitConfig, Limiter, RATE_MAX, Rate, sharing::TELL_EVERY},
};
use http::HeaderMap;
use metrics::NoopRecorder;
use mimalloc::MiMalloc;
use protocol::{ServiceId, TenantId, Time, UserId};

/// That of the server.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Callers in turn: more than the caches of a core hold, as on a busy server.
const CALLERS: usize = 50_000;

const SERVICES: usize = 100;

fn user(number: usize) -> Caller {
    let user = UserId::new(format!("user-{number:06}")).unwrap();
    let inbox = InboxKey::new(TenantId::default(), user);
    Caller::User(Arc::new(UserCaller::new(inbox, Time::default())))
}

fn service(number: usize) -> Caller {
    Caller::Service(Arc::new(Service {
        id: ServiceId::new(format!("service-{number}")).unwrap(),
        name: String::new(),
        kind: ServiceType::Internal,
        level: Level::Business,
        permissions: Vec::new(),
        scope: Scope::default(),
        rate_limit: None,
        allowed_networks: Default::default(),
        owner: String::new(),
        status: ServiceStatus::Active,
        tenant_id: TenantId::default(),
        created_at: Time::default(),
    }))
}

fn measure(criterion: &mut Criterion, name: &str, limiter: &Limiter) {
    let mut group = criterion.benchmark_group(name);
    for (what, callers) in [
        ("user", (0..CALLERS).map(user).collect::<Vec<_>>()),
        ("service", (0..SERVICES).map(service).collect()),
    ] {
        let mut turn = callers.iter().cycle();
        group.bench_function(what, |bencher| {
            bencher.iter(|| limiter.caller(black_box(turn.next().unwrap())).unwrap());
        });
    }
    let addresses =
        (0..CALLERS).map(|number| IpAddr::from((number as u32 + (11 << 24)).to_be_bytes()));
    let clients: Vec<_> =
        addresses.map(|address| limiter.client(Some(address), &HeaderMap::new())).collect();
    let mut turn = clients.iter().cycle();
    group.bench_function("address", |bencher| {
        bencher.iter(|| limiter.request(black_box(*turn.next().unwrap())).unwrap());
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let config = |rate| LimitConfig {
        ip: Some(rate),
        user: Some(rate),
        service: Some(rate),
        connect: Some(rate),
        ..LimitConfig::default()
    };
    let most = config(Rate::new(RATE_MAX, RATE_MAX));
    measure(&mut criterion, "alone", &Limiter::new(most, &NoopRecorder));

    // So slow that each request is worth telling of; somebody takes it away, as the bus does.
    let told = config(Rate::new(100, RATE_MAX));
    let secret = BudgetSecret(*b"shared by nodes!");
    let limiter = Limiter::in_cluster(told, &secret, &NoopRecorder);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(TELL_EVERY);
                black_box(limiter.spent());
            }
        });
        measure(&mut criterion, "in a cluster", &limiter);
        over.store(true, Ordering::Relaxed);
    });
    criterion.final_summary();
}
