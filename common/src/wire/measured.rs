//! What a heartbeat tells in numbers: load, counts and vitals <-> pb.

use cutover_proto::v1 as pb;

use super::{
    InvalidSessionMessage, cut,
    session::{named, uuid},
};
use crate::{
    HostLoad, InstanceId, InstanceVitals, Latencies, LatencyBucket, Slot, SlotCounts,
    latency::NoSuchBucket,
};

/// Why counts are no [`Latencies`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidLatency {
    #[error(transparent)]
    NoSuchBucket(#[from] NoSuchBucket),
    #[error("bucket {0} stands after a later one, or twice")]
    OutOfOrder(u32),
}

impl TryFrom<pb::SlotCounts> for SlotCounts {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::SlotCounts) -> Result<Self, InvalidSessionMessage> {
        let pb::SlotCounts {
            application,
            slot,
            gate,
            requests_in_flight,
            long_lived,
            requests,
            statuses,
            connect_errors,
            resets,
            retries,
            bytes_in,
            bytes_out,
            latency,
        } = message;
        Ok(Self {
            application: named("counts.application", &application)?,
            slot: slot_named("counts.slot", &slot)?,
            gate: cut(&gate),
            requests_in_flight,
            long_lived,
            requests,
            statuses: counted("counts.statuses", statuses)?,
            connect_errors,
            resets,
            retries,
            bytes_in,
            bytes_out,
            latency: latencies(latency).map_err(InvalidSessionMessage::Latency)?,
        })
    }
}

fn slot_named(field: &'static str, name: &str) -> Result<Slot, InvalidSessionMessage> {
    Slot::from_name(name).ok_or(InvalidSessionMessage::Missing(field))
}

/// They rise, so that none is named twice and there are never more than there are buckets.
fn latencies(counts: Vec<pb::LatencyCount>) -> Result<Latencies, InvalidLatency> {
    let mut latencies = Latencies::default();
    let mut before = None;
    for pb::LatencyCount { bucket: place, answers } in counts {
        let bucket = LatencyBucket::try_from(place)?;
        if before.replace(bucket).is_some_and(|before| before >= bucket) {
            return Err(InvalidLatency::OutOfOrder(place));
        }
        latencies.add(bucket, answers);
    }
    Ok(latencies)
}

fn counted<const N: usize>(
    field: &'static str,
    counts: Vec<u64>,
) -> Result<[u64; N], InvalidSessionMessage> {
    counts.try_into().map_err(|_| InvalidSessionMessage::Missing(field))
}

impl From<SlotCounts> for pb::SlotCounts {
    fn from(counts: SlotCounts) -> Self {
        let SlotCounts {
            application,
            slot,
            gate,
            requests_in_flight,
            long_lived,
            requests,
            statuses,
            connect_errors,
            resets,
            retries,
            bytes_in,
            bytes_out,
            latency,
        } = counts;
        Self {
            application: application.into(),
            slot: slot.to_string(),
            gate,
            requests_in_flight,
            long_lived,
            requests,
            statuses: statuses.to_vec(),
            connect_errors,
            resets,
            retries,
            bytes_in,
            bytes_out,
            latency: latency
                .iter()
                .map(|(bucket, answers)| pb::LatencyCount {
                    bucket: u8::from(bucket).into(),
                    answers,
                })
                .collect(),
        }
    }
}

impl TryFrom<pb::InstanceVitals> for InstanceVitals {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::InstanceVitals) -> Result<Self, InvalidSessionMessage> {
        let pb::InstanceVitals { application, slot, instance, memory_bytes, error_lines } = message;
        if memory_bytes.is_some_and(|bytes| bytes > Self::MEMORY_BYTES_MAX) {
            return Err(InvalidSessionMessage::Memory);
        }
        Ok(Self {
            application: named("vitals.application", &application)?,
            slot: slot_named("vitals.slot", &slot)?,
            instance: InstanceId(uuid("vitals.instance", &instance)?),
            memory_bytes,
            error_lines,
        })
    }
}

impl From<InstanceVitals> for pb::InstanceVitals {
    fn from(vitals: InstanceVitals) -> Self {
        let InstanceVitals { application, slot, instance, memory_bytes, error_lines } = vitals;
        Self {
            application: application.into(),
            slot: slot.to_string(),
            instance: instance.0.to_string(),
            memory_bytes,
            error_lines,
        }
    }
}

impl From<pb::HostLoad> for HostLoad {
    fn from(message: pb::HostLoad) -> Self {
        let pb::HostLoad {
            cpu_permille,
            memory_used_bytes,
            memory_total_bytes,
            disk_used_bytes,
            disk_total_bytes,
            load1_milli,
        } = message;
        Self {
            cpu_permille: cpu_permille.min(1000),
            memory_used_bytes,
            memory_total_bytes,
            disk_used_bytes,
            disk_total_bytes,
            load1_milli,
        }
    }
}

impl From<HostLoad> for pb::HostLoad {
    fn from(load: HostLoad) -> Self {
        let HostLoad {
            cpu_permille,
            memory_used_bytes,
            memory_total_bytes,
            disk_used_bytes,
            disk_total_bytes,
            load1_milli,
        } = load;
        Self {
            cpu_permille,
            memory_used_bytes,
            memory_total_bytes,
            disk_used_bytes,
            disk_total_bytes,
            load1_milli,
        }
    }
}
