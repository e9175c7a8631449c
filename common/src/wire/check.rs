//! What is asked and told of the checks of a canary <-> pb.

use cutover_proto::v1 as pb;

use super::{
    Echo, InvalidSessionMessage, bounded,
    session::{named, uuid},
};
use crate::{
    CheckName, CheckReport, Compared,
    check::{ANSWER_CHARS_MAX, Answer, CHECKS_MAX, CanaryId},
    wire::TooMany,
};

fn check(field: &'static str, name: &str) -> Result<CheckName, InvalidSessionMessage> {
    name.parse().map_err(|error| InvalidSessionMessage::Check(field, error))
}

impl TryFrom<pb::HeartbeatEcho> for Echo {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::HeartbeatEcho) -> Result<Self, InvalidSessionMessage> {
        let pb::HeartbeatEcho { nonce, compared } = message;
        bounded("compared", compared.len())?;
        Ok(Self {
            nonce: uuid("nonce", &nonce)?,
            compared: compared.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Echo> for pb::HeartbeatEcho {
    fn from(echo: Echo) -> Self {
        let Echo { nonce, compared } = echo;
        Self { nonce: nonce.to_string(), compared: compared.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<pb::ComparedRelease> for Compared {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::ComparedRelease) -> Result<Self, InvalidSessionMessage> {
        let pb::ComparedRelease { application, version, rollout, attempt, checks } = message;
        if checks.len() > CHECKS_MAX {
            return Err(TooMany("compared.checks").into());
        }
        Ok(Self {
            application: named("compared.application", &application)?,
            version: version.parse().map_err(InvalidSessionMessage::Version)?,
            canary: CanaryId { rollout: uuid("compared.rollout", &rollout)?, attempt },
            checks: checks
                .iter()
                .map(|name| check("compared.checks", name))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<Compared> for pb::ComparedRelease {
    fn from(compared: Compared) -> Self {
        let Compared { application, version, canary, checks } = compared;
        let CanaryId { rollout, attempt } = canary;
        Self {
            application: application.into(),
            version: version.into(),
            rollout: rollout.to_string(),
            attempt,
            checks: checks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::CheckReport> for CheckReport {
    type Error = InvalidSessionMessage;

    fn try_from(message: pb::CheckReport) -> Result<Self, InvalidSessionMessage> {
        let answer = match message.answer() {
            pb::check_report::Answer::Unspecified => return Err(InvalidSessionMessage::Answer),
            pb::check_report::Answer::Pass => Answer::Pass,
            pb::check_report::Answer::Fail => Answer::Fail,
            pb::check_report::Answer::NotEnough => Answer::NotEnough,
        };
        let pb::CheckReport {
            application,
            rollout,
            attempt,
            check: name,
            answers,
            failing,
            answer: _,
            detail,
        } = message;
        Ok(Self {
            application: named("checks.application", &application)?,
            canary: CanaryId { rollout: uuid("checks.rollout", &rollout)?, attempt },
            check: check("checks.check", &name)?,
            answers,
            // There cannot have been more.
            failing: failing.min(answers),
            answer,
            detail: detail.chars().take(ANSWER_CHARS_MAX).collect(),
        })
    }
}

impl From<CheckReport> for pb::CheckReport {
    fn from(report: CheckReport) -> Self {
        let CheckReport { application, canary, check, answers, failing, answer, detail } = report;
        let CanaryId { rollout, attempt } = canary;
        let answer = match answer {
            Answer::Pass => pb::check_report::Answer::Pass,
            Answer::Fail => pb::check_report::Answer::Fail,
            Answer::NotEnough => pb::check_report::Answer::NotEnough,
        };
        Self {
            application: application.into(),
            rollout: rollout.to_string(),
            attempt,
            check: check.into(),
            answers,
            failing,
            answer: answer.into(),
            detail,
        }
    }
}
