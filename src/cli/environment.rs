//! The variables of the environment behind the flags: an empty one counts as unset, a wrong one is
//! named as itself, and one that no flag knows is ignored with a warning.
//!
//! `clap` reads a variable as it builds the parser, takes an empty one for a value, and names the
//! flag wherever the value came from. So the parser is built here: without the variables that are
//! empty, and, where it refuses the arguments, once more without each variable that is set. The
//! variable whose absence changes the error is the one that is named.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Error};

/// Parses the arguments and the variables.
pub(super) fn parse(arguments: &[OsString]) -> Result<ArgMatches, Error> {
    let parse_without = |is_left_out: &dyn Fn(&str) -> bool| {
        let command =
            without_variables(super::command(), &|name| is_empty(name) || is_left_out(name));
        command.try_get_matches_from(arguments)
    };
    parse_without(&|_| false).map_err(|error| match error.kind() {
        // The help lists the variables, the empty ones too.
        ErrorKind::DisplayHelp => {
            super::command().try_get_matches_from(arguments).err().unwrap_or(error)
        }
        ErrorKind::DisplayVersion => error,
        _ => name_variables(error, |name| parse_without(&|other| other == name).err()),
    })
}

fn is_empty(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// The parser without these variables.
fn without_variables(command: Command, is_left_out: &dyn Fn(&str) -> bool) -> Command {
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|argument| match variable_of(&argument) {
            Some(name) if is_left_out(name) => argument.env(Resettable::Reset),
            _ => argument,
        })
    })
}

fn variable_of(argument: &Arg) -> Option<&str> {
    argument.get_env()?.to_str()
}

/// Names in `error` the variables that it comes from. `error_without` parses once more without one
/// variable, and returns the error of that.
fn name_variables(mut error: Error, error_without: impl Fn(&str) -> Option<Error>) -> Error {
    hide_secret(&mut error);
    let text = error.render().to_string();
    let differs = |name: &&String| {
        let other = error_without(name).map(|mut other| {
            hide_secret(&mut other);
            other.render().to_string()
        });
        other.as_deref() != Some(text.as_str())
    };
    let variables = known_variables();
    let causes: Vec<&String> =
        variables.iter().filter(|name| is_set(name)).filter(differs).collect();
    for name in causes {
        if !put_variable(&mut error, name) {
            // The error names the flag that is missing, but not the one that needs it.
            let tip = StyledStr::from(format!("it is needed because `{name}` is set"));
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
        }
    }
    error
}

/// Puts the variable's name in the place of its flag's; false where the error does not name the
/// flag.
fn put_variable(error: &mut Error, name: &str) -> bool {
    let flags: BTreeSet<String> = arguments()
        .iter()
        .filter(|argument| variable_of(argument) == Some(name))
        .map(ToString::to_string)
        .collect();
    let mut is_renamed = false;
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let named = match error.get(kind) {
            Some(ContextValue::String(flag)) if flags.contains(flag) => {
                ContextValue::String(name.to_owned())
            }
            Some(ContextValue::Strings(all)) if all.iter().any(|flag| flags.contains(flag)) => {
                let named = |flag: &String| {
                    if flags.contains(flag) { name.to_owned() } else { flag.clone() }
                };
                ContextValue::Strings(all.iter().map(named).collect())
            }
            _ => continue,
        };
        error.insert(kind, named);
        is_renamed = true;
    }
    is_renamed
}

/// A URL that is refused may hold a password all the same.
fn hide_secret(error: &mut Error) {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return };
    let is_secret =
        |argument: &Arg| argument.is_hide_env_values_set() && argument.to_string() == *flag;
    if arguments().iter().any(is_secret) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
}

/// The flags whose values came from the environment, for errors that are found after parsing.
#[derive(Debug, Default)]
pub(super) struct Variables(Vec<(String, String)>);

