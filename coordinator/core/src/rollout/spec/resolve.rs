//! Resolving: flags in front of the manifest, the manifest in front of the defaults, and all that
//! is wrong with them at once.

use std::{collections::BTreeMap, time::Duration};

use cutover_common::{
    Allow, AllowCookie, AllowHeader, Amount, AmountSetting, Batches, CanaryHosts, CanarySteps,
    Check, CheckName, DeploySetting, InvalidSetting, JudgeSetting, MaxLoad, Pauses, Timers,
    check::{ChosenChecks, Question},
    duration_text,
    host::is_label_part,
    manifest::{CutoverMode, DeploySpec, Promotion, Timing, Unreachable, Unsure},
    nearest::nearest,
};

use super::{
    BlueGreen, Canary, Groups, HEALTHY_FOR, HEALTHY_WITHIN, Options, PROGRESS_WITHIN, Setting,
    SettingSource, Spec, Strategy,
};

/// The hosts of an environment, as far as settings are judged by them.
#[derive(Clone, Copy)]
pub struct Hosts<'a> {
    /// The zone of each host, by the label that is asked for. Those without it are in the zone "".
    pub zones: &'a dyn Fn(&str) -> Vec<String>,
    pub total: u32,
    /// Of them those that are left out, and count as down.
    pub drained: u32,
    /// The groups of all hosts by the label that is asked for, or why there are no two.
    pub groups: &'a dyn Fn(&str) -> Result<Grouped, String>,
}

/// What is known of groups of hosts.
pub struct Grouped {
    pub groups: Groups,
    /// How many hosts get the new release.
    pub total: u32,
    /// Of them those that are left out.
    pub drained: u32,
}

/// Collects settings, and everything that is wrong with them.
struct Resolver<'a> {
    options: &'a Options,
    manifest: Option<&'a DeploySpec>,
    /// What the release declares.
    checks: &'a [Check],
    settings: Vec<Setting>,
    mistakes: Vec<String>,
}

impl Resolver<'_> {
    /// Takes the flag, else the manifest's value, else the default.
    fn pick<T>(
        &mut self,
        setting: DeploySetting,
        parse: impl FnOnce(&str) -> Result<T, String>,
        manifest: impl FnOnce(&DeploySpec) -> Option<T>,
        default: T,
        print: impl FnOnce(&T) -> String,
    ) -> T {
        let manifest = self.manifest.and_then(manifest);
        let (value, source) = match (self.options.get(setting), manifest) {
            ("", Some(value)) => (value, SettingSource::Manifest),
            ("", None) => (default, SettingSource::Default),
            (text, _) => match parse(text) {
                Ok(value) => (value, SettingSource::Flag),
                Err(mistake) => {
                    self.mistakes.push(mistake);
                    (default, SettingSource::Default)
                }
            },
        };
        self.settings.push(Setting {
            name: setting.name().to_owned(),
            value: print(&value),
            source,
        });
        value
    }

    /// Takes what has no default, and is not shown where nobody said it.
    fn pick_if_said<T>(
        &mut self,
        setting: DeploySetting,
        parse: impl FnOnce(&str) -> Result<T, String>,
        manifest: impl FnOnce(&DeploySpec) -> Option<T>,
        print: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let is_said = !self.options.get(setting).is_empty();
        let manifest = self.manifest.and_then(manifest);
        if !is_said && manifest.is_none() {
            return None;
        }
        let print = |value: &Option<T>| value.as_ref().map_or_else(String::new, print);
        self.pick(setting, |text| parse(text).map(Some), |_| manifest.map(Some), None, print)
    }

    fn switch(
        &mut self,
        setting: DeploySetting,
        manifest: impl FnOnce(&DeploySpec) -> Option<bool>,
        default: bool,
    ) -> bool {
        let parse = |text: &str| parse_switch(setting, text);
        self.pick(setting, parse, manifest, default, print_switch)
    }

    fn duration(
        &mut self,
        (setting, timing): (DeploySetting, Timing),
        manifest: impl FnOnce(&DeploySpec) -> Option<Duration>,
        default: Duration,
    ) -> Duration {
        let parse = |text: &str| timing.parse(text).map_err(|mistake| mistake.to_string());
        self.pick(setting, parse, manifest, default, |value| duration_text::print(*value))
    }

    fn amount(
        &mut self,
        (setting, amount): (DeploySetting, AmountSetting),
        manifest: impl FnOnce(&DeploySpec) -> Option<Amount>,
        default: Amount,
        hosts: u32,
    ) -> u32 {
        let parse = |text: &str| Amount::parse(amount, text).map_err(|mistake| mistake.to_string());
        let print = |value: &Amount| match value {
            Amount::Count(_) => value.to_string(),
            Amount::Percent(_) => format!("{value} = {} of {hosts}", value.of(amount, hosts)),
        };
        self.pick(setting, parse, manifest, default, print).of(amount, hosts)
    }

    fn mistake(&mut self, mistake: impl Into<String>) {
        self.mistakes.push(mistake.into());
    }
}

