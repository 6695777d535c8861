//! Templates that are made, changed and deleted, here and by other processes.

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::super::*;
use crate::{
    InboxKey,
    control::{
        Control, ControlError, DELETED_PER_TENANT_MAX, Level, NewService, REFRESH_INTERVAL, Scope,
        TEMPLATE_BYTES_PER_TENANT_MAX, TEMPLATES_PER_TENANT_MAX, TemplateLimit, VERSIONS_MAX,
        tests::place::{Place, everywhere},
    },
    identity::{AdminCaller, Caller, UserCaller},
};
use protocol::{TenantId, UserId};
use std::sync::Arc;

struct Scene<P> {
    place: P,
    control: Arc<Control>,
    templates: Templates,
    tenant: TenantId,
}

fn templates(control: &Arc<Control>) -> Templates {
    Templates::new(Arc::clone(control), &::metrics::NoopRecorder)
}

impl<P: Place> Scene<P> {
    fn new() -> Self {
        let place = P::new();
        let control = Arc::new(place.open());
        let templates = templates(&control);
        Self { place, control, templates, tenant: TenantId::default() }
    }

    fn service(&self, id: &str, level: Level, scope: Scope) -> Caller {
        let new = NewService {
            id: Some(id.to_owned()),
            level: Some(level),
            scope,
            ..NewService::named(id)
        };
        Caller::Service(Arc::new(self.control.create_service(new).unwrap().0))
    }

    fn create(&self, writer: &Writer, id: &str, title: &str) -> Result<Template, TemplateError> {
        self.templates.create(&self.tenant, writer, request(json!({"id": id, "title": title})))
    }

    fn update(&self, writer: &Writer, id: &str, title: &str) -> Result<Template, TemplateError> {
        self.templates.update(&self.tenant, writer, id, request(json!({"title": title})))
    }

    fn title(&self, id: &str) -> Option<String> {
        let found = self.templates.get(&self.tenant, id).unwrap();
        found.map(|template| template.source.title.clone())
    }
}

