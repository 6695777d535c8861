//! A child process that ends with this one.

use std::{
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

/// A child, and another one that kills it when this process has ended. `PR_SET_PDEATHSIG` would kill it
/// with the thread that started it.
pub(crate) struct Kept {
    child: Child,
    keeper: Child,
}

impl Kept {
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let child = command.spawn()?;
        let keeper = Command::new("/bin/sh")
            // Its input is closed by the system when this process ends.
            .args(["-c", "cat >/dev/null; kill -KILL \"$1\"", "sh", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { child, keeper })
    }

    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// `kill -9`. May be called again.
    pub(crate) fn kill(&mut self) {
        // First: the child's id may be another's as soon as it was waited for.
        self.keeper.kill().ok();
        self.keeper.wait().ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.kill();
    }
}
