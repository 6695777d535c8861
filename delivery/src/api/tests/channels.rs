//! Channels on both ports.

use serde_json::{Value, json};

use super::harness::{ADMIN_TOKEN, Api};
use crate::control::{Level, NewService, Scope};

fn admin() -> String {
    format!("Bearer {ADMIN_TOKEN}")
}

fn named(id: &str) -> Value {
    json!({"id": id, "name": id})
}

/// A service of level business, and channels that it made: who is in each.
async fn with_channels(api: &Api, channels: &[(&str, bool, &[&str])]) -> String {
    let shop = api.service(NewService::named("shop"));
    for (id, open, members) in channels {
        let new = json!({"id": id, "name": id, "open": open});
        api.post(&shop, "/channels", new).await.data();
        if !members.is_empty() {
            let change = json!({"join": members});
            api.post(&shop, &format!("/channels/{id}/members"), change).await.data();
        }
    }
    shop
}

fn ids(list: &Value) -> Vec<&str> {
    let channels = list["channels"].as_array().unwrap();
    channels.iter().map(|channel| channel["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_channel_is_made_changed_and_ended() {
    let api = Api::new();
    let shop = api.service(NewService::named("shop"));
    let new = json!({"id": "运维", "name": "运维 7×24", "description": "d", "open": true,
        "history": true, "presence": true, "metadata": {"a": [1]}});
    let made = api.post(&shop, "/channels", new.clone()).await;
    let made = made.data();
    for (name, value) in new.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    assert_eq!((&made["version"], &made["members"]), (&json!(1), &json!(0)));
    assert_eq!(made["created_at"], made["updated_at"]);
    assert!(made["created_by"].as_str().unwrap().starts_with("svc-"));

    let path = "/channels/%E8%BF%90%E7%BB%B4";
    let renamed = json!({"name": "运维", "expected_version": 1});
    let renamed = api.put(&shop, path, renamed).await;
    let renamed = renamed.data();
    assert_eq!((&renamed["name"], &renamed["version"]), (&json!("运维"), &json!(2)));
    for kept in ["id", "description", "open", "history", "presence", "metadata", "created_at"] {
        assert_eq!(renamed[kept], made[kept], "{kept}");
    }
    let stale = api.put(&shop, path, json!({"open": false, "expected_version": 1})).await;
    stale.error(409, "version_conflict");
    assert_eq!(
        (&stale.body["data"]["version"], &stale.body["data"]["open"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(api.put(&shop, path, json!({"open": false})).await.data()["version"], 3);

    let again = api.post(&shop, "/channels", new).await;
    again.error(409, "conflict");
    assert_eq!(again.body["data"]["version"], 3);
    assert_eq!(api.get(&shop, path).await.data()["version"], 3);
    assert_eq!(api.delete(&shop, path).await.data()["id"], "运维");
    for answer in [
        api.get(&shop, path).await,
        api.delete(&shop, path).await,
        api.put(&shop, path, json!({"open": false})).await,
        api.post(&shop, &format!("{path}/members"), json!({"join": ["a"]})).await,
    ] {
        answer.error(404, "not_found");
        assert_eq!(answer.body["message"], "there is no such channel");
    }
    // The id is free again; nobody is in the new one.
    assert_eq!(api.post(&shop, "/channels", named("运维")).await.data()["members"], 0);
    for what in ["created", "updated", "deleted"] {
        let series = format!("pushhub_channel_changes_total{{change={what}}}");
        assert_eq!(api.counts.of(&series), if what == "deleted" { 1 } else { 2 }, "{what}");
    }
}

#[tokio::test]
async fn wrong_channels_are_explained() {
    let api = Api::new();
    let shop = api.service(NewService::named("shop"));
    let post = async |body: Value| api.post(&shop, "/channels", body).await;
    for (wrong, path) in [
        (json!({}), "name"),
        (json!({"name": " "}), "name"),
        (json!({"name": "a\nb"}), "name"),
        (json!({"name": "n".repeat(257)}), "name"),
        (json!({"name": "n", "id": "a\u{0}"}), "id"),
        (json!({"name": "n", "id": "x".repeat(129)}), "id"),
        (json!({"name": "n", "description": "d".repeat(4_097)}), "description"),
        (json!({"name": "n", "metadata": {"a": "m".repeat(16 << 10)}}), "metadata"),
        (json!({"name": "n", "opne": true}), "opne"),
        (json!({"name": "n", "open": "yes"}), "open"),
        (json!({"name": null}), "name"),
    ] {
        assert_eq!(post(wrong.clone()).await.fields(), [path], "{wrong}");
    }
    let near = post(json!({"name": "n", "opne": true})).await;
    assert!(near.body["message"].as_str().unwrap().contains("nearest known name is open"));
    let made_up = post(json!({"name": "n", "description": null, "metadata": null})).await;
    let id = made_up.data()["id"].as_str().unwrap();
    let change = async |body: Value| api.put(&shop, &format!("/channels/{id}"), body).await;
    assert_eq!(change(json!({"id": "other"})).await.fields(), ["id"]);
    assert_eq!(change(json!({"name": ""})).await.fields(), ["name"]);
    assert_eq!(change(json!({"expected_version": -1})).await.fields(), ["expected_version"]);
    // Nothing said is nothing changed but the version.
    assert_eq!(change(json!({})).await.data()["name"], "n");
    let members =
        async |body: Value| api.post(&shop, &format!("/channels/{id}/members"), body).await;
    for (wrong, path) in [
        (json!({}), "join"),
        (json!({"join": [], "leave": []}), "join"),
        (json!({"join": vec!["a"; 10_001]}), "join"),
        (json!({"join": ["a", ""]}), "join[1]"),
        (json!({"leave": ["a\n"]}), "leave[0]"),
        (json!({"join": ["a"], "leave": ["b", "a"]}), "leave[1]"),
        (json!({"join": [1]}), "join[0]"),
        (json!({"join": "a"}), "join"),
        (json!({"joins": ["a"]}), "joins"),
    ] {
        assert_eq!(members(wrong.clone()).await.fields(), [path], "{wrong}");
    }
    let longest: Vec<String> = (0..10_000).map(|n| format!("{n:0>128}")).collect();
    assert_eq!(members(json!({"join": longest})).await.data()["joined"], 10_000);
}

#[tokio::test]
async fn members_come_and_go() {
    let api = Api::new();
    let shop = with_channels(&api, &[("ops", false, &["ann", "bob", "ann"])]).await;
    let path = "/channels/ops/members";
    let change = json!({"join": ["bob", "carol"], "leave": ["ann", "nobody"]});
    let changed = api.post(&shop, path, change).await;
    assert_eq!(changed.data(), &json!({"joined": 1, "left": 1, "members": 2}));
    let listed = api.get(&shop, path).await;
    let members = listed.data()["members"].as_array().unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!((&members[0]["user_id"], &members[1]["user_id"]), (&json!("bob"), &json!("carol")));
    assert!(members[0]["joined_at"].is_string());
    assert_eq!(api.get(&shop, "/channels/ops").await.data()["members"], 2);

    let (mut seen, mut cursor) = (vec![], String::new());
    loop {
        let page = api.get(&shop, &format!("{path}?size=1{cursor}")).await;
        for member in page.data()["members"].as_array().unwrap() {
            seen.push(member["user_id"].as_str().unwrap().to_owned());
        }
        let meta = &page.body["meta"];
        assert_eq!((&meta["size"], &meta["page"]), (&json!(1), &Value::Null));
        match meta["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["bob", "carol"]);
    for wrong in ["cursor=n5", "cursor=i%00", "cursor=i!!", "page=2", "size=201"] {
        api.get(&shop, &format!("{path}?{wrong}")).await.fields();
    }
}

#[tokio::test]
async fn who_sees_what() {
    let api = Api::new();
    let channels: [(&str, bool, &[&str]); 3] =
        [("closed", false, &["ann"]), ("open", true, &["ann"]), ("other", false, &["bob"])];
    let shop = with_channels(&api, &channels).await;
    let scoped = Scope { channels: vec!["closed".to_owned()], ..Scope::default() };
    let scoped = api.service(NewService { scope: scoped.clone(), ..NewService::named("scoped") });
    let (ann, eve) = (api.user("ann", &[]), api.user("eve", &[]));
    let chief = api.user("chief", &["system_admin"]);
    // A third party sees what its scope lists, and no member.
    let partner = NewService {
        id: Some("partner".to_owned()),
        level: Some(Level::ThirdParty),
        scope: Scope { channels: vec!["closed".to_owned()], ..Scope::default() },
        ..NewService::named("partner")
    };
    let partner = api.service(partner);
    api.post(&admin(), "/admin/services/partner/approve", json!({})).await.data();

    let codes = async |caller: &str, id: &str| {
        let shown = api.get(caller, &format!("/channels/{id}")).await.status.as_u16();
        let members = api.get(caller, &format!("/channels/{id}/members")).await.status.as_u16();
        (shown, members)
    };
    for (who, caller, expected) in [
        ("shop", &shop, [(200, 200), (200, 200), (200, 200), (404, 404)]),
        ("scoped", &scoped, [(200, 200), (404, 404), (404, 404), (404, 404)]),
        ("partner", &partner, [(200, 403), (404, 404), (404, 404), (404, 404)]),
        ("ann", &ann, [(200, 200), (200, 200), (404, 404), (404, 404)]),
        ("eve", &eve, [(404, 404), (200, 404), (404, 404), (404, 404)]),
        ("chief", &chief, [(200, 200), (200, 200), (200, 200), (404, 404)]),
    ] {
        for (id, expected) in ["closed", "open", "other", "none"].into_iter().zip(expected) {
            assert_eq!(codes(caller, id).await, expected, "{who} {id}");
        }
    }
    let list = async |caller: &str, query: &str| {
        let answer = api.get(caller, &format!("/channels{query}")).await;
        ids(answer.data()).join(" ")
    };
    assert_eq!(list(&shop, "").await, "closed open other");
    assert_eq!(list(&shop, "?show=open").await, "open");
    assert_eq!(list(&scoped, "").await, "closed");
    assert_eq!(list(&partner, "").await, "closed");
    assert_eq!(list(&partner, "?show=open").await, "");
    assert_eq!(list(&ann, "").await, "closed open");
    assert_eq!(list(&ann, "?show=mine&page=2&size=1").await, "open");
    assert_eq!(list(&eve, "").await, "");
    assert_eq!(list(&eve, "?show=open").await, "open");
    assert_eq!(list(&chief, "").await, "");
    assert_eq!(list(&chief, "?show=all").await, "closed open other");
    api.get(&eve, "/channels?show=all").await.error(403, "forbidden");
    assert_eq!(api.get(&shop, "/channels?show=mine").await.fields(), ["show"]);
    let mine = api.get(&ann, "/channels?size=1").await;
    assert_eq!((&mine.data()["total"], &mine.body["meta"]["total_pages"]), (&json!(2), &json!(2)));
    let entry = &mine.data()["channels"][0];
    assert_eq!((&entry["is_member"], &entry["unread_count"]), (&json!(true), &json!(0)));
    let open = api.get(&eve, "/channels/open").await;
    assert_eq!(open.data()["is_member"], false);
    // Keepers are told nothing of an inbox of theirs.
    assert!(api.get(&shop, "/channels/open").await.data().get("is_member").is_none());
}

#[tokio::test]
async fn long_lists_are_walked_by_cursor() {
    let api = Api::new();
    let shop = api.service(NewService::named("shop"));
    for n in 0..450 {
        let new = json!({"id": format!("c{n:03}"), "name": "n", "open": n % 100 == 7});
        api.post(&shop, "/channels", new).await.data();
    }
    let scope: Vec<String> = ["c300", "c001", "gone", "c100"].map(str::to_owned).into();
    let scope = Scope { channels: scope, ..Scope::default() };
    let scoped = api.service(NewService { scope, ..NewService::named("scoped") });
    let walk = async |caller: &str, query: &str| {
        let (mut seen, mut cursor) = (vec![], String::new());
        loop {
            let page = api.get(caller, &format!("/channels?{query}{cursor}")).await;
            let found = ids(page.data());
            assert!(found.len() <= page.body["meta"]["size"].as_u64().unwrap() as usize);
            seen.extend(found.into_iter().map(str::to_owned));
            match page.body["meta"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen,
            }
        }
    };
    let all: Vec<String> = (0..450).map(|n| format!("c{n:03}")).collect();
    assert_eq!(walk(&shop, "size=150").await, all);
    assert_eq!(walk(&shop, "size=199").await, all);
    assert_eq!(walk(&scoped, "size=1").await, ["c001", "c100", "c300"]);
    assert_eq!(walk(&scoped, "size=3").await, ["c001", "c100", "c300"]);
    let open = ["c007", "c107", "c207", "c307", "c407"];
    assert_eq!(walk(&api.user("ann", &[]), "show=open&size=2").await, open);
    assert_eq!(walk(&shop, "show=open&size=5").await, open);
}

#[tokio::test]
async fn who_keeps_channels() {
    let api = Api::new();
    let shop = with_channels(&api, &[("ops", true, &[])]).await;
    let scope = Scope { channels: vec!["mine".to_owned()], ..Scope::default() };
    let scoped = api.service(NewService { scope, ..NewService::named("scoped") });
    let (ann, chief) = (api.user("ann", &[]), api.user("chief", &["system_admin"]));
    let reader = api.user_with("chief", |request| {
        request.roles = vec!["system_admin".to_owned()];
        request.scope = Some(vec!["read".to_owned()]);
    });
    let calls = async |caller: &str| {
        let put = api.put(caller, "/channels/ops", json!({"name": "n"})).await;
        let member = api.post(caller, "/channels/ops/members", json!({"join": ["x"]})).await;
        let made = api.post(caller, "/channels", named("another")).await;
        let gone = api.delete(caller, "/channels/another").await;
        [put, member, made, gone].map(|answer| answer.status.as_u16())
    };
    for (caller, expected) in [
        ("", [401; 4]),
        (ann.as_str(), [403; 4]),
        (&reader, [403; 4]),
        (&scoped, [403; 4]),
        (&shop, [200; 4]),
        (&chief, [200; 4]),
    ] {
        assert_eq!(calls(caller).await, expected, "{caller}");
    }
    // A wrong body does not change who is told what.
    api.post(&ann, "/channels", json!({"nam": 1})).await.error(403, "forbidden");
    api.post(&scoped, "/channels", named("mine")).await.data();
    // Out of its scope is said, there or not.
    let there = api.put(&scoped, "/channels/ops", json!({"name": "n"})).await;
    let absent = api.put(&scoped, "/channels/none", json!({"name": "n"})).await;
    assert_eq!(there.body["message"], absent.body["message"]);
    // An added role counts from now on.
    let ann_is = json!({"roles": ["system_admin"]});
    api.put(&admin(), "/admin/users/ann/roles", ann_is).await.data();
    assert_eq!(calls(&ann).await, [200; 4]);
}

#[tokio::test]
async fn users_join_and_leave_open_channels() {
    let api = Api::new();
    let channels: [(&str, bool, &[&str]); 2] = [("open", true, &[]), ("closed", false, &["ann"])];
    with_channels(&api, &channels).await;
    let (ann, eve) = (api.user("ann", &[]), api.user("eve", &[]));
    let call = async |caller: &str, what: &str| {
        api.post(caller, &format!("/channels/{what}"), json!({})).await
    };
    assert_eq!(
        call(&ann, "open/join").await.data(),
        &json!({"joined": 1, "left": 0, "members": 1})
    );
    assert_eq!(call(&ann, "open/join").await.data()["joined"], 0);
    assert_eq!(call(&eve, "open/leave").await.data()["left"], 0);
    assert_eq!(call(&ann, "open/leave").await.data()["left"], 1);
    // A closed one is none for who is not in it.
    let closed = call(&eve, "closed/join").await;
    let absent = call(&eve, "absent/join").await;
    closed.error(404, "not_found");
    absent.error(404, "not_found");
    assert_eq!(closed.body["message"], absent.body["message"]);
    call(&eve, "closed/leave").await.error(404, "not_found");
    assert_eq!(call(&ann, "closed/join").await.data()["joined"], 0);
    call(&ann, "closed/leave").await.error(403, "forbidden");
    let shop = api.service(NewService::named("another"));
    call(&shop, "open/join").await.error(403, "forbidden");
    let reader = api.user_with("ann", |request| request.scope = Some(vec!["read".to_owned()]));
    call(&reader, "open/join").await.error(403, "forbidden");
}

#[tokio::test]
async fn admins_keep_the_channels_of_any_tenant() {
    let api = Api::new();
    let there = "?tenant_id=t2";
    let path = |rest: &str| format!("/admin/channels{rest}");
    let made = api.post(&admin(), &path(there), named("ops")).await;
    assert_eq!(made.data()["created_by"], "admin");
    let members = json!({"join": ["ann"]});
    api.post(&admin(), &path(&format!("/ops/members{there}")), members).await.data();
    assert_eq!(ids(api.get(&admin(), &path("")).await.data()), [""; 0]);
    assert_eq!(ids(api.get(&admin(), &path(there)).await.data()), ["ops"]);
    api.get(&admin(), &path("/ops")).await.error(404, "not_found");
    let shown = api.get(&admin(), &path(&format!("/ops{there}"))).await;
    assert_eq!(shown.data()["members"], 1);
    // A tenant's system admin keeps that tenant's, and there are no others.
    let chief = api.user_of("t2", "chief", &["system_admin"]);
    assert_eq!(ids(api.get(&chief, &path("")).await.data()), ["ops"]);
    assert_eq!(api.get(&chief, &path("?tenant_id=default")).await.fields(), ["tenant_id"]);
    let foreign = api.user("foreign", &["system_admin"]);
    assert_eq!(ids(api.get(&foreign, &path("")).await.data()), [""; 0]);
    api.delete(&foreign, &path("/ops")).await.error(404, "not_found");
    assert_eq!(ids(api.get(&api.user_of("t2", "ann", &[]), "/channels").await.data()), ["ops"]);
    assert_eq!(ids(api.get(&api.user("ann", &[]), "/channels").await.data()), [""; 0]);
    let renamed = json!({"name": "Ops"});
    assert_eq!(api.put(&chief, &path("/ops"), renamed).await.data()["name"], "Ops");
    assert_eq!(api.delete(&admin(), &path(&format!("/ops{there}"))).await.data()["name"], "Ops");
}

#[tokio::test]
async fn a_channels_messages_are_those_of_the_inbox() {
    let api = Api::new();
    let shop = with_channels(&api, &[("ops", false, &["ann", "bob"])]).await;
    for n in 1..=3 {
        let message = json!({"title": format!("m{n}"), "content": "c", "recipients": ["ops"],
            "priority": n});
        let sent = api.post(&shop, "/messages/send", message).await;
        assert_eq!(sent.data()["recipients"], 2);
    }
    let direct = json!({"title": "direct", "content": "c", "recipients": ["ann"]});
    api.post(&shop, "/messages/send", direct).await.data();
    let ann = api.user("ann", &[]);
    let list = async |query: &str| api.get(&ann, &format!("/channels/ops/messages{query}")).await;
    let titles = |answer: &Value| -> Vec<String> {
        let messages = answer["messages"].as_array().unwrap();
        messages.iter().map(|m| m["title"].as_str().unwrap().to_owned()).collect()
    };
    let all = list("").await;
    assert_eq!(titles(all.data()), ["m3", "m2", "m1"]);
    assert_eq!((&all.data()["total"], &all.data()["unread_count"]), (&json!(3), &json!(3)));
    assert_eq!(
        all.body["meta"],
        json!({"page": 1, "size": 20, "total_pages": 1, "next_cursor": null})
    );
    assert_eq!(titles(list("?sort=oldest&size=2").await.data()), ["m1", "m2"]);
    assert_eq!(titles(list("?priority_min=3").await.data()), ["m3"]);
    assert_eq!(titles(list("?cursor=n3").await.data()), ["m2", "m1"]);
    assert_eq!(list("?channel_id=other").await.fields(), ["channel_id"]);
    // The history of a channel that shows none is empty, not somebody else's.
    assert_eq!(titles(list("?cursor=h").await.data()), [""; 0]);
    let mine = api.get(&ann, "/channels").await;
    let entry = &mine.data()["channels"][0];
    assert_eq!(entry["unread_count"], 3);

    api.post(&ann, "/messages/read-batch", json!({"channel_id": "ops"})).await.data();
    assert_eq!(list("").await.data()["unread_count"], 0);
    // Who left keeps what they received; who never was in it is told that there is none.
    api.post(&shop, "/channels/ops/members", json!({"leave": ["ann"]})).await.data();
    assert_eq!(titles(list("").await.data()).len(), 3);
    let eve = api.user("eve", &[]);
    let closed = api.get(&eve, "/channels/ops/messages").await;
    let absent = api.get(&eve, "/channels/none/messages").await;
    closed.error(404, "not_found");
    assert_eq!(closed.body["message"], absent.body["message"]);
    api.get(&shop, "/channels/ops/messages").await.error(403, "forbidden");
}
