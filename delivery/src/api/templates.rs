//! Templates: whoever may send reads them; who writes them is decided in [`crate::template`].

pub(super) mod docs;

use std::sync::Arc;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use http::Uri;
use protocol::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ApiState,
    answer::Answer,
    aside::aside,
    body::{Decoded, Payload},
    caller::{Asker, of_port},
    error::ApiError,
    query::{PAGE, PageMeta, Parameters, SIZE, TENANT_ID, on_page},
    sends::{LOCALE, MESSAGE_TYPE},
    shape::{
        Field, Form, NAME_PATTERN, NO_OR_ID, NO_OR_LINK, POSITION, Shape, formed, may, must,
        some_text, text,
    },
};
use crate::{
    control::TEXT_BYTES_MAX,
    identity::{Caller, with_all_rights},
    send::limits::{ACTIONS_MAX, CONTENT_BYTES_MAX, SHORT_TEXT_BYTES_MAX, TITLE_BYTES_MAX},
    template::{
        Category, Compiled, DESCRIPTION_BYTES_MAX, LOCALES_MAX, NAME_BYTES_MAX, Rendered, Template,
        TemplateError, TemplateRequest, Templates, VARIABLES_MAX, VariableType, Writer,
        locale::{self, LOCALE_PROBLEM},
    },
};

/// Buttons with variables in text and url: a url that begins with one is any link.
const ACTION: Shape = Shape::Object(&[
    must("type", Shape::Word(&["button", "link", "confirm"]), "What it is."),
    must("text", some_text(SHORT_TEXT_BYTES_MAX), "What the button says, with variables."),
    may(
        "url",
        NO_OR_LINK,
        "Where a link leads, with variables; a `link` must have one. What stands here before the \
         variables are put in may also be `{{name}}`.",
    ),
    may("action", text(SHORT_TEXT_BYTES_MAX), "What the sender is told when it is pressed."),
    may("style", Shape::NoOrWord(&["primary", "secondary", "danger"]), "How it looks."),
]);

const ACTIONS: Shape = Shape::List(&ACTION, 0, ACTIONS_MAX);

const VARIABLE: Shape = Shape::Object(&[
    must(
        "name",
        formed(Form::Pattern("^[A-Za-z_][A-Za-z0-9_.-]*$"), 1, NAME_BYTES_MAX),
        "Its name between the braces.",
    ),
    must("type", Shape::Word(VariableType::WORDS), "What it takes."),
    may("required", Shape::Flag, "Whether a send without it is refused."),
    may("default", text(DESCRIPTION_BYTES_MAX), "What stands there without it; must fit the type."),
    may("description", text(DESCRIPTION_BYTES_MAX), "For people."),
]);

const VARIANT: Shape = Shape::Object(&[
    may("title", text(TITLE_BYTES_MAX), "Title with variables; needed where the template has one."),
    may(
        "content",
        text(CONTENT_BYTES_MAX),
        "Content with variables; needed where the template has one.",
    ),
    may("actions", ACTIONS, "Buttons; the template's own ones where nothing is said."),
]);

const CATEGORIES: [&str; Category::WORDS.len()] = {
    let mut words = [""; Category::WORDS.len()];
    let mut index = 0;
    while index < words.len() {
        words[index] = Category::WORDS[index].0;
        index += 1;
    }
    words
};

impl Payload for TemplateRequest {
    const SHAPE: Shape = Shape::Object(&[
        may("id", NO_OR_ID, "Its id; made up where none is given. Not `.` or `..`."),
        must(
            "name",
            formed(Form::Pattern(NAME_PATTERN), 1, TEXT_BYTES_MAX),
            "What people call it.",
        ),
        must(
            "category",
            Shape::Word(&CATEGORIES),
            "What it is for; `system` ones are for those who may send alerts.",
        ),
        may(
            "title",
            text(TITLE_BYTES_MAX),
            "Title with variables, as `{{name}}`. Title or content is needed.",
        ),
        may("content", text(CONTENT_BYTES_MAX), "Content with variables."),
        may("variables", Shape::List(&VARIABLE, 0, VARIABLES_MAX), "The declared ones."),
        may("message_type", MESSAGE_TYPE, "The type of messages made from it; `text` unless said."),
        may("priority", Shape::Whole(1, 10), "Their priority where the send names none."),
        may("actions", ACTIONS, "Their buttons where the send names none."),
        may(
            "locales",
            Shape::Named(&VARIANT, LOCALES_MAX),
            "The same in other languages, by name.",
        ),
        may("expected_version", POSITION, "The version that is to be replaced; for changes only."),
        may("version", Shape::Any, "Decided here; what an answer carries may be sent back."),
        may("builtin", Shape::Any, "Decided here."),
        may("created_by", Shape::Any, "Decided here."),
        may("created_at", Shape::Any, "Decided here."),
        may("updated_at", Shape::Any, "Decided here."),
    ]);
}

