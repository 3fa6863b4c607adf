//! What `laterna config check` and `print` say of a configuration: that it is one, and the TOML that would give it, each value with where it comes from.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::load::Loaded;
use super::one_line;
use super::setting::{Fallback, Kind, SETTINGS, Setting};
use super::tables::{Kept, Limits, Tables, date};
use super::written::{Origin, in_toml, quoted};

/// Where the comments begin, where the values leave room.
const COMMENTS: usize = 40;

/// That a configuration is one, in a line; `places` are those where its file was looked for.
pub fn verdict(loaded: &Loaded, places: &[PathBuf]) -> String {
    match &loaded.file {
        Some(file) => format!("{}: ok\n", one_line(&file.to_string_lossy())),
        None => {
            let places: Vec<_> = places.iter().map(|place| one_line(&place.to_string_lossy())).collect();
            format!("no config file at {}; the defaults hold: ok\n", places.join(" or "))
        }
    }
}

/// The whole configuration; what may be a secret is hidden.
pub fn print(loaded: &Loaded) -> String {
    let mut text = match &loaded.file {
        Some(file) => format!("# The config file is {}.\n", one_line(&file.to_string_lossy())),
        None => "# There is no config file.\n".to_owned(),
    };
    for setting in SETTINGS {
        let given = loaded.written.given(setting);
        let origin = match &given.origin {
            Origin::Default => "default".to_owned(),
            Origin::Flag => "flag".to_owned(),
            Origin::Variable => setting.variable(),
            Origin::File(place) => format!("{}:{}", one_line(&place.file.to_string_lossy()), place.line),
        };
        let line = line(setting, &loaded.config.name, given.values.iter().map(|asked| asked.value.as_str()));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line:<COMMENTS$} # {origin}");
    }
    text + &tables(&loaded.config.tables)
}

/// The tables of the config file; those of scenes and secrets where there are any.
fn tables(tables: &Tables) -> String {
    let mut text = String::new();
    if !tables.scenes.is_empty() {
        text.push_str("\n[scenes]\n");
        for (name, source) in &tables.scenes {
            let _ = writeln!(text, "{} = {}", bare(name), quoted(&source.to_string()));
        }
    }
    for (table, secrets) in [("codes", &tables.codes), ("tokens", &tables.tokens)] {
        for secret in secrets {
            let _ = writeln!(text, "\n[{table}.{}]", bare(&secret.name));
            let _ = match &secret.kept {
                Kept::File(path) => writeln!(text, "file = {}", quoted(&path.to_string_lossy())),
                Kept::Credential(name) => writeln!(text, "credential = \"{name}\""),
            };
            if let Some(expires) = secret.expires {
                let _ = writeln!(text, "expires = {}", date(expires));
            }
        }
    }
    let Limits { connections, members, request, wrong_codes, offers } = tables.limits;
    let _ = write!(
        text,
        "\n[limits]\nconnections = {}\nconnections-per-address = {}\nroom-members = {}\nroom-members-per-address = {}\n\
         request-seconds = {}\nwrong-codes-per-minute = {wrong_codes}\noffers-per-minute-per-address = {offers}\n",
        connections.total,
        connections.per_address,
        members.members,
        members.per_address,
        request.as_secs(),
    );
    text
}

/// A name as a key: with quotes where it has a dot.
fn bare(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

fn line<'a>(setting: &Setting, name: &str, mut values: impl Iterator<Item = &'a str>) -> String {
    let key = setting.key;
    if let Kind::List { .. } = setting.kind {
        let values: Vec<_> = values.map(|value| in_toml(setting, value)).collect();
        return format!("{key} = [{}]", values.join(", "));
    }
    match (values.next(), setting.default) {
        (Some(value), _) => format!("{key} = {}", in_toml(setting, value)),
        (None, _) if key == "name" => format!("{key} = {}", in_toml(setting, name)),
        (None, Fallback::Computed(what) | Fallback::Text(what)) => format!("# {key}: {what}"),
        (None, Fallback::Empty) => format!("# {key}: none"),
    }
}
