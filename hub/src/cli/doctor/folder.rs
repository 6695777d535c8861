//! The storage folder and the disk below it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use delivery::store::single::{OpenError, check_at_rest, check_not_moved};

use super::report::{Finding, causes, fail, ok, warn};
use crate::config::{Config, show_duration};

/// Small writes that are each synced, to see what a commit costs.
const SYNCS: usize = 20;

/// Bytes of each: a page, which is what a small commit writes.
const SYNC_BYTES: usize = 4_096;

/// No more syncs after this long: a disk that needs it is slow, and that is all there is to say.
const SYNCS_WITHIN: Duration = Duration::from_secs(3);

/// A slower one makes every send wait: disks with a cache that survives power loss need less than a
/// millisecond, turning ones about ten.
const SYNC_SLOW: Duration = Duration::from_millis(20);

/// Files that are counted at most, to see what the folder uses.
const COUNTED_MAX: u64 = 200_000;

/// No counting beyond this.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);

/// Below this much free a journal segment does not fit any more.
const FREE_MIN: u64 = 64 << 20;

/// Below this much it will not last long.
const FREE_LITTLE: u64 = 1 << 30;

/// Below this many free inodes it will not last long: each user has up to six files.
const INODES_LITTLE: u64 = 10_000;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    // Nodes of a cluster keep nothing on a disk.
    if config.cluster.database.is_some() {
        return Vec::new();
    }
    let path = &config.store.path;
    let mut findings = Vec::new();
    let (place, is_there) = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            findings.extend(folder(path, &meta));
            (path.clone(), true)
        }
        Ok(_) => {
            let found = format!("{} is a file", path.display());
            return vec![fail("folder", found, "let USER_STORAGE_PATH name a folder")];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = existing_above(path);
            let found = format!(
                "{} is not there yet: it is made at the first start, in {}",
                path.display(),
                above.display()
            );
            findings.push(ok("folder", found));
            (above, false)
        }
        Err(error) => {
            let found = format!("{} cannot be looked at: {error}", path.display());
            return vec![fail("folder", found, "let the user of the server into it")];
        }
    };
    findings.push(write(&place));
    findings.push(kind(&place));
    findings.extend(room(&place, is_there));
    if !config.store.journal_sync {
        findings.push(warn(
            "folder.sync",
            "STORE_JOURNAL_SYNC=off: what was acknowledged is lost when the power is",
            "unset it, unless nothing here matters",
        ));
    }
    findings
}

