//! Join tokens, labels and removal.

use std::sync::Arc;

use cutover_common::{Labels, Sha256};
use uuid::Uuid;

use crate::{
    Action, Answer, Refusal, RefusalKind, Request,
    enrolment::JOIN_TOKEN_TTL,
    testing::{Story, hash, labels, name, seconds},
};

fn token(story: &mut Story, only: Option<&str>, with: Labels) -> Sha256 {
    let token_hash = hash("token");
    let expires = story.now + JOIN_TOKEN_TTL;
    let name = only.map(name);
    story.ask(Request::CreateJoinToken { token_hash, name, labels: with, expires }).unwrap();
    token_hash
}

fn join(story: &mut Story, agent: &str, token: Sha256, key: &str) -> Result<Uuid, Refusal> {
    let enrolment = story.draw();
    story.ask(Request::Join {
        token_hash: token,
        name: name(agent),
        labels: labels(&[("env", "own")]),
        enrolment,
        key_hash: hash(key),
    })?;
    let signed = story.actions.iter().find_map(|action| {
        if let Action::SignCertificate { enrolment, .. } = action { Some(*enrolment) } else { None }
    });
    Ok(signed.unwrap())
}

#[test]
fn wrong_used_and_expired_tokens_are_refused_in_the_same_words() {
    let mut story = Story::empty();
    let good = token(&mut story, Some("web-1"), Labels::new());

    let wrong = join(&mut story, "web-1", hash("guess"), "key").unwrap_err();
    let other_name = join(&mut story, "web-2", good, "key").unwrap_err();
    join(&mut story, "web-1", good, "key").unwrap();
    let used = join(&mut story, "web-1", good, "another key").unwrap_err();
    story.now = story.now + JOIN_TOKEN_TTL;
    let expired = join(&mut story, "web-1", good, "key").unwrap_err();

    for refusal in [&other_name, &used, &expired] {
        assert_eq!(*refusal, wrong);
    }
    assert_eq!(wrong.kind, RefusalKind::Denied);
}

#[test]
fn a_token_works_for_ten_minutes_and_not_a_moment_longer() {
    let mut story = Story::empty();
    let token_hash = hash("token");
    let expires = story.now + seconds(1_000_000);
    let request =
        Request::CreateJoinToken { token_hash, name: None, labels: Labels::new(), expires };
    story.ask(request).unwrap();
    let begun = story.now;

    story.now = begun + seconds(600);
    assert!(join(&mut story, "web-1", token_hash, "key").is_err());
    story.now = begun + seconds(599);
    assert!(join(&mut story, "web-1", token_hash, "key").is_ok());
}

#[test]
fn the_same_key_again_gets_the_same_enrolment() {
    let mut story = Story::empty();
    let good = token(&mut story, None, Labels::new());

    let first = join(&mut story, "web-1", good, "key").unwrap();
    let again = join(&mut story, "web-1", good, "key").unwrap();
    story.restart();
    let later = join(&mut story, "web-1", good, "key").unwrap();

    assert_eq!([first, first], [again, later]);
    assert!(join(&mut story, "web-2", good, "key").is_err(), "for one agent only");
}

#[test]
fn a_removed_agent_cannot_come_back_with_its_old_token() {
    let mut story = Story::empty();
    let good = token(&mut story, None, Labels::new());
    join(&mut story, "web-1", good, "key").unwrap();
    story.ask(Request::RemoveAgent { agent: name("web-1") }).unwrap();

    assert!(join(&mut story, "web-1", good, "key").is_err());
}

#[test]
fn labels_of_the_token_win_and_an_agent_adds_none() {
    let mut story = Story::empty();
    let bound = token(&mut story, None, labels(&[("env", "staging")]));
    join(&mut story, "web-1", bound, "key").unwrap();
    assert_eq!(
        story.core.enrolments().agents[&name("web-1")].labels,
        labels(&[("env", "staging")])
    );

    let open = hash("open");
    let expires = story.now + JOIN_TOKEN_TTL;
    let request =
        Request::CreateJoinToken { token_hash: open, name: None, labels: Labels::new(), expires };
    story.ask(request).unwrap();
    join(&mut story, "web-2", open, "key 2").unwrap();
    assert_eq!(story.core.enrolments().agents[&name("web-2")].labels, labels(&[("env", "own")]));
}

