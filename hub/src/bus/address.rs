//! `REDIS_URL`: where the bus is.

use std::{fmt, str::FromStr};

use secrecy::{ExposeSecret, SecretString};

/// Ports that are taken where none is given.
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Most servers that an address names: sentinels and seeds of a cluster are a handful.
pub(super) const SERVERS_MAX: usize = 32;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One.
    Single(Server),
    /// One primary, which sentinels know.
    Sentinel {
        /// Whom to ask.
        sentinels: Vec<Server>,
        /// Under which name they know it.
        master: String,
    },
    /// Redis Cluster, asked about itself at these.
    Cluster(Vec<Server>),
}

/// A name and a password.
#[derive(Clone, Default)]
pub struct Login {
    /// None for the default user.
    pub user: Option<String>,
    /// None for none.
    pub password: Option<SecretString>,
}

/// An address, taken apart. Has no `Debug`: it holds the password.
#[derive(Clone)]
pub struct RedisAddress {
    /// How servers are arranged.
    pub shape: Shape,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// For the servers.
    pub login: Login,
    /// For sentinels, which have passwords of their own.
    pub sentinel_login: Login,
}

/// What an address may be; the sentence of the configuration check.
pub const ALLOWED: &str = "redis://[user:password@]host[:port], redis+sentinel://[user:password@]host[:port],…/master[?sentinel_user=…&sentinel_password=…] or redis+cluster://[user:password@]host[:port],…; with rediss instead of redis for TLS";

/// It is no address. Says nothing of what was given: that may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub &'static str);

impl FromStr for RedisAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError("there is no scheme"))?;
        let (tls, arrangement) = match scheme {
            "redis" => (false, ""),
            "rediss" => (true, ""),
            _ => match scheme.split_once('+') {
                Some(("redis", arrangement)) => (false, arrangement),
                Some(("rediss", arrangement)) => (true, arrangement),
                _ => return Err(AddressError("the scheme is not known")),
            },
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may have been given with a slash that is not escaped; what follows the last `@`
        // has none.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (read_login(login)?, rest),
            None => (Login::default(), rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let sentinel_login = read_query(query)?;
        let servers = |port| {
            let servers: Result<Vec<_>, _> =
                hosts.split(',').map(|host| read_server(host, port)).collect();
            servers.and_then(|servers| {
                let many = AddressError("it names too many servers");
                if servers.len() > SERVERS_MAX { Err(many) } else { Ok(servers) }
            })
        };
        // Channels are not of a database: a number is taken, as everybody's addresses have one, and
        // means nothing.
        let database = |path: &str| {
            let wrong = AddressError("what follows the host is no number of a database");
            if path.is_empty() || path.parse::<u16>().is_ok() { Ok(()) } else { Err(wrong) }
        };
        let shape = match arrangement {
            "" => {
                database(path)?;
                let [server] = <[Server; 1]>::try_from(servers(REDIS_PORT)?)
                    .map_err(|_| AddressError("it names more than one server"))?;
                Shape::Single(server)
            }
            "sentinel" => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                database(path)?;
                if master.is_empty() {
                    return Err(AddressError("it does not name the master"));
                }
                Shape::Sentinel { sentinels: servers(SENTINEL_PORT)?, master: unescape(master)? }
            }
            "cluster" => {
                database(path)?;
                Shape::Cluster(servers(REDIS_PORT)?)
            }
            _ => return Err(AddressError("the scheme is not known")),
        };
        Ok(Self { shape, tls, login, sentinel_login })
    }
}

impl RedisAddress {
    /// Without what is secret, for the log.
    #[must_use]
    pub fn describe(&self) -> String {
        let list = |servers: &[Server]| {
            servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let tls = if self.tls { " by TLS" } else { "" };
        match &self.shape {
            Shape::Single(server) => format!("{server}{tls}"),
            Shape::Sentinel { sentinels, master } => {
                format!("{master} of the sentinels {}{tls}", list(sentinels))
            }
            Shape::Cluster(seeds) => format!("the cluster of {}{tls}", list(seeds)),
        }
    }
}

impl Login {
    /// The password, to be used.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret)
    }
}

