//! What `serve` prints on stdout: where it is, and lines to paste that send the first message.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use delivery::{
    control::{Control, Level, NewService, ON_BEHALF_OF},
    identity::{Identity, MintRequest},
};
use protocol::UserId;

use crate::{config::Role, telemetry::VERSION};

/// Life of the token that is printed at start.
const TOKEN_TTL: Duration = Duration::from_secs(2 * 3_600);

/// The user of the seed's example (003 §4.6.1).
const EXAMPLE_USER: &str = "user123";

/// The backend that is there from the first start on, so that the first curl works.
const QUICK_START_SERVICE: &str = "quickstart";

/// The seed's example of a send (003 §4.6.1).
const EXAMPLE_SEND: &str = r#"{
  "template_id": "file_share",
  "recipients": ["user123"],
  "on_behalf_of": "user456",
  "variables": {
    "sender_name": "张三",
    "file_name": "项目计划.pdf",
    "file_size": "2.5MB",
    "share_time": "2025-01-15 14:30:00",
    "file_url": "https://drive.company.com/files/abc123"
  }
}"#;

/// Where a listener is reached from this machine: `0.0.0.0` is no address to connect to.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Secrets that are printed once; not `Debug`, so that no log line can hold them.
pub(super) struct Credentials {
    token: String,
    /// The quick-start service's key, if that was made now.
    key: Option<String>,
}

impl Credentials {
    /// Makes a user's token, and a service where there is none yet.
    pub(super) fn make(control: &Control, identity: &Identity) -> anyhow::Result<Self> {
        let key = if control.list()?.is_empty() {
            let service = NewService {
                id: Some(QUICK_START_SERVICE.to_owned()),
                level: Some(Level::System),
                permissions: vec![ON_BEHALF_OF.to_owned()],
                ..NewService::named("Quick start")
            };
            Some(control.create_service(service)?.1.expose().to_owned())
        } else {
            None
        };
        let user = UserId::new(EXAMPLE_USER).expect("the example's user is a valid id");
        let request = MintRequest { ttl: Some(TOKEN_TTL), ..MintRequest::new(user) };
        Ok(Self { token: identity.mint(&request), key })
    }

    /// Whether this is the first start on the folder.
    pub(super) fn are_first(&self) -> bool {
        self.key.is_some()
    }
}

/// A server that has started.
pub(super) struct Started<'a> {
    /// How this program was called, so that the lines can be pasted as they are.
    pub(super) program: &'a str,
    pub(super) role: Role,
    /// None where the role has no users.
    pub(super) user: Option<SocketAddr>,
    pub(super) admin: SocketAddr,
    pub(super) storage: String,
    /// The way to other nodes, if there are any.
    pub(super) bus: Option<String>,
}

impl Started<'_> {
    /// The lines.
    pub(super) fn lines(&self, credentials: Option<&Credentials>) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            writeln!(out, "{text}").expect("a String takes every text");
        };
        let Self { program, role, .. } = *self;
        let (user, admin) = (self.user.map(reachable), reachable(self.admin));
        line(format_args!("pushhub {VERSION}"));
        if role != Role::All {
            line(format_args!("  role     {}", role.label()));
        }
        if let Some(user) = user {
            if role.delivers() {
                line(format_args!("  REST     http://{user}/api/v3"));
            }
            if role.holds_sockets() {
                line(format_args!("  sockets  ws://{user}/ws"));
            }
        }
        let of_admin = if role.administers() { "API, health, metrics" } else { "health, metrics" };
        line(format_args!("  admin    http://{admin} ({of_admin})"));
        line(format_args!("  storage  {}", self.storage));
        if let Some(bus) = &self.bus {
            line(format_args!("  bus      {bus}"));
        }
        if let (Some(credentials), Some(user)) = (credentials, user) {
            line(format_args!("{}", first_message(program, user, credentials)));
        }
        let user = user.map(|user| format!(" user={user}")).unwrap_or_default();
        line(format_args!("pushhub ready{user} admin={admin}"));
        out
    }
}

/// Lines to paste that send a first message and show it.
fn first_message(program: &str, user: SocketAddr, credentials: &Credentials) -> String {
    let Credentials { token, key } = credentials;
    let key = match key {
        Some(key) => format!("KEY={key}"),
        None => format!(
            "KEY=...  (shown at the first start; a new one: {program} service rotate {QUICK_START_SERVICE}, or {program} service create --name NAME --level system --permission {ON_BEHALF_OF})"
        ),
    };
    [
        "",
        "A user's device, in a second terminal (the token lives 2 h):",
        &format!("TOKEN={token}"),
        &format!("{program} tail --user {EXAMPLE_USER} --url ws://{user}"),
        &format!("  or: websocat \"ws://{user}/ws?token=$TOKEN\""),
        "",
        "A backend that sends to it, in a third one:",
        &key,
        &format!("curl -sS http://{user}/api/v3/messages/send -H \"Authorization: Service $KEY\" -H 'Content-Type: application/json' -d '{EXAMPLE_SEND}'"),
        "",
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(user: SocketAddr, admin: SocketAddr) -> Started<'static> {
        Started {
            program: "./pushhub",
            role: Role::All,
            user: Some(user),
            admin,
            storage: "./data".to_owned(),
            bus: None,
        }
    }

    #[test]
    fn a_part_says_what_it_serves() {
        let address = "127.0.0.1:8081".parse().unwrap();
        let admin = Started {
            role: Role::Admin,
            user: None,
            bus: Some("redis://cache:6379".to_owned()),
            ..started(address, address)
        };
        let lines = admin.lines(None);
        assert!(lines.contains("  role     admin\n") && lines.contains("cache:6379"), "{lines}");
        assert!(!lines.contains("REST") && !lines.contains("sockets"), "{lines}");
        assert!(lines.ends_with("pushhub ready admin=127.0.0.1:8081\n"), "{lines}");
    }

    #[test]
    fn the_ready_line_has_real_and_reachable_addresses() {
        let user = "0.0.0.0:4321".parse().unwrap();
        let admin = "127.0.0.1:4322".parse().unwrap();
        let lines = started(user, admin).lines(None);
        assert_eq!(
            lines.lines().last(),
            Some("pushhub ready user=127.0.0.1:4321 admin=127.0.0.1:4322")
        );
        assert!(!lines.contains("TOKEN"));
        let v6 = reachable("[::]:1".parse().unwrap());
        assert_eq!(v6.to_string(), "[::1]:1");
    }

    #[test]
    fn the_lines_to_paste_are_complete() {
        let credentials = Credentials { token: "t0ken".into(), key: Some("phk_a_b".into()) };
        let address = "127.0.0.1:8080".parse().unwrap();
        let lines = started(address, address).lines(Some(&credentials));
        assert!(lines.contains("\nTOKEN=t0ken\n") && lines.contains("\nKEY=phk_a_b\n"), "{lines}");
        assert!(lines.contains("./pushhub tail --user user123 --url ws://127.0.0.1:8080\n"));
        let body = lines.split_once("-d '").unwrap().1.split_once('\'').unwrap().0;
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["template_id"], "file_share");
    }
}
