//! The gRPC borders: parse, ask the engine, answer. Only these files name generated types.

pub mod agent;
pub mod authority;
mod configure;
pub mod enrollment;
pub mod operator;
mod push;
pub use push::Pushes;
mod reading;
mod show;
mod simulate;
pub use simulate::Simulator;
mod status;

/// The largest message of an agent. The fullest is a heartbeat of 256 applications, which takes 3.6 MiB:
/// for each of the two slots 3 KiB of counts and 4 KiB of words.
const AGENT_MESSAGE_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use cutover_common::{
        AgentName, ApplicationName, EdgeCounts, EdgeCutoverReport, EdgeHostReport, EdgeReport,
        EdgeRevision, Fence, Generation, Health, HoldState, HostLoad, InstanceEvidence, InstanceId,
        InstanceVitals, Latencies, LatencyBucket, OnceReport, OnceStand, Phase, Report, Sha256,
        Slot, SlotCounts, SlotReport, Slots, Term, Traffic,
        wire::{DETAIL_MAX, Heartbeat, REPEATED_MAX},
    };
    use cutover_proto::v1 as pb;
    use prost::Message as _;
    use uuid::Uuid;

    use super::AGENT_MESSAGE_MAX;

    /// How many applications an agent has at most.
    const APPLICATIONS_MAX: usize = 256;

    /// What 100,000 a second come to in four months: nothing that is counted is more.
    const MANY: u64 = 1 << 40;

    fn application(number: usize) -> ApplicationName {
        format!("{number:a>63}").parse().unwrap()
    }

    fn counts(application: &ApplicationName, slot: Slot) -> SlotCounts {
        let mut latency = Latencies::default();
        LatencyBucket::all().for_each(|bucket| latency.add(bucket, MANY));
        SlotCounts {
            application: application.clone(),
            slot,
            gate: Uuid::max().to_string(),
            requests_in_flight: MANY,
            long_lived: MANY,
            requests: MANY,
            statuses: [MANY; 5],
            connect_errors: MANY,
            resets: MANY,
            retries: MANY,
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            latency,
        }
    }

    fn vitals(application: &ApplicationName, slot: Slot) -> InstanceVitals {
        InstanceVitals {
            application: application.clone(),
            slot,
            instance: InstanceId(Uuid::max()),
            memory_bytes: Some(InstanceVitals::MEMORY_BYTES_MAX),
            error_lines: Some(MANY),
        }
    }

    fn report(application: &ApplicationName) -> Report {
        let fence = Fence { term: Term(u64::MAX), generation: Generation(u64::MAX) };
        let slot = SlotReport {
            phase: Phase::Failed,
            release: Some(("v".repeat(64).parse().unwrap(), Sha256::of(b""))),
            health: Health::Failing,
            // Four bytes each.
            detail: "\u{1f980}".repeat(DETAIL_MAX),
            restarts: u32::MAX,
            instance: Some(InstanceEvidence {
                instance: InstanceId(Uuid::max()),
                boot_id: Uuid::max().to_string(),
                pid: u32::MAX,
                start_ticks: u64::MAX,
            }),
            traffic: Traffic::Here,
        };
        let once = OnceReport {
            release: Sha256::of(b""),
            permit: Generation(MANY),
            stand: OnceStand::Interrupted,
        };
        Report {
            application: application.clone(),
            fence,
            slots: Slots { blue: slot.clone(), green: slot },
            refused: Some(fence),
            outage: Some(std::time::Duration::from_millis(MANY)),
            hold: HoldState::Drained,
            once: vec![once; 4],
        }
    }

    fn edge() -> EdgeReport {
        let host: AgentName = "a".repeat(63).parse().unwrap();
        let host = EdgeHostReport {
            application: application(0),
            host,
            weight: u16::MAX,
            is_certain: true,
            counts: EdgeCounts {
                requests: MANY,
                in_flight: MANY,
                long_lived: MANY,
                answered_5xx: MANY,
                connect_errors: MANY,
                resets: MANY,
                retries: MANY,
            },
        };
        EdgeReport {
            revision: EdgeRevision { term: Term(u64::MAX), number: u64::MAX },
            is_followed: true,
            trouble: "x".repeat(DETAIL_MAX),
            hosts: vec![host; REPEATED_MAX],
            cutovers: (0..cutover_common::edge::EDGE_ROUTES_MAX)
                .map(|number| EdgeCutoverReport {
                    application: application(number),
                    switches: MANY,
                    hold: Some((MANY, true)),
                    state: HoldState::Drained,
                })
                .collect(),
        }
    }

    #[test]
    fn the_fullest_heartbeat_of_an_agent_is_let_in() {
        let applications: Vec<ApplicationName> = (0..APPLICATIONS_MAX).map(application).collect();
        let both = [Slot::Blue, Slot::Green];
        let slots = || applications.iter().flat_map(|it| both.map(|slot| (it, slot)));
        let beat = Heartbeat {
            nonce: Uuid::max(),
            load: HostLoad::default(),
            counts: slots().map(|(application, slot)| counts(application, slot)).collect(),
            checks: Vec::new(),
            vitals: slots().map(|(application, slot)| vitals(application, slot)).collect(),
            reports: applications.iter().map(report).collect(),
            edge: Some(edge()),
        };

        let kind = Some(pb::agent_message::Kind::Heartbeat(beat.into()));
        let bytes = pb::AgentMessage { kind }.encoded_len();

        assert!(bytes <= AGENT_MESSAGE_MAX, "{bytes} bytes");
    }
}
