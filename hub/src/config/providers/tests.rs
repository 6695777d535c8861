use std::io::Write as _;

use super::*;
use crate::config::{Config, ConfigError, Environment, Loaded};

fn load(pairs: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let environment: Environment =
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Config::load(&environment, None)
}

fn problem(pairs: &[(&str, &str)]) -> String {
    let ConfigError { problems, .. } = load(pairs).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    format!("{}: {}", problems[0].name, problems[0].text)
}

#[test]
fn a_provider_is_there_with_an_id_and_a_secret() {
    let none = load(&[]).unwrap();
    assert!(!none.config.providers.is_any());
    let loaded = load(&[
        ("GITHUB_CLIENT_ID", "id"),
        ("GITHUB_CLIENT_SECRET", "secret-of-github"),
        ("WECOM_CLIENT_ID", "ww1"),
        ("WECOM_CLIENT_SECRET", "secret-of-wecom"),
        ("WECOM_AGENT_ID", "1000002"),
        ("OIDC_CLIENT_ID", "hub"),
        ("OIDC_CLIENT_SECRET", "secret-of-oidc"),
        ("OIDC_ISSUER", "https://sso.example.com/realms/a/"),
        ("PUBLIC_URL", "https://push.example.com"),
        ("OAUTH_REDIRECT_URIS", "https://app.example.com/in, com.example.app:/in"),
    ])
    .unwrap();
    let providers = &loaded.config.providers;
    assert!(providers.github.is_some() && providers.google.is_none());
    assert_eq!(providers.wecom.as_ref().unwrap().agent_id, "1000002");
    assert_eq!(providers.redirect_uris, ["https://app.example.com/in", "com.example.app:/in"]);
    let CustomEndpoints::Issuer(issuer) = &providers.custom[0].endpoints else {
        panic!("an issuer")
    };
    assert_eq!(issuer.text, "https://sso.example.com/realms/a");
    assert_eq!(providers.custom[0].scopes, ["openid", "profile", "email"]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("secret-of-"), "{shown}");
}

#[test]
fn half_a_provider_is_named() {
    let said = problem(&[("GITHUB_CLIENT_ID", "id")]);
    assert!(
        said.starts_with("GITHUB_CLIENT_SECRET: is not set, but GITHUB_CLIENT_ID is"),
        "{said}"
    );
    let said = problem(&[("DINGTALK_CLIENT_SECRET", "s")]);
    assert!(said.starts_with("DINGTALK_CLIENT_ID: is not set"), "{said}");
    let said = problem(&[("WECOM_CLIENT_ID", "a"), ("WECOM_CLIENT_SECRET", "s")]);
    assert!(said.starts_with("WECOM_AGENT_ID: is not set"), "{said}");
    let oidc = [("OIDC_CLIENT_ID", "a"), ("OIDC_CLIENT_SECRET", "s")];
    assert!(problem(&oidc).starts_with("OIDC_ISSUER: is not set"));
    let both = [("OIDC_ISSUER", "https://a.example"), ("OIDC_TOKEN_URL", "https://a.example/t")];
    assert!(problem(&[&oidc[..], &both].concat()).contains("beside addresses"));
    assert!(problem(&[("WECHAT_BASE_URL", "ftp://a")]).starts_with("WECHAT_BASE_URL: given"));
    // What comes back decides who is believed.
    let said = problem(&[("GOOGLE_ISSUER", "http://8.8.8.8/")]);
    assert!(said.starts_with("GOOGLE_ISSUER"), "{said}");
    let warned = load(&[("GOOGLE_HOSTED_DOMAIN", "example.com")]).unwrap().warnings;
    assert!(warned[0].contains("GOOGLE_CLIENT_ID is not set"), "{warned:?}");
    let plain = [("WECHAT_CLIENT_ID", "a"), ("WECHAT_CLIENT_SECRET", "s")];
    assert!(load(&plain).unwrap().warnings[0].starts_with("PUBLIC_URL is not set"));
}

#[test]
fn addresses_of_apps_are_addresses() {
    for bad in [
        "app.example.com/in",
        "/in",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://app.example.com/in#here",
        "https://user@app.example.com/",
    ] {
        assert!(
            problem(&[("OAUTH_REDIRECT_URIS", bad)]).starts_with("OAUTH_REDIRECT_URIS"),
            "{bad}"
        );
    }
    for bad in ["push.example.com", "ftp://push.example.com", "https://push.example.com/?a=b"] {
        assert!(problem(&[("PUBLIC_URL", bad)]).starts_with("PUBLIC_URL"), "{bad}");
    }
    for bad in ["id", "id=", "who=sub", "id=a..b", "id=a b"] {
        assert!(problem(&[("OIDC_FIELDS", bad)]).starts_with("OIDC_FIELDS"), "{bad}");
    }
}