/// The body of a preview; may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PreviewRequest {
    variables: Option<Map<String, Value>>,
    locale: Option<String>,
}

impl Payload for PreviewRequest {
    const SHAPE: Shape = Shape::Object(&[
        may(
            "variables",
            Shape::Map(VARIABLES_MAX, usize::MAX),
            "What the template is filled with.",
        ),
        may("locale", LOCALE, "The language to take, as in a send."),
    ]);
    const OPTIONAL: bool = true;
}

/// Templates of a tenant.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TemplateList")]
struct List<'a> {
    /// The page: the built-in ones first, then by id.
    templates: Vec<&'a Template>,
    /// How many there are.
    total: usize,
}

/// A template as it reads in a language that was asked for.
#[derive(Serialize, JsonSchema)]
struct InLocale {
    #[serde(flatten)]
    template: Template,
    /// The variant; null for the template's own text.
    locale: Option<String>,
}

/// A template as it was asked for.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum Shown {
    Whole(Template),
    InLocale(InLocale),
}

/// What a send would say.
#[derive(Serialize, JsonSchema)]
struct Preview<'a> {
    /// The template.
    template_id: &'a str,
    /// Its version.
    version: u64,
    #[serde(flatten)]
    rendered: Rendered,
}

type TemplatePath = Result<Path<String>, PathRejection>;

fn template_id(id: TemplatePath) -> Result<String, ApiError> {
    let Path(id) = id.map_err(|_| TemplateError::NotFound)?;
    Ok(id)
}

async fn known(
    state: &ApiState,
    tenant: &TenantId,
    id: &str,
) -> Result<Arc<Compiled>, TemplateError> {
    let templates = &state.0.templates;
    templates.look_for(tenant, [id].into_iter()).await?;
    templates.known(tenant, id).ok_or(TemplateError::NotFound)
}

/// What waits for the database does so on a thread that may.
async fn blocking<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce(&Templates) -> Result<T, TemplateError> + Send + 'static,
) -> Result<T, ApiError> {
    let templates = Arc::clone(&state.0.templates);
    aside(move || work(&templates)).await
}

/// Asked before the body is looked at: who may not write is told that, not what is wrong with it.
async fn writer(state: &ApiState, caller: &Caller) -> Result<Writer, ApiError> {
    let caller = with_all_rights(&*state.0.directory, caller).await?;
    Ok(Writer::new(&caller).map_err(TemplateError::from)?)
}

fn log_change(writer: &Writer, event: &'static str, template: &str, version: u64) {
    let by = writer.author().id.as_str();
    tracing::info!(target: "business", event, by, template, version);
}

const CATEGORY: Field = may("category", Shape::Word(&CATEGORIES), "Only of this category.");
const VERSION: Field =
    may("version", Shape::Whole(1, u64::MAX), "That version; the latest unless said.");
const IN_LOCALE: Field = may("locale", LOCALE, "As it reads in this language.");

/// What may stand in the query of a list, of one template, of its versions, of everything else.
const fn list_query<A: Asker>() -> &'static [Field] {
    of_port::<A>(&[PAGE, SIZE, CATEGORY], &[PAGE, SIZE, CATEGORY, TENANT_ID])
}
const fn get_query<A: Asker>() -> &'static [Field] {
    of_port::<A>(&[VERSION, IN_LOCALE], &[VERSION, IN_LOCALE, TENANT_ID])
}
const fn versions_query<A: Asker>() -> &'static [Field] {
    of_port::<A>(&[PAGE, SIZE], &[PAGE, SIZE, TENANT_ID])
}
const fn query<A: Asker>() -> &'static [Field] {
    of_port::<A>(&[], &[TENANT_ID])
}

/// The caller of what asks for nothing but, at most, a tenant.
fn asker<A: Asker>(who: A, uri: &Uri) -> Result<Caller, ApiError> {
    let mut parameters = Parameters::new(uri, query::<A>())?;
    let caller = who.caller_behind(&mut parameters);
    parameters.finish()?;
    Ok(caller)
}

/// `GET /messages/templates`, and the same below `/admin`
pub(super) async fn list<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri, list_query::<A>())?;
    let tenant = who.tenant(&mut parameters);
    let category = parameters.word("category", Category::WORDS);
    let (page, size) = parameters.paging();
    parameters.finish()?;
    let page = page.unwrap_or(1);
    let list = move |templates: &Templates| Ok(templates.list(&tenant, category)?);
    let all = blocking(&state, list).await?;
    let templates = on_page(&all, page, size).iter().map(|found| &found.source).collect();
    let meta = PageMeta::of_page(page, size, all.len() as u64);
    Ok(answer.page(&List { total: all.len(), templates }, &meta))
}

