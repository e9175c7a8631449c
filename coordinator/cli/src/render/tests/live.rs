//! The live view, and its lines without a terminal.

use super::*;

#[test]
fn the_live_view_fits_the_terminal() {
    let frame_in =
        |columns, rows| frame(&sample_rollout(), at(95), Size { columns, rows }, Paint::Plain);

    assert_snapshot!(frame_in(80, 24).join("\n"), @r"
    web 1.3.0 → 1.4.0 to production (0193ab12-3456)
    advancing, batch 2 of 3, 1m35s
      web-1  updated
      web-2  updating     GET /healthz answered 503
      web-3  pending
    1 of 3 hosts run 1.4.0. Waiting for web-2 to be healthy (web-2: GET /healthz
    answered 503); it holds in 42s.
    ");
    for line in frame_in(20, 24) {
        assert!(line.chars().count() <= 20, "{line:?}");
    }
}

#[test]
fn many_hosts_are_counted_and_those_in_trouble_come_first() {
    let mut rollout = sample_rollout();
    rollout.hosts = (1..=100)
        .map(|n| match n {
            70 => host("web-70", 1, "failed", "exit status 1"),
            1..=60 => host(&format!("web-{n}"), 1, "updated", ""),
            _ => host(&format!("web-{n}"), 2, "pending", ""),
        })
        .collect();

    let lines = frame(&rollout, at(0), Size { columns: 80, rows: 10 }, Paint::Plain);

    assert_snapshot!(lines.join("\n"), @r"
    web 1.3.0 → 1.4.0 to production (0193ab12-3456)
    advancing, batch 2 of 3, 0s
      web-70  failed       exit status 1
      web-1   updated
      web-2   updated
      and 97 more: 39 pending, 58 updated
    1 of 3 hosts run 1.4.0. Waiting for web-2 to be healthy (web-2: GET /healthz
    answered 503); it holds in 42s.
    ");
    assert!(lines.len() < 10);
}

#[test]
fn a_frame_takes_the_place_of_the_one_before() {
    let mut drawing = Drawing::default();

    assert_eq!(drawing.erase(), "");
    assert_eq!(drawing.redraw(&["a".to_owned(), "b".to_owned()]), "a\nb\n");
    assert_eq!(drawing.redraw(&["c".to_owned()]), "\u{1b}[2F\u{1b}[Jc\n");
    assert_eq!(drawing.erase(), "\u{1b}[1F\u{1b}[J");
    assert_eq!(drawing.erase(), "");
}

#[test]
fn without_a_terminal_each_change_is_a_line() {
    let before = sample_rollout();
    let mut after = before.clone();
    after.wave = 3;
    after.hosts[1] = host("web-2", 2, "updated", "");
    after.hosts[2] = host("web-3", 3, "preparing", "12 of 40 MiB");
    after.why =
        "2 of 3 hosts run 1.4.0. Waiting for web-3 to fetch and verify 1.4.0; it holds in 5m."
            .into();

    assert_snapshot!(changes(None, &before).join("\n"), @r"
    rollout 0193ab12-3456-7abc-8def-0123456789ab: web 1.3.0 → 1.4.0 to production
    advancing, batch 2 of 3
    web-1: updated
    web-2: updating, GET /healthz answered 503
    1 of 3 hosts run 1.4.0. Waiting for web-2 to be healthy (web-2: GET /healthz answered 503); it holds in 42s.
    ");
    assert_snapshot!(changes(Some(&before), &after).join("\n"), @r"
    advancing, batch 3 of 3
    web-2: updated
    web-3: preparing, 12 of 40 MiB
    2 of 3 hosts run 1.4.0. Waiting for web-3 to fetch and verify 1.4.0; it holds in 5m.
    ");
    assert!(changes(Some(&after), &after).is_empty());
}

#[test]
fn a_countdown_is_no_news() {
    let before = sample_rollout();
    let mut after = before.clone();
    after.why = before.why.as_str().replace("42s", "41s").as_str().into();
    assert!(changes(Some(&before), &after).is_empty());

    after.why = before.why.as_str().replace("web-2", "web-3").as_str().into();
    assert_eq!(changes(Some(&before), &after).len(), 1);
}

#[test]
fn between_waves_and_at_the_end_there_is_no_wave() {
    let rollout = Rollout { wave: 0, state: RolloutState::Baking, ..sample_rollout() };

    let lines = frame(&rollout, at(5), Size { columns: 80, rows: 24 }, Paint::Plain);

    assert_eq!(lines[1], "baking, 5s");
    assert_eq!(changes(Some(&sample_rollout()), &rollout), ["baking"]);
}
