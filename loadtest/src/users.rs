//! The users of a run: numbered, with names of one length, so that any run of neighbours is a slice
//! of one prepared text. Naming 1,000 recipients costs a copy.

/// Users and their devices.
pub(crate) struct Users {
    /// How many.
    pub(crate) count: u32,
    /// Sockets of each.
    pub(crate) devices: u32,
    prefix: String,
    ring: Vec<u8>,
    item: usize,
}

impl Users {
    pub(crate) fn new(prefix: &str, count: u32, devices: u32) -> Self {
        let mut ring = Vec::new();
        for user in 0..count {
            ring.extend_from_slice(format!("\"{prefix}-{user:06}\",").as_bytes());
        }
        let item = ring.len() / (count.max(1) as usize);
        Self { count, devices, prefix: prefix.to_owned(), ring, item }
    }

    /// A user's id.
    pub(crate) fn name(&self, user: u32) -> String {
        format!("{}-{user:06}", self.prefix)
    }

    /// Sockets in all.
    pub(crate) fn sockets(&self) -> u32 {
        self.count * self.devices
    }

    /// `"a","b"`: the users from `first` on, round the ring.
    pub(crate) fn list(&self, first: u32, count: u32, out: &mut Vec<u8>) {
        let (first, count) = (first as usize, (count as usize).min(self.count as usize));
        let end = first + count;
        let all = self.count as usize;
        out.extend_from_slice(&self.ring[first * self.item..end.min(all) * self.item]);
        if end > all {
            out.extend_from_slice(&self.ring[..(end - all) * self.item]);
        }
        out.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_go_round_the_ring() {
        let users = Users::new("u", 3, 1);
        let mut out = Vec::new();
        users.list(2, 2, &mut out);
        assert_eq!(out, br#""u-000002","u-000000""#);
    }
}