impl Variables {
    /// Of a command's matches.
    pub(super) fn from_matches(matches: &ArgMatches) -> Self {
        let Some((name, matches)) = matches.subcommand() else { return Self::default() };
        let command = super::command();
        let arguments = command.find_subcommand(name).map(Command::get_arguments);
        let set = arguments.into_iter().flatten().filter_map(|argument| {
            let source = matches.value_source(argument.get_id().as_str());
            let names = (argument.get_long()?.to_owned(), variable_of(argument)?.to_owned());
            (source == Some(ValueSource::EnvVariable)).then_some(names)
        });
        Self(set.collect())
    }

    /// An error's text with the variables' names in the place of their flags'.
    pub(super) fn name_in(&self, error: &impl ToString) -> String {
        self.0.iter().fold(error.to_string(), |text, (flag, variable)| {
            text.replace(&format!("`--{flag} "), &format!("`{variable}="))
                .replace(&format!("`--{flag}`"), &format!("`{variable}`"))
        })
    }
}

/// Warns of each `BFB_*` variable that belongs to no flag of any command.
pub(super) fn warn_of_unknown_variables() {
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in unknown_variables(set.filter(|name| is_set(name)), &known_variables()) {
        let hint = "`bfb serve --help` lists those that are known";
        tracing::warn!(name, "unknown variable, ignored; {hint}");
    }
}

/// The arguments of all commands.
fn arguments() -> Vec<Arg> {
    let mut command = super::command();
    // Before that, an argument cannot be shown.
    command.build();
    command.get_subcommands().flat_map(Command::get_arguments).cloned().collect()
}

fn known_variables() -> BTreeSet<String> {
    arguments().iter().filter_map(|argument| variable_of(argument).map(str::to_owned)).collect()
}

fn unknown_variables(names: impl Iterator<Item = String>, known: &BTreeSet<String>) -> Vec<String> {
    let mut unknown: Vec<_> =
        names.filter(|name| name.starts_with("BFB_") && !known.contains(name)).collect();
    unknown.sort();
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_foreign_bfb_variables_are_unknown() {
        let names = ["BFB_PORT", "BFB_LISTEN", "PATH", "BFB_DRAIN"].map(str::to_owned);
        assert_eq!(unknown_variables(names.into_iter(), &known_variables()), ["BFB_PORT"]);
    }

    fn expected_variable(long: &str) -> String {
        format!("BFB_{}", long.to_uppercase().replace('-', "_"))
    }

    #[test]
    fn every_flag_of_what_runs_in_a_pod_has_its_variable() {
        let command = crate::cli::command();
        let long_running = ["serve", "webhook"].into_iter().filter_map(|name| {
            // A build without the webhook has no flags of it.
            command.find_subcommand(name).filter(|_| name == "serve" || cfg!(feature = "webhook"))
        });
        for argument in long_running.flat_map(Command::get_arguments) {
            let Some(long) = argument.get_long().filter(|long| *long != "help") else { continue };
            assert_eq!(variable_of(argument), Some(expected_variable(long).as_str()), "--{long}");
        }
    }

    #[test]
    fn every_command_finds_a_sidecar_redis_and_the_store_by_variables() {
        let command = crate::cli::command();
        // A demo has a fleet of its own, and shall reach no other by a variable.
        let others = command.get_subcommands().filter(|command| command.get_name() != "demo");
        for argument in others.flat_map(Command::get_arguments) {
            let Some(long) = argument.get_long() else { continue };
            let is_place = ["listen", "admin", "redis", "store"]
                .iter()
                .any(|place| long == *place || long.starts_with(&format!("{place}-")));
            if is_place {
                assert_eq!(
                    variable_of(argument),
                    Some(expected_variable(long).as_str()),
                    "--{long}"
                );
            }
        }
    }

    #[test]
    fn an_error_after_parsing_names_the_variable_that_was_set_and_no_other() {
        let variables = Variables(vec![("memory".to_owned(), "BFB_MEMORY".to_owned())]);
        let error =
            "`--memory 1GiB` is too much: at most `--memory 2MiB`, or `--memory-limit 9GiB`";
        let named =
            "`BFB_MEMORY=1GiB` is too much: at most `BFB_MEMORY=2MiB`, or `--memory-limit 9GiB`";
        assert_eq!(variables.name_in(&error), named);
        assert_eq!(Variables::default().name_in(&error), error);
    }
}
