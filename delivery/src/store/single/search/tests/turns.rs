//! Turns, and what waits for them.

use std::task::Poll;

use super::{super::index::CHUNK_MESSAGES, *};

#[test]
fn a_large_inbox_takes_turns_and_a_crash_repeats_one() {
    let place = Place::new();
    place.many(i64::from(CHUNK_MESSAGES) * 3 + 1);
    let (answer, mut receive) = oneshot::channel();
    let terms = Terms::parse("企微").unwrap();
    let query = ListQuery { size: 1, ..ListQuery::default() };
    let asked = Asked { terms, query, since: Instant::now(), answer };
    let mut search = Search { asked: vec![asked], ..Search::default() };
    for _ in 0..2 {
        place.searches.turn(&place.key, &mut search);
        assert!(search.behind && receive.try_recv().is_err());
    }
    // The third ends in the middle.
    let index = Index::open(&place.dir(), &place.searches.template).unwrap().unwrap();
    let turn = index.begin().unwrap();
    assert_eq!(index.catch_up().unwrap().indexed, u64::from(CHUNK_MESSAGES));
    drop(turn);
    drop(index);
    let (answer, turns) = place.find("企微", ListQuery { size: 1, ..ListQuery::default() });
    assert_eq!((answer.unwrap().total, turns), (u64::from(CHUNK_MESSAGES) * 3 + 1, 2));
}

#[test]
fn who_waits_too_long_is_answered_and_the_index_is_made_all_the_same() {
    let place = Place::new();
    place.many(i64::from(CHUNK_MESSAGES) * 2);
    let (answer, mut receive) = oneshot::channel();
    let asked = Asked {
        terms: Terms::parse("企微").unwrap(),
        query: ListQuery::default(),
        since: Instant::now().checked_sub(ANSWER_WITHIN).unwrap(),
        answer,
    };
    let mut search = Search { asked: vec![asked], ..Search::default() };
    place.searches.turn(&place.key, &mut search);
    assert!(matches!(receive.try_recv(), Ok(Err(StoreError::Busy(_)))));
    assert!(search.behind && search.asked.is_empty(), "it goes on");
    place.searches.turn(&place.key, &mut search);
    assert_eq!(place.find("企微", ListQuery::default()).1, 1);
}

#[test]
fn only_so_many_wait() {
    let place = Place::new();
    let inbox = Inbox::new(place.key.clone(), 0);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut ask = || {
        let terms = Terms::parse("企微").unwrap();
        let mut asked = Box::pin(place.searches.ask(&inbox, terms, ListQuery::default()));
        (asked.as_mut().poll(&mut context), asked)
    };
    let waiting: Vec<_> = (0..WAITING_MAX).map(|_| ask()).collect();
    assert!(waiting.iter().all(|(polled, _)| polled.is_pending()));
    let (refused, _) = ask();
    assert!(matches!(refused, Poll::Ready(Err(StoreError::Busy(_)))));
    place.searches.close();
    let (refused, _) = ask();
    assert!(matches!(refused, Poll::Ready(Err(StoreError::Closing))));
    place.searches.run(0);
    for (_, mut asked) in waiting {
        let polled = asked.as_mut().poll(&mut context);
        assert!(matches!(polled, Poll::Ready(Err(StoreError::Closing))));
    }
}

#[test]
fn many_of_one_inbox_are_answered_in_order_and_in_turns() {
    let place = Place::new();
    place.many(1);
    let (mut search, mut answers) = (Search::default(), vec![]);
    for _ in 0..=ANSWERS_PER_TURN {
        let (answer, receive) = oneshot::channel();
        let terms = Terms::parse("企微").unwrap();
        let query = ListQuery { size: 1, ..ListQuery::default() };
        search.asked.push(Asked { terms, query, since: Instant::now(), answer });
        answers.push(receive);
    }
    place.searches.turn(&place.key, &mut search);
    assert!(!search.behind);
    let last = answers.pop().unwrap();
    assert!(answers.into_iter().all(|mut answer| answer.try_recv().is_ok_and(|a| a.is_ok())));
    assert_eq!(search.asked.len(), 1);
    place.searches.turn(&place.key, &mut search);
    assert!(search.asked.is_empty());
    drop(last);
}
