//! Checks of systemd's units, as its files tell: does the agent start with the machine, and are new anchors taken?

use super::check::{Check, note, ok};
use crate::install::{ANCHORS_SERVICE, ANCHORS_UNIT, UNIT};

/// What is known about the units.
#[derive(Debug)]
pub(super) struct UnitFacts {
    pub(super) agent: Unit,
    /// What has root take anchors, and what takes them.
    pub(super) anchors: Unit,
    pub(super) anchors_service: Unit,
    /// The number of an anchor set that root would take, and has not.
    pub(super) waiting: Option<u32>,
}

/// How a unit's files stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Missing,
    /// A link to /dev/null stands for it.
    Masked,
    /// It is there, and nothing starts it with the machine.
    Disabled,
    Enabled,
}

impl UnitFacts {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![self.agent(), self.anchors()]
    }

    fn agent(&self) -> Check {
        let why = "the agent does not start with the machine, so after that no key gets here";
        match self.agent.fault(UNIT) {
            None => ok("agent-unit", format!("{UNIT} starts with the machine")),
            Some((found, mend)) => note("agent-unit", found, why, mend),
        }
    }

    fn anchors(&self) -> Check {
        const NAME: &str = "anchors-unit";
        let why = "when the control plane replaces its anchor, this machine does not take the new one, and from then on refuses every key (signer_untrusted)";
        // The service is started by the path unit, and by nothing else.
        let service = match self.anchors_service {
            Unit::Disabled => Unit::Enabled,
            other => other,
        };
        let faults = [self.anchors.fault(ANCHORS_UNIT), service.fault(ANCHORS_SERVICE)];
        match (faults.into_iter().flatten().next(), self.waiting) {
            (Some((found, mend)), None) => note(NAME, found, why, mend),
            (Some((found, mend)), Some(number)) => {
                let found = format!("{found}, and the anchor set {number}, which the agent was sent, waits");
                note(NAME, found, why, format!("{mend}; and now: instance-connect-agent update-anchors"))
            }
            (None, Some(number)) => note(
                NAME,
                format!("the anchor set {number}, which the agent was sent, waits to be taken"),
                why,
                format!(
                    "instance-connect-agent update-anchors; and systemctl restart {ANCHORS_UNIT}, which has not done so"
                ),
            ),
            (None, None) => ok(NAME, format!("{ANCHORS_UNIT} takes new anchors")),
        }
    }
}

impl Unit {
    /// What is wrong, and what mends it.
    pub(super) fn fault(self, name: &str) -> Option<(String, String)> {
        match self {
            Self::Missing => Some((
                format!("{name} is not installed"),
                "instance-connect-agent install, or the package".to_owned(),
            )),
            Self::Masked => Some((
                format!("{name} is masked"),
                format!("systemctl unmask {name}; then: instance-connect-agent install"),
            )),
            Self::Disabled => {
                Some((format!("{name} is not enabled"), format!("systemctl enable --now {name}")))
            }
            Self::Enabled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::Unit::{Disabled, Enabled, Masked, Missing};
    use super::*;

    #[test]
    fn units_that_will_not_do_their_part() {
        let rows = [
            (Enabled, Enabled, Disabled, None, None),
            (Disabled, Enabled, Disabled, None, Some("instance-connect-agent.service is not enabled")),
            (Masked, Enabled, Disabled, None, Some("instance-connect-agent.service is masked")),
            (Missing, Enabled, Disabled, None, Some("instance-connect-agent.service is not installed")),
            (Enabled, Disabled, Disabled, None, Some("instance-connect-anchors.path is not enabled")),
            (Enabled, Missing, Missing, None, Some("instance-connect-anchors.path is not installed")),
            (Enabled, Enabled, Missing, None, Some("instance-connect-anchors.service is not installed")),
            (Enabled, Enabled, Masked, None, Some("instance-connect-anchors.service is masked")),
            (Enabled, Enabled, Disabled, Some(3), Some("the anchor set 3, which the agent was sent, waits")),
            (Enabled, Masked, Disabled, Some(3), Some("anchors.path is masked, and the anchor set 3")),
        ];
        for (agent, anchors, anchors_service, waiting, expected) in rows {
            let facts = UnitFacts { agent, anchors, anchors_service, waiting };
            let checks = facts.checks();
            let wrong: Vec<_> = checks.iter().filter(|check| check.verdict != Verdict::Ok).collect();
            assert_eq!(wrong.len(), usize::from(expected.is_some()), "{facts:?}");
            for (check, expected) in wrong.iter().zip(expected) {
                assert_eq!(check.verdict, Verdict::Note);
                assert!(check.found.contains(expected), "{}", check.found);
            }
        }
    }
}
