//! What a check found, and how it is told.

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// Some logins, or later ones, may fail by it or are not on record; or it could not be found out.
    Note,
    /// A login with a pushed key fails by it, or others than root could become root by it.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// Why it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<&'static str>,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Check {
    Check { check, verdict: Verdict::Ok, found: found.into(), why: None, mend: None }
}

pub(super) fn problem(
    check: &'static str,
    found: impl Into<String>,
    why: &'static str,
    mend: impl Into<String>,
) -> Check {
    Check { check, verdict: Verdict::Problem, found: found.into(), why: Some(why), mend: Some(mend.into()) }
}

pub(super) fn note(
    check: &'static str,
    found: impl Into<String>,
    why: &'static str,
    mend: impl Into<String>,
) -> Check {
    Check { verdict: Verdict::Note, ..problem(check, found, why, mend) }
}

/// All of them.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    pub(super) schema: u32,
    pub(super) os_user: Option<String>,
    pub(super) healthy: bool,
    pub(super) checks: Vec<Check>,
}

impl Diagnosis {
    pub(super) fn new(os_user: Option<String>, checks: Vec<Check>) -> Self {
        let healthy = checks.iter().all(|check| check.verdict != Verdict::Problem);
        Self { schema: 1, os_user, healthy, checks }
    }

    /// Whether nothing was found by which a login with a pushed key fails, or others than root could become root.
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// For people: what is wrong comes with why it matters and what mends it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for Check { check, verdict, found, why, mend } in &self.checks {
            let mark = match verdict {
                Verdict::Ok => "ok",
                Verdict::Note => "NOTE",
                Verdict::Problem => "PROBLEM",
            };
            text += &format!("{mark:<8} {check}: {}\n", found.replace('\n', "\n         "));
            text.extend(why.map(|why| format!("         Why it matters: {why}\n")));
            text.extend(mend.as_ref().map(|mend| format!("         To mend it: {mend}\n")));
        }
        let problems = self.checks.iter().filter(|check| check.verdict == Verdict::Problem).count();
        text += &match (problems, &self.os_user) {
            (0, Some(user)) => format!("\nNothing is in the way of a login as {user} with a pushed key.\n"),
            (0, None) => "\nNothing is in the way of logins with pushed keys. --os-user NAME looks at one account too.\n".to_owned(),
            (1, _) => "\n1 problem is in the way of logins with pushed keys, or makes them unsafe.\n".to_owned(),
            (count, _) => format!("\n{count} problems are in the way of logins with pushed keys, or make them unsafe.\n"),
        };
        text
    }
}
