//! Where things lie on disk (contract §7).
//!
//! ```text
//! {root}/{user}/messages.db  read_status.db  .sync/devices.json
//! {root}/.tenants/{tenant}/{user}/…           other tenants than `default`
//! {root}/.hub/                                the node's own: lock, journal segments, shared.db
//! ```
//! A user or tenant id becomes one path component that cannot leave its folder, hide, or meet
//! another id's: plain ids stand as they are, every other byte is escaped as `%XX`, and what would
//! get longer than a file name may be is replaced by its SHA-256 behind `%%`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use protocol::TenantId;
use sha2::{Digest, Sha256};

use crate::InboxKey;

/// Longest component before the hash takes over, in bytes: file names have at most 255 on every
/// file system we know, and SQLite appends `-journal` to a database's name, not to its folder's.
const COMPONENT_BYTES_MAX: usize = 250;

/// The folder of one inbox.
#[must_use]
pub fn inbox_dir(root: &Path, key: &InboxKey) -> PathBuf {
    let mut path = if key.tenant == TenantId::default() {
        root.to_path_buf()
    } else {
        root.join(".tenants").join(component(key.tenant.as_str()))
    };
    path.push(component(key.user.as_str()));
    path
}

/// The node's own folder.
#[must_use]
pub fn hub_dir(root: &Path) -> PathBuf {
    root.join(".hub")
}

/// An id as one path component.
fn component(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for (index, &byte) in id.as_bytes().iter().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-')
            || (index > 0 && matches!(byte, b'.' | b'@'));
        if plain {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    if out.len() > COMPONENT_BYTES_MAX {
        out.clear();
        out.push_str("%%");
        for byte in Sha256::digest(id.as_bytes()) {
            write!(out, "{byte:02x}").expect("writing to a String does not fail");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_ids_stand_as_they_are() {
        for id in ["user123", "john.doe@example.com", "A-b_c", "-x", "_"] {
            assert_eq!(component(id), id);
        }
    }

    #[test]
    fn path_like_ids_are_escaped() {
        assert_eq!(component(".."), "%2E.");
        assert_eq!(component("."), "%2E");
        assert_eq!(component("../x"), "%2E.%2Fx");
        assert_eq!(component(".hub"), "%2Ehub");
        assert_eq!(component("a/b"), "a%2Fb");
        assert_eq!(component("%2E"), "%252E");
        assert_eq!(component("张三"), "%E5%BC%A0%E4%B8%89");
        assert_eq!(component(&"张".repeat(42)).len(), 66);
    }

    proptest! {
        #[test]
        fn components_are_one_to_one_and_stay_inside(a in "\\PC{1,40}", b in "\\PC{1,40}") {
            let (x, y) = (component(&a), component(&b));
            prop_assert_eq!(a == b, x == y);
            prop_assert!(!x.contains('/') && !x.starts_with('.') && x.len() <= 255 && !x.is_empty());
            let path = Path::new("/root").join(&x);
            prop_assert_eq!(path.components().count(), 3);
        }
    }
}
