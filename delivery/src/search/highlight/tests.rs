//! What is shown, and that it agrees with a model that looks for pieces of a plain string.

use proptest::prelude::*;

use super::*;
use crate::search::model::{model, text};

fn title(query: &str, title: &str) -> String {
    let texts = Texts { title: title.into(), ..Texts::default() };
    Highlight::new(&Terms::parse(query).unwrap(), &texts).title
}

fn content(query: &str, content: &str) -> String {
    let texts = Texts { content: content.into(), ..Texts::default() };
    Highlight::new(&Terms::parse(query).unwrap(), &texts).content
}

#[test]
fn matches_stand_between_em_in_escaped_text() {
    for (query, text, expected) in [
        ("企微", "企微通知：企微", "<em>企微</em>通知：<em>企微</em>"),
        ("微", "企微", "企<em>微</em>"),
        ("企", "企微", "<em>企</em>微"),
        ("企 微", "企微", "<em>企微</em>"),
        ("业微", "企业微信", "企<em>业微</em>信"),
        ("企业 业微", "企业微信", "<em>企业微</em>信"),
        ("哈哈", "哈哈哈", "<em>哈哈哈</em>"),
        ("api", "ＡＰＩ网关", "<em>ＡＰＩ</em>网关"),
        ("企微api", "企微 API v2", "<em>企微 API</em> v2"),
        ("api企", "API 企业", "<em>API 企</em>业"),
        ("dep", "Redeploy Deployment", "Redeploy <em>Deployment</em>"),
        ("\"deploy\"", "deployed deploy", "deployed <em>deploy</em>"),
        ("de", "de deploy", "<em>de</em> deploy"),
        ("2025001", "INV2025001", "INV<em>2025001</em>"),
        ("10gb", "10 GB", "<em>10 GB</em>"),
        ("creme", "Crème", "<em>Crème</em>"),
        ("creme", "Cre\u{300}me.", "<em>Cre\u{300}me</em>."),
        ("ガイド", "ｶﾞｲﾄﾞ付", "<em>ｶﾞｲﾄﾞ</em>付"),
        ("👍", "好👍🏽！", "好<em>👍🏽</em>！"),
        ("🇨🇳", "在🇨🇳", "在<em>🇨🇳</em>"),
        ("שלום", "אמר שָׁלוֹם לך", "אמר <em>שָׁלוֹם</em> לך"),
        ("abc", "\u{202E}abc\u{202C}", "\u{202E}<em>abc</em>\u{202C}"),
        ("𠮷野", "𠮷野家", "<em>𠮷野</em>家"),
        ("b", "<b>&'\"", "&lt;<em>b</em>&gt;&amp;&#39;&quot;"),
        ("em", "<em>", "&lt;<em>em</em>&gt;"),
        ("x", "no match", "no match"),
        ("x", "", ""),
    ] {
        assert_eq!(title(query, text), expected, "{query}");
        assert_eq!(content(query, text), expected, "{query}");
    }
}

#[test]
fn a_long_content_is_cut_around_the_first_match() {
    let text = format!("{}企微{}企微", "前".repeat(500), "后".repeat(500));
    assert_eq!(
        content("企微", &text),
        format!("…{}<em>企微</em>{}…", "前".repeat(30), "后".repeat(88))
    );
    assert_eq!(content("没有", &text), format!("{}…", "前".repeat(120)));
    let end = format!("{}企微", "前".repeat(500));
    assert_eq!(content("企微", &end), format!("…{}<em>企微</em>", "前".repeat(30)));
}

#[test]
fn a_match_longer_than_the_window_is_closed_in_it() {
    let word = "x".repeat(500);
    assert_eq!(content("xxx", &word), format!("<em>{}</em>…", "x".repeat(120)));
}

#[test]
fn no_character_is_parted_from_its_marks() {
    let family = "👨\u{200D}👩";
    let text = format!("{}企微{}", "e\u{301}".repeat(100), "e\u{301}".repeat(100) + family);
    let shown = content("企微", &text);
    assert!(shown.starts_with("…e\u{301}"), "{shown}");
    assert!(shown.ends_with("e\u{301}…"), "{shown}");
}

proptest! {
    #[test]
    fn what_is_marked_is_what_the_model_finds(
        text in text(12),
        query in text(4),
        quoted: bool,
    ) {
        let typed = if quoted { format!("\"{query}\"") } else { query.replace(' ', "") };
        let Ok(terms) = Terms::parse(&typed) else { return Ok(()) };
        let (_, found) = matches(&terms, &text, |_| 0..text.len());
        prop_assert_eq!(!found.is_empty(), model(&text, &typed, quoted), "{} in {}", typed, text);
    }

    #[test]
    fn a_highlight_without_its_marks_is_the_escaped_text(text: String, query in "\\PC{1,8}") {
        let Ok(terms) = Terms::parse(&query) else { return Ok(()) };
        let texts = Texts { title: text.as_str().into(), ..Texts::default() };
        let shown = Highlight::new(&terms, &texts).title;
        let mut escaped = String::new();
        escape(&text, &mut escaped);
        prop_assert_eq!(shown.replace("<em>", "").replace("</em>", ""), escaped);
    }
}
