//! Settings that are legal one by one and wrong together.

use std::time::Duration;

use delivery::{control::SIGNING_KEYS_MAX, identity::signing::KEY_LEAD};
use secrecy::ExposeSecret;

use super::{Config, Problem, Purpose, Role, show_duration};
use crate::descriptors;

/// Descriptors kept for what is neither a connection nor a user's file: listeners, the journal, the
/// control files, epoll, the log.
pub const DESCRIPTORS_RESERVED: usize = 256;

/// Descriptors of one user whose files are open: two databases, each with its write-ahead log and
/// shared-memory index.
pub const DESCRIPTORS_PER_STORE_ENTRY: usize = 6;

/// Most users kept open by `STORE_OPEN_FILES=auto`: each costs about 180 KiB, and beyond this the
/// hit rate hardly grows.
const STORE_OPEN_AUTO_MAX: usize = 2_000;

/// Fewest users kept open by `STORE_OPEN_FILES=auto`, however few descriptors there are.
const STORE_OPEN_AUTO_MIN: usize = 16;

/// After this long without traffic many proxies (nginx's `proxy_read_timeout`, cloud balancers)
/// close a connection.
const PROXY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Shorter admin tokens can be guessed.
const ADMIN_TOKEN_BYTES_SAFE: usize = 16;

/// Users whose files may be open under `STORE_OPEN_FILES=auto`, from the process's limit of
/// descriptors: what connections leave.
#[must_use]
pub fn store_open_files(config: &Config, descriptors_max: usize) -> usize {
    config.store.open_files_max.unwrap_or_else(|| {
        let left = descriptors_max.saturating_sub(connection_descriptors(config));
        (left / DESCRIPTORS_PER_STORE_ENTRY).clamp(STORE_OPEN_AUTO_MIN, STORE_OPEN_AUTO_MAX)
    })
}

fn connection_descriptors(config: &Config) -> usize {
    config.socket.connections_max
        + config.http.connections_max
        + delivery::webhook::CONNECTIONS_MAX
        + DESCRIPTORS_RESERVED
}

/// How many descriptors all that is allowed at a time may need, where the process may have this many.
#[must_use]
pub fn descriptors_needed(config: &Config, descriptors_max: usize) -> usize {
    let files = store_open_files(config, descriptors_max) * DESCRIPTORS_PER_STORE_ENTRY;
    connection_descriptors(config) + files
}

/// Contradictions that cannot be served.
pub(super) fn refuse(config: &Config, purpose: Purpose, problems: &mut Vec<Problem>) {
    match purpose {
        Purpose::Serve => refuse_parts_of_a_cluster(config, problems),
        Purpose::Migrate => need_database(config, problems),
        Purpose::Manage => {}
    }
    refuse_fast_rotation(config, problems);
    refuse_rest_below_heads(config, problems);
    let (user, admin) = (config.process.user_address, config.process.admin_address);
    if user.port() != 0 && user == admin {
        problems.push(Problem {
            name: "ADMIN_SERVER_PORT".to_owned(),
            text: format!(
                "given: \"{}\", which USER_SERVER_PORT has too; allowed: another port",
                admin.port()
            ),
        });
    }
}

/// Keys that still check are kept, and there is a most of them: a rotation that makes more would end at it.
fn refuse_fast_rotation(config: &Config, problems: &mut Vec<Problem>) {
    let Some(age) = config.auth.rotation else { return };
    let kept = u32::try_from(SIGNING_KEYS_MAX - 2).expect("a few");
    if age.saturating_mul(kept) < config.auth.access_ttl + KEY_LEAD {
        problems.push(Problem {
            name: "JWT_KEY_ROTATION".to_owned(),
            text: format!(
                "given: \"{}\", which is too often while tokens live for {} (JWT_EXPIRE_TIME): more than {SIGNING_KEYS_MAX} keys would have to check at a time",
                show_duration(age),
                show_duration(config.auth.access_ttl)
            ),
        });
    }
}

/// A head is read in what a connection may rest: below, the shorter time would stand for both.
fn refuse_rest_below_heads(config: &Config, problems: &mut Vec<Problem>) {
    let http = &config.http;
    if http.idle_timeout < http.header_timeout {
        problems.push(Problem {
            name: "HTTP_IDLE_TIMEOUT".to_owned(),
            text: format!(
                "given: \"{}\", which is below HTTP_HEADER_TIMEOUT ({}): a connection may rest at least as long as a head may take",
                show_duration(http.idle_timeout),
                show_duration(http.header_timeout)
            ),
        });
    }
}

