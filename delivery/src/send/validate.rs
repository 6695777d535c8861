//! Whether a request says something that can be sent. All problems are found, not the first.

use std::{sync::Arc, time::Duration};

use protocol::{ActionInfo, AttachmentInfo, ChannelId, FieldProblem, SenderInfo, Time, UserId};
use serde_json::{Map, Value};

use super::{
    DEFAULT_PRIORITY, DEFAULT_TYPE,
    limits::{
        ACTIONS_MAX, ATTACHMENT_SIZE_MAX, ATTACHMENTS_MAX, CONTENT_BYTES_MAX, METADATA_BYTES_MAX,
        RECIPIENTS_MAX, SCHEDULE_AHEAD_MAX, SHORT_TEXT_BYTES_MAX, TITLE_BYTES_MAX,
    },
    request::{SendRequest, given},
};
use crate::{
    problems::Problems,
    template::{
        Compiled,
        locale::{self, LOCALE_PROBLEM},
    },
};

/// What a request says its recipients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecipientKind {
    /// Nothing is said.
    Any,
    User,
    Channel,
    Role,
    All,
}

impl RecipientKind {
    const WORDS: [(&str, Self); 4] = [
        ("user", Self::User),
        ("channel", Self::Channel),
        ("role", Self::Role),
        ("all", Self::All),
    ];
}

/// A request without problems, with what was looked up on the way.
pub(super) struct Checked {
    pub(super) request: SendRequest,
    pub(super) template: Option<Arc<Compiled>>,
    pub(super) recipient_kind: RecipientKind,
    pub(super) channel_id: Option<ChannelId>,
    pub(super) message_type: String,
    pub(super) on_behalf_of: Option<UserId>,
    pub(super) priority: u8,
    /// Only if it is still ahead.
    pub(super) scheduled_at: Option<Time>,
}

impl Checked {
    pub(super) fn to_everyone(&self) -> bool {
        self.recipient_kind == RecipientKind::All
    }

    /// Recipients that are named, duplicates included.
    pub(super) fn recipient_count(&self) -> usize {
        self.request.recipients.as_ref().map_or(0, Vec::len)
    }

    /// Where a recipient stands in the request: in the list, or, for a message to the channel that it
    /// belongs to, there.
    pub(super) fn path_of(&self, recipient: usize) -> String {
        match self.request.recipients.as_deref() {
            None | Some([]) => "channel_id".to_owned(),
            Some(_) => format!("recipients[{recipient}]"),
        }
    }

    /// `template` is what the request's `template_id` names, if there is one of that id.
    pub(super) fn new(
        request: SendRequest,
        template: Option<Arc<Compiled>>,
        now: Time,
    ) -> Result<Self, Vec<FieldProblem>> {
        let mut problems = Problems::default();
        check_text(&request, template.is_some(), &mut problems);
        let recipient_kind = check_recipients(&request, &mut problems);
        let message_type = given(request.message_type.as_ref())
            .or(template.as_ref().map(|template| template.source.message_type.as_str()))
            .unwrap_or(DEFAULT_TYPE)
            .to_owned();
        problems.message_type(&message_type);
        let channel_id = given(request.channel_id.as_ref())
            .and_then(|id| problems.id("channel_id", ChannelId::new(id)));
        let on_behalf_of = given(request.on_behalf_of.as_ref())
            .and_then(|id| problems.id("on_behalf_of", UserId::new(id)));
        let of_template = template.as_ref().and_then(|template| template.source.priority);
        let priority = check_priority(request.priority, &mut problems)
            .or(of_template)
            .unwrap_or(DEFAULT_PRIORITY);
        let scheduled_at = request.scheduled_at.filter(|at| *at > now);
        if scheduled_at.is_some_and(|at| at > later(now, SCHEDULE_AHEAD_MAX)) {
            let days = SCHEDULE_AHEAD_MAX.as_secs() / (24 * 3_600);
            problems.say("scheduled_at", format!("must be at most {days} days ahead"));
        }
        check_expiry(request.expire_at, scheduled_at, now, &mut problems);
        if let Some(key) = given(request.collapse_key.as_ref()) {
            // A key is kept and compared like an id, so held to the same rules.
            problems.id("collapse_key", UserId::new(key));
        }
        if let Some(sender) = &request.sender {
            check_sender(sender, &mut problems);
        }
        check_extras(
            request.metadata.as_ref(),
            request.attachments.as_deref(),
            request.actions.as_deref(),
            &mut problems,
        );
        if problems.0.is_empty() {
            Ok(Self {
                request,
                template,
                recipient_kind,
                channel_id,
                message_type,
                on_behalf_of,
                priority,
                scheduled_at,
            })
        } else {
            Err(problems.0)
        }
    }
}

