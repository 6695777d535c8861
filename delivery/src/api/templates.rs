//! Templates: whoever may send reads them; who writes them is decided in [`crate::template`].

use std::sync::Arc;

use axum::{
    extract::{OriginalUri, Path, State, rejection::PathRejection},
    response::Response,
};
use protocol::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ApiState,
    answer::Answer,
    body::{Decoded, Payload},
    caller::Anyone,
    error::ApiError,
    query::{PageMeta, Parameters},
    sends::ACTION,
    shape::{Shape, may, must},
};
use crate::{
    identity::{Caller, with_all_rights},
    template::{
        Category, Compiled, Rendered, Template, TemplateError, TemplateRequest, Templates,
        VariableType, Writer,
        locale::{self, LOCALE_PROBLEM},
    },
};

const ACTIONS: Shape = Shape::List(&ACTION);

const VARIABLE: Shape = Shape::Object(&[
    must("name", Shape::Text),
    must("type", Shape::Word(VariableType::WORDS)),
    may("required", Shape::Flag),
    may("default", Shape::Text),
    may("description", Shape::Text),
]);

const VARIANT: Shape = Shape::Object(&[
    may("title", Shape::Text),
    may("content", Shape::Text),
    may("actions", ACTIONS),
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
        may("id", Shape::Text),
        must("name", Shape::Text),
        must("category", Shape::Word(&CATEGORIES)),
        may("title", Shape::Text),
        may("content", Shape::Text),
        may("variables", Shape::List(&VARIABLE)),
        may("message_type", Shape::Text),
        may("priority", Shape::Whole),
        may("actions", ACTIONS),
        may("locales", Shape::Named(&VARIANT)),
        may("expected_version", Shape::Whole),
        may("version", Shape::Any),
        may("builtin", Shape::Any),
        may("created_by", Shape::Any),
        may("created_at", Shape::Any),
        may("updated_at", Shape::Any),
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
    const SHAPE: Shape = Shape::Object(&[may("variables", Shape::Map), may("locale", Shape::Text)]);
    const OPTIONAL: bool = true;
}

#[derive(Serialize)]
struct List<'a> {
    templates: Vec<&'a Template>,
    total: usize,
}

/// A template as it reads in a language that was asked for.
#[derive(Serialize)]
struct InLocale {
    #[serde(flatten)]
    template: Template,
    /// The variant; null for the template's own text.
    locale: Option<String>,
}

#[derive(Serialize)]
struct Preview<'a> {
    template_id: &'a str,
    version: u64,
    #[serde(flatten)]
    rendered: Rendered,
}

type TemplatePath = Result<Path<String>, PathRejection>;

fn template_id(id: TemplatePath) -> Result<String, ApiError> {
    let Path(id) = id.map_err(|_| TemplateError::NotFound)?;
    Ok(id)
}

fn known(state: &ApiState, tenant: &TenantId, id: &str) -> Result<Arc<Compiled>, TemplateError> {
    state.0.templates.get(tenant, id)?.ok_or(TemplateError::NotFound)
}

/// Changes wait for the disk, and so on a thread that may.
async fn blocking<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce(&Templates) -> Result<T, TemplateError> + Send + 'static,
) -> Result<T, ApiError> {
    let templates = Arc::clone(&state.0.templates);
    match tokio::task::spawn_blocking(move || work(&templates)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ApiError::Panicked),
    }
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

