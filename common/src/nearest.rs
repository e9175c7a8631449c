//! The nearest valid name, for errors about an unknown one.

/// Returns the candidate that `text` most likely meant, if any is near enough.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong: "prodution" finds "production", "x" finds nothing.
    let edits_max = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(edits, candidate)| {
            *edits <= edits_max || (text.len() >= 3 && candidate.starts_with(text))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_slip_and_a_beginning_and_nothing_else() {
        let names = ["production", "staging"];

        assert_eq!(nearest("prodution", names), Some("production"));
        assert_eq!(nearest("prod", names), Some("production"));
        assert_eq!(nearest("qa", names), None);
    }
}
