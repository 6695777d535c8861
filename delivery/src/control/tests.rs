//! Services, keys, and what another process or node does to them.

mod file;
mod nodes;
pub(crate) mod place;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use protocol::TenantId;

use super::*;
use place::{Place, everywhere};

fn open<P: Place>() -> (P, Control) {
    let place = P::new();
    let control = place.open();
    (place, control)
}

/// From where keys are used.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn until(end: Time) -> NewKey {
    NewKey { expires_at: Some(end), ..NewKey::default() }
}

/// Waits for what happens in another thread or within a known time.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}

fn third_party() -> NewService {
    NewService { level: Some(Level::ThirdParty), ..NewService::named("a partner") }
}

everywhere!(
    a_service_is_kept_with_everything_that_was_said,
    every_mistake_of_a_new_service_is_told,
    keys_are_shown_once_and_stored_hashed,
    only_the_whole_right_key_opens,
    keys_rotate_with_overlap_and_end,
    a_key_is_replaced_once_and_ends_after_the_overlap,
    expired_keys_make_room,
    keys_are_good_only_from_where_they_may_be_used,
    what_is_said_of_services_and_keys_can_be_changed,
    the_last_use_is_noted,
    statuses_change_along_known_ways,
    what_another_process_changes_bites_here,
    quotas_and_what_was_used_survive_a_restart,
);

fn a_service_is_kept_with_everything_that_was_said<P: Place>() {
    let (place, control) = open::<P>();
    let new = NewService {
        id: Some("netdrive".to_owned()),
        kind: Some(ServiceType::External),
        level: Some(Level::System),
        permissions: vec![ON_BEHALF_OF.to_owned()],
        scope: Scope { templates: vec!["file_share".to_owned()], ..Scope::default() },
        rate_limit: Some(RateLimit { per_second: 100, burst: 200 }),
        owner: "网盘组".to_owned(),
        tenant_id: Some("acme".to_owned()),
        ..NewService::named("企业网盘")
    };
    let (made, key) = control.create_service(new).unwrap();
    assert_eq!(made.status, ServiceStatus::Active);
    drop(control);
    let control = place.open();
    assert_eq!(*control.get(&made.id).unwrap(), made);
    assert_eq!(*control.verify(key.expose(), HERE).unwrap(), made);
    let shown = serde_json::to_value(&made).unwrap();
    assert_eq!(shown["type"], "external");
    assert_eq!(shown["level"], "system");
    assert_eq!(shown["scope"]["channels"], serde_json::json!([]));
}

fn every_mistake_of_a_new_service_is_told<P: Place>() {
    let (_place, control) = open::<P>();
    let new = NewService {
        id: Some(String::new()),
        permissions: vec!["fly".to_owned()],
        scope: Scope { channels: vec![String::new()], ..Scope::default() },
        rate_limit: Some(RateLimit { per_second: 0, burst: 1 }),
        owner: "o".repeat(257),
        tenant_id: Some("a\0".to_owned()),
        ..NewService::named(" ")
    };
    let Err(ControlError::Invalid(problems)) = control.create_service(new) else {
        panic!("it was accepted");
    };
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        ["id", "tenant_id", "name", "owner", "permissions[0]", "scope.channels[0]", "rate_limit"]
    );
    let named = |id: &str| NewService { id: Some(id.to_owned()), ..NewService::named("a") };
    control.create_service(named("one")).unwrap();
    assert!(matches!(control.create_service(named("one")), Err(ControlError::IdTaken)));
}

fn keys_are_shown_once_and_stored_hashed<P: Place>() {
    let (place, control) = open::<P>();
    let (service, key) = control.create_service(NewService::named("a")).unwrap();
    let whole = key.expose().to_owned();
    let parts: Vec<_> = whole.split('_').collect();
    assert_eq!((parts.len(), parts[0]), (3, "phk"));
    assert_eq!(parts[1], key.key.id);
    assert!(!format!("{key:?}").contains(parts[2]), "a key must not be printed");
    drop(control);
    let control = place.open();
    assert_eq!(control.verify(&whole, HERE).unwrap().id, service.id);
}

