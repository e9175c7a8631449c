//! The border: exit codes, hints, and no raw text past it.

use cutover_common::Sha256;
use cutover_proto::v1 as pb;
use cutover_runtime::{dial::DialError, tls::client::CaMismatch};
use tonic::{Code, Status};

use super::{convert, status};
use crate::{
    failure::Kind,
    view::{RolloutState, short},
};

#[test]
fn each_status_has_its_exit_code() {
    for (code, exit_code) in [
        (Code::InvalidArgument, 2),
        (Code::NotFound, 2),
        (Code::OutOfRange, 2),
        (Code::FailedPrecondition, 3),
        (Code::PermissionDenied, 3),
        (Code::Unauthenticated, 3),
        (Code::AlreadyExists, 3),
        (Code::Aborted, 3),
        (Code::ResourceExhausted, 3),
        (Code::Unavailable, 4),
        (Code::DeadlineExceeded, 4),
        (Code::Cancelled, 4),
        (Code::Internal, 70),
        (Code::Unknown, 70),
        (Code::Unimplemented, 70),
        (Code::DataLoss, 70),
    ] {
        let failure = status::failure(&Status::new(code, "text"));

        assert_eq!(failure.kind().exit_code(), exit_code, "{code:?}");
        assert!(failure.error().contains("text"), "{failure}");
    }
}

