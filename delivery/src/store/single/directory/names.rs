//! What names are and how many are behind them; asked with sends.

use std::{collections::BTreeSet, sync::Arc};

use protocol::{TenantId, UserId};

use super::super::{SingleStore, shared::Shared};
use super::INLINE_MAX;
use crate::{
    InboxKey, StoreError,
    store::{Audience, Group, NameKind},
};

impl SingleStore {
    pub(super) async fn find_kinds(
        &self,
        tenant: TenantId,
        names: &[UserId],
    ) -> Result<Vec<NameKind>, StoreError> {
        self.check_open()?;
        // Before the file is asked: nobody waits for an inbox who holds one of its readers.
        let names: Vec<(UserId, bool)> = names
            .iter()
            .map(|id| (id.clone(), self.inboxes.knows(&InboxKey::new(tenant.clone(), id.clone()))))
            .collect();
        let (shared, root) = (Arc::clone(&self.shared), Arc::clone(&self.root));
        let inline = names.len() <= INLINE_MAX;
        let ask = move || {
            let has_files =
                |id: &UserId| Self::has_files(&root, &InboxKey::new(tenant.clone(), id.clone()));
            shared.kinds(&tenant, &names, has_files)
        };
        if inline { self.read(ask()) } else { self.aside(ask).await }
    }

    pub(super) async fn find_audience_size(
        &self,
        tenant: TenantId,
        audience: Audience,
    ) -> Result<Option<u64>, StoreError> {
        self.check_open()?;
        let Audience::Some { users, groups } = audience else { return Ok(None) };
        let users: BTreeSet<&UserId> = users.iter().collect();
        let keys: Vec<InboxKey> =
            users.into_iter().map(|user| InboxKey::new(tenant.clone(), user.clone())).collect();
        let groups: Vec<Group> =
            groups.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        if groups.len() <= 1 && keys.len() <= INLINE_MAX {
            return self.read(size(&self.shared, &tenant, &keys, groups)).map(Some);
        }
        let shared = Arc::clone(&self.shared);
        self.aside(move || size(&shared, &tenant, &keys, groups)).await.map(Some)
    }
}

/// How many are among some users or in some groups, which are sorted; each once.
fn size(
    shared: &Shared,
    tenant: &TenantId,
    users: &[InboxKey],
    groups: Vec<Group>,
) -> rusqlite::Result<u64> {
    let (mut inside, mut carried) = (0, Vec::new());
    for group in groups {
        let members = shared.size(tenant, &group)?;
        if members > 0 {
            inside = members;
            carried.push(group);
        }
    }
    if carried.len() > 1 {
        inside = shared.size_of_several(tenant, &carried)?;
    }
    if carried.is_empty() || users.is_empty() {
        return Ok(inside + users.len() as u64);
    }
    let stays = shared.memberships(users)?;
    let also = stays
        .iter()
        .filter(|stays| stays.open().any(|stay| carried.binary_search(&stay.group).is_ok()))
        .count();
    Ok(inside + (users.len() - also) as u64)
}
