//! Tests of shrinking, with failures that are made up: what must stay is known.

use super::*;
use crate::{script::Fault, swarm};

/// A seed with many hosts, applications and things that happen.
fn large() -> Script {
    (0..200)
        .map(swarm::draw)
        .max_by_key(|script| script.entries.len() * script.applications.len())
        .expect("there are seeds")
}

fn cuts_of(script: &Script) -> usize {
    let is_cut = |entry: &&crate::script::Entry| {
        matches!(entry.what, What::Fault(Fault::CutLink { .. } | Fault::ResetLink { .. }))
    };
    script.entries.iter().filter(is_cut).count()
}

#[test]
fn what_the_failure_does_not_need_goes() {
    let (script, mut tries) = (large(), 0);
    let needed = cuts_of(&script).min(2);
    assert!(script.entries.len() > 20 && needed == 2, "a large one: {}", script.print());

    let small = shrink(&script, |script| {
        tries += 1;
        cuts_of(script) >= needed
    });

    assert_eq!(small.entries.len(), needed, "{}", small.print());
    assert!(usize::from(small.hosts) <= needed, "{}", small.print());
    assert_eq!(small.applications.len(), 1, "{}", small.print());
    assert_eq!(small.applications[0].releases.len(), 1, "{}", small.print());
    assert_eq!(small.network.delay_max_us, 100, "{}", small.print());
    assert_eq!(small.mode, Mode::Safety);
    assert!(tries < 500, "{tries}");
}

#[test]
fn numbers_behind_a_cut_still_name_the_same() {
    let script = large();
    let last = script.hosts - 1;
    let named: Vec<String> = script.applications.iter().map(|it| it.name.clone()).collect();

    let mut cut = script.clone();
    cuts::without_hosts(&mut cut, 0..usize::from(last));
    assert_eq!(cut.hosts, 1);
    for entry in &mut cut.entries {
        assert!(entry.what.host_mut().is_none_or(|host| *host == 0));
    }

    let mut cut = script;
    cuts::without_applications(&mut cut, 0..1);
    assert_eq!(cut.applications[0].name, named[1]);
    let count = u16::try_from(cut.applications.len()).expect("they are few");
    for entry in &mut cut.entries {
        assert!(entry.what.application_mut().is_none_or(|application| *application < count));
    }
}

#[test]
fn a_script_that_cannot_be_smaller_stays_as_it_is() {
    let script = swarm::draw(1);

    assert_eq!(shrink(&script, |other| *other == script), script);
}
