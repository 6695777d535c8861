//! Whose request it is, where proxies stand between.
//!
//! What a header says counts only as far as it was written by somebody trusted: each proxy appends
//! the address it was asked from, so that the list is true from its right end on, and only up to the
//! first address that is no trusted proxy. What stands left of it was written by the client.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use crate::networks::Networks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The part of an IPv6 address that is one customer's: each host may take any address of its /64.
const IPV6_PREFIX: u128 = !0 << 64;

/// Proxies whose `X-Forwarded-For` and `Forwarded` are believed.
pub(super) struct TrustedProxies(pub(super) Networks);

/// Who asks, as far as addresses tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address nearest to the client that can be believed.
    pub address: IpAddr,
    /// Whether somebody on this very machine asks for himself. Such a client can do worse than ask
    /// often, and is most likely a load test or a probe.
    pub is_local: bool,
}

impl Client {
    /// What its bucket goes by: the address, of IPv6 only the first 64 bits.
    pub(super) fn key(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => self.address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_PREFIX).into(),
        }
    }
}

impl TrustedProxies {
    fn trust(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// The client of a request that came from `peer`. Where both headers are there and disagree,
    /// the client wrote one of them, and neither is believed.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        let direct = Client { address: peer, is_local: peer.is_loopback() };
        if !self.trust(peer) {
            return direct;
        }
        let list = headers.contains_key(X_FORWARDED_FOR).then(|| {
            let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
            self.walk(peer, lines.flat_map(listed))
        });
        let pairs = headers.contains_key(header::FORWARDED).then(|| {
            let lines = headers.get_all(header::FORWARDED).iter().rev();
            self.walk(peer, lines.flat_map(forwarded))
        });
        let address = match (list, pairs) {
            (None, None) => return direct,
            (Some(address), None) | (None, Some(address)) => address,
            (Some(one), Some(other)) if one == other => one,
            (Some(_), Some(_)) => peer,
        };
        Client { address, is_local: false }
    }

    /// Goes from the nearest hop outwards, up to the first that is no trusted proxy or no address.
    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut at = peer;
        for hop in hops {
            let Some(hop) = hop else { break };
            at = hop;
            if !self.trust(hop) {
                break;
            }
        }
        at
    }
}

/// The hops of a line of `X-Forwarded-For`, nearest first.
fn listed(line: &HeaderValue) -> impl Iterator<Item = Option<IpAddr>> {
    let hops = line.as_bytes().rsplit(|byte| *byte == b',');
    hops.map(|hop| address(std::str::from_utf8(hop).ok()?.trim()))
}

/// The hops of a line of `Forwarded` (RFC 7239), nearest first. A quote that does not end makes the
/// last one unreadable, so that a client cannot hide in it what a proxy appended.
fn forwarded(line: &HeaderValue) -> impl Iterator<Item = Option<IpAddr>> {
    let mut hops: SmallVec<[Option<IpAddr>; 4]> = SmallVec::new();
    if let Ok(line) = line.to_str() {
        let mut quoted = false;
        let elements = line.split(|c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        hops.extend(elements.map(element));
        if quoted && let Some(last) = hops.last_mut() {
            *last = None;
        }
    } else {
        hops.push(None);
    }
    hops.into_iter().rev()
}

/// The one `for=` of `for="[2001:db8::1]:47011";proto=https`.
fn element(text: &str) -> Option<IpAddr> {
    let mut found = text.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let node = found.next()?;
    if found.next().is_some() {
        return None;
    }
    address(node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node))
}