#[test]
fn a_name_is_given_once() {
    let mut story = Story::fleet(1);
    let other = token(&mut story, None, Labels::new());

    let refusal = join(&mut story, "web-1", other, "key").unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Exists);

    let token_hash = hash("named");
    let expires = story.now + JOIN_TOKEN_TTL;
    let name = Some(name("web-1"));
    let request = Request::CreateJoinToken { token_hash, name, labels: Labels::new(), expires };
    assert_eq!(story.ask(request).unwrap_err().kind, RefusalKind::Exists);
}

#[test]
fn hosts_of_a_rollout_are_neither_removed_nor_relabelled_until_it_is_over() {
    let mut story = Story::running(2);
    story.deploy("2.0", &[]);
    let remove = Request::RemoveAgent { agent: name("web-1") };
    let label = Request::LabelAgent {
        agent: name("web-1"),
        set: labels(&[("zone", "a")]),
        unset: Vec::new(),
    };

    let removal = story.ask(remove.clone()).unwrap_err();
    let labelling = story.ask(label.clone()).unwrap_err();
    let id = story.rollout.unwrap().to_string();
    insta::assert_snapshot!(removal.text.replace(&id, "ID"), @"agent web-1 cannot be removed: it takes part in rollout ID");
    insta::assert_snapshot!(labelling.text.replace(&id, "ID"), @"agent web-1 cannot be relabelled: it takes part in rollout ID");

    story.settle();
    assert_eq!(story.ask(label), Ok(Answer::Done));
    assert_eq!(story.ask(remove), Ok(Answer::Done));
}

#[test]
fn a_removed_agent_is_sent_away_and_not_let_in_again() {
    let mut story = Story::running(1);
    story.ask(Request::RemoveAgent { agent: name("web-1") }).unwrap();
    assert!(story.agents[&name("web-1")].session.is_none(), "its session is ended");

    story.hello("web-1");

    assert!(story.agents[&name("web-1")].session.is_none());
    let enrolment = story.agents[&name("web-1")].enrolment;
    let renewal = story.ask(Request::Renew { agent: name("web-1"), enrolment });
    assert_eq!(renewal.unwrap_err().kind, RefusalKind::Denied);
}

#[test]
fn a_renewal_is_signed_for_the_enrolment_that_is_valid() {
    let mut story = Story::fleet(1);
    let enrolment = story.agents[&name("web-1")].enrolment;
    assert!(story.ask(Request::Renew { agent: name("web-1"), enrolment }).is_ok());

    let enrolment = story.draw();
    assert!(story.ask(Request::Renew { agent: name("web-1"), enrolment }).is_err());
}

#[test]
fn an_unknown_agent_is_refused_with_the_nearest() {
    let mut story = Story::fleet(2);

    let refusal = story.ask(Request::RemoveAgent { agent: name("wbe-1") }).unwrap_err();

    insta::assert_snapshot!(format!("{}; {}", refusal.text, refusal.hint), @r#"there is no agent "wbe-1"; did you mean "web-1"? `cutover agents list` lists all"#);
}

#[test]
fn a_release_never_changes() {
    let mut story = Story::fleet(1);
    let request = |content| Request::RegisterRelease {
        release: Arc::new(crate::testing::release("1.0", content)),
        manifest: String::new(),
    };

    assert_eq!(story.ask(request("1.0")), Ok(Answer::Done), "the same again");
    assert_eq!(story.ask(request("other")).unwrap_err().kind, RefusalKind::Exists);
}

#[test]
fn an_environment_is_made_once_and_selects_something() {
    let mut story = Story::fleet(1);
    let mut create = |select: &[(&str, &str)]| {
        let select = labels(select);
        story.ask(Request::CreateEnvironment { name: "prod".parse().unwrap(), select })
    };

    assert_eq!(create(&[("env", "prod")]), Ok(Answer::EnvironmentCreated { agents: 1 }));
    assert_eq!(create(&[("env", "else")]).unwrap_err().kind, RefusalKind::Exists);
    assert_eq!(create(&[]).unwrap_err().kind, RefusalKind::Invalid);
    assert_eq!(create(&[("env", "a,b")]).unwrap_err().kind, RefusalKind::Invalid);
}
