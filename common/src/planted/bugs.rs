//! The list of planted bugs: each a mistake that a careful engineer could make, with the promise
//! that it breaks and how that shows.

/// Declares the bugs, so that each stands in one place with all that is said of it.
macro_rules! bugs {
    ($(
        #[doc = $wrong:literal]
        $bug:ident $name:literal breaks $promise:literal: $expected:literal,
    )+) => {
        /// A wrong version of one decision. Its name is the kebab-case of the variant's.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Bug {
            $(#[doc = $wrong] $bug,)+
        }

        impl Bug {
            /// All of them, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$bug,)+];

            /// Returns the name that is typed and shown.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)+
                }
            }

            /// Returns what is wrong, as a sentence.
            pub const fn wrong(self) -> &'static str {
                match self {
                    $(Self::$bug => $wrong.trim_ascii(),)+
                }
            }

            /// Returns the id of the promise that is broken first.
            pub const fn promise(self) -> &'static str {
                match self {
                    $(Self::$bug => $promise,)+
                }
            }

            /// Returns when and how it shows.
            pub const fn expected(self) -> &'static str {
                match self {
                    $(Self::$bug => $expected,)+
                }
            }
        }
    };
}

bugs! {
    // the agent: whom it obeys
    /// The agent binds itself to a coordinator of an earlier term than the one that it obeyed.
    LowerTermAccepted "lower-term-accepted" breaks "F2":
        "two coordinators of one store: the term that an agent is bound to goes down",
    /// A fence compares the terms only, so that an older goal of the same term is adopted.
    LowerGenerationAccepted "lower-generation-accepted" breaks "F2":
        "a repeated or reordered assignment: the agent stops itself, or its generation goes down",
    /// An equal generation is the same goal, whatever it says.
    ConflictKept "conflict-kept" breaks "F5":
        "two coordinators of one store: another content under a held generation is not refused",
    /// Two coordinator processes of one term are the same one.
    BootNonceIgnored "boot-nonce-ignored" breaks "F3":
        "a cloned coordinator: agents follow goals of two boot nonces in one term",
    /// A second process of the term is turned away, and the first is obeyed as before.
    SplitBrainForgotten "split-brain-forgotten" breaks "F3":
        "a cloned coordinator: an agent that saw both stops an instance in that term",
    /// A term that two claimed forbids disruption in every later term too.
    SplitBrainForEver "split-brain-for-ever" breaks "A6":
        "after the clone is gone and the other has a later term, nothing is ever stopped again",

    // the agent: permission
    /// Without a session everything is permitted.
    ActWithoutLease "act-without-lease" breaks "A5":
        "a pause, an abort or a partition: a stop begins more than the lease after the last echo",
    /// One echo permits everything for as long as the session lasts.
    LeaseNeverExpires "lease-never-expires" breaks "A5":
        "a link that goes silent in one way: a stop begins more than the lease after the last echo",
    /// Any echo is an echo of the oldest beat that waits for one.
    AnyNonceCounts "any-nonce-counts" breaks "A5":
        "an echo that is late by more than the lease: a stop begins on the strength of it",
    /// An agent without a lease stops what it should be running.
    StopsOnDisconnect "stops-on-disconnect" breaks "A2":
        "a partition or a dead coordinator: a wanted instance is stopped",
    /// An instance that ended is started again with a lease only.
    RestartNeedsLease "restart-needs-lease" breaks "A2":
        "no coordinator, and a crash or a reboot: what should run does not come back",
    /// A stop that was begun goes on with a lease only.
    BegunStopWaitsForLease "begun-stop-waits-for-lease" breaks "A6":
        "no coordinator after a stop began: the host is left between two releases",

    // the agent: what it remembers, starts and stops
    /// An instance that is gone without a trace still counts as running.
    RebootForgotten "reboot-forgotten" breaks "A2":
        "a reboot: what should run is not started again",
    /// The moment of the next restart is not among those that the agent wakes up for.
    RestartWakeLost "restart-wake-lost" breaks "A6":
        "a crash with no coordinator and no probe: what should run is not started in time",
    /// The next instance after a crash has the id of the one that crashed.
    InstanceIdReused "instance-id-reused" breaks "E1":
        "a crash: one id is started twice, with its end in between",
    /// An instance that was being started when the agent died is taken for one that failed.
    StartInDoubtRepeated "start-in-doubt-repeated" breaks "E1":
        "an agent killed during a start: two processes of one application on a host",
    /// A stop of which nobody knows how it went is taken for one that went well.
    FailedStopCounts "failed-stop-counts" breaks "E6":
        "a stop that fails: the next instance starts while the last one lives",
    /// A release that could not be fetched or verified counts as prepared.
    FailedPreparationCounts "failed-preparation-counts" breaks "E2":
        "a full disk or a damaged archive: a start of what is not on disk",
    /// Nobody waits for the new release to be on disk before the old one is stopped.
    StopsBeforePrepared "stops-before-prepared" breaks "E2":
        "a slow fetch: an instance is stopped while its replacement is not prepared",
    /// A hook that was running when the agent died is run again.
    HookRunAgain "hook-run-again" breaks "E3":
        "an agent killed during a hook: the hook runs twice for one instance",
    /// No host waits for the once hook that another one runs.
    OnceNotAwaited "once-not-awaited" breaks "E10":
        "a release with a once hook: other hosts start it before the hook has passed",
    /// Where the host is lost that was to run a once hook, another one runs it.
    LostOnceGoesElsewhere "lost-once-goes-elsewhere" breaks "E10":
        "a partition or a dead host during a once hook: two hosts run it, and nobody asked for that",
    /// A once hook that was interrupted is run again by itself.
    OnceRunAgain "once-run-again" breaks "E3":
        "an agent killed during a once hook: it runs twice, and nobody asked for that",
    /// A hook that failed has passed.
    FailedHookCounts "failed-hook-counts" breaks "E9":
        "a hook fails: its release is started, or gets traffic, all the same",
    /// A hook that was running when the agent died has passed.
    InterruptedHookCounts "interrupted-hook-counts" breaks "E9":
        "an agent killed during a hook: its release is started, or gets traffic, all the same",
    /// A hook that failed is run again for the same goal.
    FailedHookRunAgain "failed-hook-run-again" breaks "E3":
        "a hook fails: it runs twice for one goal",
    /// A release is started without waiting for its hooks.
    StartsBeforeHooks "starts-before-hooks" breaks "E9":
        "an instance is started while a hook before its start runs",
    /// What runs is stopped before the hooks of its successor have passed.
    StopsBeforeHooks "stops-before-hooks" breaks "E9":
        "an instance is stopped while a hook of its replacement runs, or after it failed",
    /// Traffic moves without waiting for the hooks after the start.
    ShiftBeforeSmoke "shift-before-smoke" breaks "E9":
        "an instance gets traffic while its smoke hook runs",
    /// An instance counts as settled while its hooks run.
    SettledBeforeHooks "settled-before-hooks" breaks "E9":
        "a host is updated while its smoke hook runs",
    /// A failed after_stop hook keeps its stop from ending.
    AfterStopVeto "after-stop-veto" breaks "A6":
        "an after_stop hook fails: its slot never comes to rest",
    /// Only the release that was used last stays on disk.
    PreviousReleaseRemoved "previous-release-removed" breaks "E7":
        "a way back finds its release gone, and fetches it",
    /// Every wait before another try is as long as the first.
    BackoffDoesNotGrow "backoff-does-not-grow" breaks "A9":
        "a crash loop: more starts in an hour than a growing wait allows",

    // the agent: traffic
    /// Traffic is taken from an instance that serves without a lease.
    ShiftWithoutLease "shift-without-lease" breaks "A5":
        "a pause, an abort or a partition: traffic moves more than the lease after the last echo",
    /// The traffic moves at the first pass of the new instance.
    ShiftAtFirstPass "shift-at-first-pass" breaks "E4":
        "an application that passes for a while and dies: it got the traffic of one that served",
    /// The traffic moves to an instance of which nothing is known.
    ShiftUnasked "shift-unasked" breaks "E4":
        "an application that starts slowly: it gets the traffic before it answered a probe",
    /// An instance is stopped as soon as the gate was told to give it nothing new.
    StopsBeforeEmpty "stops-before-empty" breaks "G1":
        "a request that takes long: its instance is stopped under it",
    /// A service that the gate cannot serve counts as led to when its program says so.
    UnservedCountsAsLed "unserved-counts-as-led" breaks "G2":
        "a port that a stranger has: the agent tells of traffic where there is none",
    /// What is kept warm keeps its place, also when another release is to run there.
    WarmKeepsItsPlace "warm-keeps-its-place" breaks "A6":
        "a deploy soon after another: a good release waits for what is warm, and is taken back",
    /// An instance is stopped while the gate leads to it.
    StopsUnderTraffic "stops-under-traffic" breaks "G1":
        "a swap in place: clients are sent to what is being stopped",

    // the agent: routes, shares and holds
    /// A hold that nobody armed is released to the other slot.
    HoldExpiresToTheOther "hold-expires-to-the-other" breaks "G4":
        "a hold with no goal after it: what is new goes to the slot that was not led to",
    /// An armed hold ends with its time.
    ArmedHoldExpires "armed-hold-expires" breaks "G4":
        "an armed hold with no goal after it: the old version serves after the new one did elsewhere",
    /// A hold is found again by the next process of its agent, and goes on.
    HoldOutlivesItsAgent "hold-outlives-its-agent" breaks "G4":
        "an agent killed in a hold: nothing ends it",
    /// A hold that was over begins again for the same goal.
    HoldsAgain "holds-again" breaks "G4":
        "a hold with no goal after it: what is new is held again and again",
    /// What was told to the gate is told of as done.
    DrainedUnheard "drained-unheard" breaks "G4":
        "a gate that is slow or gone: a host counts as drained where nothing is held",
    /// What is held is drained.
    DrainedBeforeEmpty "drained-before-empty" breaks "G4":
        "a request that takes long: the old version ends it after the new one has served",
    /// A hold that could not be armed yet is told of as if it were armed.
    UnarmedToldAsArmed "unarmed-told-as-armed" breaks "G4":
        "a lease that runs out in a hold: the fleet flips while one host is about to go back",
    /// The share of the other slot begins as soon as its instance is there.
    ShareBeforeSettled "share-before-settled" breaks "G5":
        "a canary that has not settled gets requests",
    /// The share of the other slot begins while its hooks run.
    ShareBeforeSmoke "share-before-smoke" breaks "G5":
        "a canary gets requests while its smoke hook runs, or after it failed",

    // the edge
    /// An edge follows older routes than those that it follows.
    OlderEdgeRoutesAccepted "older-edge-routes-accepted" breaks "G3":
        "a repeated or reordered message: an edge goes back to hosts that do not serve any more",
    /// An edge follows other routes without a lease.
    EdgeRoutedWithoutLease "edge-routed-without-lease" breaks "A5":
        "a coordinator that is slow or gone: traffic moves more than the lease after the last echo",
    /// An edge without a coordinator stands in front of nothing.
    EdgeNeedsCoordinator "edge-needs-coordinator" breaks "G3":
        "no coordinator, or an agent that has just begun: the edge's gate is told to serve nobody",
    /// Every host that says anything of an application gets what is new.
    EdgeIgnoresHealth "edge-ignores-health" breaks "G3":
        "a host that is being replaced, or fails: an edge gives it what is new",
    /// A drained host gets what is new from an edge.
    EdgeLeadsToDrained "edge-leads-to-drained" breaks "G3":
        "a drain: an edge gives the host what is new",
    /// Routes are told to an edge once, whether they reach it or not.
    EdgeToldOnce "edge-told-once" breaks "A6":
        "an edge that was away when hosts changed: it goes on by routes of before for ever",
    /// A host that is out of touch is taken for one that does not serve.
    EdgeDropsLostHosts "edge-drops-lost-hosts" breaks "G3":
        "a partition: an edge gives nothing new to a host that serves",
    /// An edge is told to lead to the hosts of both groups.
    EdgeLeadsToBoth "edge-leads-to-both" breaks "G7":
        "two groups of hosts: clients get the release that is not led to",
    /// A hold of an edge that has ended by itself is armed.
    EdgeArmedUnheld "edge-armed-unheld" breaks "G4":
        "routes that arm come late: what went on is held for ever",
    /// An edge says that nothing is under way while it is.
    EdgeDrainedBeforeEmpty "edge-drained-before-empty" breaks "G4":
        "requests that last: another edge leads on while one of them has not had its answer",
    /// What an edge has said of holding is taken for what it says of being armed.
    EdgeArmedUnheard "edge-armed-unheard" breaks "G7":
        "a cutover between groups: it is made before all edges are armed",
    /// What a host has said of holding is taken for what it says of being armed.
    ArmedUnheard "armed-unheard" breaks "G8":
        "a strict cutover: it is made before all gates are armed",
    /// Clients are led to however few hosts of a group serve.
    GroupBelowFloor "group-below-floor" breaks "A1":
        "a group of which hosts failed: clients get fewer than there must be",
    /// What was replaced is stopped before all edges have left it.
    RetiredUnderEdges "retired-under-edges" breaks "G7":
        "an edge that is cut off after the switch: its clients get nobody",

    // the agent: health, and what it tells of it
    /// The first pass is settled health.
    SettledAtFirstPass "settled-at-first-pass" breaks "E4":
        "a slow death: settled before probes passed for healthy_for",
    /// A failure between two passes does not begin the window anew.
    FlapForgiven "flap-forgiven" breaks "E4":
        "a flapping application: settled although a probe failed within healthy_for",
    /// A restarted instance has the health of the one before it.
    HealthInherited "health-inherited" breaks "E4":
        "a crash after settled health: health is told of a process that passed no probe",
    /// A heartbeat carries no reports, as they were sent when they changed.
    HeartbeatSaysNothing "heartbeat-says-nothing" breaks "A1":
        "the coordinator takes hosts that serve for hosts that do not, and takes them out together",

    // the coordinator: what it believes of the fleet
    /// What a lost agent said last still counts.
    LostAgentsCountAsHealthy "lost-agents-count-as-healthy" breaks "A1":
        "hosts lost in a batch: the floor counts them, and the next is taken out",
    /// What an agent said in its last session counts until it speaks again.
    EarlierSessionCounts "earlier-session-counts" breaks "E4":
        "a host that turned bad while it was away: judged by what it said before",
    /// A report of an older goal counts for the newest.
    OlderReportCounts "older-report-counts" breaks "E4":
        "a way back right after a release: hosts are done before their agents heard of it",
    /// Any release that is healthy on the host proves the wanted one.
    HealthByPortAlone "health-by-port-alone" breaks "E4":
        "the old release answers: a host counts as updated that still runs it",
    /// At the end of a watch only a host that says it fails is not healthy.
    NoDataIsHealth "no-data-is-health" breaks "A4":
        "hosts lost in a soak or bake: the rollout goes on without a word of them",
    /// A host that is out of reach counts as failed whatever was said.
    UnreachableFailsAnyway "unreachable-fails-anyway" breaks "E6":
        "a host that is away for minutes, of a rollout that waits for it: it counts as failed",
    /// A host that is not heard of in time has failed, which gives its token back.
    SilenceIsFailure "silence-is-failure" breaks "E6":
        "a partition during a batch: the rollout goes back because of it",

    // the coordinator: floor and budgets
    /// A host in the middle of its update counts as up as soon as it passes a probe.
    TokensCountAsUp "tokens-count-as-up" breaks "A1":
        "a batch larger than the floor bears: the next host is taken while one holds its token",
    /// Taking out a host of which nothing is known costs nothing.
    UnknownCountsAsDown "unknown-counts-as-down" breaks "A1":
        "agents that have just come back: more hosts are taken out than the floor bears",
    /// A drained host that serves counts as up.
    DrainedCountsAsUp "drained-counts-as-up" breaks "A1":
        "hosts drained before or in a rollout: with those that it takes out fewer stay than promised",
    /// A drain asks no rollout whether its floor bears it.
    DrainBreaksFloor "drain-breaks-floor" breaks "A1":
        "a drain while a batch is out: fewer are left than min_healthy",
    /// Where nothing is under way every host may be drained.
    DrainAtRestBreaksFloor "drain-at-rest-breaks-floor" breaks "A1":
        "hosts are drained between two rollouts: fewer serve than the last one had to leave",
    /// The floor is compared by `<` where it should be `<=`.
    FloorOffByOne "floor-off-by-one" breaks "A1":
        "the coordinator stops itself, or one host too many is out",
    /// A host gets no time for what still drains where the release is to run.
    LeavingGetsNoTime "leaving-gets-no-time" breaks "A6":
        "a deploy soon after another: a good release waits for a drain, and is taken back",
    /// How busy the hosts that stay will be is not looked at.
    LoadIgnored "load-ignored" breaks "A1":
        "a batch that is taken out of busy hosts: the others get more than max_load",
    /// The floor of a zone is not looked at.
    ZoneFloorIgnored "zone-floor-ignored" breaks "A1":
        "a batch takes out more hosts of a zone than it bears: the coordinator stops itself",
    /// One host more than the window holds is under way.
    WindowTooWide "window-too-wide" breaks "A4":
        "a sliding window: one host too many is told to switch",
    /// A pause for a person passes by itself.
    PauseNotAwaited "pause-not-awaited" breaks "A4":
        "the batch after a pause begins, and nobody has promoted it",
    /// A check that fails a canary stops nobody.
    FailedCheckIgnored "failed-check-ignored" breaks "A11":
        "a check fails for good: the rollout comes to its second batch all the same",
    /// An answer of a metrics server that says nothing counts as one that fails.
    CheckErrorFails "check-error-fails" breaks "A11":
        "a metrics server that answers with errors: the rollout goes back",
    /// A check that could not tell, on a canary's host, counts as one that failed.
    CheckTimeoutFails "check-timeout-fails" breaks "A11":
        "a check that takes too long: its agent tells of failures that were none",
    /// A step of a canary is over although a check has not passed in it.
    UnansweredCheckPasses "unanswered-check-passes" breaks "A11":
        "a metrics server that answers with errors: the rollout comes to its second batch",
    /// What the judge finds worse goes on like what it finds good.
    VerdictIgnored "verdict-ignored" breaks "A12":
        "a release that fails every request: the step of its canary is over all the same",
    /// A canary of which nothing is known passes, whatever was declared for that.
    NothingIsEnough "nothing-is-enough" breaks "A12":
        "hosts that nobody asks, or a link that is cut: the step of a canary is over without requests",
    /// The old release of a host that gives the canary everything counts as what is beside it.
    IdleIsControl "idle-is-control" breaks "A12":
        "a share of 100 % for a release that fails every request: nobody sees it, and it goes on",
    /// Of the two slots of a host the first one's requests are taken for both.
    SlotsMixedUp "slots-mixed-up" breaks "A12":
        "a release that fails every request beside what serves: it is compared with itself, and goes on",
    /// The canary is what is compared with, and the old release is judged.
    SidesMixedUp "sides-mixed-up" breaks "A12":
        "a release that mends what the old one got wrong: it goes back",
    /// A canary gets more of the traffic than its step says.
    ShiftsTooMuch "shifts-too-much" breaks "A4":
        "a step of a canary: the goal's share is another one",
    /// Gates are switched as soon as all hold, and one that is lost then goes back by itself.
    NotArmed "not-armed" breaks "E5":
        "a strict cutover: the switch follows the hold at once",
    /// A strict cutover that fails is tried again and again.
    CutoverTriedForEver "cutover-tried-for-ever" breaks "A6":
        "requests that outlast the hold: no person is ever asked",
    /// Where both slots hold one release, a pause does not see that the new instance waits.
    RestartNotCalledBack "restart-not-called-back" breaks "A5":
        "a pause in a restart: what waits is switched to long after it",
    /// The watch of a host that is lost ends a while after now, whenever that is.
    WindowWaitsForEver "window-waits-for-ever" breaks "A6":
        "the last host of a window is lost: the rollout waits without end",

    // the coordinator: hosts that join or come back
    /// Such a host gets what was deployed last, whatever became of it.
    ConvergesToTheNewest "converges-to-the-newest" breaks "E1":
        "a host joins after a rollout that was not good: it gets the release that was taken back",
    /// One begins while another rollout is under way.
    ConvergesBesideAnother "converges-beside-another" breaks "F1":
        "a host joins during a rollout: there are two of one application",
    /// A host that comes while nothing else happens is not looked at.
    LatecomerForgotten "latecomer-forgotten" breaks "A6":
        "a host joins, or is back, after the last rollout: it never gets what the environment runs",
    /// A host that was out of reach counts as one that the rollout has come to.
    LostForGood "lost-for-good" breaks "A6":
        "a host was away during a rollout: it never gets what the environment runs",
    /// A rollout that takes another's place does not end it.
    SupersededGoesOn "superseded-goes-on" breaks "F1":
        "a deploy that supersedes: there are two of one application",
    /// A queued rollout does not wait for one that waits for a person.
    QueuedBesideHeld "queued-beside-held" breaks "F1":
        "a queue behind a rollout that is held or paused: there are two of one application",
    /// Of those that are queued the one that came last begins.
    QueueTurnedAround "queue-turned-around" breaks "E11":
        "two are queued: the later one begins first",
    /// What is queued is looked at only when something has just ended.
    QueuedWaitsForAnEnd "queued-waits-for-an-end" breaks "E11":
        "a coordinator killed between an end and what comes next: that never begins",
    /// One more host may fail than the budget bears.
    FailureBudgetOffByOne "failure-budget-off-by-one" breaks "A4":
        "the coordinator stops itself, or goes on with one failure too many",
    /// One more host may be left out than the budget bears.
    UnreachableBudgetOffByOne "unreachable-budget-off-by-one" breaks "A4":
        "a rollout with more unreachable hosts than its budget",

    // the coordinator: the course of a rollout
    /// A wave is over when all of its hosts were told to switch.
    WaveNotAwaited "wave-not-awaited" breaks "A4":
        "the next wave begins while one of the last is not in settled health",
    /// A host that was updated is not looked at any more.
    UpdatedNotWatched "updated-not-watched" breaks "A4":
        "a release that turns bad later: the next wave begins, or failures are not counted",
    /// A watch goes on where it was when the coordinator starts again.
    SoakShortened "soak-shortened" breaks "A4":
        "a coordinator killed in a soak or bake: the time that nobody watched counts",
    /// A bake is counted from when the rollout began.
    BakeFromTheStart "bake-from-the-start" breaks "A4":
        "a rollout ends before its bake was watched",
    /// A pause leaves the goals of hosts that have not begun.
    PauseDoesNotWithdraw "pause-does-not-withdraw" breaks "A5":
        "a host that was away when the rollout was paused: it switches when it comes back",
    /// A pause calls hosts back that were told to lead clients over in a strict cutover.
    FlippedCalledBack "flipped-called-back" breaks "E5":
        "a pause while a gate of a strict cutover has not heard of the switch: it leads back",
    /// An abort leaves the goals of hosts that have not begun.
    AbortDoesNotWithdraw "abort-does-not-withdraw" breaks "A5":
        "a host that was away when the rollout was aborted: it switches when it comes back",
    /// Hosts that are excluded keep the goals that they have not begun.
    ExcludedStillTold "excluded-still-told" breaks "A5":
        "a host that was away when it was excluded: it switches when it comes back",
    /// A retry sends hosts again that were excluded.
    ExclusionForgotten "exclusion-forgotten" breaks "A5":
        "an exclusion, a hold, then a retry: the host is told to switch after all",
    /// Hosts that are excluded get what the environment runs like any that missed it.
    ExcludedConverges "excluded-converges" breaks "A5":
        "an exclusion from a rollout that succeeds: the host gets the release after all",
    /// Hosts that are drained keep the goals that they have not begun.
    DrainDoesNotWithdraw "drain-does-not-withdraw" breaks "A5":
        "a host that was away when it was drained: it switches when it comes back",
    /// A drained host that waits for its turn in a rollout gets it.
    DrainedStillBegun "drained-still-begun" breaks "A5":
        "a drain in the middle of a rollout: the host is told to switch",
    /// A way back is over although hosts did not come back.
    StuckCountsAsReverted "stuck-counts-as-reverted" breaks "E8":
        "a rollback that fails on a host: the rollout ends rolled back, and the host is not",
    /// Only a rollout that is going forward keeps another from beginning.
    HeldDoesNotLock "held-does-not-lock" breaks "F1":
        "a deploy while another is paused, held or going back: two at a time",
    /// A deploy begins in an environment that is frozen.
    FreezeIgnored "freeze-ignored" breaks "E1":
        "a freeze, then a deploy that gives no reason: it begins",
    /// What is gone back to, or brought to a host that lacks it, comes with the config of this moment.
    OldReleaseGetsNewConfig "old-release-gets-new-config" breaks "E1":
        "a rollback or a retry after a change of the config: another release begins than is asked for",
    /// A release is told with the config of the moment at which it is told.
    ConfigGoesOnChanging "config-goes-on-changing" breaks "F6":
        "a change between a deploy and the next telling of an older release: it comes with another config",
    /// A deploy that is asked for again is another deploy.
    RequestIdForgotten "request-id-forgotten" breaks "E1":
        "an operator whose answer was lost: a refusal, or a second rollout",

    // the coordinator: restores
    /// A rollout goes on after the store was made from a backup.
    RestoreGoesOn "restore-goes-on" breaks "F7":
        "a restore during a rollout: it moves before a person looked",
    /// An agent that holds a later generation is treated like any other.
    AheadIgnored "ahead-ignored" breaks "F7":
        "a restore, then a deploy: hosts are taken back to what the backup knows",
    /// After a restore a rollout that was over is held.
    EndedReopened "ended-reopened" breaks "E5":
        "a restore: an end state changes",

    // the coordinator: who may speak
    /// A second session of an agent takes the place of one that is alive.
    CloneTakesSession "clone-takes-session" breaks "S5":
        "an agent that dials again or a clone of it: two sessions of one agent at a time",
    /// The enrolment in a certificate is not looked up.
    RemovedAgentAdmitted "removed-agent-admitted" breaks "S6":
        "an agent that was removed opens a session",
    /// A join token that was used works for another agent too.
    TokenWorksTwice "token-works-twice" breaks "S4":
        "a token shown again: two agents of one token",
    /// A join token never expires.
    ExpiredTokenAccepted "expired-token-accepted" breaks "S4":
        "a token shown too late lets an agent in",

    // the agent's journal
    /// A commit is written and not synced.
    AppendNotSynced "append-not-synced" breaks "F2":
        "a power cut: what was acted on is not remembered",
    /// The journal's name is never made durable.
    DirectoryNotSynced "directory-not-synced" breaks "F2":
        "a power cut after a summary: the journal is the one before it",
    /// A summary takes the journal's place before its bytes are durable.
    SummaryNotSynced "summary-not-synced" breaks "F2":
        "a power cut after a summary: the journal is empty or torn",
    /// A sync that failed is tried once more.
    FailedSyncRetried "failed-sync-retried" breaks "D4":
        "one EIO, then a power cut: what was acted on is not remembered, or the journal is damaged",
    /// The last commit is not written again when the journal is opened.
    UnsyncedTailBelieved "unsynced-tail-believed" breaks "D4":
        "one EIO, a new process, then a power cut: the journal is damaged or a commit is gone",
    /// A torn commit stays in front of the next one.
    TailNotCut "tail-not-cut" breaks "D3":
        "a crash during an append: at the next start but one the journal counts as damaged",
    /// A commit is believed without its checksum.
    ChecksumIgnored "checksum-ignored" breaks "D3":
        "a torn or flipped commit: it is acted on, or the agent observes only",
}

impl Bug {
    /// Those of routes, which the tests of the agent's core look for as well.
    pub const OF_ROUTES: &[Self] = &[
        Self::HoldExpiresToTheOther,
        Self::ArmedHoldExpires,
        Self::HoldOutlivesItsAgent,
        Self::HoldsAgain,
        Self::DrainedUnheard,
        Self::DrainedBeforeEmpty,
        Self::UnarmedToldAsArmed,
        Self::ShareBeforeSettled,
        Self::ShareBeforeSmoke,
    ];

    /// Those of them that hide in a fleet: there the agent always hears in time that it is armed, and
    /// no release has a smoke test that fails beside what serves.
    pub const OF_ROUTES_ALONE: &[Self] = &[Self::UnarmedToldAsArmed, Self::ShareBeforeSmoke];
}