fn request(changes: Value) -> TemplateRequest {
    let mut value = json!({"name": "n", "category": "business"});
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn user(roles: &[&str], scope: &[&str]) -> Caller {
    let inbox = InboxKey::new(TenantId::default(), UserId::new("chief").unwrap());
    Caller::User(Arc::new(UserCaller {
        roles: roles.iter().map(|&r| r.to_owned()).collect(),
        scope: scope.iter().map(|&s| s.to_owned()).collect(),
        ..UserCaller::new(inbox, Time::MAX)
    }))
}

fn admin() -> Writer {
    Writer::new(&Caller::Admin(AdminCaller::Token)).unwrap()
}

everywhere!(
    a_template_lives_and_keeps_its_versions,
    templates_survive_and_stay_behind_their_wall,
    built_in_templates_stay_as_they_are,
    who_may_write_what,
    of_many_who_change_one_version_one_wins,
    what_another_process_changes_is_seen_here,
    a_reader_that_slept_through_a_forgotten_deletion_does_not_miss_it,
    there_is_an_end_to_everything,
);

fn a_template_lives_and_keeps_its_versions<P: Place>() {
    let scene = Scene::<P>::new();
    let made = scene.create(&admin(), "hello", "one").unwrap();
    assert_eq!((made.version, made.builtin, made.created_by.as_str()), (1, false, "admin"));
    let chief = Writer::new(&user(&["system_admin"], &[])).unwrap();
    let changed = scene.update(&chief, "hello", "two").unwrap();
    assert_eq!((changed.version, changed.created_by.as_str()), (2, "admin"));
    assert_eq!(changed.created_at, made.created_at);
    assert!(changed.updated_at >= made.updated_at);
    assert_eq!(scene.title("hello").unwrap(), "two");
    assert_eq!(scene.templates.version(&scene.tenant, "hello", 1).unwrap(), made);
    let page = scene.templates.versions(&scene.tenant, "hello", 0, 10).unwrap();
    let by: Vec<_> =
        page.versions.iter().map(|saved| (saved.version, saved.updated_by.as_str())).collect();
    assert_eq!(by, [(2, "chief"), (1, "admin")]);

    let gone = scene.templates.delete(&scene.tenant, &admin(), "hello").unwrap();
    assert_eq!(gone.version, 2);
    assert_eq!(scene.title("hello"), None);
    assert!(matches!(scene.update(&admin(), "hello", "x"), Err(TemplateError::NotFound)));
    let again = scene.templates.delete(&scene.tenant, &admin(), "hello");
    assert!(matches!(again, Err(TemplateError::NotFound)));
    assert_eq!(scene.templates.version(&scene.tenant, "hello", 2).unwrap(), changed);
    let page = scene.templates.versions(&scene.tenant, "hello", 1, 10).unwrap();
    assert_eq!((page.total, page.versions.len()), (2, 1));
    assert_eq!(page.deleted_at, Some(gone.deleted_at));

    let back = scene.create(&admin(), "hello", "three").unwrap();
    assert_eq!(back.version, 3, "numbers are never used twice");
    let page = scene.templates.versions(&scene.tenant, "hello", 0, 10).unwrap();
    assert_eq!((page.total, page.deleted_at), (3, None));
    assert!(matches!(
        scene.create(&admin(), "hello", "x"),
        Err(TemplateError::IdTaken(current)) if current.title == "three"
    ));
}

fn templates_survive_and_stay_behind_their_wall<P: Place>() {
    let scene = Scene::<P>::new();
    scene.create(&admin(), "hello", "one").unwrap();
    let acme = TenantId::new("acme").unwrap();
    assert!(scene.templates.get(&acme, "hello").unwrap().is_none());
    assert!(matches!(scene.templates.versions(&acme, "hello", 0, 1), Err(TemplateError::NotFound)));
    let other = request(json!({"id": "hello", "title": "of acme"}));
    scene.templates.create(&acme, &admin(), other).unwrap();
    assert_eq!(scene.title("hello").unwrap(), "one");
    let count = |tenant| scene.templates.list(tenant, None).unwrap().len();
    assert_eq!((count(&acme), count(&scene.tenant)), (4, 4));

    let Scene { place, control, templates: before, tenant } = scene;
    drop((before, control));
    let control = Arc::new(place.open());
    let after = templates(&control);
    assert_eq!(after.get(&tenant, "hello").unwrap().unwrap().source.title, "one");
    assert_eq!(after.get(&acme, "hello").unwrap().unwrap().source.title, "of acme");
}

fn built_in_templates_stay_as_they_are<P: Place>() {
    let scene = Scene::<P>::new();
    for id in ["file_share", "doc_collaboration", "system_alert"] {
        assert!(matches!(scene.create(&admin(), id, "x"), Err(TemplateError::BuiltIn)));
        assert!(matches!(scene.update(&admin(), id, "x"), Err(TemplateError::BuiltIn)));
        let deleted = scene.templates.delete(&scene.tenant, &admin(), id);
        assert!(matches!(deleted, Err(TemplateError::BuiltIn)));
        let page = scene.templates.versions(&scene.tenant, id, 0, 10).unwrap();
        assert_eq!((page.total, page.versions[0].updated_by.as_str()), (1, "system"));
        assert!(scene.templates.version(&scene.tenant, id, 1).unwrap().builtin);
        assert!(matches!(
            scene.templates.version(&scene.tenant, id, 2),
            Err(TemplateError::NotFound)
        ));
    }
}

fn who_may_write_what<P: Place>() {
    let scene = Scene::<P>::new();
    let word = |word: &str| vec![word.to_owned()];
    for nobody in [
        user(&[], &[]),
        user(&["department_admin"], &[]),
        user(&["system_admin"], &["read"]),
        scene.service("partner", Level::ThirdParty, Scope::default()),
    ] {
        assert!(Writer::new(&nobody).is_err(), "{nobody:?}");
    }
    let writer = |caller: Caller| Writer::new(&caller).unwrap();
    let shop = writer(scene.service("shop", Level::Business, Scope::default()));
    let crm = writer(scene.service("crm", Level::Business, Scope::default()));
    let platform = writer(scene.service("platform", Level::System, Scope::default()));
    let refused = |result: Result<Template, TemplateError>| match result {
        Err(TemplateError::Refused(refusal)) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(scene.create(&shop, "order", "t").unwrap().created_by, "shop");
    assert!(refused(scene.update(&crm, "order", "x")).contains("own"));
    assert!(matches!(
        scene.templates.delete(&scene.tenant, &crm, "order"),
        Err(TemplateError::Refused(_))
    ));
    scene.update(&shop, "order", "t2").unwrap();
    assert_eq!(scene.update(&platform, "order", "t3").unwrap().created_by, "shop");
    // A user of the same name is somebody else.
    let inbox = InboxKey::new(TenantId::default(), UserId::new("shop").unwrap());
    let namesake = Writer::new(&Caller::User(Arc::new(UserCaller {
        roles: vec!["system_admin".to_owned()],
        ..UserCaller::new(inbox, Time::MAX)
    })))
    .unwrap();
    scene.create(&namesake, "by-a-user", "t").unwrap();
    assert!(refused(scene.update(&shop, "by-a-user", "x")).contains("own"));

    let save =
        |writer: &Writer, changes| scene.templates.create(&scene.tenant, writer, request(changes));
    for system in [
        json!({"id": "a", "title": "t", "category": "system"}),
        json!({"id": "a", "title": "t", "message_type": "Alert"}),
    ] {
        assert!(refused(save(&shop, system.clone())).contains("system"));
        save(&platform, system).unwrap();
        scene.templates.delete(&scene.tenant, &platform, "a").unwrap();
    }
    // What an admin made a system template of is out of its author's hands.
    let system = request(json!({"title": "t", "category": "system"}));
    scene.templates.update(&scene.tenant, &platform, "order", system).unwrap();
    assert!(refused(scene.update(&shop, "order", "x")).contains("system"));

    let scope = Scope { message_types: word("news"), templates: word("n1"), ..Scope::default() };
    let news = writer(scene.service("news", Level::Business, scope));
    let of = |id: &str, kind: &str| json!({"id": id, "title": "t", "message_type": kind});
    assert!(refused(save(&news, of("n2", "news"))).contains("template"));
    assert!(refused(save(&news, of("n1", "promo"))).contains("message type"));
    save(&news, of("n1", "news")).unwrap();

    // The name of a deleted template is not free for others: sends name it still.
    scene.templates.delete(&scene.tenant, &news, "n1").unwrap();
    assert!(matches!(scene.create(&shop, "n1", "t"), Err(TemplateError::IdWasAnothers)));
    assert_eq!(scene.create(&platform, "n1", "t").unwrap().version, 2);
}

fn of_many_who_change_one_version_one_wins<P: Place>() {
    let scene = Scene::<P>::new();
    scene.create(&admin(), "hello", "one").unwrap();
    let barrier = Barrier::new(8);
    let won = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|n| {
                let (scene, barrier) = (&scene, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let change = request(json!({"title": n.to_string(), "expected_version": 1}));
                    match scene.templates.update(&scene.tenant, &admin(), "hello", change) {
                        Ok(template) => Some(template),
                        Err(TemplateError::VersionConflict(current)) => {
                            assert_eq!(current.version, 2);
                            None
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        tries.into_iter().filter_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(won.len(), 1);
    assert_eq!(scene.title("hello").unwrap(), won[0].title);
}

fn what_another_process_changes_is_seen_here<P: Place>() {
    let scene = Scene::<P>::new();
    let elsewhere = templates(&Arc::new(scene.place.open()));
    let tenant = &scene.tenant;
    elsewhere.create(tenant, &admin(), request(json!({"id": "a", "title": "one"}))).unwrap();
    assert_eq!(scene.title("a").unwrap(), "one", "a new one at once");
    let eventually = |what: &str, expected: Option<&str>| {
        let began = Instant::now();
        while scene.title("a").as_deref() != expected {
            assert!(began.elapsed() < Duration::from_secs(10), "not in time: {what}");
            std::thread::yield_now();
        }
        // Twice the promise, for a machine that is busy with other tests.
        assert!(began.elapsed() < 2 * REFRESH_INTERVAL, "{what}");
    };
    elsewhere.update(tenant, &admin(), "a", request(json!({"title": "two"}))).unwrap();
    eventually("the change", Some("two"));
    elsewhere.delete(tenant, &admin(), "a").unwrap();
    eventually("the end", None);
}

fn a_reader_that_slept_through_a_forgotten_deletion_does_not_miss_it<P: Place>() {
    let scene = Scene::<P>::new();
    let elsewhere = Arc::new(scene.place.open());
    scene.create(&admin(), "first", "t").unwrap();
    assert_eq!(scene.title("first").unwrap(), "t");
    elsewhere
        .change_template::<ControlError>(&scene.tenant, "first", |_| {
            Ok(crate::control::TemplateChange::Delete { at: Time::default() })
        })
        .unwrap();
    for n in 0..DELETED_PER_TENANT_MAX {
        let id = format!("t{n}");
        let save = crate::control::TemplateChange::Save {
            version: 1,
            author: admin().author().clone(),
            document: "{}".to_owned(),
            weight: 2,
            saved_by: "admin".to_owned(),
        };
        let delete = crate::control::TemplateChange::Delete { at: Time::default() };
        for change in [save, delete] {
            elsewhere.change_template::<ControlError>(&scene.tenant, &id, |_| Ok(change)).unwrap();
        }
    }
    let gone = scene.templates.versions(&scene.tenant, "first", 0, 1);
    assert!(matches!(gone, Err(TemplateError::NotFound)), "its history is forgotten");
    assert_eq!(scene.templates.list(&scene.tenant, None).unwrap().len(), 3);
}

fn there_is_an_end_to_everything<P: Place>() {
    let scene = Scene::<P>::new();
    let limit = |result: Result<Template, TemplateError>| match result {
        Err(TemplateError::Control(ControlError::Template(limit))) => limit,
        other => panic!("{other:?}"),
    };
    scene.create(&admin(), "many", "0").unwrap();
    for n in 1..=VERSIONS_MAX {
        scene.update(&admin(), "many", &n.to_string()).unwrap();
    }
    let page = scene.templates.versions(&scene.tenant, "many", 0, 1_000).unwrap();
    assert_eq!((page.total, page.versions.last().unwrap().version), (VERSIONS_MAX as u64, 2));

    let large = |n: usize| {
        let id = format!("large{n}");
        let body = request(json!({"id": id, "title": "t", "content": "x".repeat(60 << 10)}));
        scene.templates.create(&scene.tenant, &admin(), body)
    };
    let fit = TEMPLATE_BYTES_PER_TENANT_MAX / (61 << 10);
    for n in 0..fit {
        large(n).unwrap();
    }
    let last = (fit..fit + 4).find_map(|n| large(n).err());
    assert_eq!(limit(Err(last.unwrap())), TemplateLimit::TenantBytes);

    // Short to write and large in memory: 5,000 bytes of JSON weigh 128,000 more.
    let tenant = TenantId::new("placeholders").unwrap();
    let dense = |n: usize| {
        let content = "{{a}}".repeat(PLACEHOLDERS_MAX);
        let body = request(json!({"id": format!("d{n}"), "title": "t", "content": content}));
        scene.templates.create(&tenant, &admin(), body)
    };
    let refused = (0..=TEMPLATE_BYTES_PER_TENANT_MAX / 128_000).find_map(|n| dense(n).err());
    assert_eq!(limit(Err(refused.unwrap())), TemplateLimit::TenantBytes);

    let tenant = TenantId::new("acme").unwrap();
    let small = |n: usize| {
        let body = request(json!({"id": format!("s{n}"), "title": "t"}));
        scene.templates.create(&tenant, &admin(), body)
    };
    for n in 0..TEMPLATES_PER_TENANT_MAX {
        small(n).unwrap();
    }
    assert_eq!(limit(small(TEMPLATES_PER_TENANT_MAX)), TemplateLimit::Count);
    assert!(
        scene.templates.get(&tenant, &format!("s{TEMPLATES_PER_TENANT_MAX}")).unwrap().is_none()
    );
}