impl Spec {
    /// Resolves the settings of a rollout over `hosts`.
    ///
    /// # Errors
    ///
    /// Returns every mistake in the flags, each naming its setting and what to write.
    pub fn resolve(
        options: &Options,
        (manifest, checks): (Option<&DeploySpec>, &[Check]),
        hosts: &Hosts<'_>,
    ) -> Result<(Self, Vec<Setting>), Vec<String>> {
        let mut resolver =
            Resolver { options, manifest, checks, settings: Vec::new(), mistakes: Vec::new() };
        let strategy = resolver.pick(
            DeploySetting::Strategy,
            |text| text.parse::<Strategy>().map_err(|mistake| mistake.to_string()),
            |deploy| deploy.strategy,
            Strategy::Rolling,
            ToString::to_string,
        );
        let pace = resolver.pace(strategy);
        let canary = resolver.canary(strategy);
        let grouped = resolver.groups(strategy, hosts);
        let hosts = &match &grouped {
            Some(Grouped { total, drained, .. }) => {
                Hosts { total: *total, drained: *drained, ..*hosts }
            }
            None => *hosts,
        };
        let groups = grouped.map(|grouped| grouped.groups);
        let blue_green = resolver.blue_green(strategy, groups);
        let zones = resolver.zones(hosts);
        let floor = resolver.floor(hosts, &pace.batches, &zones);
        let budgets = resolver.budgets(hosts);
        let timers = resolver.timers();
        let spec = Spec {
            strategy,
            batches: pace.batches,
            canary,
            blue_green,
            sliding: pace.sliding,
            pause_after: pace.pause_after,
            zone: zones.label,
            zone_soak: zones.soak,
            min_healthy: floor.min_healthy,
            zone_min_healthy: floor.zone_min_healthy,
            zone_floors: floor.zone_floors,
            max_load: floor.max_load,
            max_failed: budgets.max_failed,
            max_unreachable: budgets.max_unreachable,
            unreachable: budgets.unreachable,
            healthy_for: timers.healthy_for,
            healthy_within: timers.healthy_within,
            allowance: Duration::ZERO,
            progress_within: resolver.duration(
                (DeploySetting::ProgressWithin, Timing::ProgressWithin),
                |deploy| deploy.progress_within,
                PROGRESS_WITHIN,
            ),
            soak: resolver.duration(
                (DeploySetting::Soak, Timing::Soak),
                |deploy| deploy.soak,
                Duration::ZERO,
            ),
            bake: resolver.duration(
                (DeploySetting::Bake, Timing::Bake),
                |deploy| deploy.bake,
                Duration::ZERO,
            ),
            auto_rollback: resolver.switch(
                DeploySetting::AutoRollback,
                |deploy| deploy.auto_rollback,
                true,
            ),
        };
        resolver.possible_waits(&spec);
        resolver.possible_budgets(&spec);
        resolver.finish(spec)
    }
}

/// How fast.
struct Pace {
    batches: Batches,
    sliding: bool,
    pause_after: Option<Pauses>,
}

/// In which zones.
struct Zones {
    label: Option<String>,
    soak: Duration,
    sizes: BTreeMap<String, u32>,
}

/// What must stay.
struct Floor {
    min_healthy: u32,
    zone_min_healthy: Option<Amount>,
    zone_floors: BTreeMap<String, u32>,
    max_load: Option<MaxLoad>,
}

