//! The ports, and the node that may have them.

use std::{io, net::SocketAddr, time::Duration};

use serde::Deserialize;

use super::report::{Finding, fail, ok, warn};
use crate::{
    cli::{http_client, start_lines::reachable},
    config::{Config, ProcessConfig},
};

/// Longest wait for an answer of a node: its own look at the store takes two seconds at most.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// What `/health` says.
#[derive(Deserialize)]
struct Health {
    status: String,
    role: String,
    checks: serde_json::Value,
}

pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let ProcessConfig { role, user_address, admin_address, .. } = config.process;
    let mut findings = Vec::new();
    if role.has_users() {
        let name = "USER_SERVER_PORT";
        findings.push(match look(user_address) {
            Port::Held => {
                if answers_as_node(user_address).await {
                    ok("ports.user", format!("{user_address}: a node has it and answers"))
                } else {
                    held("ports.user", user_address, name)
                }
            }
            other => other.finding("ports.user", user_address, name),
        });
    }
    let name = "ADMIN_SERVER_PORT";
    match look(admin_address) {
        Port::Held => match health(admin_address).await {
            Some(health) => {
                findings
                    .push(ok("ports.admin", format!("{admin_address}: a node has it and answers")));
                findings.push(node(&health));
            }
            None => findings.push(held("ports.admin", admin_address, name)),
        },
        other => findings.push(other.finding("ports.admin", admin_address, name)),
    }
    findings
}

enum Port {
    Free,
    Held,
    Unusable(io::Error),
}

fn look(address: SocketAddr) -> Port {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Port::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Port::Held,
        Err(error) => Port::Unusable(error),
    }
}

impl Port {
    fn finding(self, check: &'static str, address: SocketAddr, name: &str) -> Finding {
        match self {
            Self::Free if address.port() == 0 => {
                ok(check, format!("{}: any that is free", address.ip()))
            }
            Self::Free => ok(check, format!("{address} is free")),
            Self::Held => held(check, address, name),
            Self::Unusable(error) => {
                let advice = match error.kind() {
                    io::ErrorKind::PermissionDenied => format!(
                        "let {name} be 1024 or more, or give the service CAP_NET_BIND_SERVICE"
                    ),
                    io::ErrorKind::AddrNotAvailable => {
                        "let BIND_ADDRESS be an address of this machine, or 0.0.0.0".to_owned()
                    }
                    _ => format!("see BIND_ADDRESS and {name}"),
                };
                fail(check, format!("cannot listen on {address}: {error}"), advice)
            }
        }
    }
}

fn held(check: &'static str, address: SocketAddr, name: &str) -> Finding {
    let found = format!("{address} is another program's, which does not answer as pushhub");
    fail(check, found, format!("end it (ss -ltnp 'sport = :{}'), or change {name}", address.port()))
}

async fn health(address: SocketAddr) -> Option<Health> {
    let (_, body) = http_client::get(reachable(address), "/health", ANSWER_WITHIN).await.ok()?;
    serde_json::from_slice(&body).ok()
}

/// Nodes of all roles refuse what they do not know in the same words; no path is everybody's there.
async fn answers_as_node(address: SocketAddr) -> bool {
    let answer = http_client::get(reachable(address), "/api/v3/doctor", ANSWER_WITHIN).await;
    let Ok((_, body)) = answer else { return false };
    serde_json::from_slice::<serde_json::Value>(&body)
        .is_ok_and(|refusal| refusal["error"]["request_id"].is_string())
}

/// A running node's own judgement.
fn node(Health { status, role, checks }: &Health) -> Finding {
    const CHECK: &str = "node";
    let found = format!("the running node (role {role}) is {status}: {checks}");
    match &**status {
        "ready" => ok(CHECK, found),
        "degraded" => warn(CHECK, found, "its log and pushhub_bus_* say why"),
        _ => fail(CHECK, found, "its log says why"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Status;

    #[tokio::test]
    async fn a_port_of_somebody_else_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(matches!(look(address), Port::Held));
        assert!(matches!(look("127.0.0.1:0".parse().unwrap()), Port::Free));
        let elsewhere: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        let finding = look(elsewhere).finding("ports.user", elsewhere, "USER_SERVER_PORT");
        assert_eq!(finding.status, Status::Fail);
        assert!(finding.advice.unwrap().contains("BIND_ADDRESS"));
    }
}
