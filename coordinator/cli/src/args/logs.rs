//! Arguments of `cutover logs`.

use clap::ValueEnum;
use cutover_common::{AgentName, ApplicationName, HookKind, Slot};

use super::OutputArgs;

/// Arguments of `cutover logs`.
#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Whose logs
    #[arg(value_name = "APP")]
    pub application: ApplicationName,
    /// Only of this host [default: all that run the application]
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<AgentName>,
    /// Only of this slot [default: the one that was written last]
    #[arg(long, value_enum)]
    pub slot: Option<SlotArg>,
    /// What this hook said when it ran last, all of it, instead of what the instances say
    #[arg(long, value_enum, value_name = "HOOK")]
    pub hook: Option<HookArg>,
    /// How many of the last lines to begin with [default: 100, or all that is kept of a hook]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub lines: Option<u32>,
    /// Go on with what is written later, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A slot, as it is typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SlotArg {
    Blue,
    Green,
}

impl From<SlotArg> for Slot {
    fn from(slot: SlotArg) -> Self {
        match slot {
            SlotArg::Blue => Self::Blue,
            SlotArg::Green => Self::Green,
        }
    }
}

/// A hook, as it is named in a `cutover.toml`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HookArg(pub HookKind);

impl ValueEnum for HookArg {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [HookArg; 6] = [
            HookArg(HookKind::Install),
            HookArg(HookKind::BeforeStart),
            HookArg(HookKind::AfterStart),
            HookArg(HookKind::Smoke),
            HookArg(HookKind::BeforeStop),
            HookArg(HookKind::AfterStop),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}
