//! A statement: when all of its parts match a request, its effect holds.

use super::action::{Action, ActionSet, ResourceType, are_ours};
use super::condition::{Condition, Scope, any_matches};
use super::pattern::{Pattern, Syntax, TextTest, Variable};
use super::request::Context;
use std::collections::BTreeSet;

/// What a statement does where it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Allows, unless something denies.
    Allow,
    /// Denies, whatever allows.
    Deny,
}

/// A statement of a policy.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// Its `Sid`, or `#` and its position in the policy, from 0. No `Sid` contains a `#`.
    pub(super) name: String,
    pub(super) effect: Effect,
    actions: ActionSet,
    resources: Resources,
    conditions: Vec<Condition>,
}

/// A statement as written. Of `Action` and `NotAction`, and of `Resource` and `NotResource`, there is exactly one.
#[derive(Debug)]
pub(super) struct StatementText {
    pub(super) effect: Effect,
    pub(super) actions: Listed,
    pub(super) resources: Listed,
    pub(super) conditions: Vec<ConditionText>,
}

/// A condition as written.
#[derive(Debug)]
pub(super) struct ConditionText {
    pub(super) operator: String,
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

/// What an element lists: what it covers, or in its `Not…` form all that it does not cover.
#[derive(Debug)]
pub(super) enum Listed {
    Only(Vec<String>),
    AllBut(Vec<String>),
}

/// The resources that a statement is about.
#[derive(Clone, Debug)]
struct Resources {
    listed: Vec<Resource>,
    all_but: bool,
}

#[derive(Clone, Debug)]
enum Resource {
    /// `*`
    Any,
    Arn(Pattern),
}

/// The first part of a statement that does not match a request, and the variable to blame if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mismatch<'s> {
    Action,
    Resource { unresolved: Option<&'s Variable> },
    Condition { condition: &'s Condition, unresolved: Option<&'s Variable> },
}

impl Statement {
    /// Reads a statement, and adds to the warnings what makes it narrower than its author may think.
    ///
    /// # Errors
    /// What could not be evaluated fully, in words for the author.
    pub(super) fn parse(
        name: String,
        text: StatementText,
        variables: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, String> {
        let StatementText { effect, actions, resources, conditions: texts } = text;
        let only_ours = matches!(&actions, Listed::Only(listed) if are_ours(listed));
        let actions = match actions {
            Listed::Only(listed) => ActionSet::matched_by(&listed)?,
            Listed::AllBut(listed) => ActionSet::ALL.without(ActionSet::matched_by(&listed)?),
        };
        let scope = Scope { effect, actions, variables };
        if effect == Effect::Deny && only_ours {
            check_resources(&resources, actions)?;
        }
        let resources = Resources::parse(&resources, scope, warnings)?;
        let conditions = texts
            .into_iter()
            .map(|text| Condition::parse(text, scope, warnings))
            .collect::<Result<_, _>>()?;
        Ok(Self { name, effect, actions, resources, conditions })
    }

    /// Whether it matches: what [`super::evaluate`] decides by and [`super::explain`] tells.
    ///
    /// # Errors
    /// The first part that does not.
    pub(super) fn judge<'s>(&'s self, context: &Context<'_>) -> Result<(), Mismatch<'s>> {
        if !self.actions.contains(context.request.action.action()) {
            return Err(Mismatch::Action);
        }
        self.resources.cover(self.effect, context).map_err(|unresolved| Mismatch::Resource { unresolved })?;
        self.conditions.iter().try_for_each(|condition| {
            condition
                .holds(self.effect, context)
                .map_err(|unresolved| Mismatch::Condition { condition, unresolved })
        })
    }
}

impl Resources {
    fn parse(text: &Listed, scope: Scope, warnings: &mut Vec<String>) -> Result<Self, String> {
        let (texts, all_but) = match text {
            Listed::Only(texts) => (texts, false),
            Listed::AllBut(texts) => (texts, true),
        };
        let listed: Vec<Resource> =
            texts.iter().map(|text| Resource::parse(text, scope.variables)).collect::<Result<_, _>>()?;
        warnings.extend(scope.check_variables(listed.iter().filter_map(Resource::pattern))?);
        Ok(Self { listed, all_but })
    }

