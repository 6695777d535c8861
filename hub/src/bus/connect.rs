//! Connections to Redis, and who is asked where it is.

use std::{convert::Infallible, fmt, time::Duration};

use rand::seq::SliceRandom;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, Value,
    aio::MultiplexedConnection,
};

use super::{
    address::{Login, RedisAddress, Server, Shape},
    metrics::GivenUp,
};

/// Longest wait for a connection, encryption and login included.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Longest wait for an answer. Redis needs a millisecond for the largest pipeline here.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The first version with sharded channels (`SSUBSCRIBE`).
const VERSION_MIN: u64 = 7;

/// The sentence about it.
const VERSION_NEEDED: &str = "version 7 or later is needed";

/// Why a server is not used any more.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: GivenUp,
    /// In words for an operator, without secrets.
    pub(super) why: String,
}

impl Trouble {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self { kind: GivenUp::Refused, why: why.into() }
    }

    pub(super) fn broken(why: impl Into<String>) -> Self {
        Self { kind: GivenUp::Broken, why: why.into() }
    }

    pub(super) fn silent(why: impl Into<String>) -> Self {
        Self { kind: GivenUp::Silent, why: why.into() }
    }

    /// Says whose it is.
    pub(super) fn of(self, server: &impl fmt::Display) -> Self {
        Self { why: format!("{server}: {}", self.why), ..self }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let kind = if error.is_timeout() {
            GivenUp::Silent
        } else if error.is_connection_dropped() {
            GivenUp::Broken
        } else {
            GivenUp::Refused
        };
        let why = match error.kind() {
            ErrorKind::AuthenticationFailed => {
                "the password or user of REDIS_URL is not accepted".to_owned()
            }
            ErrorKind::RESP3NotSupported => {
                format!("the server is older than Redis 6: {VERSION_NEEDED}")
            }
            _ => error.to_string(),
        };
        Self { kind, why }
    }
}

/// Makes connections.
pub(super) struct Connector {
    address: RedisAddress,
    /// Certificates that are trusted instead of the system's, PEM.
    ca: Option<Vec<u8>>,
}

impl Connector {
    pub(super) fn new(address: RedisAddress, ca: Option<Vec<u8>>) -> Self {
        Self { address, ca }
    }

    pub(super) const fn address(&self) -> &RedisAddress {
        &self.address
    }

    /// For commands.
    pub(super) async fn connect(&self, server: &Server) -> Result<MultiplexedConnection, Trouble> {
        let client = self.client(server, &self.address.login, ProtocolVersion::RESP3)?;
        let mut connection = open(&client, config()).await?;
        must_be_new_enough(&mut connection).await?;
        Ok(connection)
    }

    /// For subscriptions. `hear` is called with everything the server says by itself, on the task that
    /// reads from the connection: what it does not take, the server keeps, and closes the connection
    /// when that is too much.
    pub(super) async fn listen(
        &self,
        server: &Server,
        hear: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, Trouble> {
        let client = self.client(server, &self.address.login, ProtocolVersion::RESP3)?;
        let hear = move |push| {
            hear(push);
            Ok::<(), Infallible>(())
        };
        open(&client, config().set_push_sender(hear)).await
    }

    /// Where the one server of a shape is that has one.
    pub(super) async fn locate(&self) -> Result<Server, Trouble> {
        match &self.address.shape {
            Shape::Single(server) => Ok(server.clone()),
            Shape::Sentinel { sentinels, master } => self.ask_sentinels(sentinels, master).await,
            Shape::Cluster(_) => Err(Trouble::refused("a cluster has many")),
        }
    }

    async fn ask_sentinels(&self, sentinels: &[Server], master: &str) -> Result<Server, Trouble> {
        let mut order: Vec<&Server> = sentinels.iter().collect();
        // Not always the same first: it may be the one that is cut off and does not know.
        order.shuffle(&mut rand::rng());
        let mut last = Trouble::refused("no sentinel is named");
        for sentinel in order {
            match self.ask_sentinel(sentinel, master).await {
                Ok(server) => return Ok(server),
                Err(trouble) => {
                    last = trouble.of(&format_args!("sentinel {sentinel}"));
                }
            }
        }
        Err(last)
    }

    async fn ask_sentinel(&self, sentinel: &Server, master: &str) -> Result<Server, Trouble> {
        let login = &self.address.sentinel_login;
        let client = self.client(sentinel, login, ProtocolVersion::RESP2)?;
        let mut connection = open(&client, config()).await?;
        let known: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(master)
            .query_async(&mut connection)
            .await?;
        let (host, port) =
            known.ok_or_else(|| Trouble::refused(format!("it does not know {master}")))?;
        Ok(Server { host, port })
    }

    fn client(
        &self,
        server: &Server,
        login: &Login,
        protocol: ProtocolVersion,
    ) -> Result<Client, Trouble> {
        let (host, port) = (server.host.clone(), server.port);
        let address = if self.address.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut settings = RedisConnectionInfo::default().set_protocol(protocol);
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = login.password() {
            settings = settings.set_password(password);
        }
        let info = address.into_connection_info()?.set_redis_settings(settings);
        Ok(match (&self.ca, self.address.tls) {
            (Some(ca), true) => {
                let trusted = TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                Client::build_with_tls(info, trusted)?
            }
            _ => Client::open(info)?,
        })
    }
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN))
}

