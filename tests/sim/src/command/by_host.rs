//! Which lines of a story are about which host.

use crate::trace::{Line, Who};

/// Returns whether a line is about a host: its own, one that names it, or one about the whole run.
pub(super) fn about(line: &Line, host: u16) -> bool {
    match line.who {
        Who::Host(number) => number == host,
        Who::World | Who::Operator | Who::Coordinator(_) => {
            names(&line.text, host) || !line.text.contains("host-")
        }
    }
}

/// Returns whether a text names a host: "host-1" is not in "host-12".
fn names(text: &str, host: u16) -> bool {
    let name = format!("host-{host}");
    text.match_indices(&name)
        .any(|(at, _)| !text[at + name.len()..].starts_with(|letter: char| letter.is_ascii_digit()))
}

/// Divides a story: what is said and done above, then each host with what happens to it.
pub(super) fn in_chapters<'a>(lines: &[&'a Line], hosts: u16) -> Vec<(String, Vec<&'a Line>)> {
    let above = |line: &&&Line| !matches!(line.who, Who::Host(_));
    let mut chapters = vec![(
        "the coordinator and its operators".to_owned(),
        lines.iter().filter(above).copied().collect(),
    )];
    for host in 0..hosts {
        let of_host = |line: &&&Line| match line.who {
            Who::Host(number) => number == host,
            Who::World => names(&line.text, host) || line.text.starts_with("BROKEN"),
            Who::Operator | Who::Coordinator(_) => false,
        };
        let lines: Vec<&Line> = lines.iter().filter(of_host).copied().collect();
        if !lines.is_empty() {
            chapters.push((format!("host-{host}"), lines));
        }
    }
    chapters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;

    fn line(who: Who, text: &str) -> Line {
        Line { at: Moment::default(), who, text: text.to_owned() }
    }

    #[test]
    fn a_line_is_about_the_hosts_that_it_names_or_about_all() {
        assert!(about(&line(Who::Host(1), "starts"), 1));
        assert!(!about(&line(Who::Host(2), "asks host-1"), 1));
        assert!(about(&line(Who::World, "the power of host-1 is cut"), 1));
        assert!(!about(&line(Who::World, "the power of host-12 is cut"), 1));
        assert!(about(&line(Who::Coordinator(0), "is killed"), 1));
    }
}
