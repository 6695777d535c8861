//! The templates of all tenants: in memory for sends, in the database for good.
//!
//! A send looks into a map. Control data is looked at once a second, and with it whether a template has
//! changed, in whichever process or node; at once when an id is not known. Then only what has
//! changed is read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Instant,
};

use metrics::Recorder;
use parking_lot::{Mutex, RwLock};
use protocol::TenantId;

use super::{
    Category, Compiled, Template, TemplateError, TemplateRequest, Writer, builtin,
    history::{Deleted, SavedVersion, VersionPage},
    metrics::TemplateMetrics,
    weight::weight,
};
use crate::control::{Author, Control, ControlError, TURN_MAX, TemplateChange, TemplateRow};

struct Kept {
    compiled: Arc<Compiled>,
    bytes: usize,
}

type Tenants = HashMap<TenantId, BTreeMap<String, Kept>>;

/// The templates a send can name.
pub struct Templates {
    builtin: BTreeMap<String, Arc<Compiled>>,
    shelf: Arc<Shelf>,
}

/// Those of the tenants. Shared with the thread that looks for changes.
struct Shelf {
    control: Arc<Control>,
    kept: RwLock<Tenants>,
    known: Mutex<Known>,
    metrics: TemplateMetrics,
}

/// Held while what is kept is brought up to date.
#[derive(Default)]
struct Known {
    /// Up to which what is kept is right.
    revision: i64,
    /// When the last look began that went well.
    looked: Option<Instant>,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates").finish_non_exhaustive()
    }
}

impl Templates {
    /// Those in `control` and the three of the seed. What cannot be read now is read when it is
    /// asked for. Waits for the database.
    pub fn new(control: Arc<Control>, recorder: &dyn Recorder) -> Self {
        let builtin = builtin::all()
            .into_iter()
            .map(|template| (template.id.clone(), Arc::new(Compiled::new(template, None))))
            .collect();
        let shelf = Arc::new(Shelf {
            control,
            kept: RwLock::default(),
            known: Mutex::default(),
            metrics: TemplateMetrics::new(recorder),
        });
        shelf.refresh_or_warn();
        let weak = Arc::downgrade(&shelf);
        shelf.control.after_looks(move || Weak::upgrade(&weak).is_some_and(|shelf| shelf.follow()));
        Self { builtin, shelf }
    }

    /// One of them, as it was known at the last look. From memory.
    #[must_use]
    pub fn known(&self, tenant: &TenantId, id: &str) -> Option<Arc<Compiled>> {
        self.builtin.get(id).cloned().or_else(|| self.shelf.one(tenant, id))
    }

    /// One of them. Waits for the database if it is not known here.
    ///
    /// # Errors
    /// When it is not known here and the database cannot be read.
    pub fn get(&self, tenant: &TenantId, id: &str) -> Result<Option<Arc<Compiled>>, ControlError> {
        if let Some(found) = self.known(tenant, id) {
            return Ok(Some(found));
        }
        self.shelf.refresh()?;
        Ok(self.known(tenant, id))
    }

    /// Looks once, without holding the thread, if one of these is not known here; [`Templates::known`]
    /// knows them then, if there are any.
    ///
    /// # Errors
    /// When one is not known here and the database cannot be read.
    pub async fn look_for(
        &self,
        tenant: &TenantId,
        mut ids: impl Iterator<Item = &str>,
    ) -> Result<(), ControlError> {
        if ids.all(|id| self.known(tenant, id).is_some()) {
            return Ok(());
        }
        let shelf = Arc::clone(&self.shelf);
        self.shelf.control.aside(move |_| shelf.refresh()).await?
    }