fn only_the_whole_right_key_opens<P: Place>() {
    let (_place, control) = open::<P>();
    let (_, key) = control.create_service(NewService::named("a")).unwrap();
    let (_, other) = control.create_service(NewService::named("b")).unwrap();
    let whole = key.expose();
    let (id, secret) = key::parse(whole).unwrap();
    // One of before keys had a checksum: it could be a key, and is none.
    let short = &secret[..43];
    let (other_id, other_secret) = key::parse(other.expose()).unwrap();
    let flipped = if secret.ends_with('A') { "B" } else { "A" };
    for wrong in [
        String::new(),
        "phk_".to_owned(),
        "phk__".to_owned(),
        whole[1..].to_owned(),
        format!("phk_{id}_{short}"),
        whole[..whole.len() - 1].to_owned(),
        format!("{whole}x"),
        format!("{whole} "),
        format!("phk_{id}_{other_secret}"),
        format!("phk_{other_id}_{secret}"),
        format!("phk_{id}_{}{flipped}", &secret[..secret.len() - 1]),
        format!("phk_{}_{secret}", "A".repeat(12)),
        format!("PHK_{id}_{secret}"),
        format!("phk_{id}_{}", "é".repeat(21) + "a"),
    ] {
        assert!(matches!(control.verify(&wrong, HERE), Err(KeyError::Bad)), "{wrong}");
    }
    assert!(control.verify(whole, HERE).is_ok());
}

fn keys_rotate_with_overlap_and_end<P: Place>() {
    let (_place, control) = open::<P>();
    let (service, first) = control.create_service(NewService::named("a")).unwrap();
    let second = control.create_key(&service.id, NewKey::default()).unwrap();
    assert!(
        control.verify(first.expose(), HERE).is_ok()
            && control.verify(second.expose(), HERE).is_ok()
    );
    control.revoke_key(&service.id, &first.key.id).unwrap();
    assert!(matches!(control.verify(first.expose(), HERE), Err(KeyError::Bad)));
    assert!(control.verify(second.expose(), HERE).is_ok());
    assert!(matches!(control.revoke_key(&service.id, &first.key.id), Err(ControlError::NotFound)));

    let (other, _) = control.create_service(NewService::named("b")).unwrap();
    assert!(matches!(control.revoke_key(&other.id, &second.key.id), Err(ControlError::NotFound)));

    let past = Time::from_millis(crate::clock::now().millis() - 1);
    assert!(matches!(
        control.create_key(&service.id, until(past)),
        Err(ControlError::ExpiryInPast)
    ));
    let soon = Time::from_millis(crate::clock::now().millis() + 1_000);
    let short = control.create_key(&service.id, until(soon)).unwrap();
    assert!(control.verify(short.expose(), HERE).is_ok());
    eventually("the key expires", || control.verify(short.expose(), HERE).is_err());

    let listed = control.list_keys(&service.id).unwrap();
    assert_eq!(listed.len(), 2);
    // One of them has expired, and makes room.
    for _ in listed.len()..=KEYS_PER_SERVICE_MAX {
        control.create_key(&service.id, NewKey::default()).unwrap();
    }
    assert!(matches!(
        control.create_key(&service.id, NewKey::default()),
        Err(ControlError::TooManyKeys)
    ));
    let unknown = ServiceId::new("unknown").unwrap();
    assert!(matches!(control.create_key(&unknown, NewKey::default()), Err(ControlError::NotFound)));
    assert!(matches!(control.list_keys(&unknown), Err(ControlError::NotFound)));
}

