//! What buckets go by.

use std::net::IpAddr;

use protocol::ServiceId;
use siphasher::sip::SipHasher13;

use super::Scope;
use crate::InboxKey;

/// A caller within a scope, as a keyed hash. It stands in memory and travels between nodes in place of
/// the address or id, from which nobody without the key gets back to them, and is of one small size.
/// Whoever does not know the key cannot look for two that meet; by chance two of 200,000 do once in
/// 10^9 times, and would share a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) u64);

/// What the nodes of a cluster make keys of buckets with; without it they would not find each other's.
/// A secret: with it, addresses could be looked for among keys.
#[derive(Clone)]
pub struct BudgetSecret(pub [u8; 16]);

/// Makes keys.
pub(super) struct Keys(SipHasher13);

impl Keys {
    pub(super) fn new(secret: &BudgetSecret) -> Self {
        Self(SipHasher13::new_with_key(&secret.0))
    }

    /// That nobody shares.
    pub(super) fn own() -> Self {
        Self::new(&BudgetSecret(rand::random()))
    }

    pub(super) fn address(&self, scope: Scope, address: IpAddr) -> Key {
        match address {
            IpAddr::V4(address) => self.key(scope, &[&address.octets()]),
            IpAddr::V6(address) => self.key(scope, &[&address.octets()]),
        }
    }

    pub(super) fn user(&self, inbox: &InboxKey) -> Key {
        let (tenant, user) = (inbox.tenant.as_str(), inbox.user.as_str());
        self.key(Scope::User, &[tenant.as_bytes(), user.as_bytes()])
    }

    pub(super) fn service(&self, id: &ServiceId) -> Key {
        self.key(Scope::Service, &[id.as_str().as_bytes()])
    }

    /// All nodes of a cluster must agree on it, of whatever version.
    fn key(&self, scope: Scope, parts: &[&[u8]]) -> Key {
        use std::hash::Hasher;
        let mut hasher = self.0;
        hasher.write(&[scope.number()]);
        for part in parts {
            hasher.write(part);
            // Is in no UTF-8, so that `a` + `bc` is not `ab` + `c`.
            hasher.write(&[0xff]);
        }
        Key(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of different versions must agree: another key is a limit that is not shared in a rollout.
    #[test]
    fn keys_stay_as_they_are_and_do_not_run_into_each_other() {
        let keys = Keys::new(&BudgetSecret(*b"0123456789abcdef"));
        let inbox = |tenant: &str, user: &str| {
            keys.user(&InboxKey::new(tenant.parse().unwrap(), user.parse().unwrap())).0
        };
        let address = |scope, text: &str| keys.address(scope, text.parse().unwrap()).0;
        let all = [
            inbox("default", "ann"),
            inbox("defaulta", "nn"),
            keys.service(&"ann".parse().unwrap()).0,
            address(Scope::Ip, "203.0.113.9"),
            address(Scope::Connect, "203.0.113.9"),
            address(Scope::Ip, "2001:db8::"),
        ];
        // As another implementation of SipHash-1-3 makes them, too.
        let expected = [
            0xa59a_11cb_73ab_4600,
            0xc041_b1c3_0fb9_cc00,
            0x2631_ef4f_112b_4271,
            0x9bd8_2e29_130b_828c,
            0xc95d_e722_ca27_bc50,
            0x4920_fa23_e6fe_21d3,
        ];
        assert_eq!(all, expected, "{all:#x?}");
        let other =
            Keys::own().user(&InboxKey::new("default".parse().unwrap(), "ann".parse().unwrap()));
        assert_ne!(other.0, all[0]);
    }
}
