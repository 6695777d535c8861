mod nodes;

use ::metrics::NoopRecorder;
use protocol::{ServiceId, TenantId, Time};

use super::*;
use crate::control::{Level, RateLimit, Scope as Allowed, ServiceStatus, ServiceType};

fn service(id: &str, burst: u32) -> Caller {
    Caller::Service(Arc::new(Service {
        id: ServiceId::new(id).unwrap(),
        name: id.to_owned(),
        kind: ServiceType::Internal,
        level: Level::Business,
        permissions: Vec::new(),
        scope: Allowed::default(),
        rate_limit: (burst > 0).then_some(RateLimit { per_second: 1, burst }),
        allowed_networks: Networks::default(),
        owner: String::new(),
        status: ServiceStatus::Active,
        tenant_id: TenantId::default(),
        created_at: Time::default(),
    }))
}

#[test]
fn a_new_rate_of_a_service_holds_at_once() {
    let limiter = Limiter::new(LimitConfig::default(), &NoopRecorder);
    assert_eq!(limiter.caller(&service("a", 0)), Ok(None));
    assert_eq!(limiter.caller(&service("a", 5)).unwrap().unwrap().remaining, 4);
    assert_eq!(limiter.caller(&service("b", 5)).unwrap().unwrap().remaining, 4);
    assert_eq!(limiter.caller(&service("a", 9)).unwrap().unwrap().remaining, 8);
    assert_eq!(limiter.largest_batch(&service("a", 9)), Some(9));
    assert_eq!(limiter.largest_batch(&service("a", 0)), None);
    assert_eq!(limiter.services.len(), 2);
}

#[test]
fn a_bad_token_at_the_handshake_is_paid_for_by_its_address() {
    let config = LimitConfig { connect: Some(Rate::hourly(20)), ..LimitConfig::default() };
    let limiter = Limiter::new(config, &NoopRecorder);
    let client = |text: &str| limiter.client(text.parse().ok(), &HeaderMap::new());
    let (guesser, other) = (client("203.0.113.9"), client("203.0.113.10"));
    let mut attempts = 0;
    while limiter.connect(guesser).is_ok() {
        limiter.bad_connect_credential(guesser);
        attempts += 1;
    }
    assert_eq!(attempts, 2);
    assert!(limiter.connect(other).is_ok());
    assert_eq!(limiter.connect(client("127.0.0.1")), Ok(None), "not limited at all");
    limiter.forget_full();
    assert!(limiter.connect(guesser).is_err(), "what is owed is not forgotten");
}