fn a_key_is_replaced_once_and_ends_after_the_overlap<P: Place>() {
    let (_place, control) = open::<P>();
    let (service, first) = control.create_service(NewService::named("a")).unwrap();
    let new = NewKey {
        name: "jobs".to_owned(),
        expires_at: Some(Time::from_millis(control.clock().now().millis() + 3_600_000)),
        allowed_networks: vec!["127.0.0.0/8".to_owned()],
    };
    let old = control.create_key(&service.id, new).unwrap();
    let rotate = |only: &str, seconds| {
        let overlap = Duration::from_secs(seconds);
        control.rotate_keys(&service.id, Some(only), Rotation { overlap, expires_at: None })
    };
    let new = rotate(&old.key.id, 600).unwrap();
    assert_eq!(
        (&new.key.name, &new.key.allowed_networks),
        (&old.key.name, &old.key.allowed_networks)
    );
    let lives = |key: &ApiKey| key.expires_at.unwrap().millis() - key.created_at.millis();
    assert_eq!(lives(&new.key), lives(&old.key));
    assert!(
        control.verify(old.expose(), HERE).is_ok() && control.verify(new.expose(), HERE).is_ok()
    );
    let listed = control.list_keys(&service.id).unwrap();
    let shown = listed.iter().find(|key| key.id == old.key.id).unwrap();
    assert_eq!(shown.replaced_by.as_ref(), Some(&new.key.id));
    assert_eq!(shown.expires_at.unwrap().millis() - new.key.created_at.millis(), 600_000);
    // Whoever asks twice gets no third key.
    match rotate(&old.key.id, 600) {
        Err(ControlError::KeyReplaced(by)) => assert_eq!(by, new.key.id),
        other => panic!("{other:?}"),
    }
    // One that leaked.
    let third = rotate(&new.key.id, 0).unwrap();
    assert!(matches!(control.verify(new.expose(), HERE), Err(KeyError::Bad)));
    assert!(control.verify(third.expose(), HERE).is_ok());
    assert!(control.verify(first.expose(), HERE).is_ok(), "another key is none of its business");
    assert!(matches!(rotate("nosuchkey000", 0), Err(ControlError::NotFound)));
    // All that live.
    let all = Rotation { overlap: Duration::ZERO, expires_at: None };
    let last = control.rotate_keys(&service.id, None, all).unwrap();
    for ended in [&first, &old, &third] {
        assert!(matches!(control.verify(ended.expose(), HERE), Err(KeyError::Bad)));
    }
    assert!(control.verify(last.expose(), HERE).is_ok());
    assert!(matches!(rotate(&first.key.id, 0), Err(ControlError::KeyReplaced(_))));
}

fn expired_keys_make_room<P: Place>() {
    let (_place, control) = open::<P>();
    let (service, mut latest) = control.create_service(NewService::named("a")).unwrap();
    let rotation = Rotation { overlap: Duration::ZERO, expires_at: None };
    for _ in 0..2 * KEYS_PER_SERVICE_MAX {
        latest = control.rotate_keys(&service.id, Some(&latest.key.id), rotation).unwrap();
    }
    assert!(control.verify(latest.expose(), HERE).is_ok());
    assert!(control.list_keys(&service.id).unwrap().len() <= KEYS_PER_SERVICE_MAX);
}