fn need_database(config: &Config, problems: &mut Vec<Problem>) {
    // One that is wrong was named already.
    let named = problems.iter().any(|problem| problem.name == "DATABASE_URL");
    if config.cluster.database.is_none() && !named {
        problems.push(Problem {
            name: "DATABASE_URL".to_owned(),
            text: "is not set: it names the database whose tables are to be made".to_owned(),
        });
    }
}

/// What several processes need, and what must not be made up where they share a database.
fn refuse_parts_of_a_cluster(config: &Config, problems: &mut Vec<Problem>) {
    let (cluster, role) = (&config.cluster, config.process.role);
    let problem = |problems: &mut Vec<Problem>, name: &str, text: String| {
        problems.push(Problem { name: name.to_owned(), text });
    };
    if cluster.database.is_none() {
        if cluster.redis.is_some() {
            problem(problems, "REDIS_URL", "is set, but not DATABASE_URL: nodes that tell each other what they stored must share a store, and SQLite files are one node's; set DATABASE_URL, or unset this".to_owned());
        }
        if role != Role::All {
            problem(
                problems,
                "PUSHHUB_ROLE",
                format!(
                    "given: \"{}\", but not DATABASE_URL: the parts of a hub must share a store, and SQLite files are one process's; set DATABASE_URL and REDIS_URL, or take all",
                    role.label()
                ),
            );
        }
        return;
    }
    if role != Role::All && cluster.redis.is_none() {
        problem(
            problems,
            "PUSHHUB_ROLE",
            format!(
                "given: \"{}\", but not REDIS_URL, by which the parts of a hub tell each other what they stored; set it, or take all",
                role.label()
            ),
        );
    }
    for (name, secret) in
        [("JWT_SECRET", &config.auth.jwt_secret), ("ADMIN_TOKEN", &config.auth.admin_token)]
    {
        // One that is wrong was named already.
        if secret.is_none() && !problems.iter().any(|problem| problem.name == name) {
            problem(problems, name, "is not set, but DATABASE_URL is: nodes that share a database must share it, so none makes its own".to_owned());
        }
    }
}

/// Contradictions that can be served, but are likely not meant.
pub(super) fn warn(config: &Config, warnings: &mut Vec<String>) {
    let socket = &config.socket;
    if socket.ping_interval >= PROXY_IDLE_TIMEOUT {
        warnings.push(format!(
            "WS_PING_INTERVAL={}: many proxies close a connection that is silent for {}; keep the interval below half of theirs",
            show_duration(socket.ping_interval),
            show_duration(PROXY_IDLE_TIMEOUT)
        ));
    }
    if config.http.idle_timeout <= PROXY_IDLE_TIMEOUT {
        warnings.push(format!(
            "HTTP_IDLE_TIMEOUT={}: many proxies keep a connection for {} and would send on one that is just closed; keep it above theirs",
            show_duration(config.http.idle_timeout),
            show_duration(PROXY_IDLE_TIMEOUT)
        ));
    }
    if socket.shed_rate.is_some() && config.cluster.redis.is_none() {
        warnings.push(
            "WS_SHED_RATE has no effect: without REDIS_URL there is no other node to move sockets to"
                .to_owned(),
        );
    }
    if socket.outbox_bytes_max < socket.write_buffer_bytes {
        warnings.push(
            "WS_OUTBOX_LIMIT is below WS_WRITE_BUFFER_SIZE: writes will never be gathered up to it"
                .to_owned(),
        );
    }
    if let Some(token) = &config.auth.admin_token {
        let bytes = token.expose_secret().len();
        if bytes < ADMIN_TOKEN_BYTES_SAFE {
            warnings.push(format!(
                "ADMIN_TOKEN has {bytes} bytes and can be guessed: use at least {ADMIN_TOKEN_BYTES_SAFE}"
            ));
        }
    }
    if config.auth.rotation.is_some() && config.auth.signing.is_none() {
        warnings.push(
            "JWT_KEY_ROTATION has no effect: JWT_SIGNING_ALGORITHM=HS256 signs with JWT_SECRET"
                .to_owned(),
        );
    }
    let limit = descriptors::hard_limit();
    let needed = descriptors_needed(config, limit);
    if needed > limit {
        warnings.push(format!(
                "WS_MAX_CONNECTIONS={} with HTTP_MAX_CONNECTIONS={} on two ports and the store's files may need {needed} descriptors, this process may have {limit}: raise `ulimit -Hn` (LimitNOFILE=) or lower them",
                socket.connections_max, config.http.connections_max
            ));
    }
}
