//! One inbox, read on both sides.

use std::sync::{Arc, Mutex};

use protocol::{Body, Seq};

use super::{
    super::{
        Counts, Move, MoveError,
        inboxes::{BEFORE_RECEIPTS, receipt},
        unanswered, unreadable,
    },
    differs,
};
use crate::{
    InboxKey, Store,
    store::{
        Change, Directory as _, InboxMessage, ListPosition, ListQuery, Sort, StatusFilter, Stored,
        postgres::PostgresStore,
    },
};

/// Changes that are read at a time, and bytes of their bodies, about.
const CHANGES_MAX: usize = 512;
const BYTES_MAX: usize = 1 << 20;

/// Messages of a list that are read at a time.
const LIST_MAX: usize = 200;

/// Receipts that are read at a time.
const RECEIPTS_MAX: usize = 4_096;

impl Move<'_> {
    /// Compares all inboxes. Answers how much is in them.
    pub(super) async fn compare_inboxes(
        &self,
        store: &Arc<PostgresStore>,
    ) -> Result<Counts, MoveError> {
        let total = Mutex::new(Counts::default());
        self.each_inbox(false, async |id, key| {
            let counts = self.compare_inbox(store, id, key).await?;
            if let Ok(mut total) = total.lock() {
                total.messages += counts.messages;
                total.changes += counts.changes;
                total.receipts += counts.receipts;
                total.devices += counts.devices;
            }
            Ok(())
        })
        .await?;
        Ok(total.into_inner().unwrap_or_default())
    }

    async fn compare_inbox(
        &self,
        theirs: &Arc<PostgresStore>,
        id: i64,
        key: &InboxKey,
    ) -> Result<Counts, MoveError> {
        let ours = &*self.export.store;
        let of = |what: &str| format!("{what} of user {} in tenant {}", key.user, key.tenant);
        let head = ours.head(key).await.map_err(unreadable)?;
        if head != theirs.head(key).await.map_err(unanswered)? {
            return differs(of("the latest change or the unread messages"));
        }
        if ours.unread(key).await.map_err(unreadable)?
            != theirs.unread(key).await.map_err(unanswered)?
        {
            return differs(of("the unread messages by channel"));
        }
        if let Some(seq) = first_other_change(ours, &**theirs, key).await? {
            return differs(of(&format!("the change at {seq}")));
        }
        if let Some(what) = first_other_list(ours, &**theirs, key).await? {
            return differs(of(&what));
        }
        let line = self.export.inbox(key).await.map_err(unreadable)?;
        for (device, seq, _) in &line.cursors {
            if theirs.cursor(key, device).await.map_err(unanswered)? != Some(*seq) {
                return differs(of("what a device has confirmed"));
            }
        }
        let groups = ours.groups_of(key).await.map_err(unreadable)?;
        let mut same = theirs.groups_of(key).await.map_err(unanswered)?;
        same.sort();
        if !groups.iter().all(|group| same.binary_search(group).is_ok())
            || groups.len() != same.len()
        {
            return differs(of("the channels and roles"));
        }
        if ours.user(key).await.map_err(unreadable)?
            != theirs.user(key).await.map_err(unanswered)?
        {
            return differs(of("what is known"));
        }
        self.compare_receipts(id, key, &of).await?;
        let [messages, changes, receipts] = line.counts;
        let devices = line.cursors.len() as u64;
        Ok(Counts { messages, changes, receipts, devices, ..Counts::default() })
    }

    async fn compare_receipts(
        &self,
        id: i64,
        key: &InboxKey,
        of: &impl Fn(&str) -> String,
    ) -> Result<(), MoveError> {
        let mut after = BEFORE_RECEIPTS;
        loop {
            let ours = self.export.receipts(key, after.clone()).await.map_err(unreadable)?;
            if ours != self.import.receipts(id, &after, RECEIPTS_MAX).await? {
                return differs(of("what went to which device"));
            }
            let Some(last) = ours.last() else { return Ok(()) };
            after = receipt(last);
        }
    }
}

/// The first change that is another; none where all are the same.
async fn first_other_change(
    ours: &impl Store,
    theirs: &impl Store,
    key: &InboxKey,
) -> Result<Option<Seq>, MoveError> {
    let mut since = Seq::ZERO;
    loop {
        let our = ours.changes(key, since, CHANGES_MAX, BYTES_MAX).await.map_err(unreadable)?;
        let their = theirs.changes(key, since, CHANGES_MAX, BYTES_MAX).await.map_err(unanswered)?;
        if (our.head, our.min_seq) != (their.head, their.min_seq) {
            return Ok(Some(since.next()));
        }
        if since < our.min_seq {
            // From before what is kept nobody resumes, on either side.
            if !our.changes.is_empty() || !their.changes.is_empty() {
                return Ok(Some(since.next()));
            }
            since = our.min_seq;
            continue;
        }
        // Each may end a page elsewhere.
        let count = our.changes.len().min(their.changes.len());
        for (our, their) in our.changes.iter().zip(&their.changes) {
            if !is_same(our, their) {
                return Ok(Some(our.seq));
            }
            since = our.seq;
        }
        if count == 0 {
            return Ok((since < our.head).then(|| since.next()));
        }
    }
}

fn is_same(ours: &Stored, theirs: &Stored) -> bool {
    let same = match (&ours.change, &theirs.change) {
        (
            Change::Message { state: ours, body: our_body },
            Change::Message { state: theirs, body: their_body },
        ) => ours == theirs && is_same_body(our_body, their_body),
        (Change::Status(ours), Change::Status(theirs)) => ours == theirs,
        (Change::Message { .. }, Change::Status(_))
        | (Change::Status(_), Change::Message { .. }) => false,
    };
    same && ours.seq == theirs.seq && ours.inbox == theirs.inbox
}

fn is_same_body(ours: &Body, theirs: &Body) -> bool {
    ours.id() == theirs.id()
        && ours.expire_at() == theirs.expire_at()
        && ours.json() == theirs.json()
}

fn is_same_message(ours: &InboxMessage, theirs: &InboxMessage) -> bool {
    ours.state == theirs.state
        && ours.pressed == theirs.pressed
        && is_same_body(&ours.body, &theirs.body)
}

/// The first list that is another; none where all are the same.
async fn first_other_list(
    ours: &impl Store,
    theirs: &impl Store,
    key: &InboxKey,
) -> Result<Option<String>, MoveError> {
    let filters = [
        StatusFilter::All,
        StatusFilter::Inbox,
        StatusFilter::Unread,
        StatusFilter::Read,
        StatusFilter::Archived,
    ];
    for status in filters {
        let everything = status == StatusFilter::All;
        // Of the others the counts: what is in them is in the first.
        let size = if everything { LIST_MAX } else { 1 };
        let mut at = ListPosition::Offset(0);
        loop {
            let query = ListQuery {
                status,
                recalled: everything,
                sort: Sort::Oldest,
                at,
                size,
                ..ListQuery::default()
            };
            let our = ours.list(key, query.clone()).await.map_err(unreadable)?;
            let their = theirs.list(key, query).await.map_err(unanswered)?;
            let counts =
                (our.total, our.unread, our.more) == (their.total, their.unread, their.more);
            let same = our.messages.len() == their.messages.len()
                && our.messages.iter().zip(&their.messages).all(|(a, b)| is_same_message(a, b));
            if !counts || !same {
                return Ok(Some(format!("the list of {status:?}")));
            }
            match our.messages.last() {
                Some(last) if our.more && everything => at = ListPosition::After(last.state.seq),
                Some(_) | None => break,
            }
        }
    }
    Ok(None)
}
