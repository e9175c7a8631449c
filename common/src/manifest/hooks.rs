//! `[hooks]`: programs of the release that run at a point of an instance's life.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    reader::{Reader, Section},
    run::{Program, read_argv},
    words::{HOOK, HOOKS},
};
use crate::{Hook, HookKind};

/// As long as a stop may take.
pub(super) const WITHIN: RangeInclusive<Duration> = super::run::STOP_WITHIN;
pub(super) const WITHIN_DEFAULT: Duration = super::run::STOP_WITHIN_DEFAULT;

/// Reads `[hooks]`, when there are any.
pub(super) fn read_hooks(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<Vec<Hook>> {
    let Some(item) = top.item("hooks") else {
        return Some(Vec::new());
    };
    let section = Section::open(&item, &HOOKS, reader)?;
    let Some(item) = section.item("before_stop") else {
        return Some(Vec::new());
    };
    let hook = Section::open(&item, &HOOK, reader)?;
    let command = hook
        .required("command", "write command = [\"./hooks/drain\"]", reader)
        .and_then(|item| read_argv(&item, Program::NotAbsolute, reader));
    let within =
        hook.read("within", reader, |item| item.duration(&WITHIN)).unwrap_or(WITHIN_DEFAULT);
    Some(vec![Hook { kind: HookKind::BeforeStop, command: command?, within }])
}