/// The nearest folder above that is there.
fn existing_above(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute
        .ancestors()
        .find(|above| above.is_dir())
        .map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// Whose it is, who may look into it, and whether a node has it.
fn folder(path: &Path, meta: &fs::Metadata) -> Vec<Finding> {
    let shown = path.display();
    let user = rustix::process::geteuid();
    let mut findings = vec![match meta.uid() {
        owner if owner == user.as_raw() => {
            ok("folder.owner", format!("{shown}: user {owner}, as this process"))
        }
        owner if user.is_root() => warn(
            "folder.owner",
            format!("{shown} is user {owner}'s, and this is root, who may do everything"),
            "run the doctor as the server's user: what root makes there the server cannot change",
        ),
        owner => fail(
            "folder.owner",
            format!("{shown} is user {owner}'s, this process is user {}", user.as_raw()),
            format!("run as that user, or chown -R {} {shown}", user.as_raw()),
        ),
    }];
    let mode = meta.permissions().mode() & 0o777;
    findings.push(if mode & 0o077 == 0 {
        ok("folder.mode", format!("{mode:04o}"))
    } else {
        warn(
            "folder.mode",
            format!("{mode:04o}: other users of this machine may look into it"),
            format!("chmod 700 {shown}"),
        )
    });
    findings.push(match check_not_moved(path).and_then(|()| check_at_rest(path)) {
        Ok(()) => ok("folder.use", "a node has served it, none does now"),
        Err(OpenError::NotOurs(_)) => ok("folder.use", "no node has served it yet"),
        Err(OpenError::InUse(_)) => ok("folder.use", "a node serves it now"),
        Err(error @ OpenError::Moved { .. }) => {
            fail("folder.use", causes(&error), "set DATABASE_URL, where its data is now")
        }
        Err(error) => fail("folder.use", causes(&error), "let the user of the server into it"),
    });
    findings
}

/// A real write: made, synced, renamed, removed; and what a sync takes.
fn write(place: &Path) -> Finding {
    let name = place.join(format!(".doctor.{}", uuid::Uuid::now_v7().simple()));
    let renamed = name.with_extension("renamed");
    let tried = try_write(place, &name, &renamed);
    // Whichever name it has by now.
    let _ = fs::remove_file(&name);
    let _ = fs::remove_file(&renamed);
    match tried {
        Err(error) => {
            let found = format!("{} cannot be written: {error}", place.display());
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => "let the user of the server write there",
                io::ErrorKind::ReadOnlyFilesystem => "mount it for writing",
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room",
                _ => "see what the kernel's log says of the disk",
            };
            fail("folder.write", found, advice)
        }
        Ok(mut taken) => {
            taken.sort_unstable();
            let (median, worst) = (taken[taken.len() / 2], taken[taken.len() - 1]);
            let found = format!(
                "written, synced and renamed; a sync of {SYNC_BYTES} bytes takes {:.2} ms, {:.2} ms at worst of {}",
                median.as_secs_f64() * 1e3,
                worst.as_secs_f64() * 1e3,
                taken.len()
            );
            if median <= SYNC_SLOW {
                return ok("folder.write", found);
            }
            let found = format!("{found}: every send waits for one");
            let limit = show_duration(SYNC_SLOW);
            warn("folder.write", found, format!("take a disk that syncs in less than {limit}"))
        }
    }
}

fn try_write(place: &Path, name: &Path, renamed: &Path) -> io::Result<Vec<Duration>> {
    let mut file = File::options().write(true).create_new(true).open(name)?;
    let (page, started) = (vec![0; SYNC_BYTES], Instant::now());
    let mut taken = Vec::with_capacity(SYNCS);
    while taken.len() < SYNCS && (taken.is_empty() || started.elapsed() < SYNCS_WITHIN) {
        let before = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        taken.push(before.elapsed());
    }
    fs::rename(name, renamed)?;
    File::open(place)?.sync_all()?;
    fs::remove_file(renamed)?;
    Ok(taken)
}

