//! Flags whose variable, value name, default and help stand in the table of settings.
//!
//! A flag without a text of its own in the struct of its command is one of the table; a command's
//! own flags have their text beside their field.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};

use crate::settings::{self, Setting};

/// The commands that share the settings of the webhook; all others share those of a sidecar.
const WEBHOOK_COMMANDS: [&str; 2] = ["webhook", "inject"];

/// Completes the flags of all commands.
pub(super) fn complete(command: Command) -> Command {
    command.mut_subcommands(|subcommand| {
        let name = subcommand.get_name().to_owned();
        subcommand.mut_args(|argument| match find(&name, &argument) {
            Some(setting) if argument.get_help().is_none() => complete_flag(argument, setting),
            _ => argument,
        })
    })
}

fn find(command: &str, argument: &Arg) -> Option<&'static Setting> {
    let is_wanted =
        |setting: &&Setting| setting.flag.is_some() && argument.get_long() == Some(setting.name);
    if WEBHOOK_COMMANDS.contains(&command) {
        settings::webhook().find(is_wanted)
    } else {
        settings::sidecar().iter().find(is_wanted)
    }
}

fn complete_flag(argument: Arg, setting: &Setting) -> Arg {
    let (Some(flag), Some(variable)) = (setting.flag, setting.variable()) else { return argument };
    let argument = argument.env(variable).help(flag.help);
    let Some(value_name) = flag.value_name else {
        return argument.action(ArgAction::SetTrue).value_parser(BoolishValueParser::new());
    };
    let argument = argument.value_name(value_name);
    match flag.default.value() {
        // A field that is no `Option` is required where its default is not known beforehand.
        Some(default) => argument.default_value(default.into_owned()).required(false),
        None => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_a_text_of_its_own_or_one_of_the_table() {
        let command = crate::cli::command();
        for subcommand in command.get_subcommands() {
            for argument in subcommand.get_arguments() {
                let command = subcommand.get_name();
                let flag = argument.get_id();
                assert!(argument.get_help().is_some(), "`bfb {command}`: {flag}");
            }
        }
    }

    #[test]
    fn the_help_of_what_runs_in_a_pod_stays_as_it_is() {
        let mut command = crate::cli::command();
        command.build();
        for name in ["serve", "webhook"] {
            let Some(subcommand) = command.find_subcommand_mut(name) else { continue };
            if name == "serve" || cfg!(feature = "webhook") {
                let help = subcommand.render_long_help().to_string();
                insta::assert_snapshot!(format!("help-{name}"), help);
            }
        }
    }

    #[test]
    fn every_setting_is_a_flag_of_its_command() {
        let command = crate::cli::command();
        let flags = |name: &str| {
            let found = command.find_subcommand(name).map(Command::get_arguments);
            found.into_iter().flatten().filter_map(Arg::get_long).collect::<Vec<_>>()
        };
        let serve = flags("serve");
        for setting in settings::sidecar().iter().filter(|setting| setting.flag.is_some()) {
            assert!(serve.contains(&setting.name), "--{}", setting.name);
        }
        let webhook = flags("webhook");
        for setting in settings::webhook().filter(|_| cfg!(feature = "webhook")) {
            assert!(webhook.contains(&setting.name), "--{}", setting.name);
        }
    }
}
