//! What the system lets a process have, against what the settings allow clients to take.

use std::{fs, path::Path};

use delivery::webhook::CONNECTIONS_MAX;

use super::{
    folder::size,
    report::{Finding, ok, warn},
};
use crate::{
    config::{Config, descriptors_needed, store_open_files},
    descriptors,
};

/// What a listener asks for of connections that wait to be accepted, as the runtime does.
const BACKLOG: u64 = 1_024;

/// Memory of a connection, in bytes: 3.3 to 7.2 KiB were measured of idle ones (loadtest/RESULTS.md), and the
/// kernel's part of it is about as much.
const BYTES_PER_CONNECTION: u64 = 16 << 10;

/// Memory of a user whose files are open, in bytes, as measured.
const BYTES_PER_OPEN_USER: u64 = 180 << 10;

/// Memory of a process that nobody uses, in bytes, as measured.
const BYTES_OF_PROCESS: u64 = 64 << 20;

/// Memory of a connection's buffers in the kernel, in bytes, while a little is under way.
const TCP_BYTES_PER_CONNECTION: u64 = 8 << 10;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let limit = descriptors::hard_limit();
    let needed = descriptors_needed(config, limit);
    let mut findings = Vec::new();
    // Where it is too little, the settings' own warning says so.
    if needed <= limit {
        findings.push(ok(
            "limits.descriptors",
            format!("{needed} may be needed, this process may have {limit}"),
        ));
    }
    let sockets =
        if config.process.role.holds_sockets() { config.socket.connections_max } else { 0 };
    let connections = (sockets + config.http.connections_max) as u64;
    findings.extend(backlog());
    findings.extend(tcp_memory(connections));
    findings.extend(port_range(config));
    findings.extend(memory(config, connections, limit));
    findings
}

/// A number of the kernel's; nothing where there is none, or another system.
fn numbers(path: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}

fn backlog() -> Option<Finding> {
    let most = *numbers("/proc/sys/net/core/somaxconn")?.first()?;
    let found = format!("net.core.somaxconn is {most}, {BACKLOG} are asked for");
    Some(if most < BACKLOG {
        warn(
            "limits.backlog",
            format!("{found}: more that come at once are turned away"),
            format!("sysctl -w net.core.somaxconn={}", 4 * BACKLOG),
        )
    } else {
        ok("limits.backlog", found)
    })
}

fn tcp_memory(connections: u64) -> Option<Finding> {
    let page = rustix::param::page_size() as u64;
    let pressure = numbers("/proc/sys/net/ipv4/tcp_mem")?.get(1)?.saturating_mul(page);
    let needed = connections * TCP_BYTES_PER_CONNECTION;
    let found = format!(
        "the kernel saves on buffers from {} on (net.ipv4.tcp_mem), {connections} connections may take {}",
        size(pressure),
        size(needed)
    );
    Some(if pressure < needed {
        let pages = needed / page;
        let advice = format!("sysctl -w net.ipv4.tcp_mem='{} {pages} {}'", pages / 2, pages * 2);
        warn("limits.tcp", found, advice)
    } else {
        ok("limits.tcp", found)
    })
}

fn port_range(config: &Config) -> Option<Finding> {
    let range = numbers("/proc/sys/net/ipv4/ip_local_port_range")?;
    let (&[from, to], process) = (<&[u64; 2]>::try_from(&*range).ok()?, &config.process);
    let count = (to + 1).saturating_sub(from);
    let own = [process.user_address.port(), process.admin_address.port()];
    let taken = own.into_iter().map(u64::from).find(|port| *port > 0 && (from..=to).contains(port));
    let found = format!("ports {from} to {to} are for outgoing connections");
    Some(if let Some(port) = taken {
        warn(
            "limits.ports",
            format!("{found}, {port} is among them: another program may have it at a start"),
            format!(
                "take a port below {from}, or sysctl -w net.ipv4.ip_local_reserved_ports={port}"
            ),
        )
    } else if count < 2 * CONNECTIONS_MAX as u64 {
        warn(
            "limits.ports",
            format!("{found}, webhooks alone may need {CONNECTIONS_MAX}"),
            "sysctl -w net.ipv4.ip_local_port_range='16384 60999'",
        )
    } else {
        ok("limits.ports", found)
    })
}

fn memory(config: &Config, connections: u64, descriptors: usize) -> Option<Finding> {
    let machine = machine_memory()?;
    let (limit, whose) = match cgroup_memory().filter(|limit| *limit < machine) {
        Some(limit) => (limit, "this control group"),
        None => (machine, "this machine"),
    };
    let single = config.cluster.database.is_none();
    let users = if single { store_open_files(config, descriptors) as u64 } else { 0 };
    let needed =
        BYTES_OF_PROCESS + connections * BYTES_PER_CONNECTION + users * BYTES_PER_OPEN_USER;
    let found = format!(
        "{whose} has {}; {connections} idle connections and {users} open users may take {}",
        size(limit),
        size(needed)
    );
    Some(if needed > limit {
        warn(
            "limits.memory",
            found,
            "give it more, or lower WS_MAX_CONNECTIONS or STORE_OPEN_FILES",
        )
    } else {
        ok("limits.memory", found)
    })
}

fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The least that any group above this process has.
fn cgroup_memory() -> Option<u64> {
    let root = Path::new("/sys/fs/cgroup");
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let mut limits = Vec::new();
    if let Some(own) = own {
        limits.extend(root.join(own).ancestors().map(|group| group.join("memory.max")));
    }
    // Version 1, where a container sees its own group at the top.
    limits.push(root.join("memory/memory.limit_in_bytes"));
    let read = |path: std::path::PathBuf| fs::read_to_string(path).ok()?.trim().parse().ok();
    limits.into_iter().filter(|path| path.starts_with(root)).filter_map(read).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Status;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(&pairs.collect(), None).unwrap().config
    }

    #[test]
    fn more_connections_than_memory_are_told() {
        let many = config(&[("WS_MAX_CONNECTIONS", "10000000")]);
        let finding = memory(&many, 10_000_000, 1_000).unwrap();
        assert!(finding.status == Status::Warn || machine_memory().unwrap() > 160 << 30);
        let few = config(&[]);
        assert_eq!(memory(&few, 0, 0).unwrap().status, Status::Ok);
        assert_eq!(tcp_memory(u64::MAX >> 20).unwrap().status, Status::Warn);
    }

    #[test]
    fn a_port_of_outgoing_connections_is_told() {
        let range = numbers("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let port = range[0].to_string();
        let finding = port_range(&config(&[("USER_SERVER_PORT", &port)])).unwrap();
        assert_eq!(finding.status, Status::Warn, "{finding:?}");
        assert!(finding.found.contains(&port));
    }
}
