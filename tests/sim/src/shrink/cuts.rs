//! Cuts: what a script is without some of its hosts, applications, releases or time. What is
//! behind a cut gets new numbers, and what concerned the part that is gone goes with it.

use std::ops::Range;

use crate::script::{Call, Mode, Script, What};

/// Takes hosts out. The last one stays: a run has one.
pub(super) fn without_hosts(script: &mut Script, hosts: Range<usize>) {
    if hosts.len() >= usize::from(script.hosts) {
        return;
    }
    script.entries.retain_mut(|entry| keep(entry.what.host_mut(), &hosts));
    script.hosts -= u16::try_from(hosts.len()).unwrap_or(0);
    for application in &mut script.applications {
        application.hosts.retain_mut(|member| keep(Some(member), &hosts));
        for release in &mut application.releases {
            release.exceptions.retain_mut(|exception| keep(Some(&mut exception.host), &hosts));
        }
    }
    if let Mode::Liveness { broken, .. } = &mut script.mode {
        broken.retain_mut(|member| keep(Some(member), &hosts));
    }
}

/// Takes applications out. The last one stays.
pub(super) fn without_applications(script: &mut Script, applications: Range<usize>) {
    if applications.len() >= script.applications.len() {
        return;
    }
    script.entries.retain_mut(|entry| keep(entry.what.application_mut(), &applications));
    script.applications.drain(applications);
}

/// Takes releases of one application out. The last one stays.
pub(super) fn without_releases(script: &mut Script, application: usize, releases: Range<usize>) {
    let of_application = &mut script.applications[application].releases;
    if releases.len() >= of_application.len() {
        return;
    }
    of_application.drain(releases.clone());
    script.entries.retain_mut(|entry| match &mut entry.what {
        What::Call(Call::Deploy { application: of, release, .. })
            if usize::from(*of) == application =>
        {
            keep(Some(release), &releases)
        }
        What::Call(_) | What::Fault(_) => true,
    });
}

/// Lets everything from an entry on happen earlier.
pub(super) fn earlier(script: &mut Script, index: usize, by_ms: u64) {
    for entry in &mut script.entries[index..] {
        entry.at_ms = entry.at_ms.saturating_sub(by_ms);
    }
    script.ends_ms = script.ends_ms.saturating_sub(by_ms);
    if let Mode::Liveness { heals_ms, .. } = &mut script.mode {
        *heals_ms = heals_ms.saturating_sub(by_ms);
    }
}

/// Lets the faults end at a moment, and leaves as much time as before for what follows.
pub(super) fn heal_at(script: &mut Script, at_ms: u64) {
    if let Mode::Liveness { heals_ms, .. } = &mut script.mode {
        let lasts_ms = script.ends_ms.saturating_sub(*heals_ms);
        *heals_ms = at_ms;
        script.ends_ms = at_ms + lasts_ms;
    }
}

/// Returns whether something that concerns `number` stays without `gone`.
fn keep(number: Option<&mut u16>, gone: &Range<usize>) -> bool {
    let Some(number) = number else { return true };
    if usize::from(*number) >= gone.end {
        *number -= u16::try_from(gone.len()).unwrap_or(0);
        return true;
    }
    usize::from(*number) < gone.start
}
