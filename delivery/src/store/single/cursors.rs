//! `.sync/devices.json`: how far each device of a user has acknowledged.
//!
//! Replaced as a whole by a rename, without a sync: a cursor that is a second old costs a device
//! some repeated messages after a crash, and clients that resume with `since` do not use it at all.
//! A torn file would cost more (the device would start at the head), hence the rename.

use std::{fs, io, path::Path};

use protocol::{DeviceId, Seq, Time};
use serde::{Deserialize, Serialize};

use super::{
    inbox::{Cursor, Cursors},
    private,
};

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