/// `GET /messages/templates/{id}`, and the same below `/admin`
pub(super) async fn get<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: TemplatePath,
) -> Result<Response, ApiError> {
    let id = template_id(id)?;
    let mut parameters = Parameters::new(&uri, get_query::<A>())?;
    let tenant = who.tenant(&mut parameters);
    let version = parameters.parsed("version", "a number from 1");
    let locale = parameters.text("locale");
    if locale.as_deref().is_some_and(|locale| locale::normal(locale).is_none()) {
        parameters.say("locale", LOCALE_PROBLEM);
    }
    parameters.finish()?;
    let template = match version {
        None => known(&state, &tenant, &id).await?.source.clone(),
        Some(version) => {
            blocking(&state, move |templates| templates.version(&tenant, &id, version)).await?
        }
    };
    let shown = match locale {
        None => Shown::Whole(template),
        Some(locale) => {
            let (template, locale) = template.in_locale(&locale);
            Shown::InLocale(InLocale { template, locale })
        }
    };
    Ok(answer.success(&shown))
}

/// `GET /messages/templates/{id}/versions`, and the same below `/admin`
pub(super) async fn versions<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: TemplatePath,
) -> Result<Response, ApiError> {
    let id = template_id(id)?;
    let mut parameters = Parameters::new(&uri, versions_query::<A>())?;
    let tenant = who.tenant(&mut parameters);
    let (page, size) = parameters.paging();
    parameters.finish()?;
    let page = page.unwrap_or(1);
    let skip = (page - 1).saturating_mul(size as u64);
    let found =
        blocking(&state, move |templates| templates.versions(&tenant, &id, skip, size)).await?;
    let meta = PageMeta::of_page(page, size, found.total);
    Ok(answer.page(&found, &meta))
}

/// `POST /messages/templates/{id}/preview`, and the same below `/admin`
pub(super) async fn preview<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: TemplatePath,
    Decoded(request): Decoded<PreviewRequest>,
) -> Result<Response, ApiError> {
    let caller = asker(who, &uri)?;
    let template = known(&state, &caller.tenant(), &template_id(id)?).await?;
    let locale = request.locale.filter(|locale| !locale.is_empty());
    if locale.as_deref().is_some_and(|locale| locale::normal(locale).is_none()) {
        return Err(ApiError::field("locale", LOCALE_PROBLEM));
    }
    let values = request.variables.unwrap_or_default();
    let rendered = template.render(&values, locale.as_deref(), true).map_err(ApiError::Invalid)?;
    let Template { id, version, .. } = &template.source;
    Ok(answer.success(&Preview { template_id: id, version: *version, rendered }))
}

/// `POST /messages/templates`, and the same below `/admin`
pub(super) async fn create<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    body: Result<Decoded<TemplateRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let caller = asker(who, &uri)?;
    let writer = writer(&state, &caller).await?;
    let Decoded(request) = body?;
    let (tenant, by) = (caller.tenant(), writer.clone());
    let made = blocking(&state, move |templates| templates.create(&tenant, &by, request)).await?;
    log_change(&writer, "template_created", &made.id, made.version);
    Ok(answer.success(&made))
}

/// `PUT /messages/templates/{id}`, and the same below `/admin`
pub(super) async fn update<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: TemplatePath,
    body: Result<Decoded<TemplateRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let caller = asker(who, &uri)?;
    let writer = writer(&state, &caller).await?;
    let id = template_id(id)?;
    let Decoded(request) = body?;
    let (tenant, by) = (caller.tenant(), writer.clone());
    let made =
        blocking(&state, move |templates| templates.update(&tenant, &by, &id, request)).await?;
    log_change(&writer, "template_updated", &made.id, made.version);
    Ok(answer.success(&made))
}

/// `DELETE /messages/templates/{id}`, and the same below `/admin`
pub(super) async fn remove<A: Asker>(
    State(state): State<ApiState>,
    who: A,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: TemplatePath,
) -> Result<Response, ApiError> {
    let caller = asker(who, &uri)?;
    let writer = writer(&state, &caller).await?;
    let id = template_id(id)?;
    let (tenant, by) = (caller.tenant(), writer.clone());
    let gone = blocking(&state, move |templates| templates.delete(&tenant, &by, &id)).await?;
    log_change(&writer, "template_deleted", &gone.id, gone.version);
    Ok(answer.success(&gone))
}
