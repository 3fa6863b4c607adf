//! The man pages and the completions for shells, made from the command line itself and from the manual of the config file.
//!
//! Gives texts and writes none. What this version does not do yet is in none of them.

use std::io;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, EXAMPLES};
use crate::config::MANUAL;

/// What `laterna(1)` says beyond its commands.
const DESCRIPTION: &[&str] = &[
    "laterna shows a machine's screen in web browsers, with its sound. It runs without a window of its own. The screen is encoded once, for any number of viewers, and sent by WebRTC: a viewer needs a browser and nothing else. While the screen stands still, next to nothing is sent.",
    "`laterna run` broadcasts; the other commands are for a daemon that runs, or for its config file.",
];

/// Where things are, each with what it is.
const FILES: &[(&str, &str)] = &[
    ("$XDG_CONFIG_HOME/laterna/laterna.toml", "The config file, where it is there; see laterna.toml(5)."),
    ("/etc/laterna/laterna.toml", "The config file, where the first is not there."),
    ("$XDG_STATE_HOME/laterna/code", "The access code; of the service /var/lib/laterna/code."),
    ("$XDG_RUNTIME_DIR/laterna/control.sock", "The control socket; of the service /run/laterna/control.sock."),
];

/// The exit codes of all commands.
const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "It failed while running; or there is no daemon, or it refuses."),
    ("2", "What can't be understood, or asks for what this version does not do yet."),
];

/// A man page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The name of its file, as `laterna-run.1`.
    pub file: String,
    /// The page, in roff.
    pub text: String,
}

/// The page `laterna(1)`.
pub fn first() -> Page {
    page(&built())
}

/// All pages: one for each command, and `laterna.toml(5)`.
pub fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    each(&built(), &mut |command| pages.push(page(command)));
    pages.push(config_page());
    pages
}

/// The script that completes command lines in a shell.
pub fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut shown(&Cli::command()), "laterna", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The command without what is hidden: flags and commands of later versions.
fn shown(command: &Command) -> Command {
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set()).map(shown);
    let mut shown = Command::new(command.get_name().to_owned()).args(args).subcommands(commands);
    shown = shown.subcommand_required(command.has_subcommands());
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(version) = command.get_version() {
        shown = shown.version(version.to_owned());
    }
    shown
}

/// The same as man pages have it, each command with its whole name.
fn built() -> Command {
    let mut command = shown(&Cli::command()).disable_help_subcommand(true);
    command.build();
    command
}

fn each(command: &Command, visit: &mut impl FnMut(&Command)) {
    visit(command);
    command.get_subcommands().for_each(|command| each(command, visit));
}

/// The name of a command's page, as `laterna-run`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> Page {
    let headed = command.clone().subcommand_help_heading("COMMANDS").subcommand_value_name("COMMAND");
    let man = Man::new(headed).source(source()).manual("laterna");
    let mut text = Vec::new();
    // Nothing is refused by memory.
    let _ = render(command, &man, &mut text);
    Page { file: format!("{}.1", name(command)), text: String::from_utf8_lossy(&text).into_owned() }
}

fn render(command: &Command, man: &Man, out: &mut Vec<u8>) -> io::Result<()> {
    let is_first = command.get_name() == "laterna";
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    let mut roff = Roff::new();
    if is_first {
        roff.control("SH", ["DESCRIPTION"]);
        paragraphs(&mut roff, DESCRIPTION.iter().copied());
        roff.to_writer(out)?;
    } else {
        man.render_description_section(out)?;
    }
    man.render_options_section(out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(out)?;
    }

    let mut roff = Roff::new();
    if name(command) == "laterna-run" {
        let (examples, rest) = EXAMPLES.split_once("\n\n").unwrap_or((EXAMPLES, ""));
        roff.control("SH", ["EXAMPLES"]);
        verbatim(&mut roff, examples.lines().skip(1).map(str::trim_start));
        paragraphs(&mut roff, rest.lines());
    }
    if is_first {
        table(&mut roff, "FILES", FILES);
    }
    table(&mut roff, "EXIT STATUS", EXIT_CODES);
    let mut pages = Vec::new();
    each(&built(), &mut |command| pages.push(format!("{}(1)", name(command))));
    pages.push("laterna.toml(5)".to_owned());
    pages.retain(|page| *page != format!("{}(1)", name(command)));
    roff.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
    roff.to_writer(out)
}

/// `laterna.toml(5)`: the config file as it is shipped.
fn config_page() -> Page {
    let mut roff = Roff::new();
    roff.control("TH", ["laterna.toml", "5", "", &source(), "laterna"]);
    roff.control("SH", ["NAME"]).text([roman("laterna.toml - the config file of laterna")]);
    roff.control("SH", ["DESCRIPTION"]);
    verbatim(&mut roff, MANUAL.lines());
    roff.control("SH", ["SEE ALSO"]).text([roman("laterna(1), laterna-run(1), laterna-config(1)")]);
    Page { file: "laterna.toml.5".to_owned(), text: roff.to_roff() }
}

fn source() -> String {
    format!("laterna {}", env!("CARGO_PKG_VERSION"))
}

fn paragraphs<'a>(roff: &mut Roff, texts: impl Iterator<Item = &'a str>) {
    for text in texts {
        roff.control("PP", []).text([roman(text)]);
    }
}

fn verbatim<'a>(roff: &mut Roff, lines: impl Iterator<Item = &'a str>) {
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn table(roff: &mut Roff, heading: &str, rows: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (term, meaning) in rows {
        roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
    }
}
