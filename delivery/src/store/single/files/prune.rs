//! Forgetting what an inbox need not keep.

use std::sync::Arc;

use super::{
    super::{inbox::Inbox, record::Lsn, user_files::UserFiles},
    Files,
};
use crate::{
    clock,
    store::{Retention, StoreError},
};

impl Files {
    /// Puts what was sent to many, up to a record, into the inbox's file.
    pub(in super::super) fn take_over(
        &mut self,
        inbox: &Arc<Inbox>,
        up_to: Lsn,
    ) -> Result<(), StoreError> {
        self.load(inbox)?;
        let behind = inbox.state.lock().tail.front().is_some_and(|earliest| earliest.lsn <= up_to);
        if behind { self.flush(inbox, true) } else { Ok(()) }
    }

    /// Drops messages that are too many or too old, as many as one transaction takes. Answers how
    /// many went. No mark of the inbox may be under way.
    pub(in super::super) fn prune(
        &mut self,
        inbox: &Arc<Inbox>,
        retention: Retention,
    ) -> Result<u64, StoreError> {
        let overdue = |files: Option<&mut UserFiles>| match files {
            Some(files) => files.overdue(retention, clock::now()),
            None => Ok(0),
        };
        let was_open = self.open.contains_key(&inbox.key);
        let first = self.open(inbox, false).and_then(overdue);
        if first.map_err(|error| self.failed(inbox, error))? == 0 {
            if !was_open {
                // Looking at every inbox must not push out those that are in use.
                self.close(inbox);
            }
            return Ok(0);
        }
        self.write(inbox)?;
        let context = Arc::clone(&self.context);
        let pruned = self.open(inbox, false).and_then(|files| {
            let Some(files) = files else { return Ok(None) };
            // What it has still to follow may go now.
            files.status(&context.templates)?;
            let messages = files.overdue(retention, clock::now())?;
            files.prune(messages).map(Some)
        });
        let mut state = inbox.state.lock();
        match pruned {
            Ok(None) => return Ok(0),
            Ok(Some(pruned)) => {
                state.counted(pruned.counted);
                drop(state);
                let followed = self.open(inbox, false).and_then(|files| {
                    files.map_or(Ok(()), |files| files.status(&context.templates).map(drop))
                });
                followed.map_err(|error| self.failed(inbox, error))?;
                context.metrics.pruned.increment(pruned.messages);
                Ok(pruned.messages)
            }
            Err(error) => {
                state.vanish();
                drop(state);
                Err(self.failed(inbox, error))
            }
        }
    }
}
