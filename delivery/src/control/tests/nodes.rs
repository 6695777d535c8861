//! Several nodes on one PostgreSQL, and a PostgreSQL that is not there.

use std::{net::TcpListener, sync::Barrier};

use ::metrics::NoopRecorder;
use serde_json::json;
use tokio_postgres::NoTls;

use super::{place::Postgres, *};
use crate::clock::SharedClock;
use crate::template::{TemplateRequest, Templates, Writer};

#[test]
fn migrations_are_numbered_from_one() {
    let last = AREA.migrations.len() as i64;
    assert!(AREA.migrations.iter().map(|migration| migration.version).eq(1..=last));
}

/// Two nodes on one database.
fn two() -> (Postgres, Arc<Control>, Arc<Control>) {
    let place = Postgres::new();
    let (one, other) = (Arc::new(place.open()), Arc::new(place.open()));
    (place, one, other)
}

/// What one node did shows on another in twice the promise, for a machine that is busy with other tests.
fn within(promise: Duration, what: &str, holds: impl FnMut() -> bool) {
    let began = Instant::now();
    eventually(what, holds);
    assert!(began.elapsed() < 2 * promise, "{what}: after {:?}", began.elapsed());
}

#[test]
fn a_key_that_is_revoked_on_one_node_is_refused_on_the_other() {
    let (_place, one, other) = two();
    let (service, key) = one.create_service(NewService::named("a")).unwrap();
    assert!(other.verify(key.expose(), HERE).is_ok(), "a new key works at once");
    one.revoke_key(&service.id, &key.key.id).unwrap();
    within(REFRESH_INTERVAL, "the key is gone there too", || {
        other.verify(key.expose(), HERE).is_err()
    });
    assert!(matches!(one.verify(key.expose(), HERE), Err(KeyError::Bad)), "here at once");
}

#[test]
fn a_key_that_is_used_on_many_nodes_is_noted_once_a_minute() {
    let (_place, one, other) = two();
    let (service, key) = one.create_service(NewService::named("a")).unwrap();
    let noted = || one.list_keys(&service.id).unwrap()[0].last_used_at;
    one.verify(key.expose(), HERE).unwrap();
    eventually("the use is written", || noted().is_some());
    let first = noted();
    // Knows nothing of that note, which is no part of the revision.
    other.verify(key.expose(), HERE).unwrap();
    drop(other);
    assert_eq!(noted(), first);
}

#[test]
fn limits_hold_whoever_reaches_them() {
    let (place, one, other) = two();
    let (service, _) = one.create_service(NewService::named("a")).unwrap();
    servers::ask(
        &place.0,
        &format!(
            "INSERT INTO control_service SELECT 's' || n, 'n', 'internal', 'business', '[]', '{{}}', \
             NULL, '', 'active', 'default', 0 FROM generate_series(1, {}) AS s (n); \
             INSERT INTO control_tenant SELECT 't' || n, '{{}}', 0 \
             FROM generate_series(1, {}) AS s (n)",
            SERVICES_MAX - 4,
            TENANTS_MAX - 3,
        ),
    );
    let barrier = Barrier::new(8);
    let made = thread::scope(|scope| {
        let nodes: Vec<_> = (0..8)
            .map(|n| {
                let (node, service, barrier) =
                    (if n % 2 == 0 { &one } else { &other }, &service, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let keys =
                        (0..5).filter(|_| match node.create_key(&service.id, NewKey::default()) {
                            Ok(_) => true,
                            Err(ControlError::TooManyKeys) => false,
                            Err(error) => panic!("{error:?}"),
                        });
                    let keys = keys.count();
                    let services =
                        (0..2).filter(|_| match node.create_service(NewService::named("b")) {
                            Ok(_) => true,
                            Err(ControlError::TooManyServices) => false,
                            Err(error) => panic!("{error:?}"),
                        });
                    let services = services.count();
                    let tenants = (0..2).filter(|m| {
                        let tenant = TenantId::new(format!("new-{n}-{m}")).unwrap();
                        match node.set_quotas(&tenant, Quotas::default()) {
                            Ok(_) => true,
                            Err(ControlError::TooManyTenants) => false,
                            Err(error) => panic!("{error:?}"),
                        }
                    });
                    [keys, services, tenants.count()]
                })
            })
            .collect();
        nodes
            .into_iter()
            .map(|node| node.join().unwrap())
            .fold([0; 3], |sum, made| [sum[0] + made[0], sum[1] + made[1], sum[2] + made[2]])
    });
    assert_eq!(made, [KEYS_PER_SERVICE_MAX - 1, 3, 3]);
    assert_eq!(one.list().unwrap().len(), SERVICES_MAX);
}

