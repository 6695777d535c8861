//! Folders and files that only their owner may look into, whatever the umask says.
//!
//! SQLite gives a `-wal` and a `-shm` the mode of their database.

use std::{fs, io, path::Path};

/// Makes a folder and what is missing above it.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Makes a folder that may be older than this rule, or made under another: its mode is set anew.
///
/// # Errors
/// What the file system says.
pub fn own_dir(path: &Path) -> io::Result<()> {
    create_dir(path)?;
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

/// Puts a file into its folder, which is made if it is missing: whole or not at all, as far as the
/// running system goes. What was there before is replaced.
pub(super) fn place(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let written = match write(&temporary, bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_dir(dir)?;
            write(&temporary, bytes)
        }
        written => written,
    };
    if let Err(error) = written {
        // A full disk needs what the first half took.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fs::rename(temporary, dir.join(name))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(path)?, bytes)
}