/// An address with or without a port, an IPv6 one with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn client(trusted: &str, peer: &str, pairs: &[(&'static str, &str)]) -> Client {
        TrustedProxies(trusted.parse().unwrap()).client(ip(peer), &headers(pairs))
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn a_header_of_a_stranger_says_nothing() {
        for trusted in ["", "10.0.0.0/8"] {
            for name in [XFF, "forwarded"] {
                let found = client(trusted, "203.0.113.9", &[(name, "198.51.100.1")]);
                assert_eq!(found, Client { address: ip("203.0.113.9"), is_local: false });
            }
        }
    }

    #[test]
    fn the_walk_goes_from_the_right_to_the_first_stranger() {
        for (line, expected) in [
            ("198.51.100.7", "198.51.100.7"),
            ("1.1.1.1, 198.51.100.7", "198.51.100.7"),
            ("1.1.1.1, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("198.51.100.7:4711", "198.51.100.7"),
            ("[2001:db8::1]:4711, 10.2.2.2", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("198.51.100.7, unknown, 10.2.2.2", "10.2.2.2"),
            ("198.51.100.7, ", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            let found = client("10.0.0.0/8", "10.0.0.1", &[(XFF, line)]);
            assert_eq!(found, Client { address: ip(expected), is_local: false }, "{line:?}");
        }
        let lines = [(XFF, "6.6.6.6"), (XFF, "198.51.100.7"), (XFF, "10.3.3.3")];
        assert_eq!(client("10.0.0.0/8", "10.0.0.1", &lines).address, ip("198.51.100.7"));
    }

    #[test]
    fn forwarded_is_read_too() {
        for (line, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("for=1.1.1.1, For=\"198.51.100.7:80\";proto=https;by=10.0.0.1", "198.51.100.7"),
            ("proto=http;for=\"[2001:db8::1]:80\", for=10.2.2.2", "2001:db8::1"),
            ("for=198.51.100.7, for=unknown", "10.0.0.1"),
            ("for=198.51.100.7, for=_hidden, for=10.2.2.2", "10.2.2.2"),
            ("for=198.51.100.7;for=6.6.6.6", "10.0.0.1"),
            ("for=\"6.6.6.6, for=198.51.100.7", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            let found = client("10.0.0.0/8", "10.0.0.1", &[("forwarded", line)]);
            assert_eq!(found.address, ip(expected), "{line:?}");
        }
    }

    #[test]
    fn headers_that_disagree_are_not_believed() {
        let both =
            |list, pairs| client("10.0.0.1", "10.0.0.1", &[(XFF, list), ("forwarded", pairs)]);
        assert_eq!(both("198.51.100.7", "for=198.51.100.7").address, ip("198.51.100.7"));
        let found = both("198.51.100.7", "for=6.6.6.6");
        assert_eq!(found, Client { address: ip("10.0.0.1"), is_local: false });
    }

    #[test]
    fn local_is_who_asks_for_himself_on_this_machine() {
        assert!(client("", "127.0.0.1", &[]).is_local);
        assert!(client("", "::1", &[(XFF, "6.6.6.6")]).is_local);
        assert!(client("127.0.0.1", "127.0.0.1", &[]).is_local);
        assert!(client("", "::ffff:127.0.0.1", &[]).is_local);
        // A client behind a local proxy must not become local by what it writes.
        assert!(!client("127.0.0.1", "127.0.0.1", &[(XFF, "127.0.0.1")]).is_local);
        assert!(!client("127.0.0.1", "127.0.0.1", &[(XFF, "nonsense")]).is_local);
        assert!(!client("10.0.0.0/8", "10.0.0.1", &[(XFF, "127.0.0.1")]).is_local);
    }

    #[test]
    fn ipv6_neighbours_share_a_key() {
        let key = |text| Client { address: ip(text), is_local: false }.key();
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("198.51.100.7"), key("198.51.100.8"));
    }

    fn any_hop() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|bytes| IpAddr::from(bytes).to_string()),
            (0..4_u8).prop_map(|n| format!("10.0.0.{n}")),
            any::<[u8; 16]>().prop_map(|bytes| format!("[{}]:80", IpAddr::from(bytes))),
            "[ -~]{0,12}",
        ]
    }

    proptest! {
        /// Whatever a client puts before it, what the trusted proxies appended decides.
        #[test]
        fn what_a_client_writes_changes_nothing(
            spoofed in proptest::collection::vec(any_hop(), 0..6),
            real in any::<[u8; 4]>(),
            inner in proptest::collection::vec(0..4_u8, 0..3),
            own_line: bool,
        ) {
            let trusted = TrustedProxies("10.0.0.0/30".parse().unwrap());
            let real = IpAddr::from(real);
            prop_assume!(!trusted.trust(real));
            let mut hops = vec![real.to_string()];
            hops.extend(inner.iter().map(|n| format!("10.0.0.{n}")));
            let (spoofed, appended) = (spoofed.join(", "), hops.join(", "));
            let one = format!("{spoofed}, {appended}");
            let found = if own_line {
                trusted.client(ip("10.0.0.1"), &headers(&[(XFF, &spoofed), (XFF, &appended)]))
            } else {
                trusted.client(ip("10.0.0.1"), &headers(&[(XFF, &one)]))
            };
            prop_assert_eq!(found, Client { address: real, is_local: false });
        }

        /// Nothing that fits into a header makes it panic, or makes a stranger somebody else.
        #[test]
        fn any_bytes_are_survived(line in proptest::collection::vec(32..=255_u8, 0..64)) {
            let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
            let trusted = TrustedProxies("10.0.0.1".parse().unwrap());
            let mut headers = HeaderMap::new();
            headers.insert(XFF, value.clone());
            headers.insert("forwarded", value);
            let _ = trusted.client(ip("10.0.0.1"), &headers);
            prop_assert_eq!(trusted.client(ip("6.6.6.6"), &headers).address, ip("6.6.6.6"));
        }
    }
}