#[test]
fn a_template_that_is_changed_on_one_node_is_sent_by_the_other() {
    let (_place, one, other) = two();
    let tenant = TenantId::default();
    let templates = |control: &Arc<Control>| Templates::new(Arc::clone(control), &NoopRecorder);
    let (here, there) = (templates(&one), templates(&other));
    let request = |title: &str, id: Option<&str>| -> TemplateRequest {
        let mut value = json!({"name": "n", "category": "business", "title": title});
        if let Some(id) = id {
            value["id"] = json!(id);
        }
        serde_json::from_value(value).unwrap()
    };
    let admin = crate::identity::Caller::Admin(crate::identity::AdminCaller::Token);
    let admin = Writer::new(&admin).unwrap();
    here.create(&tenant, &admin, request("one", Some("hello"))).unwrap();
    let found = there.get(&tenant, "hello").unwrap();
    assert_eq!(found.unwrap().source.title, "one", "a new one at once");
    here.update(&tenant, &admin, "hello", request("two", None)).unwrap();
    let title = || there.known(&tenant, "hello").map(|template| template.source.title.clone());
    within(REFRESH_INTERVAL, "the change", || title().as_deref() == Some("two"));
    here.delete(&tenant, &admin, "hello").unwrap();
    within(REFRESH_INTERVAL, "the end", || title().is_none());
    drop((here, there));
    assert!(Arc::into_inner(one).is_some(), "what has gone is not kept by the thread that looks");
}

#[test]
fn what_nodes_use_of_a_quota_is_counted_together() {
    let (place, one, other) = two();
    let acme = TenantId::new("acme").unwrap();
    let quotas = Quotas { messages_per_day: Some(10), ..Quotas::default() };
    let day = tenant::day_of(crate::clock::now());
    one.set_quotas(&acme, quotas).unwrap();
    let lag = USAGE_FLUSH_INTERVAL + REFRESH_INTERVAL;
    within(REFRESH_INTERVAL, "the quota", || other.quotas(&acme) == quotas);
    for _ in 0..6 {
        one.spend(&acme, 2).unwrap();
    }
    let given_back = one.spend(&acme, 100).unwrap();
    other.spend(&acme, 1).unwrap();
    one.give_back(&acme, given_back);
    let used = |control: &Control| {
        let usage = control.tenant(&acme).unwrap().usage;
        (usage.messages, usage.recipients)
    };
    within(lag, "both know of both", || used(&one) == (7, 13) && used(&other) == (7, 13));
    for _ in 0..3 {
        other.spend(&acme, 1).unwrap();
    }
    assert_eq!(other.spend(&acme, 1).unwrap_err().used, 10, "exact by what is known");
    // Without an asker too: sends are refused from memory.
    within(lag, "the quota is reached here", || {
        one.spend(&acme, 0).map(|spent| one.give_back(&acme, spent)).is_err()
    });
    drop((one, other));
    let later = place.open();
    // Not at midnight.
    if tenant::day_of(crate::clock::now()) == day {
        assert_eq!(used(&later), (10, 16), "exact, also what was counted last");
    }
}

#[test]
fn connections_that_were_cut_are_made_again() {
    let (place, one, _other) = two();
    let (service, key) = one.create_service(NewService::named("a")).unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    servers::ask(&place.0, cut);
    assert_eq!(one.list_keys(&service.id).unwrap().len(), 1);
    servers::ask(&place.0, cut);
    one.create_key(&service.id, NewKey::default()).unwrap();
    assert!(one.verify(key.expose(), HERE).is_ok());
}