#[test]
fn a_file_has_more_of_them() {
    let file = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let good = file(
        r#"
[[provider]]
name = "acme"
title = "ACME"
client_id = "hub"
client_secret = "secret-of-acme"
auth_url = "https://acme.example/authorize"
token_url = "https://acme.example/token"
userinfo_url = "https://acme.example/me"
pkce = false
fields = { id = "data.user.id", name = "data.user.nick" }

[[provider]]
name = "keycloak"
client_id = "hub"
client_secret = "secret-of-keycloak"
issuer = "https://sso.example.com/realms/a"
"#,
    );
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    let loaded = load(&[("OAUTH_PROVIDERS_FILE", &path(&good))]).unwrap();
    let custom = &loaded.config.providers.custom;
    assert_eq!(custom.len(), 2);
    assert_eq!((custom[0].title.as_str(), custom[1].title.as_str()), ("ACME", "keycloak"));
    assert_eq!(custom[0].fields.id, "data.user.id");
    assert_eq!(custom[0].fields.email, "email");
    assert!(!custom[0].pkce && custom[1].pkce && custom[0].scopes.is_empty());
    assert!(!format!("{loaded:?}").contains("secret-of-"));

    let entry = |more: &str| format!("[[provider]]\nclient_id = \"a\"\n{more}\n");
    for (text, says) in [
        ("[[provider]]\nclient_secret = \"hunter2\" oops", "line 2"),
        (&*entry("name = \"a\"\nclient_secret = \"hunter2\""), "issuer"),
        (&entry("name = \"sessions\"\nclient_secret = \"hunter2\""), "something else"),
        (&entry("name = \"github\"\nclient_secret = \"hunter2\""), "something else"),
        (&entry("name = \"A b\"\nclient_secret = \"hunter2\""), "characters"),
        (&entry("name = \"a\"\nissuer = \"https://a.example\""), "client_secret"),
        (&entry("name = \"a\"\nclient_secret = \"hunter2\"\nissuer = \"a.example\""), "issuer"),
        (&entry("name = \"a\"\nsecret = \"hunter2\""), "secret"),
    ] {
        let bad = file(text);
        let said = problem(&[("OAUTH_PROVIDERS_FILE", &path(&bad))]);
        assert!(said.contains(says) && !said.contains("hunter2"), "{text}: {said}");
    }
    let said = problem(&[("OAUTH_PROVIDERS_FILE", "/nowhere/providers.toml")]);
    assert!(said.contains("cannot be read"), "{said}");
}

const SINGLE_SIGN_ON: [(&str, &str); 4] = [
    ("ADMIN_OIDC_CLIENT_ID", "hub"),
    ("ADMIN_OIDC_CLIENT_SECRET", "secret-of-admins"),
    ("ADMIN_OIDC_ISSUER", "https://sso.example.com"),
    ("ADMIN_OIDC_REDIRECT_URI", "https://admin.example.com/x/api/v3/admin/login/oidc/callback"),
];

#[test]
fn admins_have_an_issuer_with_all_that_it_needs() {
    let with = |more: &[(&'static str, &'static str)]| {
        SINGLE_SIGN_ON.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()
    };
    assert!(load(&[]).unwrap().config.providers.admin.is_none());
    let roles = [
        ("ADMIN_OIDC_ROLE_CLAIM", "realm.groups"),
        ("ADMIN_OIDC_ROLES", "cn=root=admin, ops=operator"),
    ];
    let loaded = load(&with(&roles)).unwrap();
    assert!(!format!("{loaded:?}").contains("secret-of-"));
    let admin = loaded.config.providers.admin.unwrap();
    let roles = admin.roles.unwrap().roles;
    assert_eq!((roles[0].0.as_str(), roles[1].0.as_str()), ("cn=root", "ops"));
    assert!(!admin.second_factor_there);
    for (name, _) in SINGLE_SIGN_ON {
        let rest: Vec<_> = with(&[]).into_iter().filter(|(known, _)| *known != name).collect();
        let said = problem(&rest);
        assert!(said.starts_with(&format!("{name}: is not set, but ADMIN_OIDC_")), "{said}");
    }
    for (more, name) in [
        (("ADMIN_OIDC_ROLE_CLAIM", "groups"), "ADMIN_OIDC_ROLES: is not set"),
        (("ADMIN_OIDC_ROLES", "ops=operator"), "ADMIN_OIDC_ROLE_CLAIM: is not set"),
        (("ADMIN_OIDC_ROLES", "ops=emperor"), "ADMIN_OIDC_ROLES: given"),
        (("ADMIN_OIDC_SCOPE", "profile"), "ADMIN_OIDC_SCOPE: must have openid"),
        (("ADMIN_OIDC_SECOND_FACTOR", "none"), "ADMIN_OIDC_SECOND_FACTOR: given"),
    ] {
        let said = problem(&with(&[more]));
        assert!(said.starts_with(name), "{said}");
    }
    let mut elsewhere = with(&[]);
    elsewhere[3].1 = "https://admin.example.com/callback";
    let said = problem(&elsewhere);
    assert!(said.starts_with("ADMIN_OIDC_REDIRECT_URI: must end with /api/v3/admin"), "{said}");
}

#[test]
fn tenants_are_of_providers_that_are_there() {
    const OIDC: [(&str, &str); 3] = [
        ("OIDC_CLIENT_ID", "hub"),
        ("OIDC_CLIENT_SECRET", "secret"),
        ("OIDC_ISSUER", "https://sso.example.com"),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        OIDC.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()
    };
    let providers = load(&with(&[("OAUTH_TENANTS", "oidc=acme")])).unwrap().config.providers;
    assert_eq!(providers.tenants["oidc"].as_str(), "acme");
    let claim = [("OIDC_TENANT_CLAIM", "org.id"), ("OIDC_TENANTS", "acme,umbrella")];
    let providers = load(&with(&claim)).unwrap().config.providers;
    let claim = providers.custom[0].tenant.as_ref().unwrap();
    assert_eq!((claim.path.as_str(), claim.allowed.len()), ("org.id", 2));
    for (more, says) in [
        (vec![("OAUTH_TENANTS", "github=acme")], "names github, which is no provider"),
        (vec![("OAUTH_TENANTS", "oidc")], "given"),
        (vec![("OIDC_TENANTS", "acme")], "names tenants, but not where"),
        (vec![("OIDC_TENANT_CLAIM", "org")], "names where tenants stand"),
        (
            vec![("OIDC_TENANT_CLAIM", "o"), ("OIDC_TENANTS", "a"), ("OAUTH_TENANTS", "oidc=b")],
            "names oidc, which says itself",
        ),
    ] {
        let said = problem(&with(&more));
        assert!(said.contains(says), "{said}");
    }
}
