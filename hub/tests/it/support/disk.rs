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

/// A library that, preloaded, fails every sync while a switch file exists.
pub(crate) struct SyncFault {
    folder: TempDir,
}

impl SyncFault {
    pub(crate) fn build() -> Self {
        const SOURCE: &str = r#"
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <errno.h>
            #include <stdlib.h>
            #include <unistd.h>
            static int failing(void) {
                const char *path = getenv("SYNC_FAULT_SWITCH");
                int saved = errno, on = path && access(path, F_OK) == 0;
                errno = saved;
                return on;
            }
            #define FAULT(name, parameters, arguments)                        \
                int name parameters {                                         \
                    static int (*real) parameters;                            \
                    if (failing()) { errno = EIO; return -1; }                \
                    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);     \
                    return real arguments;                                    \
                }
            FAULT(fsync, (int fd), (fd))
            FAULT(fdatasync, (int fd), (fd))
            FAULT(sync_file_range, (int fd, long a, long b, unsigned c), (fd, a, b, c))
        "#;
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("fault.c");
        fs::write(&source, SOURCE).unwrap();
        let library = folder.path().join("fault.so");
        run!("cc", "-shared", "-fPIC", "-O1", "-o", &library, &source, "-ldl");
        Self { folder }
    }

    /// The environment of a server that shall feel it.
    pub(crate) fn env(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.folder.path().join("fault.so").display().to_string()),
            ("SYNC_FAULT_SWITCH", self.switch().display().to_string()),
        ]
    }

    fn switch(&self) -> PathBuf {
        self.folder.path().join("on")
    }

    /// Begins or stops to fail.
    pub(crate) fn set(&self, failing: bool) {
        if failing {
            fs::write(self.switch(), "").unwrap();
        } else {
            fs::remove_file(self.switch()).unwrap();
        }
    }
}
