//! Lists of networks, as settings give them.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most networks of a list: it is walked for each request, or for each connection that is made.
pub const NETWORKS_MAX: usize = 64;

/// IP addresses and networks. In JSON a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
#[schemars(with = "Vec<String>")]
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
        let networks =
            items.map(|item| network(item).ok_or(NoNetworks)).collect::<Result<Vec<_>, _>>()?;
        if networks.len() > NETWORKS_MAX { Err(NoNetworks) } else { Ok(Self(networks)) }
    }
}

/// An address or a network.
fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address.to_canonical())),
        Err(_) => text.parse().ok(),
    }
}

/// The list as it would be written: an address is none with a prefix.
impl From<Networks> for Vec<String> {
    fn from(networks: Networks) -> Self {
        let shown = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        networks.0.iter().map(shown).collect()
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = NoNetworks;
    fn try_from(list: Vec<String>) -> Result<Self, NoNetworks> {
        Self::of(&list).map_err(|_| NoNetworks)
    }
}

impl Networks {
    /// Of a list of texts.
    ///
    /// # Errors
    /// The places of those that are no network; none where there are more than [`NETWORKS_MAX`].
    pub fn of(list: &[String]) -> Result<Self, Vec<usize>> {
        if list.len() > NETWORKS_MAX {
            return Err(Vec::new());
        }
        let networks: Vec<_> = list.iter().map(|text| network(text)).collect();
        let bad: Vec<_> = (0..list.len()).filter(|at| networks[*at].is_none()).collect();
        if bad.is_empty() { Ok(Self(networks.into_iter().flatten().collect())) } else { Err(bad) }
    }

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
    fn a_list_of_texts_tells_which_are_none() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let good = Networks::of(&list(&["10.0.0.0/8", "::1", "192.168.1.1"])).unwrap();
        assert_eq!(Vec::from(good.clone()), ["10.0.0.0/8", "::1", "192.168.1.1"]);
        let json = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<Networks>(&json).unwrap(), good);
        assert_eq!(Networks::of(&list(&["10.0.0.0/33", "::1", "*"])), Err(vec![0, 2]));
        assert_eq!(Networks::of(&vec!["::1".to_owned(); NETWORKS_MAX + 1]), Err(vec![]));
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