fn read_login(text: &str) -> Result<Login, AddressError> {
    let some = |text: &str| Ok((!text.is_empty()).then_some(unescape(text)?));
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok(Login { user: some(user)?, password: some(password)?.map(SecretString::from) })
}

fn read_query(query: &str) -> Result<Login, AddressError> {
    let mut login = Login::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "sentinel_user" => login.user = Some(unescape(value)?),
            "sentinel_password" => login.password = Some(unescape(value)?.into()),
            // redis-rs has it in its addresses; the bus speaks RESP3 in any case.
            "protocol" => {}
            _ => return Err(AddressError("an option after the question mark is not known")),
        }
    }
    Ok(login)
}

fn read_server(text: &str, default_port: u16) -> Result<Server, AddressError> {
    let wrong = AddressError("a host or port is not valid");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(wrong)?;
            (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("")).ok_or(wrong)?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { default_port } else { port.parse().map_err(|_| wrong)? };
    let legal = |c: char| !c.is_control() && !c.is_whitespace() && !"/?#@,".contains(c);
    if host.is_empty() || port == 0 || !host.chars().all(legal) {
        return Err(wrong);
    }
    Ok(Server { host: host.to_owned(), port })
}

/// `%40` to `@`.
fn unescape(text: &str) -> Result<String, AddressError> {
    let wrong = AddressError("a percent sign is not followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = rest.split_at_checked(2).ok_or(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong)?);
        rest = more;
    }
    String::from_utf8(bytes).map_err(|_| wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RedisAddress {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn server(host: &str, port: u16) -> Server {
        Server { host: host.to_owned(), port }
    }

    #[test]
    fn single() {
        let plain = read("redis://redis");
        assert_eq!(plain.shape, Shape::Single(server("redis", 6379)));
        assert!(!plain.tls && plain.login.user.is_none() && plain.login.password().is_none());
        let full = read("rediss://app:p%40s:s/word@[::1]:7000/3?protocol=resp3");
        assert_eq!(full.shape, Shape::Single(server("::1", 7000)));
        assert!(full.tls);
        assert_eq!(full.login.user.as_deref(), Some("app"));
        assert_eq!(full.login.password(), Some("p@s:s/word"));
        assert_eq!(full.describe(), "[::1]:7000 by TLS");
        assert_eq!(read("redis://:secret@h/").login.password(), Some("secret"));
    }

    #[test]
    fn sentinel_and_cluster() {
        let address = read("redis+sentinel://:pw@a:1,b,c:3/main/0?sentinel_password=spw");
        let sentinels = vec![server("a", 1), server("b", 26379), server("c", 3)];
        assert_eq!(address.shape, Shape::Sentinel { sentinels, master: "main".into() });
        assert_eq!(address.login.password(), Some("pw"));
        assert_eq!(address.sentinel_login.password(), Some("spw"));
        let address = read("rediss+cluster://a,b:7001");
        assert_eq!(address.shape, Shape::Cluster(vec![server("a", 6379), server("b", 7001)]));
        assert_eq!(address.describe(), "the cluster of a:6379,b:7001 by TLS");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "redis",
            "http://a",
            "redis://",
            "redis://a,b",
            "redis://a:0",
            "redis://a:x",
            "redis://a/b",
            "redis://a b",
            "redis://[::1",
            "redis://u:%zz@a",
            "redis://a?timeout=1",
            "redis+sentinel://a",
            "redis+sentinel://a/main/x",
            "redis+what://a",
        ] {
            assert!(bad.parse::<RedisAddress>().is_err(), "{bad}");
        }
        assert!("redis+cluster://".to_owned().parse::<RedisAddress>().is_err());
    }
}
