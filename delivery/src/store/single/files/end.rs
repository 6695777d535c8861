//! The end of an inbox whose user is forgotten.

use std::{fs, io, path::Path, sync::Arc};

use super::{
    super::{
        inbox::Inbox,
        layout, own_dir,
        record::Lsn,
        user_files::{FileError, UserFiles},
    },
    Files,
};
use crate::store::StoreError;

impl Files {
    /// Removes the files of an inbox that has ended. Called before anything else is done with them.
    pub(in super::super) fn end(&mut self, inbox: &Arc<Inbox>) -> Result<(), StoreError> {
        loop {
            let lsn = inbox.state.lock().ending;
            if lsn == 0 {
                return Ok(());
            }
            self.close(inbox);
            self.remove(inbox, lsn).map_err(|error| self.failed(inbox, error))?;
            let mut state = inbox.state.lock();
            // The user may have been forgotten again meanwhile.
            if state.ending == lsn {
                state.ending = 0;
            }
        }
    }

    /// Removes the folder that stands in an inbox's place, unless it was made after the record by which
    /// its user was forgotten: a replayed journal brings that record again.
    fn remove(&self, inbox: &Inbox, lsn: Lsn) -> Result<(), FileError> {
        let dir = layout::inbox_dir(&self.context.root, &inbox.key);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| FileError::Io { path: path.clone(), source }
        };
        // A search that has its turn right now would put an index where the folder was.
        let _turn = self.context.searches.at_rest(inbox);
        let templates = &self.context.templates;
        let found = match UserFiles::open(&dir, &inbox.key, templates, false) {
            // It can be read all the same.
            Err(error) if !error.is_damage() => UserFiles::draft(&dir, templates).map(Some),
            found => found,
        };
        match found.and_then(|files| files.map(|files| files.load(&inbox.key)).transpose()) {
            Ok(Some((_, applied))) if applied > lsn => return Ok(()),
            Ok(Some((loaded, _))) => self.context.ledger.forget_places(&inbox.key, loaded.head),
            Ok(None) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
        // Away in one step: nobody meets half of it, and its new name says nothing of the user.
        let away = layout::forgotten_dir(&self.context.root);
        own_dir(&away).map_err(at(&away))?;
        let away = away.join(lsn.to_string());
        remove_all(&away).map_err(at(&away))?;
        match fs::rename(&dir, &away) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&dir)(error)),
            _ => {}
        }
        remove_all(&away).map_err(at(&away))
    }
}

/// Removes a file or a folder with all that is in it; what is not there is removed.
pub(in super::super) fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
