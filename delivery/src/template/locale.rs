//! Languages: which words name one, and which variant of a template a send gets.

/// Most variants of a template: more languages than any product is in.
pub const LOCALES_MAX: usize = 50;

/// Longest name of a language, in bytes (RFC 5646 §4.4.1 recommends 35).
pub(crate) const LOCALE_BYTES_MAX: usize = 35;

/// `zh-Hant-TW` as it is compared: small letters, `-` between the parts (POSIX writes `_`). None for
/// what names no language.
pub(crate) fn normal(locale: &str) -> Option<String> {
    let lower = locale.to_ascii_lowercase().replace('_', "-");
    let mut parts = lower.split('-');
    let language = parts.next().unwrap_or_default();
    let good = locale.len() <= LOCALE_BYTES_MAX
        && (2..=8).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_alphabetic())
        && parts.all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        });
    good.then_some(lower)
}

/// What is wrong with the name of a language.
pub(crate) const LOCALE_PROBLEM: &str = "must be a language such as en, en-GB or zh-Hant-TW";

/// The names to look for, nearest first: `zh-hant-tw`, `zh-hant`, `zh` (the lookup of RFC 4647 §3.4).
pub(super) fn lookup(normal: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(normal), |name| {
        let (shorter, _) = name.rsplit_once('-')?;
        // A single letter begins an extension and is nothing without it.
        Some(match shorter.rsplit_once('-') {
            Some((before, single)) if single.len() == 1 => before,
            _ => shorter,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_languages() {
        assert_eq!(normal("zh_Hant-TW").as_deref(), Some("zh-hant-tw"));
        for bad in ["", "e", "12", "en-", "-en", "en--GB", "en GB", "中文", "english-languages-x9"]
        {
            assert_eq!(normal(bad), None, "{bad}");
        }
        assert_eq!(normal(&format!("en{}", "-abcdefgh".repeat(4))), None);
    }

    #[test]
    fn the_nearest_is_looked_for_first() {
        let names = |name: &'static str| lookup(name).collect::<Vec<_>>();
        assert_eq!(names("zh-hant-tw"), ["zh-hant-tw", "zh-hant", "zh"]);
        assert_eq!(names("en-x-a"), ["en-x-a", "en"]);
        assert_eq!(names("en"), ["en"]);
    }
}
