//! Brings changes of the directory to whoever is in memory.

use std::sync::Arc;

use protocol::{TenantId, UserId};

use super::super::{
    inbox::{Inbox, Phase, State},
    membership::Turn,
    record::{DirectoryRecord, Lsn},
    sequencer::Sequencer,
};
use crate::{InboxKey, store::Group};

impl Sequencer {
    /// A change of the directory: first where whoever loads an inbox from now on finds it, then to
    /// the inboxes in memory that it concerns.
    pub(in super::super) fn directory(&mut self, lsn: Lsn, record: &Arc<DirectoryRecord>) {
        self.shared.add_directory(lsn, record);
        match &**record {
            DirectoryRecord::Channel { .. } => {}
            DirectoryRecord::ChannelGone { tenant, id } => {
                // All of the tenant: one that is being loaded may not be in the index yet.
                let turn = Turn { group: Arc::new(Group::Channel(id.clone())), lsn, joins: false };
                for inbox in self.inboxes.of_tenant(tenant) {
                    self.turn(&inbox, &mut inbox.state.lock(), &turn);
                }
            }
            DirectoryRecord::Members { tenant, id, join, leave, .. } => {
                let group = Arc::new(Group::Channel(id.clone()));
                let turn = |joins| Turn { group: Arc::clone(&group), lsn, joins };
                self.turns(tenant, join, &[turn(true)], lsn);
                self.turns(tenant, leave, &[turn(false)], lsn);
            }
            DirectoryRecord::User { tenant, facts, join, leave, .. } => {
                let turn =
                    |group: &Group, joins| Turn { group: Arc::new(group.clone()), lsn, joins };
                let joins = join.iter().map(|group| turn(group, true));
                let turns: Vec<Turn> =
                    joins.chain(leave.iter().map(|group| turn(group, false))).collect();
                self.turns(tenant, std::slice::from_ref(&facts.record.user_id), &turns, lsn);
            }
        }
    }

    fn turns(&self, tenant: &TenantId, users: &[UserId], turns: &[Turn], lsn: Lsn) {
        for user in users {
            // One that is not in memory finds it in `shared.db`.
            let key = InboxKey::new(tenant.clone(), user.clone());
            let Some(inbox) = self.inboxes.find(&key) else { continue };
            let mut state = inbox.state.lock();
            state.see(lsn);
            for turn in turns {
                self.turn(&inbox, &mut state, turn);
            }
        }
    }

    fn turn(&self, inbox: &Arc<Inbox>, state: &mut State, turn: &Turn) {
        let index = &self.inboxes.groups;
        match &mut state.phase {
            // It finds it in `shared.db` when it is loaded.
            Phase::Unloaded => {}
            Phase::Loading(turns) => {
                turns.push(turn.clone());
                if turn.joins {
                    index.add(&turn.group, inbox, turn.lsn);
                }
            }
            Phase::Loaded(_) if turn.joins => {
                let group = index.add(&turn.group, inbox, turn.lsn);
                state.memberships.turn(&Turn { group, ..turn.clone() });
            }
            Phase::Loaded(_) => {
                state.memberships.turn(turn);
                let ended = state
                    .memberships
                    .iter()
                    .find(|stay| stay.until == turn.lsn && *stay.group == *turn.group);
                // Whoever stays connected and comes and goes for ever must not grow for ever.
                if let Some(since) = ended.map(|stay| stay.since)
                    && index.quiet_since(&inbox.key.tenant, &turn.group, since)
                    && !state.memberships.forget(&turn.group, turn.lsn)
                {
                    index.remove(inbox, [&turn.group]);
                }
            }
        }
    }
}
