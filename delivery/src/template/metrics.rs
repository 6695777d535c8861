//! What is counted about templates.

use metrics::{Counter, Gauge, Recorder};

use crate::{control::TemplateLimit, metrics::Metric};

const TEMPLATES: Metric = Metric::gauge(
    "pushhub_templates",
    "",
    "Templates of all tenants in memory, the built-in ones not counted.",
);

const BYTES: Metric = Metric::gauge(
    "pushhub_template_bytes",
    "",
    "What these templates count for in the limits: JSON, and 128 bytes for each placeholder.",
);

const CHANGES: Metric = Metric::counter(
    "pushhub_template_changes_total",
    "change",
    "Templates that were made, got a new version, or were deleted through this node.",
);

const LIMITED: Metric = Metric::counter(
    "pushhub_template_limit_total",
    "limit",
    "Templates that were refused because the tenant, or all of them, have as many or as much as \
     they may.",
);

/// Every metric of this area.
pub const ALL: &[Metric] = &[TEMPLATES, BYTES, CHANGES, LIMITED];

pub(super) struct TemplateMetrics {
    pub(super) templates: Gauge,
    pub(super) bytes: Gauge,
    pub(super) created: Counter,
    pub(super) updated: Counter,
    pub(super) deleted: Counter,
    count: Counter,
    tenant_bytes: Counter,
    all_bytes: Counter,
    quota: Counter,
}

impl TemplateMetrics {
    pub(super) fn new(recorder: &dyn Recorder) -> Self {
        for metric in ALL {
            metric.describe(recorder);
        }
        let change = |change| CHANGES.to_counter(recorder, &[("change", change)]);
        let limit = |limit| LIMITED.to_counter(recorder, &[("limit", limit)]);
        Self {
            templates: TEMPLATES.to_gauge(recorder, &[]),
            bytes: BYTES.to_gauge(recorder, &[]),
            created: change("created"),
            updated: change("updated"),
            deleted: change("deleted"),
            count: limit("count"),
            tenant_bytes: limit("tenant_bytes"),
            all_bytes: limit("bytes"),
            quota: limit("quota"),
        }
    }

    pub(super) fn limited(&self, limit: TemplateLimit) {
        match limit {
            TemplateLimit::Count => self.count.increment(1),
            TemplateLimit::TenantBytes => self.tenant_bytes.increment(1),
            TemplateLimit::Bytes => self.all_bytes.increment(1),
            TemplateLimit::Quota(_) => self.quota.increment(1),
        }
    }
}
