//! Cursors of devices.

use protocol::{DeviceId, Seq};

use super::{
    Backend,
    fixture::{Fixture, inbox},
};

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(crate) async fn go_forward_only_and_not_beyond_the_head(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, bob) = (inbox("ann"), inbox("bob"));
    for _ in 0..5 {
        fix.send(&[&ann], "x").await;
    }
    let phone = device("phone");
    assert_eq!(fix.store.cursor(&ann, &phone).await.unwrap(), None, "never acked");
    for (acked, expected) in [(3, 3), (2, 3), (0, 3), (4, 4), (1_000, 5), (u64::MAX, 5)] {
        fix.store.ack(&ann, &phone, Seq(acked));
        assert_eq!(fix.store.cursor(&ann, &phone).await.unwrap(), Some(Seq(expected)), "{acked}");
    }
    assert_eq!(fix.store.cursor(&ann, &device("laptop")).await.unwrap(), None);
    assert_eq!(fix.store.cursor(&bob, &phone).await.unwrap(), None, "another user's phone");
    fix.send(&[&ann], "x").await;
    assert_eq!(fix.store.cursor(&ann, &phone).await.unwrap(), Some(Seq(5)), "only acks move it");
}

pub(crate) async fn survive_an_orderly_end(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    for _ in 0..5 {
        fix.send(&[&ann], "x").await;
    }
    let devices: Vec<_> = ["phone", "../x", "a/b", "界", "."].into_iter().map(device).collect();
    for (seq, device) in (1..).zip(&devices) {
        fix.store.ack(&ann, device, Seq(seq));
    }
    for _ in 0..2 {
        fix.reopen().await;
        for (seq, device) in (1..).zip(&devices) {
            assert_eq!(fix.store.cursor(&ann, device).await.unwrap(), Some(Seq(seq)));
        }
    }
}
