//! Lists of networks, as settings give them.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// Most networks of a list: it is walked for each request, or for each connection that is made.
pub const NETWORKS_MAX: usize = 64;

/// IP addresses and networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// The text is no list of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be up to {NETWORKS_MAX} addresses or networks such as 10.0.0.0/8 or ::1, separated by commas"
)]
pub struct NoNetworks;

impl FromStr for Networks {
    type Err = NoNetworks;
    fn from_str(text: &str) -> Result<Self, NoNetworks> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let networks = items
            .map(|item| match item.parse::<IpAddr>() {
                Ok(address) => Ok(IpNet::from(address.to_canonical())),
                Err(_) => item.parse().map_err(|_| NoNetworks),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if networks.len() > NETWORKS_MAX { Err(NoNetworks) } else { Ok(Self(networks)) }
    }
}

impl Networks {
    /// Whether one of them has this address; an IPv4 address in IPv6 clothes counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_networks_are_checked() {
        assert_eq!("".parse(), Ok(Networks::default()));
        assert!("10.0.0.0/8, 192.168.1.1,::1, fd00::/8".parse::<Networks>().is_ok());
        let many = vec!["10.0.0.1"; NETWORKS_MAX + 1].join(",");
        for bad in ["10.0.0.0/33", "proxy", "*", "10.0.0.0/8;::1", many.as_str()] {
            assert_eq!(bad.parse::<Networks>(), Err(NoNetworks), "{bad}");
        }
    }

    #[test]
    fn an_address_is_in_its_network_whatever_it_wears() {
        let networks: Networks = "10.0.0.0/8,::ffff:192.168.1.1,fd00::/8".parse().unwrap();
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "192.168.1.1", "fd00::1"] {
            assert!(networks.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "::10.1.2.3", "192.168.1.2", "fe80::1"] {
            assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
        }
    }
}
