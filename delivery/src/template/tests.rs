//! The templates of the seed, and what values may not do.

mod library;
mod request;

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use protocol::{FieldProblem, TenantId};
use serde_json::{Map, Value, json};

use super::{pieces::cut, *};
use crate::control::Control;

/// Nothing but the built-in templates; for tests that change none.
pub(crate) fn built_in() -> Arc<Templates> {
    // The folder goes at once; the open file is never looked at again.
    static BUILT_IN: LazyLock<Arc<Templates>> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        let control = Arc::new(Control::open(dir.path()).unwrap());
        Arc::new(Templates::new(control, &::metrics::NoopRecorder))
    });
    Arc::clone(&BUILT_IN)
}

pub(crate) fn built_in_one(id: &str) -> Arc<Compiled> {
    built_in().get(&TenantId::default(), id).unwrap().unwrap()
}

fn values(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn file_share() -> Map<String, Value> {
    values(json!({
        "sender_name": "张三", "file_name": "项目计划.pdf", "file_size": "2.5MB",
        "share_time": "2025-01-15 14:30:00", "file_url": "https://drive.company.com/files/abc123",
    }))
}

/// One action if there is a url, else none; `.` keeps a title without values from being empty.
fn custom(title: &str, variables: Value, url: &str) -> Compiled {
    let mut template = built_in_one("file_share").source.clone();
    template.title = title.to_owned();
    template.content = ".".to_owned();
    template.variables = serde_json::from_value(variables).unwrap();
    template.actions[0].url = url.to_owned();
    template.actions.retain(|action| !action.url.is_empty());
    Compiled::new(template, None)
}

fn paths(problems: &[FieldProblem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

#[test]
fn the_examples_of_the_seed_render() {
    let file = built_in_one("file_share").render(&file_share(), None, true).unwrap();
    assert_eq!(file.title, "张三 分享了文件给你");
    assert_eq!(
        file.content,
        "张三 分享了文件 \"项目计划.pdf\" 给你\n\n文件大小：2.5MB\n分享时间：2025-01-15 14:30:00"
    );
    assert_eq!(file.actions[0].url, "https://drive.company.com/files/abc123");
    assert_eq!(file.actions[0].text, "查看文件");

    let doc = values(json!({
        "sender_name": "李四", "doc_title": "Q1销售报告", "permission": "编辑",
        "due_time": "2025-01-20 18:00:00", "doc_url": "https://docs.company.com/doc/def456",
    }));
    let doc = built_in_one("doc_collaboration").render(&doc, None, true).unwrap();
    assert_eq!(doc.title, "李四 邀请你协作编辑文档");
    assert!(doc.content.ends_with("协作权限：编辑\n截止时间：2025-01-20 18:00:00"));
    assert_eq!(doc.actions.len(), 2);
    assert_eq!(doc.actions[1].action, "decline");

    let alert = values(json!({
        "alert_type": "数据库连接异常", "alert_message": "主数据库连接池耗尽，当前活跃连接数：100/100",
        "affected_scope": "用户认证、订单查询",
    }));
    let compiled = built_in_one("system_alert");
    let alert = compiled.render(&alert, None, true).unwrap();
    assert_eq!(alert.title, "系统告警：数据库连接异常");
    assert!(alert.content.ends_with("处理建议："), "an optional value may be missing");
    assert_eq!(compiled.source.priority, Some(8));
    assert_eq!(built_in().list(&TenantId::default(), None).unwrap().len(), 3);
}

#[test]
fn every_missing_value_is_named() {
    let template = built_in_one("file_share");
    let all = [
        "variables.file_name",
        "variables.file_size",
        "variables.file_url",
        "variables.sender_name",
        "variables.share_time",
    ];
    assert_eq!(paths(&template.render(&Map::new(), None, true).unwrap_err()), all);
    // Buttons of the send itself: the template's link is not used, so its url is not needed.
    let without_link = template.render(&Map::new(), None, false).unwrap_err();
    assert!(!paths(&without_link).contains(&"variables.file_url"));
    let mut blank = file_share();
    blank["file_name"] = Value::Null;
    blank["file_size"] = json!("");
    let problems = template.render(&blank, None, true).unwrap_err();
    assert_eq!(paths(&problems), ["variables.file_name", "variables.file_size"]);
}

#[test]
fn types_are_checked() {
    let variables = json!([
        {"name": "n", "type": "number"}, {"name": "d", "type": "date"},
        {"name": "u", "type": "url"}, {"name": "s", "type": "string"},
    ]);
    let template = custom("{{n}}|{{d}}|{{u}}|{{s}}", variables, "");
    let title = |v: Value| template.render(&values(v), None, true).map(|rendered| rendered.title);
    assert_eq!(
        title(json!({"n": 1.5, "d": "2025-01-15T10:30:00+08:00", "u": "/a", "s": true})).unwrap(),
        "1.5|2025-01-15T10:30:00+08:00|/a|true"
    );
    assert_eq!(
        title(json!({"n": "-3e2", "d": "2025-01-15", "s": 7})).unwrap(),
        "-3e2|2025-01-15||7"
    );
    for bad in [
        json!({"n": "many"}),
        json!({"n": "inf"}),
        json!({"n": "NaN"}),
        json!({"n": true}),
        json!({"d": "tomorrow"}),
        json!({"d": "2025-02-30 10:00:00"}),
        json!({"d": 20250115}),
        json!({"d": "2025-13-01"}),
        json!({"d": "20250115"}),
        json!({"u": "javascript:alert(1)"}),
        json!({"u": "JaVaScRiPt:alert(1)"}),
        json!({"u": "data:text/html,x"}),
        json!({"u": "//evil.example"}),
        json!({"u": "https://"}),
        json!({"u": "not a url"}),
        json!({"u": 1}),
        json!({"u": "https://a/\nb"}),
        json!({"s": {"a": 1}}),
        json!({"s": ["a"]}),
        json!({"other": {"a": 1}}),
    ] {
        let name = bad.as_object().unwrap().keys().next().unwrap().clone();
        assert_eq!(paths(&title(bad.clone()).unwrap_err()), [format!("variables.{name}")], "{bad}");
    }
}

#[test]
fn a_link_cannot_be_made_to_run() {
    let mut evil = file_share();
    let template = built_in_one("file_share");
    for url in ["javascript:alert(1)", "  javascript:x", "\tdata:x", "vbscript:x", "file:///etc"] {
        evil["file_url"] = json!(url);
        let problems = template.render(&evil, None, true).unwrap_err();
        assert_eq!(paths(&problems), ["variables.file_url"], "{url}");
    }
    let pasted = custom("", json!([]), "{{scheme}}:{{rest}}");
    let problems = pasted
        .render(&values(json!({"scheme": "javascript", "rest": "x"})), None, true)
        .unwrap_err();
    assert_eq!(paths(&problems), ["actions[0].url"]);
}

#[test]
fn defaults_stand_in() {
    let variables = json!([{"name": "a", "type": "string", "required": true, "default": "nobody"}]);
    let template = custom("{{a}} {{b}}!", variables, "");
    assert_eq!(template.render(&Map::new(), None, true).unwrap().title, "nobody !");
}

#[test]
fn values_are_not_looked_at_again() {
    let template = custom("{{a}}{{b}}", json!([]), "");
    let rendered =
        template.render(&values(json!({"a": "{{b}}{{a}}", "b": "{{"})), None, true).unwrap();
    assert_eq!(rendered.title, "{{b}}{{a}}{{");
}

#[test]
fn output_and_input_are_bounded() {
    let bomb = custom(&"{{a}}".repeat(100), json!([]), "");
    let problems = bomb.render(&values(json!({"a": "x".repeat(100)})), None, true).unwrap_err();
    assert_eq!(paths(&problems), ["title"]);
    let template = custom("", json!([]), "");
    let long = values(json!({"a": "x".repeat(VALUE_BYTES_MAX + 1)}));
    assert_eq!(paths(&template.render(&long, None, true).unwrap_err()), ["variables.a"]);
    let many: Map<_, _> = (0..=VARIABLES_MAX).map(|n| (n.to_string(), json!(1))).collect();
    assert_eq!(paths(&template.render(&many, None, true).unwrap_err()), ["variables"]);
}

#[test]
fn the_rules_for_what_is_not_declared_or_missing() {
    // In a text, an undeclared variable is an optional string; in a link it is needed.
    let template = custom("{{a}}{{title_only}}", json!([]), "/x/{{b}}?r={{c}}");
    let problems = template.render(&Map::new(), None, true).unwrap_err();
    assert_eq!(paths(&problems), ["variables.b", "variables.c"]);
    // A declaration says otherwise.
    let declared = json!([
        {"name": "a", "type": "string", "required": true}, {"name": "c", "type": "string"},
        {"name": "b", "type": "string", "required": true, "default": "all"},
    ]);
    let template = custom("{{a}}", declared, "/x/{{b}}?r={{c}}");
    assert_eq!(paths(&template.render(&Map::new(), None, true).unwrap_err()), ["variables.a"]);
    let rendered = template.render(&values(json!({"a": 1})), None, true).unwrap();
    assert_eq!((rendered.title.as_str(), rendered.actions[0].url.as_str()), ("1", "/x/all?r="));
    // A link to nowhere and a message of nothing are refused, whatever was declared.
    let nowhere = custom("t", json!([{"name": "u", "type": "url"}]), "{{u}}");
    assert_eq!(paths(&nowhere.render(&Map::new(), None, true).unwrap_err()), ["variables.u"]);
    let mut nothing = custom("{{a}}", json!([]), "").source.clone();
    nothing.content = "{{b}}".to_owned();
    let nothing = Compiled::new(nothing, None);
    assert_eq!(paths(&nothing.render(&Map::new(), None, true).unwrap_err()), ["content"]);
}

#[test]
fn the_nearest_language_is_taken() {
    let mut template = custom("自 {{a}}", json!([]), "/{{a}}").source.clone();
    template.locales = serde_json::from_value(json!({
        "en": {"title": "own {{a}}", "content": "c"},
        "en-GB": {"title": "British {{a}}", "content": "c", "actions": [
            {"type": "link", "text": "Have a look", "url": "/gb/{{b}}"}]},
        "zh_Hant": {"title": "繁 {{a}}", "content": "c"},
    }))
    .unwrap();
    let template = Compiled::new(template, None);
    let given = values(json!({"a": "x", "b": "y"}));
    let of = |locale: Option<&str>| {
        let rendered = template.render(&given, locale, true).unwrap();
        let url = rendered.actions[0].url.clone();
        (rendered.title, url, rendered.locale)
    };
    let is = |title: &str, url: &str, locale: Option<&str>| {
        (title.to_owned(), url.to_owned(), locale.map(str::to_owned))
    };
    assert_eq!(of(None), is("自 x", "/x", None));
    assert_eq!(of(Some("fr")), is("自 x", "/x", None));
    assert_eq!(of(Some("en")), is("own x", "/x", Some("en")));
    assert_eq!(of(Some("en_us")), is("own x", "/x", Some("en")));
    assert_eq!(of(Some("EN-gb")), is("British x", "/gb/y", Some("en-GB")));
    assert_eq!(of(Some("zh-Hant-TW")), is("繁 x", "/x", Some("zh_Hant")));
    let shown = template.source.clone().in_locale("en-gb-x-a");
    assert_eq!((shown.0.title.as_str(), shown.1.as_deref()), ("British {{a}}", Some("en-GB")));
    // What a variant's link needs is asked for only where that variant is taken.
    let only_a = values(json!({"a": "x"}));
    assert!(template.render(&only_a, Some("en"), true).is_ok());
    let problems = template.render(&only_a, Some("en-GB"), true).unwrap_err();
    assert_eq!(paths(&problems), ["variables.b"]);
}

#[test]
fn a_value_inside_a_link_is_encoded_and_a_whole_link_is_not() {
    let template = custom("t", json!([]), "https://a.example/f/{{p}}?q={{q}}");
    let render = |p: &str| {
        let given = values(json!({"p": p, "q": "1&admin=2#x"}));
        template.render(&given, None, true).map(|rendered| rendered.actions[0].url.clone())
    };
    assert_eq!(
        render("../项 目").unwrap(),
        "https://a.example/f/..%2F%E9%A1%B9%20%E7%9B%AE?q=1%26admin%3D2%23x"
    );
    assert_eq!(paths(&render("..").unwrap_err()), ["variables.p"]);
    // Three bytes for each: too long after it was encoded, and told as that.
    assert_eq!(paths(&render(&"/".repeat(1_000)).unwrap_err()), ["actions[0].url"]);
    let whole = custom("t", json!([]), "{{base}}/{{p}}");
    let given = values(json!({"base": "https://b.example/x?y=", "p": "a/b"}));
    let url = whole.render(&given, None, true).unwrap().actions[0].url.clone();
    assert_eq!(url, "https://b.example/x?y=/a%2Fb");
}

#[test]
fn braces_that_are_no_placeholder_are_text() {
    let text = |s: &str| Piece::Text(s.to_owned());
    let variable = |s: &str| Piece::Variable(s.to_owned());
    assert_eq!(cut("{{ a }}"), [variable("a")]);
    assert_eq!(cut("{{{a}}}"), [text("{"), variable("a"), text("}")]);
    for plain in ["{{}}", "{{a", "{{a b}}", "{{1a}}", "{{a{{b", "}}{{", "{{#if a}}", "{{名}}"] {
        assert_eq!(cut(plain), [text(plain)], "{plain}");
    }
    assert_eq!(cut(&"{".repeat(1 << 20)).len(), 1, "and not once per brace");
}

proptest! {
    #[test]
    fn a_template_without_placeholders_is_itself(text in "[^{]*") {
        let joined: String = cut(&text).into_iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Variable(name) => panic!("{name}"),
        }).collect();
        prop_assert_eq!(joined, text);
    }

    #[test]
    fn a_value_stands_between_its_neighbours_as_it_is(value in any::<String>()) {
        let template = custom("[{{a}}]", json!([]), "");
        if let Ok(rendered) = template.render(&values(json!({"a": value})), None, true) {
            prop_assert_eq!(rendered.title, format!("[{value}]"));
        }
    }

    /// Whatever the values are, what comes out has the template's parts in the template's order.
    #[test]
    fn no_value_changes_structure(
        a in "\\PC*|[{}a-c]*|[/?#&=:@.%\\\\\"<>]*", b in any::<String>(), c in any::<i64>(),
    ) {
        let source = json!([{"name": "c", "type": "number"}, {"name": "b", "type": "string"}]);
        let template = custom("<{{a}}|{{b}}|{{c}}>", source, "https://h.example/x/{{a}}?k={{b}}&n={{c}}#end");
        let given = values(json!({"a": a, "b": b, "c": c}));
        match template.render(&given, Some("en"), true) {
            Ok(rendered) => {
                prop_assert_eq!(&rendered.title, &format!("<{a}|{b}|{c}>"));
                prop_assert_eq!(rendered.content, ".");
                prop_assert_eq!(rendered.actions.len(), 1);
                let action = &rendered.actions[0];
                prop_assert_eq!((&*action.kind, &*action.text, &*action.style), ("link", "查看文件", "primary"));
                let url = action.url.strip_prefix("https://h.example/x/").unwrap().strip_suffix("#end").unwrap();
                let (path, query) = url.split_once('?').unwrap();
                let (k, n) = query.strip_prefix("k=").unwrap().split_once("&n=").unwrap();
                for part in [path, k, n] {
                    prop_assert!(!part.contains(['/', '?', '#', '&', '=', ':', '@', '\\', '<', '"']), "{}", part);
                }
            }
            // Too long, `..`, or missing: told at a path of the request or the template.
            Err(problems) => for problem in problems {
                prop_assert!(problem.path.starts_with("variables.") || problem.path.starts_with("actions[0]"), "{:?}", problem);
            },
        }
    }

    #[test]
    fn cutting_never_panics(text in any::<String>(), braces in "[{}a ]*") {
        cut(&text);
        cut(&braces);
    }
}
