//! The command lines of `instances` and `ansible-inventory`.

use crate::arguments::ListFormat;
use crate::failure::{Exit, Failure};
use clap::Args;
use instance_connect_client::DescribeInstances;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::printable::printable;
use std::str::FromStr;

#[derive(Args)]
pub(crate) struct InstancesOptions {
    /// Only these: instance ids, or else values of the tag Name, in which `*` and `?` stand for any characters; one that begins with
    /// i- is an id
    #[arg(value_name = "INSTANCE")]
    pub(crate) named: Vec<String>,
    /// Only this instance; one that does not exist is an error. May be given several times
    #[arg(long = "instance-id", value_name = "ID")]
    pub(crate) ids: Vec<InstanceId>,
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// A table for people, JSON with EC2's names, or lines for scripts: the table's columns behind tabs, without a header
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: ListFormat,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("question").required(true).args(["list", "host"]))]
pub(crate) struct AnsibleOptions {
    /// All groups, and the variables of all hosts
    #[arg(long)]
    pub(crate) list: bool,
    /// The variables of one host, which is named by its instance id, whatever the filters and its state
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<InstanceId>,
    #[command(flatten)]
    pub(crate) filters: Filters,
}

#[derive(Args)]
pub(crate) struct Filters {
    /// Only instances that EC2's filter NAME lets through, such as tag:env=prod or instance-state-name=running; `*` and `?` stand
    /// for any characters. Of several values for one name one must fit, and of several names all
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    filters: Vec<Filter>,
}

/// A filter of EC2's with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    name: String,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err("it is not NAME=VALUE, such as tag:env=prod".to_owned()),
        }
    }
}

impl Filters {
    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.filters.iter().any(|filter| filter.name == name)
    }

    /// The instances that they let through.
    pub(super) fn request(&self) -> DescribeInstances {
        let mut filters: Vec<(&str, Vec<&str>)> = Vec::new();
        for Filter { name, value } in &self.filters {
            match filters.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(value),
                None => filters.push((name, vec![value])),
            }
        }
        let request = DescribeInstances::new();
        filters.into_iter().fold(request, |request, (name, values)| request.filter(name, values))
    }
}

impl InstancesOptions {
    /// The instances that are meant.
    pub(super) fn request(&self) -> Result<DescribeInstances, Failure> {
        let mut request = self.filters.request();
        let ids: Vec<InstanceId> = self.named.iter().filter_map(|word| word.parse().ok()).collect();
        if !ids.is_empty() && ids.len() < self.named.len() {
            return Err(Failure::new(Exit::Parameter, "these are ids and names, and no instance is both")
                .hint("give either, and ask twice for both"));
        }
        // Whoever may set tags stands in for no id, and one that is mistyped is not nobody's name.
        let mistyped = |word: &&String| word.starts_with("i-") && word.parse::<InstanceId>().is_err();
        if let Some(word) = self.named.iter().find(mistyped) {
            return Err(Failure::new(Exit::Parameter, format!("{} is no instance id", printable(word)))
                .hint("ask for a name that begins with i- by --filter tag:Name=i-…"));
        }
        let has_names = ids.is_empty() && !self.named.is_empty();
        for id in self.ids.iter().chain(&ids) {
            request = request.instance_id(id.as_str());
        }
        Ok(if has_names { request.filter("tag:Name", &self.named) } else { request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: InstancesOptions,
    }

    fn request(words: &str) -> Result<DescribeInstances, Exit> {
        let line =
            Line::try_parse_from(std::iter::once("x").chain(words.split(' ').filter(|w| !w.is_empty())));
        line.map_err(|_| Exit::Parameter)?.options.request().map_err(|failure| failure.exit)
    }

    #[test]
    fn which_instances_are_meant() {
        let (all, id) = (DescribeInstances::new(), "i-0123456789abcdef0");
        for (words, expected) in [
            ("", all.clone()),
            (id, all.clone().instance_id(id)),
            ("--instance-id i-0123456789abcdef0", all.clone().instance_id(id)),
            ("web-* db", all.clone().filter("tag:Name", ["web-*", "db"])),
            ("--filter tag:env=prod", all.clone().filter("tag:env", ["prod"])),
            (
                "--filter a=1 --filter b=2 --filter a=3",
                all.clone().filter("a", ["1", "3"]).filter("b", ["2"]),
            ),
            ("--filter tag:a=b=c,d", all.clone().filter("tag:a", ["b=c,d"])),
            ("--filter tag:Name=i-x", all.clone().filter("tag:Name", ["i-x"])),
            ("--filter tag:a=", all.clone().filter("tag:a", [""])),
            ("web --filter vpc-id=x", all.clone().filter("vpc-id", ["x"]).filter("tag:Name", ["web"])),
        ] {
            assert_eq!(request(words), Ok(expected), "{words}");
        }
        for words in [
            "--filter x",
            "--filter =x",
            "--instance-id web",
            "i-0123456789abcdef0 web",
            "i-0123456789abcdefX",
            "web i-*",
            "--output x",
        ] {
            assert_eq!(request(words), Err(Exit::Parameter), "{words}");
        }
    }
}
