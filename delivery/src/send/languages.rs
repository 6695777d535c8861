//! Which language of a template each recipient gets, where the send names none.
//!
//! A message has one body, which its recipients share; so what reads otherwise is another message. Recipients of
//! one variant share one.

use protocol::{MessageId, TenantId, UserId};
use schemars::JsonSchema;
use serde::Serialize;
use smallvec::{SmallVec, smallvec};

use crate::{preference::Known, store::Audience, template::Compiled};

/// One of the messages that a send became, because its recipients read different languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InLanguage {
    /// Its id.
    pub message_id: MessageId,
    /// The template's variant; null for its own text.
    pub locale: Option<String>,
    /// How many receive it.
    pub recipients: u64,
}

/// Those of an audience who read the same.
pub(super) struct Readers<'a> {
    pub(super) audience: Audience,
    pub(super) count: Option<u64>,
    /// Of which variant, by its normal name; none for the template's own text.
    pub(super) locale: Option<&'a str>,
}

/// Most sends have one body, and allocate nothing for it.
pub(super) type Parts<'a> = SmallVec<[Readers<'a>; 1]>;

/// Sorts users by the variant that suits them, in the order of their first mention. Whoever is reached by a group
/// is not looked up: members are only known to the store, and who is named beside it must not receive two.
pub(super) fn by_language<'a>(
    template: &'a Compiled,
    known: &Known,
    tenant: &TenantId,
    audience: Audience,
    count: Option<u64>,
) -> Parts<'a> {
    let Audience::Some { users, groups } = &audience else {
        return smallvec![Readers { audience, count, locale: None }];
    };
    if !groups.is_empty() || !template.has_variants() || known.is_empty() {
        return smallvec![Readers { audience, count, locale: None }];
    }
    let of = |user: &UserId| {
        known.languages(tenant, user).and_then(|spoken| template.variant_for(&spoken))
    };
    // A template has few variants, so few are looked through.
    let mut sorted: Vec<(Option<&str>, Vec<UserId>)> = Vec::new();
    for user in users.iter() {
        let locale = of(user);
        match sorted.iter_mut().find(|(known, _)| *known == locale) {
            Some((_, users)) => users.push(user.clone()),
            None => sorted.push((locale, vec![user.clone()])),
        }
    }
    let readers = |(locale, users): (_, Vec<UserId>)| {
        let count = Some(users.len() as u64);
        Readers { audience: Audience::users(users), count, locale }
    };
    sorted.into_iter().map(readers).collect()
}