async fn open(
    client: &Client,
    config: AsyncConnectionConfig,
) -> Result<MultiplexedConnection, Trouble> {
    // Its limit covers name, connection, encryption and login.
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| {
        if error.is_io_error() {
            let why = format!("cannot be reached: {error}");
            return Trouble { why, ..error.into() };
        }
        error.into()
    })
}

/// Fails for a server that says it is too old. Without this it would fail at the first command that it does
/// not know, in its own words, or never.
async fn must_be_new_enough(connection: &mut MultiplexedConnection) -> Result<(), Trouble> {
    // What the handshake has answered already, and the one command for it that any user of ours may give.
    let told = match redis::cmd("HELLO").query_async::<Value>(connection).await {
        Ok(told) => told,
        Err(error) if error.is_io_error() || error.is_unrecoverable_error() => {
            return Err(error.into());
        }
        // A proxy in between; what the server cannot do will be seen.
        Err(_) => return Ok(()),
    };
    match version(&told) {
        Some((version, major)) if major < VERSION_MIN => {
            Err(Trouble::refused(format!("the server is Redis {version}: {VERSION_NEEDED}")))
        }
        _ => Ok(()),
    }
}

/// What a server says of its version, and the first number of it.
pub(super) fn version(told: &Value) -> Option<(String, u64)> {
    let text = |value: &Value| match value {
        Value::BulkString(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let Value::Map(fields) = told else { return None };
    let (_, version) = fields.iter().find(|(name, _)| text(name).as_deref() == Some("version"))?;
    let version = text(version)?;
    let major = version.split('.').next()?.parse().ok()?;
    Some((version, major))
}

/// Fails for a server that follows another: what is published on it, the others do not hear.
pub(super) async fn must_be_primary(connection: &mut MultiplexedConnection) -> Result<(), Trouble> {
    match redis::cmd("ROLE").query_async::<Value>(connection).await {
        Ok(Value::Array(answer)) => match answer.first() {
            Some(Value::BulkString(role)) if role != b"master" => Err(Trouble::refused(
                "the server is a replica: what is published there is not heard",
            )),
            _ => Ok(()),
        },
        Ok(_) => Ok(()),
        Err(error) if error.is_io_error() || error.is_unrecoverable_error() => Err(error.into()),
        // A user that may not ask; whether others are heard is seen by their heartbeats.
        Err(_) => Ok(()),
    }
}

/// Whether a command that was refused may be taken later or elsewhere.
pub(super) const fn passes(kind: Option<ServerErrorKind>) -> bool {
    use ServerErrorKind as K;
    matches!(
        kind,
        Some(K::Moved | K::Ask | K::TryAgain | K::ClusterDown | K::MasterDown | K::BusyLoading)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_tell_them() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let told = |version: Value| {
            let server = (text("server"), text("redis"));
            Value::Map(vec![server, (Value::SimpleString("version".to_owned()), version)])
        };
        assert_eq!(version(&told(text("6.2.14"))), Some(("6.2.14".to_owned(), 6)));
        assert_eq!(version(&told(text("255.255.255"))).map(|(_, major)| major), Some(255));
        for odd in [told(text("new")), told(Value::Int(7)), Value::Map(vec![]), Value::Nil] {
            assert_eq!(version(&odd), None, "{odd:?}");
        }
    }
}