fn later(now: Time, by: Duration) -> Time {
    Time::from_millis(now.millis().saturating_add_unsigned(by.as_millis() as u64))
}

pub(super) fn check_priority(said: Option<i64>, problems: &mut Problems) -> Option<u8> {
    let priority = said.map(|said| u8::try_from(said).ok().filter(|said| (1..=10).contains(said)));
    if priority == Some(None) {
        problems.say("priority", "must be 1 to 10");
    }
    priority.flatten()
}

/// Nothing may be shown for no time at all.
pub(super) fn check_expiry(
    expire_at: Option<Time>,
    scheduled_at: Option<Time>,
    now: Time,
    problems: &mut Problems,
) {
    let Some(expire_at) = expire_at else { return };
    if expire_at <= now {
        problems.say("expire_at", "must be in the future");
    } else if scheduled_at.is_some_and(|at| expire_at <= at) {
        problems.say("expire_at", "must be after scheduled_at");
    }
}

/// What goes with the text.
pub(super) fn check_extras(
    metadata: Option<&Map<String, Value>>,
    attachments: Option<&[AttachmentInfo]>,
    actions: Option<&[ActionInfo]>,
    problems: &mut Problems,
) {
    if let Some(metadata) = metadata {
        problems.metadata(metadata, METADATA_BYTES_MAX);
    }
    let attachments = attachments.unwrap_or_default();
    problems.at_most("attachments", attachments.len(), ATTACHMENTS_MAX);
    for (index, attachment) in attachments.iter().take(ATTACHMENTS_MAX).enumerate() {
        check_attachment(index, attachment, problems);
    }
    let actions = actions.unwrap_or_default();
    problems.at_most("actions", actions.len(), ACTIONS_MAX);
    for (index, action) in actions.iter().take(ACTIONS_MAX).enumerate() {
        check_action(index, action, problems);
    }
}

/// Lengths of what is written out.
pub(super) fn check_lengths(title: Option<&str>, content: Option<&str>, problems: &mut Problems) {
    problems.bytes("title", title.unwrap_or_default(), TITLE_BYTES_MAX);
    problems.bytes("content", content.unwrap_or_default(), CONTENT_BYTES_MAX);
}

/// Title and content, or a template that brings them.
fn check_text(request: &SendRequest, has_template: bool, problems: &mut Problems) {
    let locale = given(request.locale.as_ref());
    if given(request.template_id.as_ref()).is_none() {
        if locale.is_some() {
            problems.say("locale", "is for templates: template_id is missing");
        }
        if request.variables.as_ref().is_some_and(|variables| !variables.is_empty()) {
            problems.say("variables", "are for templates: template_id is missing");
        }
        if given(request.title.as_ref()).is_none() && given(request.content.as_ref()).is_none() {
            problems.say("content", "title or content is needed, or a template_id");
        }
        check_lengths(request.title.as_deref(), request.content.as_deref(), problems);
        return;
    }
    for (path, text) in [
        ("title", &request.title),
        ("content", &request.content),
        ("message_type", &request.message_type),
    ] {
        if given(text.as_ref()).is_some() {
            problems.say(path, "comes from the template; leave it out");
        }
    }
    if locale.is_some_and(|locale| locale::normal(locale).is_none()) {
        problems.say("locale", LOCALE_PROBLEM);
    }
    if !has_template {
        problems.say("template_id", "there is no template of that id");
    }
}

