//! What the endpoints that send tell of themselves. The examples are those of seed 003 §4.6.

use super::{Results, query};
use crate::{
    api::{
        caller::{Anyone, Asker},
        doc::{By, Doc, Example, Others, Reply, Tag, Who},
    },
    send::Receipt,
};

const TAG: Tag = Tag {
    name: "Sending",
    about: "A send that is answered 200 is durable for every recipient; it is pushed to their devices \
            right after.",
};

const FILE_SHARE: &str = r#"{
  "template_id": "file_share",
  "recipients": ["user123"],
  "on_behalf_of": "user456",
  "variables": {
    "sender_name": "张三",
    "file_name": "项目计划.pdf",
    "file_size": "2.5MB",
    "share_time": "2025-01-15 14:30:00",
    "file_url": "https://drive.company.com/files/abc123"
  }
}"#;

const DOC_COLLABORATION: &str = r#"{
  "template_id": "doc_collaboration",
  "recipients": ["user789"],
  "on_behalf_of": "user456",
  "variables": {
    "sender_name": "李四",
    "doc_title": "Q1销售报告",
    "permission": "编辑",
    "due_time": "2025-01-20 18:00:00",
    "doc_url": "https://docs.company.com/doc/def456"
  }
}"#;

const SYSTEM_ALERT: &str = r#"{
  "template_id": "system_alert",
  "recipients": ["admin_team"],
  "variables": {
    "alert_type": "数据库连接异常",
    "alert_message": "主数据库连接池耗尽，当前活跃连接数：100/100",
    "affected_scope": "用户认证、订单查询",
    "suggestion": "立即检查数据库连接配置，考虑重启数据库服务"
  }
}"#;

const WRITTEN_OUT: &str = r#"{
  "title": "会议改期",
  "content": "今天的会议改到 15:00",
  "message_type": "text",
  "recipients": ["user123", "user456"],
  "priority": 7,
  "attachments": [{"type": "link", "name": "日程", "url": "https://calendar.company.com/e/42"}],
  "actions": [{"type": "button", "text": "知道了", "action": "seen", "style": "primary"}],
  "metadata": {"meeting": 42}
}"#;

pub(crate) fn send<A: Asker>() -> Doc {
    let by_admin = |example: Example| Example { by: By::Admin, ..example };
    if A::ADMIN {
        let doc = send::<Anyone>();
        return Doc {
            summary: "Send a message as an admin",
            who: Who::ADMINS,
            others: Others::Same,
            query: query::<A>(),
            examples: doc.examples.into_iter().map(by_admin).collect(),
            ..doc
        };
    }
    Doc {
        tag: &TAG,
        summary: "Send a message",
        about: "Written out (`title`, `content`), or made from a template (`template_id`, \
                `variables`). What a template brings (title, content, message_type) cannot be given \
                beside it.",
        who: Who::SENDERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Receipt>("The message is durable for every recipient."),
        more: vec![],
        examples: vec![
            Example::new("written_out", "A message to two users", By::User).body(WRITTEN_OUT),
            Example::new("file_share", "A file was shared (企业网盘文件分享)", By::Service)
                .body(FILE_SHARE),
            Example::new("doc_collaboration", "An invitation (文档协作邀请)", By::Service)
                .body(DOC_COLLABORATION),
            Example::new("system_alert", "An alert (系统告警通知)", By::Service).body(SYSTEM_ALERT),
            Example::new("nobody", "Without recipients it is refused", By::Service)
                .body(r#"{"title": "t", "content": "c"}"#)
                .answers(422),
        ],
    }
}

pub(crate) fn send_template() -> Doc {
    Doc {
        summary: "Send a message made from a template",
        about: "As `send`, with `template_id` required.",
        examples: vec![
            Example::new("order", "A message in the recipient's language", By::Root).body(
                r#"{
  "template_id": "file_share",
  "locale": "zh-CN",
  "recipients": ["user123"],
  "variables": {
    "sender_name": "张三",
    "file_name": "项目计划.pdf",
    "file_size": "2.5MB",
    "share_time": "2025-01-15T06:30:00Z",
    "file_url": "https://drive.company.com/files/abc123"
  }
}"#,
            ),
        ],
        ..send::<Anyone>()
    }
}

pub(crate) fn send_batch() -> Doc {
    Doc {
        tag: &TAG,
        summary: "Send many messages",
        about: "1 to 1,000 messages, each accepted or refused by itself, in order: `results[i]` is \
                what became of `messages[i]`. The accepted ones become durable together. A batch \
                costs as many units of the rate limit as it has messages.",
        // Who may send nothing at all gets a refusal for each message, in a batch that was read.
        who: Who::CALLERS,
        others: Others::Theirs,
        path: vec![],
        query: &[],
        headers: vec![],
        answer: Reply::data::<Results>("What became of each message."),
        more: vec![],
        examples: vec![Example::new("two", "One good and one bad message", By::User).body(
            r#"{"messages": [
  {"title": "早上好", "content": "早上好", "recipients": ["user456"]},
  {"title": "没有收件人", "content": "没有收件人", "recipients": []}
]}"#,
        )],
    }
}
