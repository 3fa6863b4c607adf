//! The flags and variables of `laterna run`: one pair for each setting, made from [`SETTINGS`].

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::Arg;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint};

use super::FLAGS_NOT_YET;
use crate::config::setting::{Fallback, Kind, SETTINGS, Setting};
use crate::config::written::{Asked, Given, Origin, Written};

/// What a command line and the variables say of `laterna run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunArgs {
    /// The config file that is named.
    pub file: Option<PathBuf>,
    /// The settings, as written; those of the config file are not among them.
    pub written: Written,
}

impl Args for RunArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("LATERNA_CONFIG")
            .hide_env_values(true)
            .value_parser(clap::value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .help("The config file (default: laterna/laterna.toml in $XDG_CONFIG_HOME, else in /etc)");
        let later = FLAGS_NOT_YET.iter().map(|(flag, variable)| {
            let arg = Arg::new(*flag).long(*flag).env(*variable).hide(true);
            arg.num_args(0..=1).action(ArgAction::Append).value_parser(clap::value_parser!(OsString))
        });
        command.arg(file).args(SETTINGS.iter().map(arg)).args(later)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn arg(setting: &Setting) -> Arg {
    let arg = Arg::new(setting.key).long(setting.key).value_name(setting.value_name);
    let arg = arg.env(setting.variable()).hide_env_values(true).value_hint(match setting.value_name {
        "FILE" | "PATH" => ValueHint::FilePath,
        _ => ValueHint::Other,
    });
    let arg = match setting.kind {
        Kind::List { .. } => arg.action(ArgAction::Append).value_delimiter(','),
        Kind::Text | Kind::Number | Kind::Switch => arg.action(ArgAction::Set),
    };
    match setting.default {
        Fallback::Text(text) => arg.default_value(text).help(setting.help),
        Fallback::Empty => arg.help(setting.help),
        Fallback::Computed(what) => arg.help(format!("{} (default: {what})", setting.help)),
    }
}

impl FromArgMatches for RunArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut written = Written::default();
        for setting in SETTINGS {
            let origin = match matches.value_source(setting.key) {
                Some(ValueSource::CommandLine) => Origin::Flag,
                Some(ValueSource::EnvVariable) => Origin::Variable,
                _ => continue,
            };
            let values = matches.get_many::<String>(setting.key).unwrap_or_default();
            let asked = |value: &String| Asked { setting, origin: origin.clone(), value: value.clone() };
            let values = values.map(asked).collect();
            written.insert(setting, Given { origin, values });
        }
        Ok(Self { file: matches.get_one::<PathBuf>("config").cloned(), written })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