/// What kind of file system it is.
fn kind(place: &Path) -> Finding {
    const CHECK: &str = "folder.filesystem";
    let found = match rustix::fs::statfs(place) {
        Ok(found) => found,
        Err(error) => {
            return warn(CHECK, format!("it does not say what it is: {error}"), "see mount");
        }
    };
    // Numbers of 32 bits, which some machines keep with a sign.
    let number = found.f_type as u64 & 0xffff_ffff;
    let network = |name: &str| {
        warn(
            CHECK,
            format!("{name}, over a network: SQLite's locks and shared memory are not sure there"),
            "take a local disk, or nodes on PostgreSQL (DATABASE_URL)",
        )
    };
    let passing = |name: &str, why: &str| {
        warn(
            CHECK,
            format!("{name}: {why}"),
            "let USER_STORAGE_PATH name a folder on a disk or volume",
        )
    };
    match number {
        0x6969 => network("NFS"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => network("SMB"),
        0x00c3_6400 => network("Ceph"),
        0x0102_1997 => network("9P"),
        0x0bd0_0bd0 => network("Lustre"),
        0x6573_5546 => network("FUSE, which may be"),
        0x794c_7630 => passing("overlay", "a container's own layer, which goes with it"),
        0x0102_1994 => passing("tmpfs", "memory, which is empty after a restart"),
        0x8584_58f6 => passing("ramfs", "memory, which is empty after a restart"),
        0xef53 => ok(CHECK, "ext4"),
        0x5846_5342 => ok(CHECK, "XFS"),
        0x9123_683e => ok(CHECK, "btrfs"),
        0x2fc1_2fc1 => ok(CHECK, "ZFS"),
        other => ok(CHECK, format!("number {other:#x}, of which nothing is known here")),
    }
}

/// Free bytes and inodes against what is used.
fn room(place: &Path, is_ours: bool) -> Vec<Finding> {
    let disk = match rustix::fs::statvfs(place) {
        Ok(disk) => disk,
        Err(error) => {
            return vec![warn("folder.room", format!("it does not say: {error}"), "see df")];
        }
    };
    let used = if is_ours { Used::of(place) } else { Used::default() };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let mut found = format!("{} free", size(free));
    if is_ours {
        let least = if used.is_all { "" } else { "at least " };
        let (bytes, files) = (size(used.bytes), used.files);
        found += &format!(", {least}{bytes} used by {least}{files} files");
    }
    let mut findings = vec![if free < FREE_MIN {
        fail("folder.room", found, "make room: sends will be refused")
    } else if free < FREE_LITTLE || free < used.bytes / 5 {
        warn("folder.room", found, "make room, or let less be kept (RETENTION_MAX_AGE)")
    } else {
        ok("folder.room", found)
    }];
    // Some file systems make them as they are needed, and say 0.
    if disk.f_files > 0 {
        let found = format!("{} inodes free", disk.f_favail);
        findings.push(if disk.f_favail < INODES_LITTLE.max(used.files / 5) {
            let advice =
                "a user has up to six files: take a file system with more inodes (mkfs -N)";
            warn("folder.inodes", found, advice)
        } else {
            ok("folder.inodes", found)
        });
    }
    findings
}

/// What a folder uses, as far as it was counted.
#[derive(Default)]
struct Used {
    bytes: u64,
    files: u64,
    is_all: bool,
}

impl Used {
    fn of(root: &Path) -> Self {
        let (started, mut used) = (Instant::now(), Self { is_all: true, ..Self::default() });
        let mut pending = vec![root.to_owned()];
        while let Some(folder) = pending.pop() {
            // What goes meanwhile, or may not be looked into, counts nothing.
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    pending.push(entry.path());
                } else {
                    used.files += 1;
                    used.bytes += meta.blocks() * 512;
                }
                if used.files >= COUNTED_MAX || started.elapsed() > COUNTED_WITHIN {
                    return Self { is_all: false, ..used };
                }
            }
        }
        used
    }
}

pub(super) fn size(bytes: u64) -> String {
    let (value, unit) = match bytes {
        0..0x400 => return format!("{bytes} bytes"),
        0x400..0x10_0000 => (bytes as f64 / 1024.0, "KiB"),
        0x10_0000..0x4000_0000 => (bytes as f64 / f64::from(1 << 20), "MiB"),
        _ => (bytes as f64 / f64::from(1 << 30), "GiB"),
    };
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Status;

    #[test]
    fn a_folder_is_written_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let finding = write(folder.path());
        assert_eq!(finding.status, Status::Ok, "{finding:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(write(&folder.path().join("missing")).status, Status::Fail);
        assert_eq!(existing_above(&folder.path().join("a/b")), folder.path());
    }

    #[test]
    fn others_that_may_look_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |mode| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let findings = super::folder(folder.path(), &fs::metadata(folder.path()).unwrap());
            findings.iter().find(|finding| finding.check == "folder.mode").unwrap().status
        };
        assert_eq!(mode(0o755), Status::Warn);
        assert_eq!(mode(0o700), Status::Ok);
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(size(512), "512 bytes");
        assert_eq!(size(3 << 20), "3.0 MiB");
        assert_eq!(size(5 << 40), "5120.0 GiB");
    }
}