fn keys_are_good_only_from_where_they_may_be_used<P: Place>() {
    let (_place, control) = open::<P>();
    let new = NewService {
        allowed_networks: vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()],
        ..NewService::named("a")
    };
    let (service, key) = control.create_service(new).unwrap();
    let only = NewKey { allowed_networks: vec!["10.1.0.0/16".to_owned()], ..NewKey::default() };
    let narrow = control.create_key(&service.id, only).unwrap();
    let may =
        |key: &ApiKeyOnce, from: &str| match control.verify(key.expose(), from.parse().unwrap()) {
            Ok(_) => true,
            Err(KeyError::Address(refused)) => {
                assert_eq!(refused, from.parse::<IpAddr>().unwrap());
                false
            }
            Err(other) => panic!("{other}"),
        };
    for (from, wide_may, narrow_may) in [
        ("10.1.2.3", true, true),
        ("::ffff:10.1.2.3", true, true),
        ("10.2.2.3", true, false),
        ("fd00::1", true, false),
        ("127.0.0.1", false, false),
        ("2001:db8::1", false, false),
    ] {
        assert_eq!((may(&key, from), may(&narrow, from)), (wide_may, narrow_may), "{from}");
    }
    let everywhere = ServiceChanges { allowed_networks: Some(vec![]), ..ServiceChanges::default() };
    control.update_service(&service.id, everywhere).unwrap();
    assert!(may(&key, "127.0.0.1") && !may(&narrow, "127.0.0.1"));
    let everywhere = KeyChanges { allowed_networks: Some(vec![]), name: None };
    control.update_key(&service.id, &narrow.key.id, everywhere).unwrap();
    assert!(may(&narrow, "127.0.0.1"), "a change of a key bites at once");
}

fn what_is_said_of_services_and_keys_can_be_changed<P: Place>() {
    let (place, control) = open::<P>();
    let (service, key) = control.create_service(third_party()).unwrap();
    let changes = ServiceChanges {
        name: Some("another".to_owned()),
        owner: Some("ops".to_owned()),
        allowed_networks: Some(vec!["10.0.0.0/8".to_owned()]),
        ..ServiceChanges::default()
    };
    let changed = control.update_service(&service.id, changes).unwrap();
    let expected = Service {
        name: "another".to_owned(),
        owner: "ops".to_owned(),
        allowed_networks: "10.0.0.0/8".parse().unwrap(),
        ..service.clone()
    };
    assert_eq!(*changed, expected);
    let named = KeyChanges { name: Some("jobs".to_owned()), allowed_networks: None };
    assert_eq!(control.update_key(&service.id, &key.key.id, named).unwrap().name, "jobs");
    drop(control);
    let control = place.open();
    assert_eq!(*control.get(&service.id).unwrap(), expected);
    assert_eq!(control.list_keys(&service.id).unwrap()[0].name, "jobs");
    let bad = ServiceChanges {
        name: Some(String::new()),
        allowed_networks: Some(vec!["10.0.0.0/8".to_owned(), "10.0.0.0/33".to_owned()]),
        ..ServiceChanges::default()
    };
    let Err(ControlError::Invalid(problems)) = control.update_service(&service.id, bad) else {
        panic!("it was taken")
    };
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["name", "allowed_networks[1]"]);
    let bad =
        KeyChanges { name: Some("a\n".to_owned()), allowed_networks: Some(vec!["x".to_owned()]) };
    let Err(ControlError::Invalid(problems)) = control.update_key(&service.id, &key.key.id, bad)
    else {
        panic!("it was taken")
    };
    assert_eq!(problems.len(), 2);
    let none = KeyChanges::default();
    assert!(matches!(control.update_key(&service.id, "x", none), Err(ControlError::NotFound)));
}

fn the_last_use_is_noted<P: Place>() {
    let (_place, control) = open::<P>();
    let (service, key) = control.create_service(NewService::named("a")).unwrap();
    assert_eq!(control.list_keys(&service.id).unwrap()[0].last_used_at, None);
    control.verify(key.expose(), HERE).unwrap();
    eventually("the use is written", || {
        control.list_keys(&service.id).unwrap()[0].last_used_at.is_some()
    });
    let listed = control.list_keys(&service.id).unwrap();
    assert_eq!(listed[0].last_used_from.as_deref(), Some("127.0.0.1"));
    let noted = listed[0].last_used_at;
    for _ in 0..100 {
        control.verify(key.expose(), HERE).unwrap();
    }
    assert_eq!(control.list_keys(&service.id).unwrap()[0].last_used_at, noted, "once a minute");
}