#[test]
fn while_the_database_is_away_known_keys_are_served() {
    let (place, one, _) = two();
    let (service, key) = one.create_service(NewService::named("a")).unwrap();
    let name = place.0.rsplit('/').next().unwrap().split('?').next().unwrap();
    let elsewhere = place.0.replace(name, "postgres");
    let allow = |allow: bool| {
        servers::ask(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allow}"));
        let cut = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        servers::ask(&elsewhere, &cut);
    };
    allow(false);
    let unknown = format!("phk_{}_{}", "A".repeat(12), "b".repeat(43));
    eventually("it is noticed", || {
        matches!(one.verify(&unknown, HERE), Err(KeyError::Unavailable(_)))
    });
    let began = Instant::now();
    for _ in 0..100 {
        assert!(matches!(one.verify(&unknown, HERE), Err(KeyError::Unavailable(_))));
        one.verify(key.expose(), HERE).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "those who wait are refused together");
    let refused = one.create_key(&service.id, NewKey::default()).unwrap_err();
    assert!(matches!(refused, ControlError::Unavailable(_)), "{refused:?}");
    one.spend(&TenantId::default(), 1).unwrap();
    allow(true);
    eventually("it is back", || matches!(one.verify(&unknown, HERE), Err(KeyError::Bad)));
    eventually("it is changed again", || one.create_key(&service.id, NewKey::default()).is_ok());
    assert_eq!(one.list_keys(&service.id).unwrap().len(), 2);
}

#[test]
fn a_database_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u:geheim@{}/x?sslmode=disable", silent.local_addr().unwrap());
    let began = Instant::now();
    let refused =
        Control::open_postgres(url.parse().unwrap(), NoTls, SharedClock::default()).unwrap_err();
    assert!(matches!(refused, ControlError::Unavailable(_)), "{refused:?}");
    assert!(!format!("{refused:?}").contains("geheim"));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn nodes_that_start_at_once_make_the_tables_once_and_newer_ones_are_left_alone() {
    let place = Postgres::new();
    thread::scope(|scope| {
        let nodes: Vec<_> = (0..4).map(|_| scope.spawn(|| place.open())).collect();
        nodes.into_iter().for_each(|node| drop(node.join().unwrap()));
    });
    let refused = || {
        Control::open_postgres(place.0.parse().unwrap(), NoTls, SharedClock::default())
            .expect_err("it is not ours")
    };
    let newer = "INSERT INTO control_migrations VALUES (99, 'later', 'x', ";
    servers::ask(&place.0, &format!("{newer} 1)"));
    drop(place.open());
    servers::ask(&place.0, "UPDATE control_migrations SET compatible_from = 99 WHERE version = 99");
    assert!(matches!(refused(), ControlError::UnknownVersion { found: 99, .. }));
    servers::ask(
        &place.0,
        "DELETE FROM control_migrations WHERE version = 99; \
         UPDATE control_migrations SET checksum = 'x'",
    );
    assert!(matches!(refused(), ControlError::MigrationChanged(1)));
}

/// On a thread of a runtime nothing panics, not even what waits, nor the end.
#[tokio::test]
async fn an_asynchronous_caller_is_served() {
    let (_place, one, other) = two();
    let (service, key) = one.create_service(NewService::named("a")).unwrap();
    assert_eq!(other.verify_aside(key.expose(), HERE).await.unwrap().id, service.id);
    let unknown = format!("phk_{}_{}", "A".repeat(12), "b".repeat(43));
    let many = (0..ASIDE_MAX * 4).map(|_| other.verify_aside(&unknown, HERE));
    for verified in futures_util::future::join_all(many).await {
        assert!(matches!(verified, Err(KeyError::Bad)));
    }
    assert!(matches!(other.revoke_key(&service.id, "\0"), Err(ControlError::NotFound)));
    let nothing = other.template_versions(&TenantId::default(), "\0", 0, 1);
    assert!(nothing.unwrap().is_none());
    let refused = other.change_template(&TenantId::default(), "\0", |_| unreachable!());
    assert!(matches!(refused, Err(ControlError::NotFound)));
}
