//! `.sync/devices.json`: how far each device of a user has acknowledged.
//!
//! Replaced as a whole by a rename, without a sync: a cursor that is a second old costs a device
//! some repeated messages after a crash, and clients that resume with `since` do not use it at all.
//! A torn file would cost more (the device would start at the head), hence the rename.

use std::{fs, io, path::Path};

use protocol::{DeviceId, Seq, Time};
use serde::{Deserialize, Serialize};

use super::private;

/// Devices whose cursors an inbox keeps; the one that acked longest ago makes room.
pub(super) const DEVICES_MAX: usize = 64;

/// Device cursors, kept in `.sync/devices.json`.
#[derive(Default)]
pub(super) struct Cursors {
    pub(super) devices: Vec<(DeviceId, Cursor)>,
    pub(super) dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) seq: Seq,
    pub(super) acked_at: Time,
}

impl Cursors {
    pub(super) fn get(&self, device: &DeviceId) -> Option<Seq> {
        self.devices.iter().find(|(id, _)| id == device).map(|(_, cursor)| cursor.seq)
    }

    /// Moves forward; whether anything changed.
    pub(super) fn advance(&mut self, device: &DeviceId, seq: Seq, now: Time) -> bool {
        if let Some((_, cursor)) = self.devices.iter_mut().find(|(id, _)| id == device) {
            if cursor.seq >= seq {
                return false;
            }
            *cursor = Cursor { seq, acked_at: now };
        } else {
            if self.devices.len() >= DEVICES_MAX {
                let oldest = (0..self.devices.len())
                    .min_by_key(|&index| self.devices[index].1.acked_at)
                    .expect("the list is full, so not empty");
                self.devices.swap_remove(oldest);
            }
            self.devices.push((device.clone(), Cursor { seq, acked_at: now }));
        }
        self.dirty = true;
        true
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    devices: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    device_id: DeviceId,
    cursor: Seq,
    acked_at: Time,
}

/// Reads the cursors; none where there is no file.
pub(super) fn read(inbox_dir: &Path) -> io::Result<Cursors> {
    let bytes = match fs::read(inbox_dir.join(".sync/devices.json")) {
        Ok(bytes) => bytes,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                return Ok(Cursors::default());
            }
            _ => return Err(error),
        },
    };
    let file: File = serde_json::from_slice(&bytes)?;
    let devices = file
        .devices
        .into_iter()
        .map(|line| (line.device_id, Cursor { seq: line.cursor, acked_at: line.acked_at }))
        .collect();
    Ok(Cursors { devices, dirty: false })
}

/// Writes the cursors.
pub(super) fn write(inbox_dir: &Path, devices: &[(DeviceId, Cursor)]) -> io::Result<()> {
    let lines = devices
        .iter()
        .map(|(device_id, cursor)| Line {
            device_id: device_id.clone(),
            cursor: cursor.seq,
            acked_at: cursor.acked_at,
        })
        .collect();
    let bytes = serde_json::to_vec(&File { devices: lines })?;
    private::place(&inbox_dir.join(".sync"), "devices.json", &bytes)
}
