//! Buttons.

use delivery::{
    InboxKey, StoreError,
    store::{Change, Mark, Pressing, StatusChange},
};
use protocol::{DeviceId, MessageId, PressedAction, Seq, Status};
use tokio::task::JoinSet;

use super::{
    Backend,
    fixture::{Fixture, button, in_millis, inbox, message},
};

fn device(id: &str) -> Option<DeviceId> {
    Some(id.parse().unwrap())
}

async fn send<B: Backend>(fix: &Fixture<B>, to: &InboxKey) -> MessageId {
    let mut fields = message("x");
    fields.actions = vec![button("approve"), button("")];
    fix.send_as(&[to], &fields).await
}

async fn press<B: Backend>(
    fix: &Fixture<B>,
    inbox: &InboxKey,
    by: &str,
    id: &MessageId,
    index: u8,
) -> Result<Pressing, StoreError> {
    fix.store.press(inbox, device(by), id, index).await
}

pub(crate) async fn a_button_is_pressed_once(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let watch = fix.store.watch(&ann).await.unwrap();
    let id = send(&fix, &ann).await;
    let before = delivery::clock::now();
    let first = press(&fix, &ann, "phone", &id, 0).await.unwrap();
    assert!(first.first);
    let state = first.message.state;
    assert_eq!((state.status, state.version), (Status::Read, Seq(2)));
    assert!(state.read_at.is_some_and(|at| at >= before));
    let [pressed] = &first.message.pressed[..] else { panic!("{first:?}") };
    assert_eq!((pressed.action.index, &*pressed.action.action), (0, "approve"));
    assert_eq!(pressed.device_id, device("phone"));
    assert!((before..=delivery::clock::now()).contains(&pressed.at));

    let again = press(&fix, &ann, "desktop", &id, 0).await.unwrap();
    assert!(!again.first);
    assert_eq!((again.message.state, &again.message.pressed), (state, &first.message.pressed));
    assert_eq!(fix.told(&ann, 2).await, [1, 2]);
    drop(watch);

    let other = press(&fix, &ann, "desktop", &id, 1).await.unwrap();
    assert!(other.first);
    let indexes: Vec<u8> = other.message.pressed.iter().map(|one| one.action.index).collect();
    assert_eq!(indexes, [0, 1]);
    for _ in 0..2 {
        let log = fix.log(&ann).await;
        assert_eq!(log.len(), 3);
        for (stored, index, action, by) in
            [(&log[1], 0, "approve", "phone"), (&log[2], 1, "", "desktop")]
        {
            let Change::Status(change) = &stored.change else { panic!("{stored:?}") };
            let StatusChange { message_id, status, device: who, action: pressed, .. } = change;
            assert_eq!((message_id, *status), (&id, Status::Read));
            assert_eq!(*who, device(by));
            let action = action.to_owned();
            assert_eq!(*pressed, Some(PressedAction { index, action }));
        }
        assert_eq!(fix.store.get(&ann, &id).await.unwrap().pressed, other.message.pressed);
        assert_eq!(fix.unread(&ann).await, 0);
        fix.reopen().await;
    }
}

pub(crate) async fn what_cannot_be_pressed_is_not_found(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let (ann, never) = (inbox("ann"), inbox("never"));
    let id = send(&fix, &ann).await;
    let plain = fix.send(&[&ann], "no buttons").await;
    let mut past = message("past");
    past.expire_at = Some(in_millis(-1_000));
    past.actions = vec![button("late")];
    let past = fix.send_as(&[&ann], &past).await;
    let unknown = "no-such".parse().unwrap();
    for (key, id, index) in [
        (&ann, &id, 2),
        (&ann, &id, u8::MAX),
        (&ann, &plain, 0),
        (&ann, &past, 0),
        (&ann, &unknown, 0),
        (&never, &id, 0),
    ] {
        let answer = press(&fix, key, "phone", id, index).await;
        assert!(matches!(answer, Err(StoreError::NotFound)), "{id} {index}: {answer:?}");
    }
    assert_eq!(fix.log(&ann).await.len(), 3);
    assert_eq!(fix.unread(&ann).await, 2);
}

pub(crate) async fn an_archived_message_stays_so_when_pressed(backend: impl Backend) {
    let mut fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let id = send(&fix, &ann).await;
    fix.mark_one(&ann, Mark::Archive, &id).await.unwrap();
    let read_at = fix.store.get(&ann, &id).await.unwrap().state.read_at;
    let pressing = press(&fix, &ann, "phone", &id, 0).await.unwrap();
    assert_eq!(pressing.message.state.status, Status::Archived);
    assert_eq!(pressing.message.state.read_at, read_at, "it was read before");
    fix.reopen().await;
    let Change::Status(change) = &fix.log(&ann).await[2].change else { panic!() };
    assert_eq!(change.status, Status::Archived);
    assert!(change.action.is_some());
    // What was pressed stays pressed, whatever the message becomes.
    let id = send(&fix, &ann).await;
    press(&fix, &ann, "phone", &id, 0).await.unwrap();
    fix.mark_one(&ann, Mark::Unread, &id).await.unwrap();
    let message = fix.store.get(&ann, &id).await.unwrap();
    assert_eq!((message.state.status, message.pressed.len()), (Status::Unread, 1));
    assert!(!press(&fix, &ann, "phone", &id, 0).await.unwrap().first);
    assert_eq!(fix.unread(&ann).await, 1, "a second press changes nothing");
}

pub(crate) async fn of_presses_at_once_one_is_first(backend: impl Backend) {
    let fix = Fixture::new(backend).await;
    let ann = inbox("ann");
    let id = send(&fix, &ann).await;
    let mut tasks = JoinSet::new();
    for n in 0..12 {
        let (store, ann, id) = (fix.store.clone(), ann.clone(), id.clone());
        tasks.spawn(async move {
            let index = n % 2;
            let pressing = store.press(&ann, device(&n.to_string()), &id, index).await.unwrap();
            let pressed = pressing.message.pressed.into_iter();
            let by = pressed.filter(|one| one.action.index == index).map(|one| one.device_id);
            (index, pressing.first, by.collect::<Vec<_>>())
        });
    }
    let answers = tasks.join_all().await;
    for index in [0, 1] {
        let of_one: Vec<_> = answers.iter().filter(|(pressed, ..)| *pressed == index).collect();
        assert_eq!(of_one.iter().filter(|(_, first, _)| *first).count(), 1);
        assert!(of_one.iter().all(|(.., by)| *by == of_one[0].2), "all see the same winner");
    }
    assert_eq!(fix.log(&ann).await.len(), 3);
}
