//! The templates of the seed, and what values may not do.

use proptest::prelude::*;
use protocol::FieldProblem;
use serde_json::{Map, Value, json};

use super::{render::cut, *};

fn values(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn file_share() -> Map<String, Value> {
    values(json!({
        "sender_name": "张三", "file_name": "项目计划.pdf", "file_size": "2.5MB",
        "share_time": "2025-01-15 14:30:00", "file_url": "https://drive.company.com/files/abc123",
    }))
}

fn custom(title: &str, variables: Value, url: &str) -> Compiled {
    let mut template = Templates::builtin().get("file_share").unwrap().source.clone();
    template.title = title.to_owned();
    template.content = String::new();
    template.variables = serde_json::from_value(variables).unwrap();
    template.actions[0].url = url.to_owned();
    Compiled::new(template)
}

fn paths(problems: &[FieldProblem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

#[test]
fn the_examples_of_the_seed_render() {
    let templates = Templates::builtin();
    let file = templates.get("file_share").unwrap().render(&file_share(), true).unwrap();
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
    let doc = templates.get("doc_collaboration").unwrap().render(&doc, true).unwrap();
    assert_eq!(doc.title, "李四 邀请你协作编辑文档");
    assert!(doc.content.ends_with("协作权限：编辑\n截止时间：2025-01-20 18:00:00"));
    assert_eq!(doc.actions.len(), 2);
    assert_eq!(doc.actions[1].action, "decline");

    let alert = values(json!({
        "alert_type": "数据库连接异常", "alert_message": "主数据库连接池耗尽，当前活跃连接数：100/100",
        "affected_scope": "用户认证、订单查询",
    }));
    let compiled = templates.get("system_alert").unwrap();
    let alert = compiled.render(&alert, true).unwrap();
    assert_eq!(alert.title, "系统告警：数据库连接异常");
    assert!(alert.content.ends_with("处理建议："), "an optional value may be missing");
    assert_eq!(compiled.source.priority, Some(8));
    assert_eq!(templates.list().len(), 3);
}

#[test]
fn every_missing_value_is_named() {
    let template = Templates::builtin().get("file_share").unwrap();
    let all = [
        "variables.file_name",
        "variables.file_size",
        "variables.file_url",
        "variables.sender_name",
        "variables.share_time",
    ];
    assert_eq!(paths(&template.render(&Map::new(), true).unwrap_err()), all);
    // Buttons of the send itself: the template's link is not used, so its url is not needed.
    let without_link = template.render(&Map::new(), false).unwrap_err();
    assert!(!paths(&without_link).contains(&"variables.file_url"));
    let mut blank = file_share();
    blank["file_name"] = Value::Null;
    blank["file_size"] = json!("");
    let problems = template.render(&blank, true).unwrap_err();
    assert_eq!(paths(&problems), ["variables.file_name", "variables.file_size"]);
}

#[test]
fn types_are_checked() {
    let variables = json!([
        {"name": "n", "type": "number"}, {"name": "d", "type": "date"},
        {"name": "u", "type": "url"}, {"name": "s", "type": "string"},
    ]);
    let template = custom("{{n}}|{{d}}|{{u}}|{{s}}", variables, "");
    let title = |v: Value| template.render(&values(v), true).map(|rendered| rendered.title);
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
    let template = Templates::builtin().get("file_share").unwrap();
    for url in ["javascript:alert(1)", "  javascript:x", "\tdata:x", "vbscript:x", "file:///etc"] {
        evil["file_url"] = json!(url);
        let problems = template.render(&evil, true).unwrap_err();
        assert_eq!(paths(&problems), ["variables.file_url"], "{url}");
    }
    let pasted = custom("", json!([]), "{{scheme}}:{{rest}}");
    let problems =
        pasted.render(&values(json!({"scheme": "javascript", "rest": "x"})), true).unwrap_err();
    assert_eq!(paths(&problems), ["actions[0].url"]);
}

#[test]
fn defaults_stand_in() {
    let variables = json!([{"name": "a", "type": "string", "required": true, "default": "nobody"}]);
    let template = custom("{{a}} {{b}}!", variables, "");
    assert_eq!(template.render(&Map::new(), true).unwrap().title, "nobody !");
}

#[test]
fn values_are_not_looked_at_again() {
    let template = custom("{{a}}{{b}}", json!([]), "");
    let rendered = template.render(&values(json!({"a": "{{b}}{{a}}", "b": "{{"})), true).unwrap();
    assert_eq!(rendered.title, "{{b}}{{a}}{{");
}

#[test]
fn output_and_input_are_bounded() {
    let bomb = custom(&"{{a}}".repeat(100), json!([]), "");
    let problems = bomb.render(&values(json!({"a": "x".repeat(100)})), true).unwrap_err();
    assert_eq!(paths(&problems), ["title"]);
    let template = custom("", json!([]), "");
    let long = values(json!({"a": "x".repeat(VALUE_BYTES_MAX + 1)}));
    assert_eq!(paths(&template.render(&long, true).unwrap_err()), ["variables.a"]);
    let many: Map<_, _> = (0..=VARIABLES_MAX).map(|n| (n.to_string(), json!(1))).collect();
    assert_eq!(paths(&template.render(&many, true).unwrap_err()), ["variables"]);
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
        if let Ok(rendered) = template.render(&values(json!({"a": value})), true) {
            prop_assert_eq!(rendered.title, format!("[{value}]"));
        }
    }

    #[test]
    fn cutting_never_panics(text in any::<String>(), braces in "[{}a ]*") {
        cut(&text);
        cut(&braces);
    }
}
