//! What becomes of messages at their recipients, for statistics and for the senders' webhooks.

use std::sync::Arc;

use protocol::{Body, DeviceId, PressedAction, Seq, Time};

use super::InboxKey;

/// Something that happened to a message in an inbox.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Where.
    pub inbox: InboxKey,
    /// The message's place in the inbox.
    pub message_seq: Seq,
    /// The change, for those that are changes of the inbox; the message's place for the others.
    pub seq: Seq,
    /// The message.
    pub body: Arc<Body>,
    /// What.
    pub what: Happened,
    /// When.
    pub at: Time,
    /// By or to which device, where one is known.
    pub device: Option<DeviceId>,
}

/// See [`Happening`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Its frame went to a device; `first` if to none before.
    Delivered {
        /// See above.
        first: bool,
    },
    /// A device confirmed it; `first` if none had before.
    Acked {
        /// See above.
        first: bool,
    },
    /// It was read.
    Read,
    /// It is unread again.
    Unread,
    /// It was archived.
    Archived,
    /// A button was pressed.
    Pressed(PressedAction),
}

/// Is told what happens, on the store's threads.
///
/// Called before the change is written to the inbox's file, and again for the same change if that
/// write fails or the process dies in between: whoever must not count twice tells repeats apart by
/// inbox, `seq`, kind and device.
pub trait Witness: Send + Sync + 'static {
    /// Whether anybody wants to know; asked often, must be cheap.
    fn wants(&self) -> bool;

    /// These happened. An error keeps the store from writing the inbox's file; it tries again.
    ///
    /// # Errors
    /// What the witness has to keep and cannot.
    fn happened(
        &self,
        happenings: &[Happening],
    ) -> Result<(), Arc<dyn std::error::Error + Send + Sync>>;
}

impl std::fmt::Debug for dyn Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Witness")
    }
}
