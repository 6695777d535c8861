//! What it costs to find out who is asking: the REST path with a token in memory (≤ 5 µs), and a token
//! that is seen for the first time, by what signed it: `cargo bench -p delivery --bench identity`.

#![expect(clippy::unwrap_used, reason = "a program for a terminal")]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::Criterion;
use delivery::{
    control::Control,
    identity::{
        Identity, IdentityConfig, Issuers, MintRequest,
        jwks::SigningAlgorithm,
        signing::{SealingKey, SigningKeys},
    },
};
use mimalloc::MiMalloc;
use protocol::{DeviceId, UserId};

/// That of the server.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn identity(control: &Arc<Control>, algorithm: Option<SigningAlgorithm>) -> Identity {
    let config = IdentityConfig {
        jwt_secret: "a secret of at least thirty-two bytes, for benches".into(),
        issuer: "message-service".to_owned(),
        audience: vec!["client-app".to_owned()],
        admin_token: "the admin token".into(),
        access_ttl: Duration::from_secs(7_200),
    };
    let sealing = SealingKey([1; 32]);
    let keys = SigningKeys::open(Arc::clone(control), sealing, algorithm, Duration::ZERO).unwrap();
    Identity::new(config, Arc::clone(control)).with_keys(keys, Issuers::default())
}

fn token(identity: &Identity) -> String {
    identity.mint(&MintRequest {
        device: Some(DeviceId::new("phone-1").unwrap()),
        roles: vec!["user".to_owned(), "department_admin".to_owned()],
        department: Some("finance".to_owned()),
        ..MintRequest::new(UserId::new("user-000001").unwrap())
    })
}

fn verify(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut group = criterion.benchmark_group("token");
    let algorithms =
        [None].into_iter().chain(SigningAlgorithm::ALL.iter().map(|algorithm| Some(*algorithm)));
    for algorithm in algorithms {
        let dir = tempfile::tempdir().unwrap();
        let control = Arc::new(Control::open(dir.path()).unwrap());
        let identity = identity(&control, algorithm);
        let (token, name) = (token(&identity), algorithm.map_or("HS256", SigningAlgorithm::as_str));
        group.bench_function(format!("REST, in memory, {name}"), |bench| {
            bench
                .iter(|| runtime.block_on(identity.verify_user_shared(black_box(&token))).unwrap());
        });
        group.bench_function(format!("first seen, {name}"), |bench| {
            bench.iter(|| identity.verify_user(black_box(&token)).unwrap());
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    verify(&mut criterion);
    criterion.final_summary();
}
