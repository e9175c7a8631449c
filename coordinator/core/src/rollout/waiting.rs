//! Waiting: why a rollout does nothing at this moment, and until when at the most.

use cutover_common::{AgentName, MaxLoad, Timestamp, Version};

use super::CutoverPhase;

/// What would be too little if one more host were taken out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Short {
    /// Healthy instances, of which so many must stay; of a zone, if one is named.
    Healthy { healthy: u32, floor: u32, zone: Option<String> },
    /// Room on the hosts that stay. `load`: how busy the busiest of them would be, in thousandths;
    /// none as long as one of them has not told.
    Room { load: Option<u32>, max: MaxLoad },
}

/// What is being waited for. Every wait has a deadline but those for a person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// Hosts fetch and verify the release.
    ForPrepared { agents: Vec<AgentName>, deadline: Timestamp },
    /// Hosts that were told to switch are not in settled health yet.
    ///
    /// `judged`: when the first of them counts as failed, unless it is healthy by then.
    ForHealth { agents: Vec<AgentName>, judged: Option<Timestamp>, deadline: Timestamp },
    /// Taking one more host would leave too little.
    ForFloor { short: Short, agents: Vec<AgentName>, deadline: Timestamp },
    /// A host of the wave is not connected.
    ForContact { agents: Vec<AgentName>, deadline: Timestamp },
    /// This host has not said that the once hook of the release passed, which it runs for all.
    ///
    /// `of`: the release, which can be one that was deployed before and is given up; none if it is not
    /// known any more. `looks`: when it counts as out of reach, if it is not heard before.
    ForOnce { agent: AgentName, of: Option<Version>, looks: Timestamp, deadline: Timestamp },
    /// Hosts do not give the new release its share of the traffic yet.
    ForShift { agents: Vec<AgentName>, deadline: Timestamp },
    /// Edges have not said yet that they lead to the hosts of this group.
    ForEdges { agents: Vec<AgentName>, group: String, deadline: Timestamp },
    /// Gates do not hold yet, or something is under way at them.
    ForCutover { phase: CutoverPhase, agents: Vec<AgentName>, deadline: Timestamp },
    /// The new release is compared with the old one.
    ForVerdict { until: Timestamp, said: String },
    /// A person says that the batch, counted from 1, was good enough to go on.
    ForPromotion { batch: usize },
    /// The wave is watched.
    ForSoak { until: Timestamp },
    /// The whole rollout is watched.
    ForBake { until: Timestamp },
    /// Hosts that were told to go back are not in settled health yet.
    ForReverted { agents: Vec<AgentName>, deadline: Timestamp },
    /// A person.
    ForOperator,
    /// Nothing: it is over.
    Over,
}

impl Waiting {
    /// Returns when to look again if nothing happens before.
    pub const fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::ForHealth { judged: Some(judged), deadline, .. } => {
                Some(if judged.unix_ms() < deadline.unix_ms() { *judged } else { *deadline })
            }
            Self::ForPrepared { deadline, .. }
            | Self::ForHealth { deadline, .. }
            | Self::ForFloor { deadline, .. }
            | Self::ForContact { deadline, .. }
            | Self::ForShift { deadline, .. }
            | Self::ForEdges { deadline, .. }
            | Self::ForCutover { deadline, .. }
            | Self::ForReverted { deadline, .. } => Some(*deadline),
            Self::ForOnce { looks, .. } => Some(*looks),
            Self::ForSoak { until } | Self::ForBake { until } | Self::ForVerdict { until, .. } => {
                Some(*until)
            }
            Self::ForPromotion { .. } | Self::ForOperator | Self::Over => None,
        }
    }
}
