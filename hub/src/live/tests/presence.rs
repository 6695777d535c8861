//! Channels joined on a socket: who is let in, who is shown to whom.

use std::collections::BTreeSet;

use protocol::{ClientFrame, Codec, ErrorType, ServerFrame};

use super::support::{Client, Server, config, eventually};

async fn join(client: &mut Client, channel: &str) {
    client.say(&ClientFrame::Join { channel_id: channel.parse().unwrap() }).await;
}

async fn leave(client: &mut Client, channel: &str) {
    client.say(&ClientFrame::Leave { channel_id: channel.parse().unwrap() }).await;
}

/// The next `presence`, as who and whether.
async fn next(client: &mut Client, channel: &str) -> (String, bool) {
    match client.next().await {
        ServerFrame::Presence { channel_id, user_id, online } => {
            assert_eq!(channel_id.as_str(), channel);
            (user_id.to_string(), online)
        }
        other => panic!("not presence: {other:?}"),
    }
}

/// Reads a list, which begins with the reader itself, until it has these names.
async fn expect_list(client: &mut Client, channel: &str, me: &str, others: &[&str]) {
    assert_eq!(next(client, channel).await, (me.to_owned(), true));
    let mut seen = BTreeSet::new();
    while seen.len() < others.len() {
        let (who, online) = next(client, channel).await;
        assert!(online && seen.insert(who.clone()), "{who} {online}");
    }
    assert_eq!(seen, others.iter().map(|&name| name.to_owned()).collect());
}

async fn ready(server: &Server, user: &str) -> Client {
    let mut client = server.connect(&format!("token={user}")).await;
    client.expect_sync_complete(0).await;
    client
}

#[tokio::test]
async fn a_member_sees_who_is_there_and_who_comes_and_goes() {
    let server = Server::start().await;
    for user in ["ann", "bob", "eve"] {
        server.members.add(user, "team");
    }
    let mut ann = ready(&server, "ann").await;
    join(&mut ann, "team").await;
    expect_list(&mut ann, "team", "ann", &[]).await;
    let mut bob = server.open("token=bob", Codec::MsgPack).await.unwrap();
    bob.expect_welcome().await;
    bob.expect_sync_complete(0).await;
    join(&mut bob, "team").await;
    expect_list(&mut bob, "team", "bob", &["ann"]).await;
    assert_eq!(next(&mut ann, "team").await, ("bob".to_owned(), true));
    // A second device of a user who is there is no news to others.
    let mut tablet = ready(&server, "bob").await;
    join(&mut tablet, "team").await;
    expect_list(&mut tablet, "team", "bob", &["ann"]).await;
    leave(&mut bob, "team").await;
    let mut eve = ready(&server, "eve").await;
    join(&mut eve, "team").await;
    expect_list(&mut eve, "team", "eve", &["ann", "bob"]).await;
    assert_eq!(next(&mut ann, "team").await, ("eve".to_owned(), true));
    drop(tablet);
    assert_eq!(next(&mut ann, "team").await, ("bob".to_owned(), false));
    drop((ann, bob, eve));
    eventually("nobody is there", || server.live.channel_joins() == 0).await;
}

#[tokio::test]
async fn who_is_replaced_at_once_was_not_away() {
    let server = Server::start().await;
    for user in ["ann", "bob"] {
        server.members.add(user, "team");
    }
    let mut ann = ready(&server, "ann").await;
    join(&mut ann, "team").await;
    expect_list(&mut ann, "team", "ann", &[]).await;
    let mut bob = ready(&server, "bob").await;
    join(&mut bob, "team").await;
    assert_eq!(next(&mut ann, "team").await, ("bob".to_owned(), true));
    for _ in 0..5 {
        leave(&mut bob, "team").await;
        join(&mut bob, "team").await;
    }
    let mut late = ready(&server, "bob").await;
    join(&mut late, "team").await;
    expect_list(&mut late, "team", "bob", &["ann"]).await;
    drop((bob, late));
    // Had it been told of the five, they would come first.
    loop {
        let (who, online) = next(&mut ann, "team").await;
        assert_eq!(who, "bob");
        if !online {
            break;
        }
    }
}