    /// All of a tenant, by id, of one category or of every.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(
        &self,
        tenant: &TenantId,
        category: Option<Category>,
    ) -> Result<Vec<Arc<Compiled>>, ControlError> {
        self.shelf.refresh()?;
        let mut all: Vec<_> = self.builtin.values().cloned().collect();
        if let Some(own) = self.shelf.kept.read().get(tenant) {
            all.extend(own.values().map(|kept| Arc::clone(&kept.compiled)));
        }
        all.retain(|template| category.is_none_or(|wanted| template.source.category == wanted));
        all.sort_by(|a, b| a.source.id.cmp(&b.source.id));
        Ok(all)
    }

    /// A version, also of a template that was deleted. Waits for the database.
    ///
    /// # Errors
    /// [`TemplateError::NotFound`], or when the database cannot be read.
    pub fn version(
        &self,
        tenant: &TenantId,
        id: &str,
        version: u64,
    ) -> Result<Template, TemplateError> {
        if let Some(template) = self.builtin.get(id) {
            let found = (version == template.source.version).then(|| template.source.clone());
            return found.ok_or(TemplateError::NotFound);
        }
        let row = self.shelf.control.template_version(tenant, id, version)?;
        read(&row.ok_or(TemplateError::NotFound)?.document)
    }

    /// The versions that are kept, also of a template that was deleted. Waits for the database.
    ///
    /// # Errors
    /// [`TemplateError::NotFound`], or when the database cannot be read.
    pub fn versions(
        &self,
        tenant: &TenantId,
        id: &str,
        skip: u64,
        take: usize,
    ) -> Result<VersionPage, TemplateError> {
        if let Some(template) = self.builtin.get(id) {
            let source = &template.source;
            let only = SavedVersion::of(source, source.created_by.clone());
            let versions = if skip == 0 { vec![only] } else { Vec::new() };
            return Ok(VersionPage { versions, total: 1, deleted_at: None });
        }
        let found = self.shelf.control.template_versions(tenant, id, skip, take)?;
        let found = found.ok_or(TemplateError::NotFound)?;
        let versions = found
            .rows
            .into_iter()
            .map(|row| Ok(SavedVersion::of(&read(&row.document)?, row.saved_by)))
            .collect::<Result<_, TemplateError>>()?;
        Ok(VersionPage { versions, total: found.total, deleted_at: found.deleted_at })
    }

    /// Makes a template. One that was deleted can be made again by whoever could have changed it;
    /// its versions go on. Waits for the database.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn create(
        &self,
        tenant: &TenantId,
        writer: &Writer,
        request: TemplateRequest,
    ) -> Result<Template, TemplateError> {
        if request.id.as_ref().is_some_and(|id| self.builtin.contains_key(id)) {
            return Err(TemplateError::BuiltIn);
        }
        let made_up = || format!("tpl-{}", uuid::Uuid::now_v7().simple());
        let draft = request.check_new(made_up).map_err(TemplateError::Invalid)?;
        writer.may_save(&draft)?;
        let id = draft.id.clone();
        let saved = self.save(tenant, writer, &id, |present| {
            let now = self.shelf.control.clock().now();
            let version = match present {
                None => 1,
                Some((row, present)) if row.deleted_at.is_some() => {
                    writer
                        .may_change(&row.author, &present)
                        .map_err(|_| TemplateError::IdWasAnothers)?;
                    row.version + 1
                }
                Some((_, present)) => return Err(TemplateError::IdTaken(Box::new(present))),
            };
            let author = writer.author().clone();
            let created_by = author.id.clone();
            let template =
                Template { version, created_by, created_at: now, updated_at: now, ..draft };
            Ok((template, author))
        })?;
        self.shelf.metrics.created.increment(1);
        Ok(saved)
    }

    /// Gives a template a new version. Waits for the database.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn update(
        &self,
        tenant: &TenantId,
        writer: &Writer,
        id: &str,
        request: TemplateRequest,
    ) -> Result<Template, TemplateError> {
        if self.builtin.contains_key(id) {
            return Err(TemplateError::BuiltIn);
        }
        let expected = request.expected_version;
        // A template that is not there is 404, whatever was to become of it.
        if self.get(tenant, id)?.is_none() {
            return Err(TemplateError::NotFound);
        }
        let draft = request.check_update(id).map_err(TemplateError::Invalid)?;
        let saved = self.save(tenant, writer, id, |present| {
            let (row, present) = living(present)?;
            writer.may_change(&row.author, &present)?;
            writer.may_save(&draft)?;
            if expected.is_some_and(|expected| expected != row.version) {
                return Err(TemplateError::VersionConflict(Box::new(present)));
            }
            let template = Template {
                version: row.version + 1,
                created_by: present.created_by,
                created_at: present.created_at,
                // Never backwards, whatever the clock does.
                updated_at: self.shelf.control.clock().now().max(present.updated_at),
                ..draft
            };
            Ok((template, row.author.clone()))
        })?;
        self.shelf.metrics.updated.increment(1);
        Ok(saved)
    }

    /// Deletes a template; its versions stay readable. Waits for the database.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn delete(
        &self,
        tenant: &TenantId,
        writer: &Writer,
        id: &str,
    ) -> Result<Deleted, TemplateError> {
        if self.builtin.contains_key(id) {
            return Err(TemplateError::BuiltIn);
        }
        let at = self.shelf.control.clock().now();
        let mut version = 0;
        self.shelf.control.change_template(tenant, id, |present| {
            let (row, present) = living(found(present)?)?;
            writer.may_change(&row.author, &present)?;
            version = row.version;
            Ok::<_, TemplateError>(TemplateChange::Delete { at })
        })?;
        self.shelf.refresh_or_warn();
        self.shelf.metrics.deleted.increment(1);
        Ok(Deleted { id: id.to_owned(), version, deleted_at: at })
    }

    fn save<'a>(
        &self,
        tenant: &TenantId,
        writer: &Writer,
        id: &str,
        decide: impl FnOnce(
            Option<(&TemplateRow, Template)>,
        ) -> Result<(Template, Author), TemplateError>
        + 'a,
    ) -> Result<Template, TemplateError> {
        let mut saved = None;
        let done = self.shelf.control.change_template(tenant, id, |present| {
            let (template, author) = decide(found(present)?)?;
            let document = serde_json::to_string(&template).expect("a template has string keys");
            let (version, weight) = (template.version, weight(&template, &document));
            saved = Some(template);
            let saved_by = writer.author().id.clone();
            Ok::<_, TemplateError>(TemplateChange::Save {
                version,
                author,
                document,
                weight,
                saved_by,
            })
        });
        if let Err(TemplateError::Control(ControlError::Template(limit))) = &done {
            self.shelf.metrics.limited(*limit);
        }
        done?;
        self.shelf.refresh_or_warn();
        Ok(saved.expect("what was written has been decided"))
    }
}

