//! The known name that somebody may have meant.

/// Longest part of a name that is compared, in characters: the work is its square.
pub(crate) const NAME_CHARS_MAX: usize = 64;

/// The known name that differs least from `name`; none where nothing is known.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().take(NAME_CHARS_MAX).collect();
    known.min_by_key(|known| distance(&name, known))
}

/// As [`nearest`], where it is near enough to have been meant: a third of it may differ. A name
/// among thousands that merely differs less than all others would help nobody.
pub(crate) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let chars: Vec<char> = name.chars().take(NAME_CHARS_MAX).collect();
    nearest(name, known).filter(|found| distance(&chars, found) <= 1 + chars.len() / 3)
}

/// Insertions, deletions and replacements between two names (Levenshtein), without regard to case.
fn distance(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().take(NAME_CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(!a.eq_ignore_ascii_case(b));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_and_what_is_far_is_not_offered() {
        let known = || ["ops", "sales-north", "财务部"].into_iter();
        assert_eq!(near("Osp", known()), Some("ops"));
        assert_eq!(near("sales_nort", known()), Some("sales-north"));
        assert_eq!(near("财务", known()), Some("财务部"));
        assert_eq!(near("marketing", known()), None);
        assert_eq!(nearest("salesnorth", known()), Some("sales-north"));
        assert_eq!(nearest("x", std::iter::empty()), None);
        assert_eq!(near(&"x".repeat(100_000), known()), None, "and it takes no time");
    }
}
