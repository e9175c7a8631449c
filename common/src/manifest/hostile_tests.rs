//! Files that want to cost much, crash us, or fill a terminal.

use proptest::{prelude::*, strategy::Strategy};

use super::{Manifest, ManifestMistakes};

const LEAST: &str = "[application]\nname = \"web\"\n[run]\ncommand = [\"./server\"]\n";

fn refused(text: &str) -> String {
    Manifest::parse(text).expect_err(text).to_string()
}

#[test]
fn a_long_list_of_mistakes_is_cut_and_counted() {
    let lines: String = (0..3_000).map(|n| format!("x{n} = 1\n")).collect();
    let mistakes = Manifest::parse(&format!("{lines}{LEAST}")).unwrap_err();
    let text = mistakes.display_in("web/cutover.toml").to_string();

    assert_eq!(mistakes.count(), 3_000);
    assert_eq!(text.lines().count(), ManifestMistakes::SHOWN_MAX + 1);
    assert!(text.starts_with("web/cutover.toml:"), "{text}");
    assert!(text.ends_with("and 2950 more"), "{text}");
}

#[test]
fn a_file_above_the_limit_is_refused_unread() {
    let text = format!("{LEAST}# {}", "x".repeat(Manifest::BYTES_MAX));

    assert!(refused(&text).contains("256 KiB"));
}

#[test]
fn a_hostile_file_costs_little() {
    for unit in ["=\n", "[", "[[a]]\n", "a.", "{", "\"", "\u{feff}", "a=1\n", "[a\n", "x=[\n", "\0"]
    {
        let text = unit.repeat(Manifest::BYTES_MAX / unit.len());
        let shown = refused(&text);
        // Fifty lines, none of them long.
        assert!(shown.len() < 64 * 1024, "{unit:?}: {} bytes", shown.len());
    }
}

#[test]
fn one_endless_line_of_mistakes_costs_little() {
    let entries: String = (0..20_000).map(|n| format!("{n}=1,")).collect();
    let mistakes = Manifest::parse(&format!("{LEAST}env={{{entries}}}")).unwrap_err();

    assert_eq!(mistakes.count(), 20_000);
    assert!(mistakes.iter().all(|mistake| mistake.line == 5));
}

/// Lines that are almost a manifest, in any order.
fn almost() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        prop::sample::select(vec![
            "[application]",
            "[run]",
            "[service]",
            "[health]",
            "[hooks]",
            "[[deploy]]",
            "[run",
            "name = \"web\"",
            "command = [\"./a\"]",
            "command = [",
            "]",
            "env = { A = \"b\" }",
            "port = 1",
            "tcp = true",
            "http = \"/\"",
            "every = \"1s\"",
            "environment = \"e\"",
            "batch = [1, \"5%\"]",
            "batch = \"5\"",
            "before_stop = { command = [\"a\"] }",
            "source = 1",
            "strategy = \"canary\"",
            "x",
            "= 1",
            "\"",
            "'''",
            "run.env.A = 1",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,20}",
    ];
    prop::collection::vec(line, 0..20).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_bounded_words(text in prop_oneof![almost(), "(?s).{0,300}"]) {
        if let Err(mistakes) = Manifest::parse(&text) {
            let line_count = text.matches('\n').count() + 1;
            prop_assert!(mistakes.count() > 0);
            for mistake in mistakes.iter() {
                prop_assert!(mistake.line >= 1 && mistake.line as usize <= line_count);
                prop_assert!(mistake.column >= 1);
                prop_assert!(!mistake.path.is_empty() && !mistake.instead.is_empty());
                prop_assert!(mistake.problem.len() < 1_000, "{}", mistake);
                prop_assert!(!mistake.problem.contains("does not know why"), "{}", mistake);
            }
            let lines: Vec<u32> = mistakes.iter().map(|mistake| mistake.line).collect();
            prop_assert!(lines.is_sorted());
        }
    }
}
