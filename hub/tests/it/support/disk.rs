//! Disks that fill up, lose their unsynced half, or fail to sync.
//!
//! The first two need root; a test that cannot prove its promise fails, it does not skip.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `make test` installs it"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {} (mounting needs root)",
        String::from_utf8_lossy(&output.stderr).trim()
    );
}

macro_rules! run {
    ($program:literal $(, $argument:expr)*) => {
        run($program, &[$(AsRef::<std::ffi::OsStr>::as_ref($argument)),*])
    };
}

/// A mounted folder; unmounted when dropped.
pub(crate) struct Mount {
    path: PathBuf,
}

impl Mount {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A tmpfs of this size.
    pub(crate) fn tmpfs(path: &Path, bytes: u64) -> Self {
        fs::create_dir_all(path).unwrap();
        run!("mount", "-t", "tmpfs", "-o", &format!("size={bytes}"), "pushhub-test", path);
        Self { path: path.to_owned() }
    }

    /// An ext4 image, by a loop device. Its journal is replayed, as after a power cut.
    pub(crate) fn image(image: &Path, path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        run!("mount", "-o", "loop", image, path);
        Self { path: path.to_owned() }
    }

    /// Bytes that a user may still write.
    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.path).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a server that is being killed may hold files for a moment more.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// A disk whose power can be cut: an ext4 image in memory, seen through a loop device. What sits in
/// the page cache only is not in the image, and a copy of the image is what a reboot would find.
pub(crate) struct CrashDisk {
    folder: TempDir,
    mount: Option<Mount>,
}

impl CrashDisk {
    const BYTES: u64 = 96 << 20;

    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let image = folder.path().join("image");
        fs::File::create(&image).unwrap().set_len(Self::BYTES).unwrap();
        run!("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image);
        let mut disk = Self { folder, mount: None };
        disk.mount = Some(Mount::image(&image, &disk.folder.path().join("mount")));
        disk
    }

    pub(crate) fn path(&self) -> &Path {
        self.mount.as_ref().expect("mounted").path()
    }

    /// The disk as it would be if the power went away now. Whoever writes must stand still.
    pub(crate) fn cut(&self) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let image = folder.path().join("image");
        run!("cp", "--sparse=always", &self.folder.path().join("image"), &image);
        let mut disk = Self { folder, mount: None };
        disk.mount = Some(Mount::image(&image, &disk.folder.path().join("mount")));
        disk
    }
}

impl Drop for CrashDisk {
    fn drop(&mut self) {
        self.mount = None;
    }
}
