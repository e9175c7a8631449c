//! `[hooks]`: programs of the release that run at a point of an instance's life.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    reader::{Item, Reader, Section},
    run::{Program, read_argv},
    words::{HOOKS, hook_words},
};
use crate::{Hook, HookKind};

/// As long as a stop may take.
pub(super) const WITHIN: RangeInclusive<Duration> = super::run::STOP_WITHIN;

/// Around a stop, as long as the instance itself is given.
const WITHIN_STOP_DEFAULT: Duration = super::run::STOP_WITHIN_DEFAULT;

/// Five minutes: on the way into service a hook installs, migrates or warms up.
const WITHIN_DEFAULT: Duration = Duration::from_secs(300);

/// Returns how long a hook of this kind may take unless the file says it.
pub(super) const fn within_default(kind: HookKind) -> Duration {
    match kind {
        HookKind::Install | HookKind::BeforeStart | HookKind::AfterStart | HookKind::Smoke => {
            WITHIN_DEFAULT
        }
        HookKind::BeforeStop | HookKind::AfterStop => WITHIN_STOP_DEFAULT,
    }
}

/// Reads `[hooks]`, when there are any.
pub(super) fn read_hooks(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<Vec<Hook>> {
    let Some(item) = top.item("hooks") else {
        return Some(Vec::new());
    };
    let section = Section::open(&item, &HOOKS, reader)?;
    // Each is read before any gives up, so that all mistakes are found.
    let hooks: Vec<Option<Hook>> = HookKind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind, section.item(kind.name())?)))
        .map(|(kind, item)| read_hook(kind, &item, reader))
        .collect();
    hooks.into_iter().collect()
}

fn read_hook(kind: HookKind, item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Hook> {
    let hook = Section::open(item, hook_words(kind), reader)?;
    let example = format!("write command = [\"./hooks/{kind}\"]");
    let command = hook
        .required("command", &example, reader)
        .and_then(|item| read_argv(&item, Program::NotAbsolute, reader));
    let within = hook.read("within", reader, |item| item.duration(&WITHIN));
    let once = hook.read("once", reader, Item::boolean).unwrap_or_default();
    Some(Hook { kind, command: command?, within: within.unwrap_or(within_default(kind)), once })
}
