//! Forgetting what an inbox need not keep.

use std::sync::Arc;

use super::{
    super::{inbox::Inbox, record::Lsn},
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

    /// Whether the inbox's file, as it is, has messages that are too many or too old.
    pub(in super::super) fn is_overdue(
        &mut self,
        inbox: &Inbox,
        retention: Retention,
    ) -> Result<bool, StoreError> {
        let was_open = self.open.contains_key(&inbox.key);
        let overdue = self.open(inbox, false).and_then(|files| match files {
            Some(files) => files.overdue(retention, clock::now()),
            None => Ok(0),
        });
        if !was_open {
            // Looking at every inbox must not push out those that are in use.
            self.close(inbox);
        }
        Ok(overdue.map_err(|error| self.failed(inbox, error))? > 0)
    }

    /// Drops messages that are too many or too old, as many as one transaction takes. Answers how
    /// many went. No mark of the inbox may be under way.
    pub(in super::super) fn prune(
        &mut self,
        inbox: &Arc<Inbox>,
        retention: Retention,
    ) -> Result<u64, StoreError> {
        self.write(inbox)?;
        let context = Arc::clone(&self.context);
        let pruned = self.open(inbox, false).and_then(|files| {
            let Some(files) = files else { return Ok(None) };
            let messages = files.overdue(retention, clock::now())?;
            if messages == 0 {
                return Ok(None);
            }
            // What it has still to follow is about to go.
            files.status(&context.templates)?;
            files.prune(messages).map(Some)
        });
        let mut state = inbox.state.lock();
        match pruned {
            Ok(None) => Ok(0),
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
