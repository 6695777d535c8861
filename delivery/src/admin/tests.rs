//! Logins of admins: both factors, what is good once, and what ends.

use std::{net::IpAddr, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use totp_rs::Totp;

use super::*;
use crate::{
    account::{AccountConfig, RefreshKey},
    identity::{AuthError, Identity, IdentityConfig},
    sql::values,
};

const PASSWORD: &str = "correct horse battery";

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

struct Fixture {
    admins: Admins,
    control: Arc<Control>,
    _dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let control = Arc::new(Control::open(dir.path()).unwrap());
    let identity = IdentityConfig {
        jwt_secret: "a secret of at least thirty-two bytes, for tests".into(),
        issuer: "message-service".to_owned(),
        audience: vec!["client-app".to_owned()],
        admin_token: "the admin token".into(),
        access_ttl: Duration::from_secs(7_200),
    };
    let identity = Arc::new(Identity::new(identity, Arc::clone(&control)));
    let config =
        AccountConfig { refresh_ttl: Duration::from_secs(600), refresh_key: RefreshKey([7; 32]) };
    let accounts = Accounts::open(Arc::clone(&control), identity, config).unwrap();
    Fixture { admins: Admins::new(Arc::clone(&control), accounts), control, _dir: dir }
}

fn new(username: &str, role: Role) -> NewAdmin {
    NewAdmin {
        username: username.to_owned(),
        name: String::new(),
        role,
        tenant_id: None,
        email: None,
        password: PASSWORD.into(),
    }
}

impl Fixture {
    async fn begin(&self, password: &str) -> Result<Challenge, AdminError> {
        self.admins.log_in("mei", password.into(), HOME).await
    }

    async fn end(&self, challenge: &Challenge, code: &str) -> Result<LoggedIn, AdminError> {
        let challenge = challenge.challenge.expose_secret();
        self.admins.second_step(challenge, code, HOME, "a browser").await
    }

    /// The code of so many steps from now.
    fn code(&self, codes: &Totp, steps: u64) -> String {
        let now = u64::try_from(self.control.clock().now().millis() / 1_000).unwrap();
        codes.generate(now + 30 * steps).to_string()
    }

    /// Makes an admin and lets them in for the first time.
    async fn enrolled(&self) -> (LoggedIn, Totp) {
        self.admins.create(new("Mei", Role::Operator), None).await.unwrap();
        let begun = self.begin(PASSWORD).await.unwrap();
        let uri = begun.enrolment.as_ref().unwrap().otpauth_uri.expose_secret();
        assert!(uri.starts_with("otpauth://totp/"), "{uri}");
        let codes = Totp::from_url(uri).unwrap();
        let logged_in = self.end(&begun, &self.code(&codes, 0)).await.unwrap();
        (logged_in, codes)
    }

    fn sql(&self, sql: &'static str) {
        let done = self.control.write_beside(|database| {
            database.change(|database| Ok::<_, AdminError>(database.execute(sql, &values![])?))
        });
        done.unwrap();
    }
}

#[tokio::test]
async fn the_first_login_enrols_and_the_next_needs_a_new_code() {
    let f = fixture();
    let (first, codes) = f.enrolled().await;
    assert_eq!(first.recovery_codes.len(), RECOVERY_CODES);
    assert!(first.account.second_factor && first.account.last_login_at.is_some());
    let token = first.token.expose_secret();
    let known = f.admins.recognise(token, HOME).await.unwrap();
    assert_eq!((known.account.username.as_str(), known.account.role), ("mei", Role::Operator));
    assert_eq!(known.session.session_id, first.session.session_id);

    let again = f.begin(PASSWORD).await.unwrap();
    assert!(again.enrolment.is_none(), "the secret is shown once");
    // The code that enrolled was used.
    let used = f.code(&codes, 0);
    assert!(matches!(f.end(&again, &used).await, Err(AdminError::BadCode)));
    let second = f.end(&again, &f.code(&codes, 1)).await.unwrap();
    assert!(second.recovery_codes.is_empty());
    assert_ne!(second.token.expose_secret(), token);
    // A challenge that was used is none.
    let third = f.end(&again, &f.code(&codes, 1)).await;
    assert!(matches!(third, Err(AdminError::BadChallenge)));
}

#[tokio::test]
async fn one_code_lets_one_in_however_many_come_with_it() {
    let f = fixture();
    let (_, codes) = f.enrolled().await;
    let mut begun = Vec::new();
    for _ in 0..4 {
        begun.push(f.begin(PASSWORD).await.unwrap());
    }
    let code = f.code(&codes, 1);
    let all = begun.iter().map(|challenge| f.end(challenge, &code));
    let all = futures_util::future::join_all(all).await;
    assert_eq!(all.iter().filter(|done| done.is_ok()).count(), 1);
    assert!(
        all.iter()
            .filter_map(|done| done.as_ref().err())
            .all(|error| { matches!(error, AdminError::BadCode | AdminError::Guarded(_)) })
    );
}

#[tokio::test]
async fn a_recovery_code_is_good_once() {
    let f = fixture();
    let (first, _) = f.enrolled().await;
    let code = first.recovery_codes[3].expose_secret().to_uppercase();
    let begun = f.begin(PASSWORD).await.unwrap();
    let done = f.end(&begun, &code).await.unwrap();
    assert_eq!(done.account.recovery_codes_left, RECOVERY_CODES - 1);
    let begun = f.begin(PASSWORD).await.unwrap();
    assert!(matches!(f.end(&begun, &code).await, Err(AdminError::BadCode)));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_one_answer_and_make_wait() {
    let f = fixture();
    let (_, _) = f.enrolled().await;
    assert!(matches!(f.begin("a wrong password").await, Err(AdminError::BadLogin)));
    let nobody = f.admins.log_in("nobody", PASSWORD.into(), HOME).await;
    assert!(matches!(nobody, Err(AdminError::BadLogin)));
    let long = SecretString::from("x".repeat(PASSWORD_BYTES_MAX + 1));
    assert!(matches!(f.admins.log_in("mei", long, HOME).await, Err(AdminError::BadLogin)));
    for _ in 0..4 {
        assert!(matches!(f.begin("a wrong password").await, Err(AdminError::BadLogin)));
    }
    match f.begin(PASSWORD).await {
        Err(AdminError::Guarded(guarded)) => assert!(guarded.wait <= Duration::from_secs(1)),
        other => panic!("{:?}", other.err()),
    }
    // Somebody else's guesses are not the owner's at another address.
    let elsewhere = IpAddr::from([203, 0, 113, 9]);
    assert!(f.admins.log_in("mei", PASSWORD.into(), elsewhere).await.is_ok());
}

#[tokio::test]
async fn a_challenge_takes_so_many_wrong_codes() {
    let f = fixture();
    f.admins.create(new("mei", Role::Viewer), None).await.unwrap();
    let begun = f.begin(PASSWORD).await.unwrap();
    let uri = begun.enrolment.as_ref().unwrap().otpauth_uri.expose_secret();
    let codes = Totp::from_url(uri).unwrap();
    for n in 0..CODE_TRIES_MAX {
        let from = IpAddr::from([203, 0, 113, u8::try_from(n).unwrap()]);
        let challenge = begun.challenge.expose_secret();
        let done = f.admins.second_step(challenge, "no code", from, "").await;
        assert!(matches!(done, Err(AdminError::BadCode)), "{:?}", done.err());
    }
    let done = f.end(&begun, &f.code(&codes, 0)).await;
    assert!(matches!(done, Err(AdminError::BadChallenge)));
    for bad in ["phc_", "phc_none", "none", "phc_\0"] {
        let done = f.admins.second_step(bad, "123456", HOME, "").await;
        assert!(matches!(done, Err(AdminError::BadChallenge)), "{bad:?}");
    }
}

#[tokio::test]
async fn what_is_taken_from_an_admin_is_gone_with_the_next_request() {
    let f = fixture();
    let (first, _) = f.enrolled().await;
    let (token, id) = (first.token.expose_secret().to_owned(), first.account.id.clone());
    let known = || f.admins.recognise(&token, HOME);
    let change = |changes| f.admins.update(id.clone(), changes, None);
    change(AdminChanges { role: Some(Role::Viewer), ..AdminChanges::default() }).await.unwrap();
    assert_eq!(known().await.unwrap().account.role, Role::Viewer);
    for changes in [
        AdminChanges { disabled: Some(true), ..AdminChanges::default() },
        AdminChanges { disabled: Some(false), ..AdminChanges::default() },
    ] {
        change(changes).await.unwrap();
        assert!(matches!(known().await, Err(AuthError::BadToken)), "the session is over");
    }
    // Who is disabled has no challenge either, and one from before is void.
    let begun = f.begin(PASSWORD).await.unwrap();
    change(AdminChanges { disabled: Some(true), ..AdminChanges::default() }).await.unwrap();
    assert!(matches!(f.begin(PASSWORD).await, Err(AdminError::BadLogin)));
    let code = first.recovery_codes[0].expose_secret();
    assert!(matches!(f.end(&begun, code).await, Err(AdminError::BadChallenge)));
    change(AdminChanges { disabled: Some(false), ..AdminChanges::default() }).await.unwrap();
    // A new phone.
    let forget = AdminChanges { forget_second_factor: Some(true), ..AdminChanges::default() };
    assert!(!change(forget).await.unwrap().second_factor);
    assert!(f.begin(PASSWORD).await.unwrap().enrolment.is_some());
    let new_password =
        AdminChanges { password: Some("another long password".into()), ..AdminChanges::default() };
    change(new_password).await.unwrap();
    assert!(f.begin("another long password").await.is_ok());
    assert!(matches!(f.begin(PASSWORD).await, Err(AdminError::BadLogin)));
    f.admins.delete(id.clone(), None).await.unwrap();
    assert!(matches!(f.admins.get(id, None).await, Err(AdminError::NotFound)));
}

#[tokio::test]
async fn sessions_end_when_idle_when_old_and_when_told() {
    let f = fixture();
    let (first, _) = f.enrolled().await;
    let (token, id) = (first.token.expose_secret(), first.account.id.clone());
    f.sql("UPDATE admin_session SET last_seen_at = last_seen_at - 1790000");
    let elsewhere = IpAddr::from([203, 0, 113, 9]);
    f.admins.recognise(token, elsewhere).await.unwrap();
    let seen = f.admins.sessions(id.clone(), None).await.unwrap();
    assert_eq!(seen[0].address, "203.0.113.9", "used just before it was over, and noted");
    assert!(seen[0].last_seen_at >= first.session.last_seen_at);
    f.sql("UPDATE admin_session SET last_seen_at = last_seen_at - 1800000");
    assert!(matches!(f.admins.recognise(token, HOME).await, Err(AuthError::Expired)));
    assert!(f.admins.sessions(id.clone(), None).await.unwrap().is_empty());
    f.sql("UPDATE admin_session SET last_seen_at = last_seen_at + 1800000");
    f.admins.recognise(token, HOME).await.unwrap();
    f.sql("UPDATE admin_session SET expires_at = created_at");
    assert!(matches!(f.admins.recognise(token, HOME).await, Err(AuthError::Expired)));
    f.sql("UPDATE admin_session SET expires_at = created_at + 3600000");
    f.admins.recognise(token, HOME).await.unwrap();
    assert_eq!(f.admins.end_sessions(id.clone(), None, None).await.unwrap(), 1);
    assert!(matches!(f.admins.recognise(token, HOME).await, Err(AuthError::BadToken)));
    for bad in ["pha_", "pha_\0", "none", &"pha_".repeat(100)] {
        assert!(matches!(f.admins.recognise(bad, HOME).await, Err(AuthError::BadToken)));
    }
}

#[tokio::test]
async fn an_admin_of_a_tenant_knows_no_other() {
    let f = fixture();
    let acme = TenantId::new("acme").unwrap();
    let theirs = f.admins.create(new("theirs", Role::Admin), Some(acme.clone())).await.unwrap();
    assert_eq!(theirs.tenant_id.as_ref(), Some(&acme));
    let other = f.admins.create(new("other", Role::Admin), None).await.unwrap();
    let elsewhere = NewAdmin { tenant_id: Some("umbrella".to_owned()), ..new("x", Role::Admin) };
    let refused = f.admins.create(elsewhere, Some(acme.clone())).await;
    assert!(matches!(refused, Err(AdminError::Invalid(_))));
    let seen = f.admins.list(Some(acme.clone())).await.unwrap();
    assert_eq!(seen, [theirs]);
    let id = || other.id.clone();
    let tenant = || Some(acme.clone());
    let none = AdminChanges::default();
    assert!(matches!(f.admins.get(id(), tenant()).await, Err(AdminError::NotFound)));
    assert!(matches!(f.admins.update(id(), none, tenant()).await, Err(AdminError::NotFound)));
    assert!(matches!(f.admins.delete(id(), tenant()).await, Err(AdminError::NotFound)));
    assert!(matches!(f.admins.sessions(id(), tenant()).await, Err(AdminError::NotFound)));
    let ended = f.admins.end_sessions(id(), None, tenant()).await;
    assert!(matches!(ended, Err(AdminError::NotFound)));
}

#[tokio::test]
async fn every_mistake_of_a_new_admin_is_told() {
    let f = fixture();
    let bad = NewAdmin {
        username: "m ei".to_owned(),
        name: "a\n".to_owned(),
        role: Role::Viewer,
        tenant_id: Some(String::new()),
        email: Some("nobody".to_owned()),
        password: "short".into(),
    };
    let Err(AdminError::Invalid(problems)) = f.admins.create(bad, None).await else {
        panic!("it was taken")
    };
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["username", "name", "password", "email", "tenant_id"]);
    f.admins.create(new("Mei", Role::Viewer), None).await.unwrap();
    let taken = f.admins.create(new("mEI", Role::Viewer), None).await;
    assert!(matches!(taken, Err(AdminError::NameTaken)));
}

#[test]
fn roles_reach_down() {
    let (viewer, operator, admin) = (Role::Viewer, Role::Operator, Role::Admin);
    assert!(viewer.may(viewer) && operator.may(viewer) && admin.may(operator) && admin.may(admin));
    assert!(!viewer.may(operator) && !operator.may(admin));
}
