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

use protocol::{TenantId, UserId};
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
        tenants_dir(root).join(component(key.tenant.as_str()))
    };
    path.push(component(key.user.as_str()));
    path
}

/// The folder of the tenants other than `default`.
pub(super) fn tenants_dir(root: &Path) -> PathBuf {
    root.join(".tenants")
}

/// Whose a folder is, as [`inbox_dir`] names them; none where a hash stands for a name.
pub(super) fn key_of(dir: &Path) -> Option<InboxKey> {
    let name = |path: &Path| id_of(path.file_name()?.to_str()?);
    let user = name(dir)?;
    let above = dir.parent()?;
    let tenant = if above.parent()?.file_name()? == ".tenants" {
        TenantId::new(name(above)?).ok()?
    } else {
        TenantId::default()
    };
    Some(InboxKey::new(tenant, UserId::new(user).ok()?))
}

/// The node's own folder.
#[must_use]
pub fn hub_dir(root: &Path) -> PathBuf {
    root.join(".hub")
}

/// Where folders of users who are forgotten stand while they are removed.
pub(super) fn forgotten_dir(root: &Path) -> PathBuf {
    hub_dir(root).join("forgotten")
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

/// The id that became a path component; none for one that no id becomes, or that is a hash.
fn id_of(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().filter(|id| component(id) == name)
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

    #[test]
    fn a_folder_tells_whose_it_is_unless_a_hash_does_not() {
        let root = Path::new("/root/x");
        let key = |tenant: &str, user: &str| {
            InboxKey::new(TenantId::new(tenant).unwrap(), UserId::new(user).unwrap())
        };
        for (tenant, user) in [("default", "ann"), ("t2", "../张三"), (".hub", "%"), ("a", "a@b")]
        {
            let key = key(tenant, user);
            assert_eq!(key_of(&inbox_dir(root, &key)), Some(key));
        }
        let long = "张".repeat(42);
        assert_eq!(key_of(&inbox_dir(root, &key("default", &long))), None);
        assert_eq!(key_of(&inbox_dir(root, &key(&long, "ann"))), None);
        for name in [".hub", "%zz", "%C3", "%61", "", ".tenants"] {
            assert_eq!(id_of(name).filter(|id| !id.is_empty()), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn components_are_one_to_one_and_stay_inside(a in "\\PC{1,40}", b in "\\PC{1,40}") {
            let (x, y) = (component(&a), component(&b));
            prop_assert_eq!(a == b, x == y);
            prop_assert!(!x.contains('/') && !x.starts_with('.') && x.len() <= 255 && !x.is_empty());
            let path = Path::new("/root").join(&x);
            prop_assert_eq!(path.components().count(), 3);
            prop_assert_eq!(id_of(&x), (!x.starts_with("%%")).then_some(a));
        }
    }
}
