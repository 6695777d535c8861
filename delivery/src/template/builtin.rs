//! The templates that are there from the start (seed 003 §4.5), word for word.

use protocol::{ActionInfo, Time};

use super::{Category, Template, TemplateVariable, VariableType};

/// When the built-in templates were written: the date of the examples in the seed.
const WRITTEN: i64 = 1_736_899_200_000;

fn variable(name: &str, kind: VariableType, required: bool, description: &str) -> TemplateVariable {
    TemplateVariable {
        name: name.to_owned(),
        kind,
        required,
        default: String::new(),
        description: description.to_owned(),
    }
}

fn link(text: &str, url: &str) -> ActionInfo {
    ActionInfo {
        kind: "link".to_owned(),
        text: text.to_owned(),
        url: url.to_owned(),
        action: String::new(),
        style: "primary".to_owned(),
    }
}

struct Words<'a> {
    id: &'a str,
    name: &'a str,
    category: Category,
    title: &'a str,
    content: &'a str,
    message_type: &'a str,
}

fn template(
    words: Words<'_>,
    variables: Vec<TemplateVariable>,
    priority: Option<u8>,
    actions: Vec<ActionInfo>,
) -> Template {
    let written = Time::from_millis(WRITTEN);
    Template {
        id: words.id.to_owned(),
        name: words.name.to_owned(),
        category: words.category,
        title: words.title.to_owned(),
        content: words.content.to_owned(),
        variables,
        message_type: words.message_type.to_owned(),
        priority,
        actions,
        locales: std::collections::BTreeMap::new(),
        version: 1,
        builtin: true,
        created_by: "system".to_owned(),
        created_at: written,
        updated_at: written,
    }
}

/// `file_share`, `doc_collaboration` and `system_alert`.
pub(super) fn all() -> [Template; 3] {
    use VariableType::{Date, Text};
    [
        template(
            Words {
                id: "file_share",
                name: "文件分享通知",
                category: Category::Business,
                title: "{{sender_name}} 分享了文件给你",
                content: "{{sender_name}} 分享了文件 \"{{file_name}}\" 给你\n\n文件大小：{{file_size}}\n分享时间：{{share_time}}",
                message_type: "file_share",
            },
            vec![
                variable("sender_name", Text, true, "发送者姓名"),
                variable("file_name", Text, true, "文件名称"),
                variable("file_size", Text, true, "文件大小"),
                variable("share_time", Date, true, "分享时间"),
            ],
            None,
            vec![link("查看文件", "{{file_url}}")],
        ),
        template(
            Words {
                id: "doc_collaboration",
                name: "文档协作邀请",
                category: Category::Business,
                title: "{{sender_name}} 邀请你协作编辑文档",
                content: "{{sender_name}} 邀请你协作编辑文档 \"{{doc_title}}\"\n\n协作权限：{{permission}}\n截止时间：{{due_time}}",
                message_type: "collaboration",
            },
            vec![
                variable("sender_name", Text, true, ""),
                variable("doc_title", Text, true, ""),
                variable("permission", Text, true, ""),
                variable("due_time", Date, false, ""),
            ],
            None,
            vec![
                link("打开文档", "{{doc_url}}"),
                ActionInfo {
                    kind: "confirm".to_owned(),
                    text: "拒绝邀请".to_owned(),
                    url: String::new(),
                    action: "decline".to_owned(),
                    style: "secondary".to_owned(),
                },
            ],
        ),
        template(
            Words {
                id: "system_alert",
                name: "系统告警",
                category: Category::System,
                title: "系统告警：{{alert_type}}",
                content: "告警详情：{{alert_message}}\n影响范围：{{affected_scope}}\n处理建议：{{suggestion}}",
                message_type: "alert",
            },
            vec![
                variable("alert_type", Text, true, ""),
                variable("alert_message", Text, true, ""),
                variable("affected_scope", Text, true, ""),
                variable("suggestion", Text, false, ""),
            ],
            Some(8),
            Vec::new(),
        ),
    ]
}