/// Whether a message goes to the channel it belongs to: the seed's struct has the channel apart from
/// the recipients.
fn to_its_channel(request: &SendRequest, kind: RecipientKind) -> bool {
    kind == RecipientKind::Channel && given(request.channel_id.as_ref()).is_some()
}

fn check_recipients(request: &SendRequest, problems: &mut Problems) -> RecipientKind {
    let recipients = request.recipients.as_deref().unwrap_or_default();
    let said = given(request.recipient_type.as_ref());
    let known = |word| RecipientKind::WORDS.into_iter().find(|(known, _)| *known == word);
    let kind = match said.map(known) {
        None => RecipientKind::Any,
        Some(Some((_, kind))) => kind,
        Some(None) => {
            let words = RecipientKind::WORDS.map(|(word, _)| word).join(", ");
            problems.say("recipient_type", format!("must be one of {words}"));
            RecipientKind::Any
        }
    };
    if kind == RecipientKind::All && !recipients.is_empty() {
        problems.say("recipients", "must be empty where recipient_type is all");
    } else if kind != RecipientKind::All && recipients.is_empty() && !to_its_channel(request, kind)
    {
        problems.say("recipients", "must name at least one recipient");
    }
    problems.at_most("recipients", recipients.len(), RECIPIENTS_MAX);
    for (index, recipient) in recipients.iter().take(RECIPIENTS_MAX).enumerate() {
        if let Err(error) = &recipient.0 {
            problems.say(format!("recipients[{index}]"), error.to_string());
        }
    }
    kind
}

fn check_sender(sender: &SenderInfo, problems: &mut Problems) {
    // Shown and stored like a user's id, so held to the same rules.
    problems.id("sender.id", UserId::new(&sender.id));
    problems.one_of("sender.type", &sender.kind, &["user", "service", "system"]);
    problems.bytes("sender.name", &sender.name, SHORT_TEXT_BYTES_MAX);
    if !sender.avatar.is_empty() {
        problems.link("sender.avatar".to_owned(), &sender.avatar);
    }
    problems.bytes(
        "sender.service_id",
        sender.service_id.as_deref().unwrap_or_default(),
        protocol::limits::ID_BYTES_MAX,
    );
}

fn check_attachment(index: usize, attachment: &AttachmentInfo, problems: &mut Problems) {
    let path = |field: &str| format!("attachments[{index}].{field}");
    problems.one_of(path("type"), &attachment.kind, &["file", "image", "link", "document"]);
    problems.link(path("url"), &attachment.url);
    problems.bytes(path("name"), &attachment.name, SHORT_TEXT_BYTES_MAX);
    problems.bytes(path("mime_type"), &attachment.mime_type, SHORT_TEXT_BYTES_MAX);
    if !attachment.thumbnail.is_empty() {
        problems.link(path("thumbnail"), &attachment.thumbnail);
    }
    if attachment.size > ATTACHMENT_SIZE_MAX {
        problems.say(path("size"), format!("must be at most {ATTACHMENT_SIZE_MAX}"));
    }
}

fn check_action(index: usize, action: &ActionInfo, problems: &mut Problems) {
    let path = |field: &str| format!("actions[{index}].{field}");
    problems.one_of(path("type"), &action.kind, &["button", "link", "confirm"]);
    if action.text.is_empty() {
        problems.say(path("text"), "must not be empty");
    }
    problems.bytes(path("text"), &action.text, SHORT_TEXT_BYTES_MAX);
    problems.bytes(path("action"), &action.action, SHORT_TEXT_BYTES_MAX);
    if !action.style.is_empty() {
        problems.one_of(path("style"), &action.style, &["primary", "secondary", "danger"]);
    }
    if action.url.is_empty() {
        if action.kind == "link" {
            problems.say(path("url"), "is needed by an action of type link");
        }
    } else {
        problems.link(path("url"), &action.url);
    }
}