fn statuses_change_along_known_ways<P: Place>() {
    use ServiceStatus::{Active, Disabled, Pending, Suspended};
    let (_place, control) = open::<P>();
    let (service, key) = control.create_service(third_party()).unwrap();
    let id = &service.id;
    assert_eq!(service.status, Pending);
    assert!(matches!(control.verify(key.expose(), HERE), Err(KeyError::Inactive(Pending))));
    for to in [Active, Suspended] {
        let refused = control.set_status(id, to);
        assert!(matches!(refused, Err(ControlError::Transition { from: Pending, .. })));
    }
    assert_eq!(control.approve(id).unwrap().status, Active);
    assert_eq!(control.approve(id).unwrap().status, Active);
    assert!(control.verify(key.expose(), HERE).is_ok());
    assert_eq!(control.set_status(id, Suspended).unwrap().status, Suspended);
    assert!(matches!(control.verify(key.expose(), HERE), Err(KeyError::Inactive(Suspended))));
    assert!(matches!(control.approve(id), Err(ControlError::Transition { .. })));
    assert_eq!(control.set_status(id, Active).unwrap().status, Active);
    assert_eq!(control.set_status(id, Disabled).unwrap().status, Disabled);
    assert!(matches!(control.verify(key.expose(), HERE), Err(KeyError::Inactive(Disabled))));
    assert!(matches!(control.set_status(id, Pending), Err(ControlError::Transition { .. })));
    let unknown = ServiceId::new("unknown").unwrap();
    assert!(matches!(control.approve(&unknown), Err(ControlError::NotFound)));
    assert!(matches!(control.get(&unknown), Err(ControlError::NotFound)));
}

fn what_another_process_changes_bites_here<P: Place>() {
    let (place, server) = open::<P>();
    let cli = place.open();
    let (service, key) = cli.create_service(NewService::named("a")).unwrap();
    assert!(server.verify(key.expose(), HERE).is_ok(), "a new key works at once");
    assert_eq!(server.list().unwrap().len(), 1);

    let changed = Instant::now();
    cli.set_status(&service.id, ServiceStatus::Disabled).unwrap();
    eventually("the service is disabled here too", || server.verify(key.expose(), HERE).is_err());
    // Twice the promise, for a machine that is busy with other tests.
    assert!(changed.elapsed() < 2 * REFRESH_INTERVAL);

    cli.set_status(&service.id, ServiceStatus::Active).unwrap();
    eventually("the service is active again", || server.verify(key.expose(), HERE).is_ok());
    cli.revoke_key(&service.id, &key.key.id).unwrap();
    eventually("the key is gone", || {
        matches!(server.verify(key.expose(), HERE), Err(KeyError::Bad))
    });
}

fn quotas_and_what_was_used_survive_a_restart<P: Place>() {
    let place = P::new();
    let acme = TenantId::new("acme").unwrap();
    let quotas = Quotas { messages_per_day: Some(3), ..Quotas::default() };
    {
        let control = place.open();
        assert_eq!(control.set_quotas(&acme, quotas).unwrap().quotas, quotas);
        control.spend(&acme, 2).unwrap();
        let given_back = control.spend(&acme, 5).unwrap();
        control.give_back(&acme, given_back);
        control.spend(&acme, 1).unwrap();
    }
    let control = place.open();
    assert_eq!(control.quotas(&acme), quotas);
    let shown = control.tenant(&acme).unwrap();
    // Not at midnight.
    if shown.usage.messages > 0 {
        assert_eq!((shown.usage.messages, shown.usage.recipients), (2, 3));
        control.spend(&acme, 1).unwrap();
        control.spend(&acme, 1).unwrap_err();
    }
    assert_eq!(control.tenants().unwrap(), [control.tenant(&acme).unwrap()]);
    // Another process on the folder sees them.
    let other = place.open();
    control.set_quotas(&acme, Quotas::default()).unwrap();
    assert_eq!(other.tenant(&acme).unwrap().quotas, Quotas::default());
}
