//! The words of pushhub: what travels between clients, backends and nodes.
//!
//! This crate has no IO, no clock and no runtime. It is the only thing that the server, the load
//! generator and client SDKs share.
//!
//! # The socket in one paragraph
//! A client opens `/ws` with a token and one of the subprotocols [`Codec::SUBPROTOCOLS`]. The first
//! frame is `welcome`. Every frame is `{"type": …, "data": {…}}`; frames that change the inbox also
//! carry `"seq"`, which counts 1, 2, 3 … per inbox without holes. A client that has seen `seq` n
//! resumes with `since=n` and gets n+1, n+2 … . Before a close the server sends `disconnect`, which
//! says whether and when to come back; see [`CloseReason`].
//!
//! Reading order: [`limits`], [`id`], [`message`], [`server_frame`], [`client_frame`], [`codec`],
//! [`close`], [`error`], [`asyncapi`] (all of it as a document); [`envelope`] is what nodes tell each
//! other.

pub mod asyncapi;
mod client_decode;
pub mod client_frame;
pub mod close;
pub mod codec;
pub mod envelope;
pub mod error;
pub mod id;
pub mod limits;
pub mod message;
pub mod schema;
pub mod server_frame;
pub mod time;
pub mod transport;

pub use client_frame::{ClientFrame, DeviceInfo, DeviceType, ReadTarget};
pub use close::CloseReason;
pub use codec::{Codec, DecodeError};
pub use error::{Envelope, ErrorBody, ErrorType, FieldProblem};
pub use id::{
    ChannelId, ConnectionId, DeviceId, IdError, MessageId, NodeId, RoleId, Seq, ServiceId,
    TenantId, UserId,
};
pub use message::{
    ActionInfo, AttachmentInfo, Body, BodyFacts, Message, MessageFields, MessageState, SenderInfo,
    Status,
};
pub use server_frame::{PressedAction, ServerFrame, StatusUpdate, Welcome};
pub use time::Time;
pub use transport::Transport;
