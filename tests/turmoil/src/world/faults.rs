//! What breaks in a world.

use std::{sync::atomic::Ordering, time::Duration};

use super::{COORDINATOR, World};

/// What is cut between an agent and the coordinator. Nobody is told: no FIN, no RST.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// What the agent sends is lost.
    Up,
    /// What the coordinator sends is lost.
    Down,
    /// Everything is lost.
    Both,
    /// Everything is kept back and arrives when the link is mended: a network that was away for a
    /// while, as TCP repeats what it sent, or a peer whose process was frozen.
    Held,
}

impl World {
    /// Cuts an agent off.
    pub fn cut(&mut self, agent: &str, cut: Cut) {
        self.note(format!("cut {agent}: {cut:?}"));
        let swallows = matches!(cut, Cut::Up | Cut::Both);
        self.cuts[agent].store(swallows, Ordering::Relaxed);
        match cut {
            Cut::Up => self.sim.partition_oneway(agent, COORDINATOR),
            Cut::Down => self.sim.partition_oneway(COORDINATOR, agent),
            Cut::Both => self.sim.partition(agent, COORDINATOR),
            Cut::Held => self.sim.hold(agent, COORDINATOR),
        }
    }

    /// Mends an agent's link. What was held arrives.
    pub fn mend(&mut self, agent: &str) {
        self.note(format!("mended {agent}"));
        self.cuts[agent].store(false, Ordering::Relaxed);
        self.sim.release(agent, COORDINATOR);
    }

    /// Lets an agent's host sleep, as a virtual machine that is suspended: for `time` by its own
    /// clock, while its timers and, for two seconds, its link stand still (row 81).
    pub fn suspend(&mut self, agent: &str, time: Duration) {
        self.note(format!("suspends {agent} for {time:?}"));
        self.sim.hold(agent, COORDINATOR);
        self.run(Duration::from_secs(2));
        self.clocks[agent].sleep(time);
        self.note(format!("resumes {agent}"));
        self.sim.release(agent, COORDINATOR);
    }

    /// Loses single messages of all links: TCP as turmoil has it does not repeat them, so that
    /// the connection stands still from then on. `rate` is a share of 1.
    pub fn lose(&mut self, rate: f64) {
        self.sim.set_fail_rate(rate);
    }

    /// Ends the coordinator's process without a word of it.
    pub fn crash_coordinator(&mut self) {
        self.note("crash of the coordinator".to_owned());
        let agents: Vec<String> = self.cuts.keys().cloned().collect();
        self.crash(COORDINATOR, &agents);
        self.seen.change_coordinator(|seen| seen.sessions.clear());
    }

    /// Starts the coordinator's process again.
    pub fn start_coordinator(&mut self) {
        self.sim.bounce(COORDINATOR);
    }

    /// Ends an agent's process, and starts it again. Its application goes on.
    pub fn restart_agent(&mut self, agent: &str) {
        self.note(format!("crash of {agent}"));
        self.crash(agent, &[agent.to_owned()]);
        self.seen.change_agent(agent, |agent| agent.is_joined = false);
        self.sim.bounce(agent);
    }

    /// Ends a process. tokio ends its tasks in an order that depends on how many tasks there ever
    /// were, so the FINs leave in any order: all take the same time, or no story would be the same
    /// twice.
    fn crash(&mut self, host: &str, links: &[String]) {
        for agent in links {
            self.sim.set_link_latency(agent.as_str(), COORDINATOR, self.latency.start);
        }
        self.sim.crash(host);
        for agent in links {
            self.sim.set_link_max_message_latency(agent.as_str(), COORDINATOR, self.latency.end);
        }
    }
}