impl Shelf {
    fn one(&self, tenant: &TenantId, id: &str) -> Option<Arc<Compiled>> {
        let kept = self.kept.read();
        kept.get(tenant)?.get(id).map(|kept| Arc::clone(&kept.compiled))
    }

    /// After each look for changes. Always wants the next one.
    fn follow(&self) -> bool {
        if self.known.lock().revision != self.control.templates_revision() {
            self.refresh_or_warn();
        }
        true
    }

    /// After a change of our own too, so that the next send sees it. It is durable already: a look
    /// that fails must not be told as a failure of the change.
    fn refresh_or_warn(&self) {
        if let Err(error) = self.refresh() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "templates cannot be read; they are used as they were last known"
            );
        }
    }

    /// Looks for changes, unless somebody began to look after this was called.
    fn refresh(&self) -> Result<(), ControlError> {
        let came = Instant::now();
        let mut known = self.known.try_lock_for(TURN_MAX).ok_or_else(|| self.control.busy())?;
        if known.looked.is_some_and(|began| began >= came) {
            return Ok(());
        }
        let began = Instant::now();
        let changes = self.control.templates_since(known.revision)?;
        if changes.everything || !changes.rows.is_empty() {
            self.apply(changes.everything, changes.rows);
        }
        *known = Known { revision: changes.revision, looked: Some(began) };
        Ok(())
    }

    fn apply(&self, everything: bool, rows: Vec<TemplateRow>) {
        // Cut before the lock is taken: sends go on meanwhile.
        let changed: Vec<_> = rows
            .into_iter()
            .map(|row| {
                let living = row.deleted_at.is_none().then(|| read(&row.document));
                let kept = match living {
                    Some(Ok(template)) => {
                        let bytes = weight(&template, &row.document);
                        let compiled = Arc::new(Compiled::new(template, Some(row.author)));
                        Some(Kept { compiled, bytes })
                    }
                    Some(Err(error)) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            template = row.id,
                            "a template cannot be read; sends with it are refused"
                        );
                        None
                    }
                    None => None,
                };
                (row.tenant, row.id, kept)
            })
            .collect();
        let mut all = self.kept.write();
        if everything {
            all.clear();
        }
        for (tenant, id, kept) in changed {
            let own = all.entry(tenant).or_default();
            match kept {
                Some(kept) => drop(own.insert(id, kept)),
                None => drop(own.remove(&id)),
            }
        }
        all.retain(|_, own| !own.is_empty());
        let (count, bytes) = all
            .values()
            .flat_map(BTreeMap::values)
            .fold((0_u32, 0), |(count, bytes), kept| (count + 1, bytes + kept.bytes));
        self.metrics.templates.set(count);
        self.metrics.bytes.set(bytes as f64);
    }
}

fn read(document: &str) -> Result<Template, TemplateError> {
    serde_json::from_str(document).map_err(|error| ControlError::Document(error).into())
}

fn found(present: Option<&TemplateRow>) -> Result<Option<(&TemplateRow, Template)>, TemplateError> {
    present.map(|row| Ok((row, read(&row.document)?))).transpose()
}

fn living(
    present: Option<(&TemplateRow, Template)>,
) -> Result<(&TemplateRow, Template), TemplateError> {
    present.filter(|(row, _)| row.deleted_at.is_none()).ok_or(TemplateError::NotFound)
}
