//! Where calls may go, by who said so (SSRF, OWASP API7).
//!
//! Judged is the address that is connected to, after the name was resolved and right before the
//! connection is made to that very address, so that no second answer of a name server comes between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::networks::Networks;

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 that is not public, of the IANA special-purpose registry (RFC 6890).
const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),       // this network, the unspecified address
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // carrier-grade NAT
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local, metadata of clouds
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // IETF protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 31, 196, 0, 24), // AS112
    v4(192, 52, 193, 0, 24), // AMT relays
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(198, 18, 0, 0, 15),   // benchmarks
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 3),     // multicast, reserved, broadcast
];

/// The only IPv6 that is handed out for the public. Loopback, unique local, link-local, multicast,
/// IPv4-compatible and translated addresses lie outside.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// IPv6 inside [`GLOBAL_V6`] that is not public.
const NOT_PUBLIC_V6: [Ipv6Net; 5] = [
    v6(0x2001, 0, 0, 23), // IETF protocol assignments, Teredo, ORCHID, benchmarks
    v6(0x2001, 0xdb8, 0, 32), // documentation
    v6(0x2002, 0, 0, 16), // 6to4: an IPv4 address in disguise, and its relays are gone
    v6(0x2620, 0x4f, 0x8000, 48), // AS112
    v6(0x3fff, 0, 0, 20), // documentation
];

/// NAT64 (RFC 6052): the IPv4 address in the last 32 bits is where it goes. Networks without IPv4
/// get these from DNS64 for every IPv4 host, so they are judged by what is inside.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// Whether an address is somebody's on the public internet.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) if NAT64.contains(&address) => is_public_v4(low_32(address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address))
}

fn low_32(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

/// Which addresses a URL may lead to, by where the URL comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// A user of the API said it: public addresses by TLS, and the networks of
    /// `WEBHOOK_ALLOWED_NETWORKS`, also without.
    Named(Networks),
    /// It stands in the settings: every address. Without TLS only those that are not public: what
    /// comes back decides who is believed, and on the way from a public one anybody may change it.
    Configured,
    /// It stands in a document that was fetched: public addresses, by TLS.
    Found,
}

impl Allowed {
    /// Whether a connection may be made.
    pub(crate) fn permits(&self, address: IpAddr, tls: bool) -> bool {
        match self {
            Self::Named(networks) => networks.contains(address) || (tls && is_public(address)),
            Self::Configured => tls || !is_public(address),
            Self::Found => tls && is_public(address),
        }
    }

    /// Whether anything can be reached without TLS.
    pub(super) fn permits_plain(&self) -> bool {
        match self {
            Self::Named(networks) => !networks.is_empty(),
            Self::Configured => true,
            Self::Found => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(allowed: &str, address: &str) -> bool {
        Allowed::Named(allowed.parse().unwrap()).permits(address.parse().unwrap(), true)
    }

    #[test]
    fn public_addresses_are_permitted() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.112.255",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
            "2003::1",
            "2000::1",
            // What an IPv6-only network makes of 8.8.8.8, and IPv4 as sockets of IPv6 show it.
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
        ] {
            assert!(permits("", address), "{address}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.168.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "100::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
            // IPv4 in the clothes of IPv6: mapped, compatible, NAT64, local NAT64, 6to4, Teredo,
            // ISATAP.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1::10.0.0.1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2002:808:808::",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "fe80::5efe:127.0.0.1",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(!permits("", address), "{address}");
        }
    }

    #[test]
    fn named_networks_are_permitted_and_nothing_beside() {
        let named = "127.0.0.0/8,fd00::/8,10.1.0.0/16";
        for address in ["127.0.0.1", "127.9.9.9", "fd00::1", "10.1.255.1", "::ffff:127.0.0.1"] {
            assert!(permits(named, address), "{address}");
        }
        for address in ["::1", "10.2.0.1", "169.254.169.254", "0.0.0.0", "64:ff9b::127.0.0.1"] {
            assert!(!permits(named, address), "{address}");
        }
    }

    #[test]
    fn without_tls_only_named_networks_are_permitted() {
        let allowed = Allowed::Named("10.0.0.0/8".parse().unwrap());
        assert!(allowed.permits("10.0.0.1".parse().unwrap(), false));
        assert!(!allowed.permits("8.8.8.8".parse().unwrap(), false));
        assert!(allowed.permits_plain());
        assert!(!Allowed::Named(Networks::default()).permits_plain());
    }

    #[test]
    fn settings_may_name_what_is_inside_and_documents_may_not() {
        for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"] {
            let address = address.parse().unwrap();
            assert!(Allowed::Configured.permits(address, true));
            assert!(Allowed::Configured.permits(address, false));
            assert!(!Allowed::Found.permits(address, true));
        }
        for address in ["8.8.8.8", "2a00::1"] {
            let address = address.parse().unwrap();
            assert!(Allowed::Configured.permits(address, true));
            assert!(!Allowed::Configured.permits(address, false), "anybody on the way may lie");
            assert!(Allowed::Found.permits(address, true));
            assert!(!Allowed::Found.permits(address, false));
        }
    }
}
