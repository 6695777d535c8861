//! What is so only of `control.db`.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn nobody_else_may_read_it_and_secrets_are_not_in_it() {
    let (dir, control) = open::<place::Folder>();
    let (_, key) = control.create_service(NewService::named("a")).unwrap();
    let mode = std::fs::metadata(dir.0.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(control);
    let (_, secret) = key::parse(key.expose()).unwrap();
    for entry in std::fs::read_dir(dir.0.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let (dir, control) = open::<place::Folder>();
    drop(control);
    let file = rusqlite::Connection::open(dir.0.path().join(FILE_NAME)).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    assert!(matches!(
        Control::open(dir.0.path()),
        Err(ControlError::UnknownVersion { found: 99, .. })
    ));
}

#[test]
fn a_file_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    file.execute_batch(include_str!("../schema.sql")).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    file.execute_batch(
        "INSERT INTO service VALUES ('old', 'old', 'internal', 'business', '[]', '{}', NULL, '', \
         'active', 'default', 0)",
    )
    .unwrap();
    drop(file);
    for _ in 0..2 {
        let control = Control::open(dir.path()).unwrap();
        assert_eq!(control.list().unwrap()[0].id.as_str(), "old");
        assert!(control.templates_since(0).unwrap().rows.is_empty());
    }
}

#[test]
fn what_a_file_of_the_third_version_had_counted_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    for schema in [
        include_str!("../schema.sql"),
        include_str!("../schema_2.sql"),
        include_str!("../schema_3.sql"),
    ] {
        file.execute_batch(schema).unwrap();
    }
    file.pragma_update(None, "user_version", 3).unwrap();
    let day = tenant::day_of(crate::clock::now());
    file.execute("INSERT INTO tenant_usage VALUES ('acme', ?1, 2, 3)", [day]).unwrap();
    file.execute("INSERT INTO tenant VALUES ('acme', '{\"messages_per_day\": 2}', 0)", []).unwrap();
    drop(file);
    let control = Control::open(dir.path()).unwrap();
    let acme = TenantId::new("acme").unwrap();
    let shown = control.tenant(&acme).unwrap();
    // Not at midnight.
    if tenant::day_of(crate::clock::now()) == day {
        assert_eq!((shown.usage.messages, shown.usage.recipients), (2, 3));
        control.spend(&acme, 1).unwrap_err();
    }
    assert_eq!(shown.quotas.messages_per_day, Some(2));
}
