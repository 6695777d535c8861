//! What a node of the bench stands on: changes, and a verifier that knows everyone.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use delivery::{
    InboxKey, StoreError,
    identity::UserCaller,
    store::{BoxFuture, Change, Stored},
};
use hub::live::{Admission, ChannelGate, Refusal, TokenVerifier};
use protocol::{
    Body, ChannelId, DeviceId, MessageFields, MessageId, MessageState, Seq, TenantId, Time, UserId,
};

pub(crate) fn inbox(prefix: &str, user: usize) -> InboxKey {
    InboxKey::new(TenantId::default(), UserId::new(format!("{prefix}{user}")).unwrap())
}

pub(crate) fn change(inbox: InboxKey, seq: u64, content: &str) -> Stored {
    Stored {
        inbox,
        seq: Seq(seq),
        change: Change::Message { state: MessageState::new(Seq(seq)), body: body(content) },
        accepted: None,
    }
}

/// One body for all: what is measured is not its encoding.
fn body(content: &str) -> Arc<Body> {
    thread_local! {
        static BODY: std::cell::RefCell<Option<Arc<Body>>> = const { std::cell::RefCell::new(None) };
    }
    BODY.with_borrow_mut(|body| body.get_or_insert_with(|| Arc::new(make(content))).clone())
}

fn make(content: &str) -> Body {
    Body::new(&MessageFields {
        id: MessageId::new("0197-message").unwrap(),
        channel_id: None,
        title: String::new(),
        content: content.into(),
        message_type: "text".into(),
        priority: 5,
        sender: "bench".into(),
        sender_info: None,
        on_behalf_of: None,
        template_id: None,
        created_at: Time::default(),
        edited_at: None,
        expire_at: None,
        collapse_key: None,
        metadata: serde_json::Map::new(),
        attachments: vec![],
        actions: vec![],
    })
}

/// The first free seq of everybody, and `count` taken.
pub(crate) fn next_seq(_connections: usize, count: u64) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(count, Ordering::Relaxed)
}

/// The token is the user's name.
pub(crate) struct Everyone;

impl TokenVerifier for Everyone {
    fn verify_token(&self, token: &str) -> Result<UserCaller, Refusal> {
        let inbox = InboxKey::new(TenantId::default(), UserId::new(token).unwrap());
        Ok(UserCaller {
            device: Some(DeviceId::new("device-0123456789").unwrap()),
            session: Some("session-0123456789abcdef".into()),
            ..UserCaller::new(inbox, Time::MAX)
        })
    }

    fn note<'a>(&'a self, _: &'a UserCaller, _: std::net::IpAddr) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// No channels at all.
pub(crate) struct NoChannels;

impl ChannelGate for NoChannels {
    fn admit(
        &self,
        _: &InboxKey,
        _: &ChannelId,
    ) -> BoxFuture<'static, Result<Option<Admission>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn is_member(
        &self,
        _: &InboxKey,
        _: &ChannelId,
    ) -> BoxFuture<'static, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}
