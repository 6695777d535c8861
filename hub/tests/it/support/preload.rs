//! Libraries that stand between a server and the system: syncs that fail, a clock that is wrong.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

/// Compiles a library into a folder of its own.
fn library(source: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("library.c");
    fs::write(&file, source).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("library.so")).arg(&file);
    let built = cc.arg("-ldl").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder
}

/// The variable by which a server takes it in.
fn preloaded(folder: &TempDir) -> (&'static str, String) {
    ("LD_PRELOAD", folder.path().join("library.so").display().to_string())
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
        Self { folder: library(SOURCE) }
    }

    /// The environment of a server that shall feel it.
    pub(crate) fn env(&self) -> [(&'static str, String); 2] {
        [preloaded(&self.folder), ("SYNC_FAULT_SWITCH", self.switch().display().to_string())]
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

/// A library that, preloaded, makes every sync take a while as long as a switch file exists.
pub(crate) struct SlowSync {
    folder: TempDir,
    delay: Duration,
}

impl SlowSync {
    pub(crate) fn build(delay: Duration) -> Self {
        const SOURCE: &str = r#"
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <errno.h>
            #include <stdlib.h>
            #include <time.h>
            #include <unistd.h>
            static void wait_a_while(void) {
                const char *path = getenv("SLOW_SYNC_SWITCH"), *text = getenv("SLOW_SYNC_MS");
                int saved = errno;
                if (path && text && access(path, F_OK) == 0) {
                    long ms = atol(text);
                    struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };
                    nanosleep(&pause, 0);
                }
                errno = saved;
            }
            #define SLOW(name)                                                \
                int name(int fd) {                                            \
                    static int (*real)(int);                                  \
                    wait_a_while();                                           \
                    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);     \
                    return real(fd);                                          \
                }
            SLOW(fsync)
            SLOW(fdatasync)
        "#;
        Self { folder: library(SOURCE), delay }
    }

    /// The environment of a server that shall feel it.
    pub(crate) fn env(&self) -> [(&'static str, String); 3] {
        let switch = ("SLOW_SYNC_SWITCH", self.switch().display().to_string());
        [preloaded(&self.folder), switch, ("SLOW_SYNC_MS", self.delay.as_millis().to_string())]
    }

    fn switch(&self) -> PathBuf {
        self.folder.path().join("on")
    }

    /// Begins or stops to be slow.
    pub(crate) fn set(&self, slow: bool) {
        if slow {
            fs::write(self.switch(), "").unwrap();
        } else {
            fs::remove_file(self.switch()).unwrap();
        }
    }
}

/// A library that, preloaded, has the wall clock show another time. Clocks that only measure go right.
pub(crate) struct WrongClock {
    folder: TempDir,
}

impl WrongClock {
    pub(crate) fn build() -> Self {
        const SOURCE: &str = r#"
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <stdlib.h>
            #include <sys/time.h>
            #include <time.h>
            static time_t shift(void) {
                const char *seconds = getenv("WRONG_CLOCK_SECONDS");
                return seconds ? atol(seconds) : 0;
            }
            int clock_gettime(clockid_t clock, struct timespec *now) {
                static int (*real)(clockid_t, struct timespec *);
                if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
                int failed = real(clock, now);
                int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
                if (!failed && wall) now->tv_sec += shift();
                return failed;
            }
            int gettimeofday(struct timeval *restrict now, void *restrict zone) {
                static int (*real)(struct timeval *, void *);
                if (!real) *(void **)&real = dlsym(RTLD_NEXT, "gettimeofday");
                int failed = real(now, zone);
                if (!failed) now->tv_sec += shift();
                return failed;
            }
            time_t time(time_t *out) {
                struct timespec now;
                if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
                if (out) *out = now.tv_sec;
                return now.tv_sec;
            }
        "#;
        Self { folder: library(SOURCE) }
    }

    /// The environment of a server whose clock is so many seconds ahead, or behind.
    pub(crate) fn env(&self, ahead: i64) -> [(&'static str, String); 2] {
        [preloaded(&self.folder), ("WRONG_CLOCK_SECONDS", ahead.to_string())]
    }
}
