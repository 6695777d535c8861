//! What can be a template, and what is said of what cannot.

use protocol::FieldProblem;
use serde_json::{Value, json};

use super::super::{request::*, *};

fn check(changes: Value) -> Result<Template, Vec<FieldProblem>> {
    let mut value = json!({"name": "n", "category": "business", "title": "t", "content": "c"});
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    serde_json::from_value::<TemplateRequest>(value).unwrap().check_new(|| "made-up".to_owned())
}

#[track_caller]
fn problem(changes: Value) -> (String, String) {
    let problems = check(changes.clone()).unwrap_err();
    assert_eq!(problems.len(), 1, "{changes}: {problems:?}");
    (problems[0].path.clone(), problems[0].problem.clone())
}

#[test]
fn a_template_of_nothing_but_a_title_is_filled_up() {
    let template = check(json!({"content": null})).unwrap();
    assert_eq!((template.id.as_str(), template.message_type.as_str()), ("made-up", "text"));
    assert_eq!((template.priority, template.variables.len()), (None, 0));
    let named = check(json!({"id": "订单 1", "priority": 3, "message_type": "order"})).unwrap();
    assert_eq!((named.id.as_str(), named.priority), ("订单 1", Some(3)));
}

#[test]
fn what_an_answer_carries_can_be_sent_back() {
    let template = check(json!({"locales": {"en": {"title": "a", "content": "b"}}})).unwrap();
    let again: TemplateRequest =
        serde_json::from_str(&serde_json::to_string(&template).unwrap()).unwrap();
    assert_eq!(again.check_update("made-up").unwrap(), template);
    // A program in Go fills every field of the seed's struct.
    assert!(
        check(json!({"id": "", "message_type": "", "created_by": "", "actions": null,
        "created_at": "0001-01-01T00:00:00Z", "variables": null, "locales": null}))
        .is_ok()
    );
    assert!(
        check(json!({"variables": [{"name": "a", "type": "date", "required": null,
        "default": null, "description": null}]}))
        .is_ok()
    );
}

#[test]
fn every_refusal_names_field_and_limit() {
    let long = |bytes: usize| "x".repeat(bytes);
    let action = |changes: Value| {
        let mut action = json!({"type": "button", "text": "t"});
        for (name, change) in changes.as_object().unwrap() {
            action[name] = change.clone();
        }
        json!({"actions": [action]})
    };
    let variable = |variable: Value| json!({"variables": [variable]});
    let many = |count: usize| -> Vec<Value> {
        (0..count).map(|n| json!({"name": format!("v{n}"), "type": "string"})).collect()
    };
    let variants = |count: usize| -> Value {
        let all = (0..count).map(|n| {
            let name = format!("en-a{n}");
            (name, json!({"title": "t", "content": "c"}))
        });
        Value::Object(all.collect())
    };
    for (changes, path, says) in [
        (json!({"id": long(129)}), "id", "128"),
        (json!({"id": "a\u{0}"}), "id", "control"),
        (json!({"id": ".."}), "id", ".."),
        (json!({"name": " "}), "name", "256"),
        (json!({"name": long(257)}), "name", "256"),
        (json!({"title": "", "content": ""}), "content", "needed"),
        (json!({"title": long(1_025)}), "title", "1024"),
        (json!({"content": long(70 << 10)}), "body", "65536"),
        (json!({"content": "{{a}}".repeat(1_001)}), "content", "1000"),
        (
            json!({"content": (0..101).map(|n| format!("{{{{a{n}}}}}")).collect::<String>()}),
            "variables",
            "100",
        ),
        (json!({"variables": many(101)}), "variables", "100"),
        (json!({"message_type": long(65)}), "message_type", "64"),
        (json!({"message_type": "a b"}), "message_type", "letters"),
        (json!({"priority": 0}), "priority", "1 to 10"),
        (json!({"priority": 11}), "priority", "1 to 10"),
        (json!({"expected_version": 1}), "expected_version", "changes"),
        (json!({"title": "{{姓名}}"}), "title", "{{name}}"),
        (json!({"title": "{{#each a}}"}), "title", "no blocks"),
        (json!({"title": "{{ f(x) }}"}), "title", "no blocks"),
        (json!({"content": "{{a"}), "content", "{{name}}"),
        (variable(json!({"name": "a b", "type": "string"})), "variables[0].name", "64"),
        (
            variable(json!({"name": "a", "type": "number", "default": "x"})),
            "variables[0].default",
            "number",
        ),
        (
            variable(json!({"name": "a", "type": "url", "default": "javascript:1"})),
            "variables[0].default",
            "scheme",
        ),
        (
            variable(json!({"name": "a", "type": "string", "description": long(1_025)})),
            "variables[0].description",
            "1024",
        ),
        (action(json!({"type": "form"})), "actions[0].type", "button, link, confirm"),
        (action(json!({"text": ""})), "actions[0].text", "empty"),
        (action(json!({"text": long(257)})), "actions[0].text", "256"),
        (action(json!({"style": "pink"})), "actions[0].style", "primary"),
        (action(json!({"type": "link"})), "actions[0].url", "link"),
        (action(json!({"url": "javascript:{{a}}"})), "actions[0].url", "scheme"),
        (action(json!({"url": "https://a.example{{a}}"})), "actions[0].url", "host"),
        (action(json!({"url": format!("/{}", long(2_048))})), "actions[0].url", "2048"),
        (json!({"actions": vec![json!({"type": "button", "text": "t"}); 11]}), "actions", "10"),
        (json!({"locales": variants(51)}), "locales", "50"),
        (
            json!({"locales": {"klingon language": {"title": "t", "content": "c"}}}),
            "locales.klingon language",
            "en-GB",
        ),
        (json!({"locales": {"en": {"title": "t"}}}), "locales.en.content", "missing"),
        (
            json!({"locales": {"en": {"title": "t", "content": long(262_145)}}}),
            "locales.en.content",
            "262144",
        ),
        (
            json!({"locales": {"en": {"title": "t", "content": "c",
            "actions": [{"type": "link", "text": "t"}]}}}),
            "locales.en.actions[0].url",
            "link",
        ),
    ] {
        let problems = check(changes.clone()).unwrap_err();
        let found = problems.iter().find(|problem| problem.path == path);
        let found = found.unwrap_or_else(|| panic!("{path}: {problems:?}"));
        assert!(found.problem.contains(says), "{path}: {}", found.problem);
    }
    let twice = json!([{"name": "a", "type": "string"}, {"name": "a", "type": "date"}]);
    assert_eq!(problem(json!({"variables": twice})).0, "variables[1].name");
    let text = json!({"title": "t", "content": "c"});
    let (path, says) = problem(json!({"locales": {"en-GB": text, "en_gb": text}}));
    assert_eq!((path.as_str(), says.contains("twice")), ("locales.en_gb", true));
}

#[test]
fn ids_do_not_change() {
    let request = |id: Value| {
        let value = json!({"id": id, "name": "n", "category": "system", "title": "t"});
        serde_json::from_value::<TemplateRequest>(value).unwrap().check_update("a")
    };
    for same in [json!("a"), json!(""), Value::Null] {
        assert_eq!(request(same).unwrap().id, "a");
    }
    assert_eq!(request(json!("b")).unwrap_err()[0].path, "id");
}
