//! What a template counts for in the limits.

use protocol::ActionInfo;

use super::{Template, pieces};

/// What one placeholder adds, in bytes: it and the text behind it are pieces of their own in memory,
/// but may be written with five bytes.
const PLACEHOLDER_BYTES: usize = 128;

/// Bytes of its JSON, and [`PLACEHOLDER_BYTES`] for each placeholder.
pub(super) fn weight(template: &Template, document: &str) -> usize {
    let of_actions = |actions: &[ActionInfo]| -> usize {
        actions.iter().map(|action| placeholders(&action.text) + placeholders(&action.url)).sum()
    };
    let of = |title: &str, content: &str, actions: &[ActionInfo]| {
        placeholders(title) + placeholders(content) + of_actions(actions)
    };
    let variants = template.locales.values().map(|variant| {
        of(&variant.title, &variant.content, variant.actions.as_deref().unwrap_or_default())
    });
    let count = of(&template.title, &template.content, &template.actions) + variants.sum::<usize>();
    document.len() + count * PLACEHOLDER_BYTES
}

fn placeholders(text: &str) -> usize {
    pieces::cut(text).iter().filter(|piece| piece.name().is_some()).count()
}
