//! How much a folder has.

use serde::Serialize;

use super::MoveError;
use crate::{control::ControlCounts, webhook::WebhookCounts};

/// What was moved, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Users, each with an inbox.
    pub users: u64,
    /// Messages in inboxes, one for each that has it.
    pub messages: u64,
    /// Changes of inboxes besides: read, edited, recalled …
    pub changes: u64,
    /// Devices with a cursor.
    pub devices: u64,
    /// Rows that say what went to which device.
    pub receipts: u64,
    /// Channels.
    pub channels: u64,
    /// Members of channels, and carriers of roles and departments.
    pub members: u64,
    /// Messages to groups and everyone, their edits and recalls.
    pub records: u64,
    /// Messages as their senders know them.
    pub sent: u64,
    /// Those of them that wait for their time.
    pub scheduled: u64,
    /// Answers to requests with a key, still valid.
    pub answers: u64,
    /// Services.
    pub services: u64,
    /// Their keys.
    pub keys: u64,
    /// Tenants with quotas.
    pub quotas: u64,
    /// Templates.
    pub templates: u64,
    /// Their versions.
    pub versions: u64,
    /// Users as logins know them.
    pub profiles: u64,
    /// Whom login providers know as whom.
    pub identities: u64,
    /// Logins that go on.
    pub sessions: u64,
    /// Admins.
    pub admins: u64,
    /// Entries of the audit log.
    pub audit: u64,
    /// Endpoints of webhooks.
    pub webhooks: u64,
    /// Events that wait for their delivery, or what became of them.
    pub deliveries: u64,
}

impl Counts {
    /// By name, in the order in which they are shown.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 23] {
        [
            ("users", self.users),
            ("messages", self.messages),
            ("changes", self.changes),
            ("devices", self.devices),
            ("receipts", self.receipts),
            ("channels", self.channels),
            ("members", self.members),
            ("records", self.records),
            ("sent", self.sent),
            ("scheduled", self.scheduled),
            ("answers", self.answers),
            ("services", self.services),
            ("keys", self.keys),
            ("quotas", self.quotas),
            ("templates", self.templates),
            ("versions", self.versions),
            ("profiles", self.profiles),
            ("identities", self.identities),
            ("sessions", self.sessions),
            ("admins", self.admins),
            ("audit", self.audit),
            ("webhooks", self.webhooks),
            ("deliveries", self.deliveries),
        ]
    }
}

impl Counts {
    pub(super) fn with_control(self, of: ControlCounts) -> Self {
        let ControlCounts {
            services,
            keys,
            quotas,
            templates,
            versions,
            profiles,
            identities,
            sessions,
            admins,
            audit,
        } = of;
        Self {
            services,
            keys,
            quotas,
            templates,
            versions,
            profiles,
            identities,
            sessions,
            admins,
            audit,
            ..self
        }
    }

    pub(super) fn with_webhooks(self, of: WebhookCounts) -> Self {
        let WebhookCounts { webhooks, deliveries } = of;
        Self { webhooks, deliveries, ..self }
    }
}

/// What both sides have; an error where one has more of something. Control data and webhooks were counted when they were
/// compared.
pub(super) fn of_both(ours: Counts, theirs: [u64; 11]) -> Result<Counts, MoveError> {
    let [
        users,
        members,
        channels,
        records,
        sent,
        scheduled,
        answers,
        messages,
        changes,
        receipts,
        devices,
    ] = theirs;
    let theirs = Counts {
        users,
        members,
        channels,
        records,
        sent,
        scheduled,
        answers,
        messages,
        changes,
        receipts,
        devices,
        ..ours
    };
    for ((name, ours), (_, theirs)) in ours.all().into_iter().zip(theirs.all()) {
        if ours != theirs {
            return Err(MoveError::Differs(format!(
                "{name}: {ours} in the folder, {theirs} there"
            )));
        }
    }
    Ok(ours)
}