/// What is borne.
struct Budgets {
    max_failed: u32,
    max_unreachable: u32,
    unreachable: Unreachable,
}

impl Resolver<'_> {
    /// Refuses what says something to another strategy.
    fn only_with(&mut self, strategy: Strategy, settings: &[DeploySetting]) {
        for setting in settings {
            if !self.options.get(*setting).is_empty() {
                self.mistake(format!(
                    "{setting}: only {strategy} knows it; leave it out, or use --strategy {strategy}"
                ));
            }
        }
    }

    fn canary(&mut self, strategy: Strategy) -> Option<Canary> {
        if strategy != Strategy::Canary {
            let settings = [
                DeploySetting::CanaryHosts,
                DeploySetting::CanarySteps,
                DeploySetting::CanaryPromote,
                DeploySetting::CanaryHeader,
                DeploySetting::CanaryCookie,
                DeploySetting::CanaryUnsure,
                DeploySetting::CanaryJudge,
                DeploySetting::CanaryChecks,
            ];
            self.only_with(Strategy::Canary, &settings);
            return None;
        }
        Some(Canary {
            hosts: self.pick(
                DeploySetting::CanaryHosts,
                |text| text.parse::<CanaryHosts>().map_err(|mistake| mistake.to_string()),
                |deploy| deploy.canary.hosts.clone(),
                CanaryHosts::Amount(Amount::Count(1)),
                ToString::to_string,
            ),
            steps: self.pick(
                DeploySetting::CanarySteps,
                |text| text.parse::<CanarySteps>().map_err(|mistake| mistake.to_string()),
                |deploy| deploy.canary.steps.clone(),
                "10%:5m,50%:5m".parse().expect("these are steps"),
                ToString::to_string,
            ),
            promote: self.pick(
                DeploySetting::CanaryPromote,
                |text| text.parse::<Promotion>().map_err(|mistake| mistake.to_string()),
                |deploy| deploy.canary.promote,
                Promotion::Auto,
                ToString::to_string,
            ),
            unsure: self.pick(
                DeploySetting::CanaryUnsure,
                |text| text.parse::<Unsure>().map_err(|mistake| mistake.to_string()),
                |deploy| deploy.canary.unsure,
                Unsure::Wait,
                ToString::to_string,
            ),
            judge: self.pick_if_said(
                DeploySetting::CanaryJudge,
                |text| text.parse::<JudgeSetting>().map_err(|mistake| mistake.to_string()),
                |deploy| deploy.canary.judge.clone(),
                ToString::to_string,
            ),
            checks: self.checks(),
            allow: self.allow(),
        })
    }

    /// Returns by what clients reach a canary on purpose.
    fn allow(&mut self) -> Option<Allow> {
        let header = self.pick_if_said(
            DeploySetting::CanaryHeader,
            |text| text.parse::<AllowHeader>().map_err(|mistake| mistake.to_string()),
            |deploy| deploy.canary.header.clone(),
            ToString::to_string,
        );
        let cookie = self.pick_if_said(
            DeploySetting::CanaryCookie,
            |text| text.parse::<AllowCookie>().map_err(|mistake| mistake.to_string()),
            |deploy| deploy.canary.cookie.clone(),
            ToString::to_string,
        );
        Allow::of(header, cookie)
    }

    /// Returns the checks that a canary is asked: all that the release declares, or those of them
    /// that somebody named.
    fn checks(&mut self) -> Vec<Check> {
        let declared = self.checks;
        let said = self.options.get(DeploySetting::CanaryChecks);
        if declared.is_empty() && matches!(said, "" | "none") {
            return Vec::new();
        }
        let chosen = self.pick(
            DeploySetting::CanaryChecks,
            |text| {
                let chosen: ChosenChecks =
                    text.parse().map_err(|mistake: InvalidSetting| mistake.to_string())?;
                let is_declared = |name: &&CheckName| declared.iter().any(|it| it.name == **name);
                let unknown = chosen.iter().find(|name| !is_declared(name)).cloned();
                unknown.map_or(Ok(chosen), |name| Err(undeclared(&name, declared)))
            },
            |deploy| deploy.canary.checks.clone(),
            declared.iter().map(|check| check.name.clone()).collect(),
            |chosen| shown(chosen, declared),
        );
        declared.iter().filter(|check| chosen.contains(&check.name)).cloned().collect()
    }

    /// Returns the groups of hosts that there are to be, if it was said that there are any.
    fn groups(&mut self, strategy: Strategy, hosts: &Hosts<'_>) -> Option<Grouped> {
        if strategy != Strategy::BlueGreen {
            self.only_with(Strategy::BlueGreen, &[DeploySetting::Groups]);
            return None;
        }
        let label = self.pick_if_said(
            DeploySetting::Groups,
            |text| label_key(DeploySetting::Groups, text),
            |deploy| deploy.groups.clone(),
            ToString::to_string,
        )?;
        match (hosts.groups)(&label) {
            Ok(grouped) => {
                let name = DeploySetting::Groups.name();
                if let Some(setting) = self.settings.iter_mut().find(|it| it.name == name) {
                    let Groups { label, from, to } = &grouped.groups;
                    let from = from.as_ref().map_or_else(String::new, |from| format!("{from} to "));
                    setting.value = format!("{label}: {from}{to}");
                }
                Some(grouped)
            }
            Err(problem) => {
                self.mistake(format!("{}: {problem}", DeploySetting::Groups));
                None
            }
        }
    }

    fn blue_green(&mut self, strategy: Strategy, groups: Option<Groups>) -> Option<BlueGreen> {
        if strategy != Strategy::BlueGreen {
            let settings = [
                DeploySetting::Cutover,
                DeploySetting::Hold,
                DeploySetting::Keep,
                DeploySetting::Approve,
                DeploySetting::Until,
            ];
            self.only_with(Strategy::BlueGreen, &settings);
            return None;
        }
        let until = self.pick_if_said(
            DeploySetting::Until,
            |text| match text {
                "smoke" => Ok(true),
                _ => Err(format!("until: {text:?} is no place to stop; write \"smoke\"")),
            },
            |_| None,
            |_| "smoke".to_owned(),
        );
        Some(BlueGreen {
            cutover: self.pick(
                DeploySetting::Cutover,
                |text| text.parse::<CutoverMode>().map_err(|mistake| mistake.to_string()),
                |deploy| deploy.cutover,
                CutoverMode::Strict,
                ToString::to_string,
            ),
            hold: self.duration(
                (DeploySetting::Hold, Timing::Hold),
                |deploy| deploy.hold,
                super::HOLD,
            ),
            keep: self.duration(
                (DeploySetting::Keep, Timing::Keep),
                |deploy| deploy.keep,
                super::KEEP,
            ),
            approve: self.switch(DeploySetting::Approve, |deploy| deploy.approve, false),
            until_smoke: until.unwrap_or_default(),
            groups,
        })
    }

    fn pace(&mut self, strategy: Strategy) -> Pace {
        if matches!(strategy, Strategy::AllAtOnce | Strategy::BlueGreen) {
            for setting in [DeploySetting::Batch, DeploySetting::Sliding, DeploySetting::PauseAfter]
            {
                if !self.options.get(setting).is_empty() {
                    self.mistake(format!(
                        "{setting}: {strategy} is one batch; leave it out, or use --strategy rolling"
                    ));
                }
            }
            let whole = ramp(Amount::Percent(100));
            return Pace { batches: whole, sliding: false, pause_after: None };
        }
        let batches = self.pick(
            DeploySetting::Batch,
            |text| text.parse::<Batches>().map_err(|mistake| mistake.to_string()),
            |deploy| deploy.batch.clone(),
            ramp(Amount::Percent(25)),
            ToString::to_string,
        );
        let parse = |text: &str| parse_switch(DeploySetting::Sliding, text);
        let sliding =
            self.pick_if_said(DeploySetting::Sliding, parse, |deploy| deploy.sliding, print_switch);
        let sliding = sliding.unwrap_or_default();
        let pause_after = self.pick_if_said(
            DeploySetting::PauseAfter,
            |text| text.parse::<Pauses>().map_err(|mistake| mistake.to_string()),
            |deploy| deploy.pause_after.clone(),
            ToString::to_string,
        );
        if sliding && batches.steps().len() > 1 {
            self.mistake(format!(
                "sliding: a window has one size, and batch is the ramp {batches}; write one size"
            ));
        }
        if sliding && pause_after.is_some() {
            self.mistake(
                "pause_after: a sliding window has no batches to pause after; leave out one of \
                 the two",
            );
        }
        Pace { batches, sliding, pause_after }
    }

    fn zones(&mut self, hosts: &Hosts<'_>) -> Zones {
        let label = self.pick_if_said(
            DeploySetting::Zone,
            |text| label_key(DeploySetting::Zone, text),
            |deploy| deploy.zone.clone(),
            ToString::to_string,
        );
        let parse =
            |text: &str| Timing::ZoneSoak.parse(text).map_err(|mistake| mistake.to_string());
        let print = |soak: &Duration| duration_text::print(*soak);
        let soak =
            self.pick_if_said(DeploySetting::ZoneSoak, parse, |deploy| deploy.zone_soak, print);
        let mut sizes = BTreeMap::new();
        for zone in label.as_deref().map(hosts.zones).unwrap_or_default() {
            *sizes.entry(zone).or_default() += 1;
        }
        if label.is_none() && soak.is_some() {
            self.mistake("zone_soak: there are no zones; name their label with zone");
        }
        Zones { label, soak: soak.unwrap_or_default(), sizes }
    }

    fn floor(&mut self, hosts: &Hosts<'_>, batches: &Batches, zones: &Zones) -> Floor {
        // The floor follows the pace unless it is given: it then bears what the largest batch
        // takes out and nothing more, so that an outage elsewhere stops the next batch.
        let in_service = hosts.total.saturating_sub(hosts.drained);
        let whole = [in_service];
        let sizes = zones.sizes.values().map(|size| (*size).min(in_service));
        let sizes: Vec<u32> = if zones.label.is_some() { sizes.collect() } else { whole.to_vec() };
        let largest = sizes.into_iter().flat_map(|size| batches.sizes(size)).max().unwrap_or(0);
        let min_healthy = self.amount(
            (DeploySetting::MinHealthy, AmountSetting::MinHealthy),
            |deploy| deploy.min_healthy,
            Amount::Count(in_service.saturating_sub(largest)),
            hosts.total,
        );
        let per_zone = self.pick_if_said(
            DeploySetting::ZoneMinHealthy,
            |text| {
                Amount::parse(AmountSetting::ZoneMinHealthy, text)
                    .map_err(|mistake| mistake.to_string())
            },
            |deploy| deploy.zone_min_healthy,
            ToString::to_string,
        );
        if zones.label.is_none() && per_zone.is_some() {
            self.mistake("zone_min_healthy: there are no zones; name their label with zone");
        }
        let mut zone_floors = BTreeMap::new();
        if let Some(amount) = per_zone {
            for (zone, size) in &zones.sizes {
                let floor = amount.of(AmountSetting::ZoneMinHealthy, *size);
                if floor > *size {
                    self.mistake(format!(
                        "zone_min_healthy: {floor} can never be met: zone {zone:?} has {size} \
                         hosts; write at most {size}, or a percentage"
                    ));
                }
                zone_floors.insert(zone.clone(), floor);
            }
        }
        let max_load = self.pick_if_said(
            DeploySetting::MaxLoad,
            |text| text.parse::<MaxLoad>().map_err(|mistake| mistake.to_string()),
            |deploy| deploy.max_load,
            ToString::to_string,
        );
        Floor { min_healthy, zone_min_healthy: per_zone, zone_floors, max_load }
    }

    fn budgets(&mut self, hosts: &Hosts<'_>) -> Budgets {
        Budgets {
            max_failed: self.amount(
                (DeploySetting::MaxFailed, AmountSetting::MaxFailed),
                |deploy| deploy.max_failed,
                Amount::Count(0),
                hosts.total,
            ),
            max_unreachable: self.amount(
                (DeploySetting::MaxUnreachable, AmountSetting::MaxUnreachable),
                |deploy| deploy.max_unreachable,
                Amount::Count(0),
                hosts.total,
            ),
            unreachable: self.pick(
                DeploySetting::Unreachable,
                |text| text.parse::<Unreachable>().map_err(|mistake| mistake.to_string()),
                |deploy| deploy.unreachable,
                Unreachable::Skip,
                ToString::to_string,
            ),
        }
    }

    fn timers(&mut self) -> Timers {
        Timers {
            healthy_for: self.duration(
                (DeploySetting::HealthyFor, Timing::HealthyFor),
                |deploy| deploy.healthy_for,
                HEALTHY_FOR,
            ),
            healthy_within: self.duration(
                (DeploySetting::HealthyWithin, Timing::HealthyWithin),
                |deploy| deploy.healthy_within,
                HEALTHY_WITHIN,
            ),
        }
    }

    /// Returns the spec, or all that is wrong, in the order of the settings.
    fn finish(mut self, spec: Spec) -> Result<(Spec, Vec<Setting>), Vec<String>> {
        self.settings.sort_by_key(|setting| setting.name.parse::<DeploySetting>().ok());
        self.mistakes.sort_by_key(|mistake| {
            let setting = mistake.split(':').next().unwrap_or_default();
            setting.parse::<DeploySetting>().ok()
        });
        if self.mistakes.is_empty() { Ok((spec, self.settings)) } else { Err(self.mistakes) }
    }

    /// Refuses to bear hosts that are to be waited for.
    fn possible_budgets(&mut self, spec: &Spec) {
        if spec.unreachable == Unreachable::Wait && spec.max_unreachable > 0 {
            self.mistake(format!(
                "max_unreachable: {} may be left out, and unreachable = \"wait\" leaves out none; \
                 write max_unreachable = 0, or another word",
                spec.max_unreachable
            ));
        }
    }

    /// Refuses waits that no rollout could pass.
    fn possible_waits(&mut self, spec: &Spec) {
        let within = duration_text::print(spec.healthy_within);
        if spec.healthy_within <= spec.healthy_for {
            self.mistake(format!(
                "healthy_within: {within} is not longer than healthy_for, {}, so no host could \
                 ever be done; write a longer healthy_within",
                duration_text::print(spec.healthy_for),
            ));
        }
        if spec.progress_within < spec.healthy_within {
            self.mistake(format!(
                "progress_within: {} is shorter than healthy_within, {within}, so a slow start \
                 would look like a standstill; write a longer progress_within",
                duration_text::print(spec.progress_within),
            ));
        }
    }
}

