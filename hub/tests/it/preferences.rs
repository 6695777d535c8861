//! What users prefer: muted channels, quiet hours, languages. Nothing is lost by it.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use protocol::{Codec, Message, ServerFrame};
use serde_json::{Value, json};

use crate::{
    sockets::metric,
    support::{Api, Cluster, TestServer, Token, api::message_to, eventually},
};

const PATH: &str = "/api/v3/auth/preferences";

/// A message to a user, put among those of a channel.
fn among(user: &str, channel: &str) -> Value {
    let mut message = message_to(&[user], channel);
    message["channel_id"] = json!(channel);
    message
}

fn urgent(user: &str, priority: u8) -> Value {
    let mut message = message_to(&[user], "urgent");
    message["priority"] = json!(priority);
    message
}

/// A frame that must be a message: whether it is silent, and the message.
fn heard(frame: ServerFrame) -> (bool, Message) {
    match frame {
        ServerFrame::Message { silent, data, .. } => (silent, data),
        other => panic!("a message was expected, not {other:?}"),
    }
}

async fn mute(api: &Api, channels: &[&str]) -> Value {
    api.put(PATH, json!({"muted_channels": channels})).await.ok()
}

#[tokio::test]
async fn a_muted_channel_is_silent_on_all_devices_and_nothing_is_missing() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let mut phone = server.socket("ann").device("phone").connect().await;
    let mut tablet = server.socket("ann").device("tablet").codec(Codec::MsgPack).connect().await;
    let mut browser = server.stream("ann").device("browser").open().await;
    let mut bob = server.connect("bob").await;
    let mut seq = 0;
    let mut send = async |channel: &str, priority: u8| {
        seq += 1;
        let mut message = among("ann", channel);
        message["priority"] = json!(priority);
        service.send(message).await.ok();
        let (first, of_phone) = heard(phone.next().await);
        let (second, of_tablet) = heard(tablet.next().await);
        let (third, of_browser) = heard(browser.next().await);
        assert_eq!((of_phone.state.seq.0, &of_phone), (seq, &of_tablet));
        assert_eq!(of_phone, of_browser);
        assert_eq!((first, first), (second, third), "devices of one user hear the same");
        first
    };
    assert!(!send("news", 5).await);
    assert_eq!(mute(&ann, &["news", "chat"]).await["version"], 1);
    assert!(send("news", 5).await);
    assert!(send("chat", 10).await, "a mute is no question of priority");
    assert!(!send("ops", 5).await);
    assert_eq!(mute(&ann, &["chat"]).await["version"], 2);
    assert!(!send("news", 5).await);
    assert!(send("chat", 1).await);

    // Another one hears what ann does not.
    let mut both = among("ann", "chat");
    both["recipients"] = json!(["ann", "bob"]);
    service.send(both).await.ok();
    assert!(!heard(bob.next().await).0);
    assert!(heard(phone.next().await).0);

    let listed = ann.all_messages().await;
    assert_eq!(listed.len(), 7);
    assert!(listed.iter().all(|message| message.get("silent").is_none()));
    let unread = ann.get("/api/v3/messages/unread-count").await.ok();
    assert_eq!((&unread["unread_count"], &unread["muted"]), (&json!(7), &json!(3)));
    let text = server.metrics().await;
    let muted = r#"pushhub_silent_messages_total{reason="muted"} "#;
    assert!(text.lines().any(|line| line == format!("{muted}4")), "{text}");
    eventually("it is known how many have preferences", || async {
        metric(&server.metrics().await, "pushhub_preferences_known") == Some(1.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_on_one_node_holds_on_the_others() {
    let [a, b] = Cluster::new().nodes().await;
    let service = a.service().await;
    let mut phone = a.socket("ann").device("phone").connect().await;
    let mut tablet = b.socket("ann").device("tablet").codec(Codec::MsgPack).connect().await;
    for (muted, silent) in [(&["news"][..], true), (&[][..], false), (&["ops", "news"][..], true)] {
        mute(&b.as_user("ann"), muted).await;
        // The node that answered knows at once, the other as soon as it hears.
        let mut rounds = 0;
        loop {
            service.send(among("ann", "news")).await.ok();
            let ((first, one), (second, other)) =
                (heard(phone.next().await), heard(tablet.next().await));
            assert_eq!(one, other);
            assert_eq!(second, silent);
            if first == silent {
                break;
            }
            rounds += 1;
            assert!(rounds < 1_000, "a second has passed");
        }
    }
    // Who comes later hears what was said elsewhere.
    eventually("the other node knows", || async {
        let mut watch = a.socket("ann").device("watch").connect().await;
        service.send(among("ann", "ops")).await.ok();
        heard(watch.next().await).0
    })
    .await;
}

#[tokio::test]
async fn quiet_hours_go_by_the_users_clock_and_urgent_messages_come_through() {
    let server = TestServer::start().await;
    let service = server.service().await;
    let ann = server.as_user("ann");
    let mut phone = server.connect("ann").await;
    let mut is_silent = async |message: Value| {
        service.send(message).await.ok();
        heard(phone.next().await).0
    };
    // An hour around what clocks in Shanghai show now; New York is half a day away.
    let clock = |hours: i64| {
        let at = Timestamp::now() + SignedDuration::from_hours(hours);
        at.to_zoned(TimeZone::get("Asia/Shanghai").unwrap()).strftime("%H:%M").to_string()
    };
    let quiet = |zone: Value, enabled: bool| {
        json!({"quiet_hours": {"start": clock(-1), "end": clock(1), "time_zone": zone,
            "enabled": enabled}})
    };
    for (zone, enabled, silent) in [
        (json!("Asia/Shanghai"), true, true),
        (json!("Asia/Shanghai"), false, false),
        (json!("America/New_York"), true, false),
        (json!(null), true, false),
    ] {
        ann.put(PATH, quiet(zone.clone(), enabled)).await.ok();
        assert_eq!(is_silent(message_to(&["ann"], "hello")).await, silent, "{zone} {enabled}");
    }
    // Without a zone of their own they follow the profile's.
    let profile = json!({"time_zone": "Asia/Shanghai"});
    ann.put("/api/v3/auth/profile", profile).await.ok();
    assert!(is_silent(message_to(&["ann"], "hello")).await);
    assert!(is_silent(urgent("ann", 8)).await);
    assert!(!is_silent(urgent("ann", 9)).await);
    let mut strict = quiet(json!("Asia/Shanghai"), true);
    strict["quiet_hours"]["allow_priority"] = json!(10);
    ann.put(PATH, strict).await.ok();
    assert!(is_silent(urgent("ann", 9)).await);
    assert!(!is_silent(urgent("ann", 10)).await);
    let counted = server.metrics().await;
    let silent = r#"pushhub_silent_messages_total{reason="quiet_hours"} 4"#;
    assert!(counted.lines().any(|line| line == silent), "{counted}");
}

#[tokio::test]
async fn a_backlog_is_as_silent_as_it_would_be_now_also_after_a_restart() {
    let mut server = TestServer::start().await;
    let service = server.service().await;
    for channel in ["news", "ops", "news"] {
        service.send(among("ann", channel)).await.ok();
    }
    mute(&server.as_user("ann"), &["news"]).await;
    let silent = async |server: &TestServer| {
        let mut phone = server.socket("ann").device("phone").since(0).connect().await;
        let backlog = phone.backlog().await;
        backlog.into_iter().map(|frame| heard(frame).0).collect::<Vec<_>>()
    };
    assert_eq!(silent(&server).await, [true, false, true]);
    let mut browser = server.stream("ann").device("browser").query("since", 0).open().await;
    let of_stream: Vec<_> = browser.backlog().await.into_iter().map(|it| heard(it).0).collect();
    assert_eq!(of_stream, [true, false, true]);
    drop(browser);

    server.crash_and_restart().await;
    assert_eq!(silent(&server).await, [true, false, true]);
    let mut phone = server.connect("ann").await;
    service.moved_to(server.user).send(among("ann", "news")).await.ok();
    assert!(heard(phone.next().await).0);
}

fn greeting() -> Value {
    json!({
        "id": "greeting", "name": "greeting", "category": "business", "title": "你好 {{name}}",
        "content": "欢迎", "message_type": "text", "variables": [], "actions": [],
        "locales": {"en": {"title": "Hello {{name}}", "content": "Welcome"},
            "fr-CA": {"title": "Bonjour {{name}}", "content": "Bienvenue"}},
    })
}

#[tokio::test]
async fn each_recipient_reads_a_template_in_a_language_of_theirs() {
    let server = TestServer::start().await;
    let service = server.service_of_level("business", &[]).await;
    service.post("/api/v3/messages/templates", greeting()).await.ok();
    let speak = async |user: &str, languages: Value| {
        server.as_user(user).put(PATH, json!({"languages": languages})).await.ok();
    };
    speak("ann", json!(["en-GB", "fr"])).await;
    speak("eve", json!(["fr-CA"])).await;
    speak("bob", json!(["zh-CN", "en"])).await;
    let locale = json!({"locale": "en"});
    server.as_user("tom").put("/api/v3/auth/profile", locale).await.ok();

    let send = json!({"template_id": "greeting", "variables": {"name": "x"},
        "recipients": ["ann", "bob", "eve", "tom", "who"], "recipient_type": "user"});
    let key = "languages-1";
    let receipt = service.key(key).send(send.clone()).await.ok();
    let title = async |user: &str| {
        let messages = server.as_user(user).all_messages().await;
        let last = messages.last().unwrap();
        (last["title"].as_str().unwrap().to_owned(), last["id"].clone())
    };
    let mut ids = vec![];
    for (user, expected) in [
        ("ann", "Hello x"),
        ("bob", "你好 x"),
        ("eve", "Bonjour x"),
        ("tom", "Hello x"),
        ("who", "你好 x"),
    ] {
        let (title, id) = title(user).await;
        assert_eq!(title, expected, "{user}");
        ids.push(id);
    }
    assert_eq!((&ids[0], &ids[1]), (&ids[3], &ids[4]), "who reads the same shares a message");
    assert_eq!(receipt["message_id"], ids[0]);
    assert_eq!(receipt["recipients"], 5);
    assert_eq!(
        receipt["messages"],
        json!([
            {"message_id": ids[0], "locale": "en", "recipients": 2},
            {"message_id": ids[1], "locale": null, "recipients": 2},
            {"message_id": ids[2], "locale": "fr-CA", "recipients": 1},
        ])
    );
    // Sent again with its key, nothing is.
    assert_eq!(service.key(key).send(send.clone()).await.ok(), receipt);
    assert_eq!(server.as_user("ann").all_messages().await.len(), 1);

    // What the send says goes before what they speak, and then it is one message.
    let mut said = send.clone();
    said["locale"] = json!("fr-CA");
    let receipt = service.send(said).await.ok();
    assert_eq!(receipt.get("messages"), None);
    for user in ["ann", "bob", "eve"] {
        assert_eq!(title(user).await, ("Bonjour x".to_owned(), receipt["message_id"].clone()));
    }

    // Each is a message of its own in a batch, too; and a group is sent the template's own text.
    let single = |user: &str| {
        let mut message = send.clone();
        message["recipients"] = json!([user]);
        message
    };
    let batch = json!({"messages": [single("ann"), single("eve"), send]});
    let data = service.post("/api/v3/messages/send-batch", batch).await.ok();
    assert_eq!(data["accepted"], 3);
    assert_eq!(data["results"][0].get("messages"), None);
    assert_eq!(data["results"][2]["messages"].as_array().unwrap().len(), 3);
    service.post("/api/v3/channels", json!({"id": "team", "name": "team"})).await.ok();
    service.post("/api/v3/channels/team/members", json!({"join": ["ann"]})).await.ok();
    let mut to_team = send.clone();
    to_team["recipients"] = json!(["team"]);
    to_team["recipient_type"] = json!("channel");
    service.send(to_team).await.ok();
    assert_eq!(title("ann").await.0, "你好 x");
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_says_where() {
    let server = TestServer::start().await;
    let ann = server.as_user("ann");
    let many: Vec<String> = (0..10_000).map(|number| format!("c{number}")).collect();
    let quiet = |name: &str, value: Value| {
        let mut hours = json!({"start": "22:00", "end": "07:00"});
        hours[name] = value;
        json!({"quiet_hours": hours})
    };
    for (body, path) in [
        (json!({"muted_channels": many}), "muted_channels"),
        (json!({"muted_channels": [""]}), "muted_channels[0]"),
        (json!({"languages": ["en", "klingonese"]}), "languages[1]"),
        (json!({"languages": ["12"]}), "languages[0]"),
        (quiet("start", json!("25:00")), "quiet_hours.start"),
        (quiet("end", json!("22:00")), "quiet_hours.end"),
        (quiet("end", json!(7)), "quiet_hours.end"),
        (quiet("time_zone", json!("Mars/Base")), "quiet_hours.time_zone"),
        (quiet("time_zone", json!("../../etc/passwd")), "quiet_hours.time_zone"),
        (quiet("allow_priority", json!(11)), "quiet_hours.allow_priority"),
        (quiet("days", json!(["someday"])), "quiet_hours.days[0]"),
        (quiet("day", json!(["mon"])), "quiet_hours.day"),
        (json!({"quiet_hours": {"start": "22:00"}}), "quiet_hours.end"),
        (json!({"mutedChannels": []}), "mutedChannels"),
    ] {
        let answer = ann.put(PATH, body).await;
        answer.refused(422, "invalid");
        let fields = answer.body["error"]["fields"].as_array().unwrap().clone();
        assert!(fields.iter().any(|field| field["path"] == path), "{path}: {fields:?}");
    }
    let nothing = json!({"muted_channels": [], "quiet_hours": null, "languages": [], "version": 0});
    assert_eq!(ann.get(PATH).await.ok(), nothing);
}

#[tokio::test]
async fn preferences_are_their_users_and_an_admins_and_of_one_version() {
    let server = TestServer::start().await;
    let ann = server.as_user("ann");
    let wanted = json!({"muted_channels": ["news"], "languages": ["zh_CN", "en", "zh-cn"],
        "quiet_hours": {"start": "22:00", "end": "07:00", "days": ["fri", "mon"]}});
    let kept = json!({"muted_channels": ["news"], "languages": ["zh-CN", "en"], "version": 1,
        "quiet_hours": {"enabled": true, "start": "22:00", "end": "07:00", "days": ["mon", "fri"],
            "time_zone": null, "allow_priority": 9}});
    assert_eq!(ann.put(PATH, wanted.clone()).await.ok(), kept);
    assert_eq!(ann.put(PATH, wanted.clone()).await.ok(), kept, "the same is no change");
    assert_eq!(ann.get(PATH).await.ok(), kept);
    let mut late = wanted.clone();
    late["expected_version"] = json!(0);
    let answer = ann.put(PATH, late).await;
    answer.refused_with_data(409, "version_conflict");
    assert_eq!(answer.body["data"], kept);

    let bob = server.as_user("bob");
    assert_eq!(bob.get(PATH).await.ok()["version"], 0);
    bob.get("/api/v3/admin/users/ann/preferences").await.refused(404, "not_found");
    let theirs = Token::of("ann").claim("tenant_id", "acme").sign();
    assert_eq!(server.api().bearer(&theirs).get(PATH).await.ok()["version"], 0);
    server.api().get(PATH).await.refused(401, "unauthorized");
    server.service().await.get(PATH).await.refused(403, "forbidden");

    let admin = server.as_admin();
    let path = "/api/v3/admin/users/ann/preferences";
    assert_eq!(admin.get(path).await.ok(), kept);
    let change = json!({"languages": ["en"], "expected_version": 1});
    assert_eq!(admin.put(path, change).await.ok()["version"], 2);
    assert_eq!(ann.get(PATH).await.ok()["muted_channels"], json!([]));
    admin.get("/api/v3/admin/users/nobody/preferences").await.refused(404, "not_found");
    let acme =
        Token::of("chief").claim("roles", json!(["system_admin"])).claim("tenant_id", "acme");
    let chief = server.as_admin().bearer(&acme.sign());
    assert_eq!(chief.get(path).await.ok()["version"], 0, "the ann of acme");

    let export = ann.get("/api/v3/auth/export").await.body;
    let line =
        export.as_str().unwrap().lines().find(|line| line.contains(r#""type":"preferences""#));
    let line: Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!((&line["data"]["version"], &line["data"]["languages"]), (&json!(2), &json!(["en"])));
}
