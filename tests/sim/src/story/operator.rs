//! What operators ask, and hear.

use cutover_common::AgentName;
use cutover_coordinator_core::{Answer, IfBusy, Request, rollout::Options};

/// Tells a call.
pub(crate) fn request(request: &Request) -> String {
    match request {
        Request::Deploy { order, .. } => {
            let busy = match order.if_busy {
                IfBusy::Refuse => "",
                IfBusy::Supersede => ", in the place of all others",
                IfBusy::Queue => ", after all others",
            };
            let options = options(&order.options);
            format!("deploy {}@{}{options}{busy}", order.application, order.version)
        }
        Request::Control { rollout, verb, .. } => format!("{} {rollout}", verb.word()),
        Request::LabelAgent { agent, set, unset } => {
            let said = |(label, value): (&String, &String)| match value.as_str() {
                "yes" => label.clone(),
                _ => format!("{label}={value}"),
            };
            let set: Vec<String> = set.iter().map(said).collect();
            let words = [("takes in", set.join(", ")), ("leaves", unset.join(", "))];
            let words = words.into_iter().filter(|(_, labels)| !labels.is_empty());
            let words: Vec<String> = words.map(|(verb, of)| format!("{verb} {of}")).collect();
            format!("{agent} {}", words.join(" and "))
        }
        Request::RemoveAgent { agent } => format!("remove {agent}"),
        Request::Exclude { rollout, agents, how, .. } => {
            let agents: Vec<&str> = agents.iter().map(AgentName::as_str).collect();
            format!("{} {} in {rollout}", how.word(), agents.join(", "))
        }
        Request::DrainAgent { agent, .. } => format!("drain {agent}"),
        Request::UndrainAgent { agent, .. } => format!("{agent} takes part again"),
        Request::Join { name, .. } => format!("{name} joins"),
        Request::Renew { agent, .. } => format!("{agent} renews its certificate"),
        Request::CreateJoinToken { name: Some(name), .. } => format!("a join token for {name}"),
        Request::CreateJoinToken { name: None, .. } => "a join token for anybody".to_owned(),
        Request::CreateOperator { name, .. } => format!("a token for operator {name}"),
        Request::CreateEnvironment { name, .. } => format!("environment {name}"),
        Request::FreezeEnvironment { environment, .. } => format!("freeze {environment}"),
        Request::ThawEnvironment { environment } => format!("thaw {environment}"),
        Request::ConfigureEnvironment(order) => {
            let names: Vec<String> = order.set.keys().map(ToString::to_string).collect();
            format!("configure {}: {}", order.environment, names.join(", "))
        }
        Request::RegisterRelease { release, .. } => format!("release {}", release.name),
    }
}

fn options(options: &Options) -> String {
    options.iter().map(|(setting, value)| format!(" {setting}={value}")).collect()
}

/// Tells an answer.
pub(crate) fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Done => "done".to_owned(),
        Answer::EnvironmentCreated { agents } => format!("created, with {agents} agents"),
        Answer::RolloutStarted { repeated: false, .. } => "the rollout has begun".to_owned(),
        Answer::RolloutStarted { repeated: true, .. } => "it had begun already".to_owned(),
        Answer::RolloutQueued { repeated: false, ahead, .. } => {
            format!("it is queued, and {ahead} are before it")
        }
        Answer::RolloutQueued { repeated: true, .. } => "it was queued already".to_owned(),
        Answer::Controlled { text, .. } => text.clone(),
        Answer::Configured { number: Some(number), .. } => format!("config {number}"),
        Answer::Configured { number: None, .. } => "it is so already".to_owned(),
    }
}