fn label_key(setting: DeploySetting, text: &str) -> Result<String, String> {
    if is_label_part(text) {
        return Ok(text.to_owned());
    }
    Err(format!("{setting}: {text:?} is no key of a label; write one"))
}

fn parse_switch(setting: DeploySetting, text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{setting}: {text:?} must be \"on\" or \"off\"")),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what is picked is printed by reference")]
fn print_switch(on: &bool) -> String {
    if *on { "on" } else { "off" }.to_owned()
}

fn ramp(size: Amount) -> Batches {
    Batches::new(vec![size]).expect("one step that is not zero")
}

fn undeclared(name: &CheckName, declared: &[Check]) -> String {
    let names = || declared.iter().map(|check| check.name.as_str());
    let instead = match nearest(name.as_str(), names()) {
        Some(near) => format!("write {near:?}"),
        None if declared.is_empty() => "the release declares none; write \"none\"".to_owned(),
        None => format!("the release declares {}", names().collect::<Vec<_>>().join(", ")),
    };
    format!("{}: there is no check \"{name}\"; {instead}", DeploySetting::CanaryChecks)
}

/// Shows what is asked, and what fails the canary.
fn shown(chosen: &ChosenChecks, declared: &[Check]) -> String {
    let check = |check: &Check| {
        let asked = match &check.question {
            Question::Command(_) => "command".to_owned(),
            Question::Metric(metric) => {
                let above = metric.fail_above.map(|limit| format!(", fails above {limit}"));
                let below = metric.fail_below.map(|limit| format!(", fails below {limit}"));
                let limits = above.into_iter().chain(below).collect::<String>();
                format!("{}{limits}", metric.source)
            }
        };
        let every = duration_text::print(check.every);
        format!("{} ({asked}, {} in a row, every {every})", check.name, check.failures)
    };
    let chosen: Vec<String> =
        declared.iter().filter(|it| chosen.contains(&it.name)).map(check).collect();
    if chosen.is_empty() { "none".to_owned() } else { chosen.join("; ") }
}
