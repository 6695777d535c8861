use std::io::Write;

use secrecy::ExposeSecret;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn mistakes(pairs: &[(&str, &str)]) -> Vec<Problem> {
    Config::load(&environment(pairs), None).unwrap_err().problems
}

#[test]
fn defaults_are_valid_and_those_of_the_seed() {
    let config = Config::load(&Environment::new(), None).unwrap().config;
    assert_eq!(config.process.user_address.port(), 8080);
    assert_eq!(config.process.admin_address.port(), 8081);
    assert_eq!(config.socket.connections_max, 10_000);
    assert_eq!(config.socket.ping_interval, Duration::from_secs(30));
    assert_eq!(config.socket.read_buffer_bytes, 4096);
    assert_eq!(config.socket.outbox_bytes_max, 256 << 10);
    assert_eq!(config.auth.access_ttl, Duration::from_secs(7200));
    assert_eq!(config.auth.issuer, "message-service");
    assert_eq!(config.auth.audience, ["client-app"]);
    assert_eq!(config.auth.signing, None);
    assert!(config.auth.jwt_secret.is_none());
    assert_eq!(config.store.path, Path::new("./data/user_storage"));
}

#[test]
fn retention_is_off_unless_it_is_set() {
    let retention = |pairs: &[(&str, &str)]| {
        Config::load(&environment(pairs), None).unwrap().config.store.retention
    };
    assert_eq!(retention(&[]), Retention::default());
    let set = [("RETENTION_MAX_AGE", "90d"), ("RETENTION_MAX_MESSAGES", "1000")];
    let expected =
        Retention { max_age: Some(Duration::from_hours(90 * 24)), max_messages: Some(1_000) };
    assert_eq!(retention(&set), expected);
    for (name, text) in [
        ("RETENTION_MAX_AGE", "90"),
        ("RETENTION_MAX_AGE", "0s"),
        ("RETENTION_MAX_AGE", "never"),
        ("RETENTION_MAX_MESSAGES", "0"),
        ("RETENTION_MAX_MESSAGES", "1k"),
    ] {
        let problems = mistakes(&[(name, text)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].text.contains("`off`"), "{problems:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let problems = mistakes(&[
        ("USER_SERVER_PORT", "eighty"),
        ("WS_PING_INTERVAL", "30"),
        ("WS_MAX_CONNECTIONS", "-1"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "info=loud"),
        ("PUSHHUB_ROLE", "hubs"),
        ("JWT_SECRET", "short"),
        ("BIND_ADDRESS", "localhost"),
        ("CORS_ALLOWED_ORIGINS", "example.com"),
        ("RATE_LIMIT_IP", "fast"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy"),
        ("DATABASE_URL", "mysql://u:hunter2@127.0.0.1/x"),
        ("DATABASE_CONNECTIONS", "1"),
        ("REDIS_URL", "redis://u:hunter2@127.0.0.1"),
    ]);
    let mut names: Vec<&str> = problems.iter().map(|problem| problem.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "BIND_ADDRESS",
            "CORS_ALLOWED_ORIGINS",
            "DATABASE_CONNECTIONS",
            "DATABASE_URL",
            "JWT_SECRET",
            "LOG_FORMAT",
            "LOG_LEVEL",
            "PUSHHUB_ROLE",
            "RATE_LIMIT_IP",
            "REDIS_URL",
            "TRUSTED_PROXIES",
            "USER_SERVER_PORT",
            "WS_MAX_CONNECTIONS",
            "WS_PING_INTERVAL",
        ]
    );
    let text = ConfigError { problems, warnings: Vec::new() }.to_string();
    assert!(text.contains("given: \"30\"; allowed: a duration with its unit"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn secrets_are_never_printed() {
    let secret = "correct-horse-battery-staple-0123456789";
    let loaded = Config::load(
        &environment(&[
            ("JWT_SECRET", secret),
            ("ADMIN_TOKEN", "an-admin-token-of-32-bytes-00000"),
        ]),
        None,
    )
    .unwrap();
    assert_eq!(loaded.config.auth.jwt_secret.as_ref().unwrap().expose_secret(), secret);
    let mut printed = format!("{loaded:?} {:?}", loaded.config);
    for format in [Format::Text, Format::Json, Format::Env, Format::Toml, Format::Md] {
        printed.push_str(&show(&loaded.effective, format));
    }
    assert!(!printed.contains(secret));
    assert!(!printed.contains("an-admin-token"));

    let short = "hunter2-hunter2";
    let error = Config::load(&environment(&[("JWT_SECRET", short)]), None).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(short), "{error}");
    assert!(error.to_string().contains("at least 32 bytes"), "{error}");

    // A broken line of the file may hold a secret; the parser would quote it.
    let broken = file("JWT_SECRET = \"hunter2-hunter2\" oops\n");
    let error = Config::load(&Environment::new(), Some(broken.path())).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn the_environment_wins_over_the_file_and_empty_counts_as_not_given() {
    let file = file(
        "WS_PING_INTERVAL = \"20s\"\nWS_MAX_CONNECTIONS = 50\nCORS_ALLOWED_ORIGINS = [\"https://a.example\", \"https://b.example\"]\n",
    );
    let environment =
        environment(&[("WS_PING_INTERVAL", "10s"), ("WS_MAX_CONNECTIONS", ""), ("NODE_ID", "n1")]);
    let loaded = Config::load(&environment, Some(file.path())).unwrap();
    assert_eq!(loaded.config.socket.ping_interval, Duration::from_secs(10));
    assert_eq!(loaded.config.socket.connections_max, 50);
    assert_eq!(loaded.config.socket.allowed_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(loaded.config.process.node_id.as_deref(), Some("n1"));
    let origin = |name: &str| {
        loaded.effective.iter().find(|e| e.setting.name == name).unwrap().origin.clone()
    };
    assert_eq!(origin("WS_PING_INTERVAL"), Origin::Environment);
    assert_eq!(origin("WS_MAX_CONNECTIONS"), Origin::File(file.path().to_owned()));
    assert_eq!(origin("WS_STALL_TIMEOUT"), Origin::Default);
}

#[test]
fn the_file_can_be_named_by_a_variable_and_must_exist_then() {
    let file = file("NODE_ID = \"from-file\"\n");
    let path = file.path().to_str().unwrap();
    let loaded = Config::load(&environment(&[("PUSHHUB_CONFIG", path)]), None).unwrap();
    assert_eq!(loaded.config.process.node_id.as_deref(), Some("from-file"));
    let problems = mistakes(&[("PUSHHUB_CONFIG", "/nonexistent/pushhub.toml")]);
    assert_eq!(problems[0].name, "/nonexistent/pushhub.toml");
}

#[test]
fn unknown_names_are_refused_in_the_file_and_warned_of_in_the_environment() {
    let file = file("WS_PING_INTERVALL = \"20s\"\n[server]\nport = 1\n");
    let error = Config::load(&Environment::new(), Some(file.path())).unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
    assert!(error.to_string().contains("did you mean WS_PING_INTERVAL?"), "{error}");

    let loaded = Config::load(
        &environment(&[
            ("WS_MAX_CONECTIONS", "5"),
            ("HTTP_PROXY", "http://proxy"),
            ("PATH", "/bin"),
        ]),
        None,
    )
    .unwrap();
    let warnings = loaded.warnings.join("\n");
    assert!(warnings.contains("did you mean WS_MAX_CONNECTIONS?"), "{warnings}");
    assert!(!warnings.contains("PROXY"), "{warnings}");
}

#[test]
fn rates_are_off_or_numbers() {
    let loaded = Config::load(
        &environment(&[
            ("RATE_LIMIT_USER", "off"),
            ("RATE_LIMIT_SERVICE", "7/s:9"),
            ("TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ]),
        None,
    );
    let limit = loaded.unwrap().config.limit;
    assert!(limit.user.is_none() && limit.ip.is_some() && limit.connect.is_some());
    assert_eq!(limit.service, Some(delivery::limit::Rate::new(7, 9)));
    assert_eq!(Ok(limit.trusted_proxies), "10.0.0.0/8,::1".parse());
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let secret = file("0123456789abcdef0123456789abcdef\n");
    let path = secret.path().to_str().unwrap();
    let loaded = Config::load(&environment(&[("JWT_SECRET_FILE", path)]), None).unwrap();
    let got = loaded.config.auth.jwt_secret.unwrap();
    assert_eq!(got.expose_secret(), "0123456789abcdef0123456789abcdef");

    let problems = mistakes(&[
        ("JWT_SECRET_FILE", path),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("ADMIN_TOKEN_FILE", "/nonexistent"),
    ]);
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn contradictions_are_refused_or_warned_of() {
    let problems = mistakes(&[("ADMIN_SERVER_PORT", "8080")]);
    assert_eq!(problems[0].name, "ADMIN_SERVER_PORT");
    let free = environment(&[("USER_SERVER_PORT", "0"), ("ADMIN_SERVER_PORT", "0")]);
    assert!(Config::load(&free, None).is_ok());

    let loaded = Config::load(
        &environment(&[
            ("WS_PING_INTERVAL", "60s"),
            ("WS_MAX_CONNECTIONS", "9000000"),
            ("WS_SHED_RATE", "20/s"),
        ]),
        None,
    )
    .unwrap();
    let warnings = loaded.warnings.join("\n");
    assert!(warnings.contains("proxies"), "{warnings}");
    assert!(warnings.contains("descriptors"), "{warnings}");
    assert!(warnings.contains("WS_SHED_RATE has no effect"), "{warnings}");
}

#[test]
fn every_default_reads_and_every_name_is_shown() {
    let loaded = Config::load(&Environment::new(), None).unwrap();
    let table = markdown_table();
    for setting in table::ALL {
        assert!(setting.kind.read(setting.default).is_some(), "{}", setting.name);
        assert!(table.contains(&format!("| `{}` |", setting.name)));
        assert!(!setting.meaning.contains('|'));
    }
    assert_eq!(loaded.effective.len(), table::ALL.len());
    let toml = show(&loaded.effective, Format::Toml);
    let file = file(&toml);
    let again = Config::load(&Environment::new(), Some(file.path())).unwrap();
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
}

fn names(given: &[(&str, &str)]) -> Vec<String> {
    mistakes(given).into_iter().map(|problem| problem.name).collect()
}

#[test]
fn several_nodes_need_a_database_and_secrets_that_they_share() {
    let database = ("DATABASE_URL", "postgres://u:hunter2@db/hub");
    let redis = ("REDIS_URL", "redis://cache");
    let secrets = [
        ("JWT_SECRET", "correct-horse-battery-staple-0123456789"),
        ("ADMIN_TOKEN", "an-admin-token-of-32-bytes-00000"),
    ];
    assert_eq!(names(&[redis]), ["REDIS_URL"]);
    assert_eq!(names(&[("PUSHHUB_ROLE", "hub")]), ["PUSHHUB_ROLE"]);
    assert_eq!(names(&[("DATABASE_REPLICA_URL", "postgres://b/hub")]), ["DATABASE_REPLICA_URL"]);
    assert_eq!(names(&[database]), ["JWT_SECRET", "ADMIN_TOKEN"]);
    assert_eq!(names(&[database, ("JWT_SECRET", "short"), secrets[1]]), ["JWT_SECRET"]);
    assert_eq!(
        names(&[database, secrets[0], secrets[1], ("PUSHHUB_ROLE", "hub")]),
        ["PUSHHUB_ROLE"]
    );
    let whole = [database, redis, secrets[0], secrets[1], ("PUSHHUB_ROLE", "delivery")];
    let config = Config::load(&environment(&whole), None).unwrap().config;
    assert_eq!(config.process.role, Role::Delivery);
    assert!(config.cluster.database.is_some() && config.cluster.redis.is_some());
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_address_of_the_bus_is_checked_and_never_printed() {
    let problems = mistakes(&[("REDIS_URL", "rediss+sentinel://:hunter2@a,b")]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].text.contains("given: a text of 30 bytes; allowed: redis://"),
        "{problems:?}"
    );
    let problems = mistakes(&[("REDIS_URL", "redis://:hunter2@a"), ("REDIS_PREFIX", "a b")]);
    let text = ConfigError { problems, warnings: Vec::new() }.to_string();
    assert!(text.contains("DATABASE_URL") && text.contains("REDIS_PREFIX"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn connections_rest_no_shorter_than_heads_take_and_no_shorter_than_proxies_think() {
    let short = [("HTTP_IDLE_TIMEOUT", "9s")];
    let ConfigError { problems, .. } = Config::load(&environment(&short), None).unwrap_err();
    assert_eq!(problems[0].name, "HTTP_IDLE_TIMEOUT");
    assert!(problems[0].text.contains("below HTTP_HEADER_TIMEOUT (10s)"), "{problems:?}");
    let seen = |idle: &str| {
        let given = Config::load(&environment(&[("HTTP_IDLE_TIMEOUT", idle)]), None).unwrap();
        given.warnings.iter().any(|warning| warning.starts_with("HTTP_IDLE_TIMEOUT="))
    };
    assert!(seen("60s") && !seen("61s"));
}

#[test]
fn keys_are_not_replaced_faster_than_they_end() {
    let fast = [("JWT_KEY_ROTATION", "1h"), ("JWT_EXPIRE_TIME", "24h")];
    let ConfigError { problems, .. } = Config::load(&environment(&fast), None).unwrap_err();
    assert!(problems[0].text.contains("too often while tokens live for 24h"), "{problems:?}");
    let fine = [("JWT_KEY_ROTATION", "30d"), ("JWT_SIGNING_ALGORITHM", "ES256")];
    let loaded = Config::load(&environment(&fine), None).unwrap();
    assert_eq!(loaded.config.auth.rotation, Some(Duration::from_secs(30 * 86_400)));
    let idle = Config::load(&environment(&[("JWT_KEY_ROTATION", "30d")]), None).unwrap();
    assert!(idle.warnings.iter().any(|warning| warning.starts_with("JWT_KEY_ROTATION has no")));
}