#[test]
fn what_broke_on_the_way_is_no_bug_of_the_coordinator() {
    let broken = std::io::Error::new(std::io::ErrorKind::BrokenPipe, "broken pipe");
    let status = Status::from_error(Box::new(broken));
    assert_eq!(status.code(), Code::Unknown);

    insta::assert_snapshot!(status::failure(&status), @r"
    error: the connection to the coordinator broke: broken pipe
    hint: see whether the coordinator runs and whether this machine reaches it; applications keep running without it
    ");
}

#[test]
fn the_coordinators_hint_is_shown_and_cannot_steer_the_terminal() {
    let mut status = Status::failed_precondition("web is locked\u{1b}[2J by rollout 0193ab12");
    status.metadata_mut().insert("cutover-hint", "cutover watch 0193ab12".parse().unwrap());

    insta::assert_snapshot!(status::failure(&status), @r"
    error: web is locked\u{1b}[2J by rollout 0193ab12
    hint: cutover watch 0193ab12
    ");
}

#[test]
fn every_kind_of_failure_says_what_to_do() {
    let print = |code, text: &str| status::failure(&Status::new(code, text)).to_string();

    insta::assert_snapshot!(print(Code::NotFound, "there is no environment prodution; did you mean production?"), @"error: there is no environment prodution; did you mean production?");
    insta::assert_snapshot!(print(Code::Unauthenticated, "unknown token"), @r"
    error: unknown token
    hint: the token is not or no longer known: ask for one and type cutover login again
    ");
    insta::assert_snapshot!(print(Code::Unavailable, ""), @r"
    error: the coordinator is not available
    hint: see whether the coordinator runs and whether this machine reaches it; applications keep running without it
    ");
    insta::assert_snapshot!(print(Code::Internal, "could not append to the event log"), @r"
    error: the coordinator failed (Internal error): could not append to the event log
    hint: this is a bug in Cutover; the coordinator's log says more: report both
    ");
    insta::assert_snapshot!(print(Code::PermissionDenied, ""), @"error: the coordinator refused without a reason (The caller does not have permission to execute the specified operation)");
}

#[test]
fn a_foreign_coordinator_is_refused_and_an_absent_one_not_reachable() {
    let mismatch = DialError::TlsCaMismatch {
        address: "c:7441".to_owned(),
        source: CaMismatch { presented: Sha256::of(b"a"), expected: Sha256::of(b"b") },
    };
    let absent = DialError::Unreachable {
        address: "c:7441".to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::ConnectionRefused),
    };

    assert_eq!(status::undialed(&mismatch).kind(), Kind::Refused);
    assert!(status::undialed(&mismatch).error().contains("somebody is in between"));
    insta::assert_snapshot!(status::undialed(&absent), @r"
    error: the coordinator at c:7441 is not reachable: connection refused
    hint: see whether the coordinator runs and whether this machine reaches it; applications keep running without it
    ");
}

// promises.md T3.2: whatever an agent can write into a field is harmless on a terminal.
#[test]
fn no_text_of_any_message_reaches_a_terminal_unescaped() {
    let hostile = || "x\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r\ny".to_owned();
    let rollout = convert::rollout(pb::Rollout {
        id: hostile(),
        application: hostile(),
        environment: hostile(),
        from_version: hostile(),
        to_version: hostile(),
        strategy: hostile(),
        state: hostile(),
        why: hostile(),
        next: vec![hostile()],
        hosts: vec![pb::RolloutHost {
            agent: hostile(),
            state: hostile(),
            detail: hostile(),
            running_version: hostile(),
            ..pb::RolloutHost::default()
        }],
        history: vec![pb::HistoryEntry { text: hostile(), unix_ms: 1 }],
        started_by: hostile(),
        ..pb::Rollout::default()
    });
    let agent = convert::agent(pb::Agent {
        name: hostile(),
        presence: hostile(),
        labels: [(hostile(), hostile())].into(),
        address: hostile(),
        agent_version: hostile(),
        inventory: Some(pb::Inventory {
            hostname: hostile(),
            os: hostile(),
            kernel: hostile(),
            arch: hostile(),
            runtime: hostile(),
            ..pb::Inventory::default()
        }),
        reports: vec![pb::Report {
            application: hostile(),
            blue: Some(pb::SlotReport {
                phase: pb::slot_report::Phase::Running.into(),
                version: hostile(),
                detail: hostile(),
                ..pb::SlotReport::default()
            }),
            ..pb::Report::default()
        }],
        ..pb::Agent::default()
    });

    for text in [serde_json::to_string(&rollout), serde_json::to_string(&agent)] {
        let text = text.unwrap();
        assert!(text.contains("owned"));
        // JSON would escape a raw ESC as \u001b: there must be none left to escape.
        assert!(!text.contains(r"\u00") && !text.chars().any(char::is_control), "{text}");
        assert!(!text.contains('\u{202e}'), "{text}");
    }
}

#[test]
fn what_is_absent_is_null_and_not_empty() {
    let rollout = convert::rollout(pb::Rollout::default());

    assert_eq!((rollout.from_version, rollout.ended_unix_ms), (None, None));
    assert_eq!(convert::status(pb::ApplicationStatus::default()).rollout, None);
}

#[test]
fn a_state_that_is_not_known_is_shown_as_it_is() {
    let rollout =
        convert::rollout(pb::Rollout { state: "frobbing".to_owned(), ..pb::Rollout::default() });

    assert_eq!(rollout.state, RolloutState::Other("frobbing".into()));
    assert!(!rollout.is_over());
}

#[test]
fn a_join_command_is_one_line_that_a_shell_takes_as_it_is() {
    let name = "web-1".parse().unwrap();
    let answer = |token: &str| pb::CreateJoinTokenResponse {
        token: token.to_owned(),
        ca_hash: "sha256:00ff".to_owned(),
        expires_unix_ms: 0,
        join_url: "https://deploy.example.com:7440".to_owned(),
    };

    insta::assert_snapshot!(convert::join_token(answer("T0k_en"), Some(&name)).join_command, @"cutover-agent join https://deploy.example.com:7440 --token T0k_en --ca-hash sha256:00ff --data /var/lib/cutover-agent --name web-1");
    insta::assert_snapshot!(convert::join_token(answer("x; rm -rf '/'\n"), None).join_command, @r"cutover-agent join https://deploy.example.com:7440 --token 'x; rm -rf '\''/'\''\u{a}' --ca-hash sha256:00ff --data /var/lib/cutover-agent");
}

#[test]
fn a_short_id_tells_rollouts_of_one_minute_apart() {
    assert_eq!(short(&"0193ab12-3456-7abc-8def-0123456789ab".into()), "0193ab12-3456");
    assert_eq!(short(&"r-7".into()), "r-7");
}