/// `GET /messages/templates`
pub(super) async fn list(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, ApiError> {
    let mut parameters = Parameters::new(&uri)?;
    let category = parameters.word("category", Category::WORDS);
    let (page, size) = parameters.paging();
    parameters.finish()?;
    let page = page.unwrap_or(1);
    let all = state.0.templates.list(&caller.tenant(), category)?;
    let skipped = usize::try_from(page - 1).unwrap_or(usize::MAX).saturating_mul(size);
    let templates = all.iter().skip(skipped).take(size).map(|found| &found.source).collect();
    let meta = PageMeta {
        page: Some(page),
        size,
        total_pages: Some(all.len().div_ceil(size) as u64),
        next_cursor: None,
    };
    Ok(answer.page(&List { total: all.len(), templates }, &meta))
}

/// `GET /messages/templates/{id}`
pub(super) async fn get(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: TemplatePath,
) -> Result<Response, ApiError> {
    let id = template_id(id)?;
    let mut parameters = Parameters::new(&uri)?;
    let version = parameters.parsed("version", "a number from 1");
    let locale = parameters.text("locale");
    if locale.as_deref().is_some_and(|locale| locale::normal(locale).is_none()) {
        parameters.say("locale", LOCALE_PROBLEM);
    }
    parameters.finish()?;
    let tenant = caller.tenant();
    let template = match version {
        None => known(&state, &tenant, &id)?.source.clone(),
        Some(version) => {
            blocking(&state, move |templates| templates.version(&tenant, &id, version)).await?
        }
    };
    Ok(match locale {
        None => answer.success(&template),
        Some(locale) => {
            let (template, locale) = template.in_locale(&locale);
            answer.success(&InLocale { template, locale })
        }
    })
}

/// `GET /messages/templates/{id}/versions`
pub(super) async fn versions(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    OriginalUri(uri): OriginalUri,
    id: TemplatePath,
) -> Result<Response, ApiError> {
    let id = template_id(id)?;
    let mut parameters = Parameters::new(&uri)?;
    let (page, size) = parameters.paging();
    parameters.finish()?;
    let (page, tenant) = (page.unwrap_or(1), caller.tenant());
    let skip = (page - 1).saturating_mul(size as u64);
    let found =
        blocking(&state, move |templates| templates.versions(&tenant, &id, skip, size)).await?;
    let meta = PageMeta {
        page: Some(page),
        size,
        total_pages: Some(found.total.div_ceil(size as u64)),
        next_cursor: None,
    };
    Ok(answer.page(&found, &meta))
}

/// `POST /messages/templates/{id}/preview`
pub(super) async fn preview(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    id: TemplatePath,
    Decoded(request): Decoded<PreviewRequest>,
) -> Result<Response, ApiError> {
    let template = known(&state, &caller.tenant(), &template_id(id)?)?;
    let locale = request.locale.filter(|locale| !locale.is_empty());
    if locale.as_deref().is_some_and(|locale| locale::normal(locale).is_none()) {
        return Err(ApiError::field("locale", LOCALE_PROBLEM));
    }
    let values = request.variables.unwrap_or_default();
    let rendered = template.render(&values, locale.as_deref(), true).map_err(ApiError::Invalid)?;
    let Template { id, version, .. } = &template.source;
    Ok(answer.success(&Preview { template_id: id, version: *version, rendered }))
}

/// `POST /messages/templates`
pub(super) async fn create(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    body: Result<Decoded<TemplateRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let writer = writer(&state, &caller).await?;
    let Decoded(request) = body?;
    let (tenant, by) = (caller.tenant(), writer.clone());
    let made = blocking(&state, move |templates| templates.create(&tenant, &by, request)).await?;
    log_change(&writer, "template_created", &made.id, made.version);
    Ok(answer.success(&made))
}

/// `PUT /messages/templates/{id}`
pub(super) async fn update(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    id: TemplatePath,
    body: Result<Decoded<TemplateRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let writer = writer(&state, &caller).await?;
    let id = template_id(id)?;
    let Decoded(request) = body?;
    let (tenant, by) = (caller.tenant(), writer.clone());
    let made =
        blocking(&state, move |templates| templates.update(&tenant, &by, &id, request)).await?;
    log_change(&writer, "template_updated", &made.id, made.version);
    Ok(answer.success(&made))
}

/// `DELETE /messages/templates/{id}`
pub(super) async fn remove(
    State(state): State<ApiState>,
    Anyone(caller): Anyone,
    answer: Answer,
    id: TemplatePath,
) -> Result<Response, ApiError> {
    let writer = writer(&state, &caller).await?;
    let id = template_id(id)?;
    let (tenant, by) = (caller.tenant(), writer.clone());
    let gone = blocking(&state, move |templates| templates.delete(&tenant, &by, &id)).await?;
    log_change(&writer, "template_deleted", &gone.id, gone.version);
    Ok(answer.success(&gone))
}