    /// Whether the request's resource is among them. Where that is undecided,
    /// [`Undecided::holds`](super::condition::Undecided::holds) says.
    fn cover(&self, effect: Effect, context: &Context<'_>) -> Result<(), Option<&Variable>> {
        let matches = if self.listed.iter().any(|resource| resource.pattern().is_none()) {
            Ok(true)
        } else {
            let patterns = self.listed.iter().filter_map(Resource::pattern);
            any_matches(patterns, TextTest::Arn, context.request.resource, context)
        };
        match matches {
            Ok(matches) if matches != self.all_but => Ok(()),
            Ok(_) => Err(None),
            Err(undecided) => undecided.holds(self.all_but, effect),
        }
    }
}

/// Refuses a list of resources none of which any of the actions is about, such as a volume. A Deny of it would deny
/// nothing.
fn check_resources(resources: &Listed, actions: ActionSet) -> Result<(), String> {
    let Listed::Only(texts) = resources else { return Ok(()) };
    let about: BTreeSet<ResourceType> =
        Action::all().filter(|&action| actions.contains(action)).map(Action::resource_type).collect();
    if texts.iter().any(|text| about.iter().any(|resource_type| may_name(text, *resource_type))) {
        return Ok(());
    }
    let forms: Vec<&str> = about.into_iter().map(ResourceType::pattern).collect();
    Err(format!(
        "Resource {texts:?} is nothing that {} is about, and denies nothing; write as {}",
        actions.names(),
        forms.join(" or ")
    ))
}

/// Whether a resource, with its wildcards and variables, may stand for one of ours of this type.
fn may_name(text: &str, resource_type: ResourceType) -> bool {
    if text == "*" {
        return true;
    }
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [_, partition, service, region, account, resource] = parts.as_slice() else { return true };
    let form: Vec<&str> = resource_type.pattern().splitn(6, ':').collect();
    let [_, _, its_service, its_region, _, its_resource] = form.as_slice() else { return false };
    let is = |part: &str, text: &str| {
        let pattern = Pattern::parse(part, Syntax { wildcards: true, variables: false });
        pattern.is_ok_and(|pattern| pattern.matches_text(text))
    };
    // An ARN of IAM has no region.
    let region_fits = if its_region.is_empty() { is(region, "") } else { !region.is_empty() };
    // What stands before the first wildcard or variable decides; behind it anything may follow.
    let beginning = its_resource.trim_end_matches('*');
    let fixed = resource.split(['*', '?', '$']).next().unwrap_or_default();
    let may_begin = if beginning == *its_resource {
        is(resource, beginning)
    } else {
        fixed.starts_with(beginning) || (beginning.starts_with(fixed) && fixed.len() < resource.len())
    };
    is(partition, "aws") && is(service, its_service) && region_fits && !account.is_empty() && may_begin
}

impl Resource {
    const fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Any => None,
            Self::Arn(pattern) => Some(pattern),
        }
    }

    fn parse(text: &str, variables: bool) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let refused = |problem: &str| Err(format!("Resource {text:?} {problem}"));
        if parts.first() != Some(&"arn") {
            return refused("is neither \"*\" nor an ARN");
        }
        if variables && parts.iter().take(5).any(|part| part.contains("${")) {
            return refused("has a policy variable before its sixth part; write * there");
        }
        if parts.len() < 6 {
            return refused("has fewer than the six parts of an ARN, such as arn:aws:ec2:*:*:instance/*");
        }
        Ok(Self::Arn(Pattern::parse(text, Syntax { wildcards: true, variables })?))
    }
}