#[tokio::test]
async fn strangers_and_channels_that_are_not_there_answer_alike() {
    let server = Server::start().await;
    server.members.add("ann", "team");
    let mut eve = ready(&server, "eve").await;
    for channel in ["team", "nowhere"] {
        join(&mut eve, channel).await;
        let ServerFrame::Error { kind, reference, .. } = eve.next().await else { panic!() };
        assert_eq!((kind, reference.as_deref()), (ErrorType::NotFound, Some("join")));
    }
    join(&mut eve, "broken").await;
    let ServerFrame::Error { kind, .. } = eve.next().await else { panic!() };
    assert_eq!(kind, ErrorType::Unavailable);
    assert_eq!(server.live.channel_joins(), 0);
    // An open one lets everybody in.
    join(&mut eve, "open-house").await;
    expect_list(&mut eve, "open-house", "eve", &[]).await;
}

#[tokio::test]
async fn who_is_no_member_any_more_sees_nothing_more() {
    let server = Server::start().await;
    for user in ["ann", "bob", "eve"] {
        server.members.add(user, "team");
    }
    let mut ann = ready(&server, "ann").await;
    join(&mut ann, "team").await;
    expect_list(&mut ann, "team", "ann", &[]).await;
    let mut eve = ready(&server, "eve").await;
    join(&mut eve, "team").await;
    expect_list(&mut eve, "team", "eve", &["ann"]).await;
    assert_eq!(next(&mut ann, "team").await, ("eve".to_owned(), true));
    server.members.remove("eve", "team");
    let mut bob = ready(&server, "bob").await;
    join(&mut bob, "team").await;
    let mut news = vec![next(&mut ann, "team").await, next(&mut ann, "team").await];
    news.sort();
    assert_eq!(news, [("bob".to_owned(), true), ("eve".to_owned(), false)]);
    // The next thing eve hears is not from the channel.
    server.store.send("eve", "hello");
    assert!(matches!(eve.next().await, ServerFrame::Message { .. }));
}

#[tokio::test]
async fn a_channel_without_presence_only_confirms() {
    let server = Server::start().await;
    for user in ["ann", "bob"] {
        server.members.add(user, "quiet");
    }
    let mut ann = ready(&server, "ann").await;
    join(&mut ann, "quiet").await;
    assert_eq!(next(&mut ann, "quiet").await, ("ann".to_owned(), true));
    let mut bob = ready(&server, "bob").await;
    join(&mut bob, "quiet").await;
    assert_eq!(next(&mut bob, "quiet").await, ("bob".to_owned(), true));
    assert_eq!(server.live.channel_joins(), 0);
}

#[tokio::test]
async fn a_connection_joins_so_many_channels_and_no_more() {
    let server = Server::start().await;
    let mut ann = ready(&server, "ann").await;
    for n in 0..100 {
        let channel = format!("open-{n}");
        join(&mut ann, &channel).await;
        assert_eq!(next(&mut ann, &channel).await, ("ann".to_owned(), true));
    }
    join(&mut ann, "open-100").await;
    let ServerFrame::Error { kind, message, .. } = ann.next().await else { panic!() };
    assert_eq!(kind, ErrorType::Invalid);
    assert!(message.contains("100"), "{message}");
    leave(&mut ann, "open-7").await;
    join(&mut ann, "open-100").await;
    assert_eq!(next(&mut ann, "open-100").await, ("ann".to_owned(), true));
}

/// More than a list names: nobody is told of changes until there are fewer, then everybody gets a
/// list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_not_told_of_itself() {
    let server = Server::start_with(config()).await;
    let mut ann = ready(&server, "ann").await;
    join(&mut ann, "open-crowd").await;
    assert_eq!(next(&mut ann, "open-crowd").await, ("ann".to_owned(), true));
    let mut crowd = Vec::new();
    for n in 0..501 {
        let mut client = ready(&server, &format!("user{n:03}")).await;
        join(&mut client, "open-crowd").await;
        crowd.push(client);
    }
    eventually("all are there", || server.live.channel_joins() == 502).await;
    // All but one go: the list that comes then is right whatever was told before.
    crowd.truncate(1);
    eventually("they are gone", || server.live.channel_joins() == 2).await;
    let mut known = BTreeSet::new();
    while known != BTreeSet::from(["ann".to_owned(), "user000".to_owned()]) {
        match next(&mut ann, "open-crowd").await {
            (who, true) if who == "ann" => known = BTreeSet::from([who]),
            (who, true) => drop(known.insert(who)),
            (who, false) => drop(known.remove(&who)),
        }
    }
}
