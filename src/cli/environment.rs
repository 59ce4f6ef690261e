//! `BFB_*` variables that no flag knows: ignored, but said.

use std::collections::BTreeSet;

/// Warns of each `BFB_*` variable that belongs to no flag of any command.
pub(super) fn warn_of_unknown_variables() {
    for name in unknown(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()), &known()) {
        tracing::warn!(name, "unknown variable, ignored; `bfb serve --help` lists those that are known");
    }
}

fn known() -> BTreeSet<String> {
    let command = super::command();
    let commands = command.get_subcommands().chain([&command]);
    let arguments = commands.flat_map(clap::Command::get_arguments);
    arguments.filter_map(|argument| argument.get_env()?.to_str().map(str::to_owned)).collect()
}

fn unknown(names: impl Iterator<Item = String>, known: &BTreeSet<String>) -> Vec<String> {
    let mut unknown: Vec<_> = names.filter(|name| name.starts_with("BFB_") && !known.contains(name)).collect();
    unknown.sort();
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_foreign_bfb_variables_are_unknown() {
        let names = ["BFB_PORT", "BFB_LISTEN", "PATH", "BFB_DRAIN"].map(str::to_owned);
        assert_eq!(unknown(names.into_iter(), &known()), ["BFB_PORT"]);
    }

    #[test]
    fn every_flag_of_serve_has_its_variable() {
        let command = crate::cli::command();
        let serve = command.find_subcommand("serve").map(clap::Command::get_arguments).into_iter().flatten();
        for argument in serve.filter(|a| a.get_long().is_some_and(|long| long != "help")) {
            let long = argument.get_long().unwrap_or_default();
            let expected = format!("BFB_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().and_then(|e| e.to_str()), Some(expected.as_str()), "--{long}");
        }
    }
}
