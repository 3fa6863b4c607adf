//! The tables of the config file, which no flag and no variable has: scenes, codes, tokens and limits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::de::{DeTable, DeValue};

use super::file::{Text, name};
use super::{ConfigError, one_line};
use crate::signaling::access::{OFFERS_PER_MINUTE, WRONG_PER_MINUTE, is_name};
use crate::signaling::room::RoomLimits;
use crate::signaling::server::{ConnectionLimits, Deadlines};
use crate::source::{SourceSpec, SpecError};

/// What a file's tables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Sources by name.
    pub scenes: BTreeMap<String, SourceSpec>,
    /// Codes of viewers, in the order of their names.
    pub codes: Vec<Secret>,
    /// Tokens of operators, in the order of their names.
    pub tokens: Vec<Secret>,
    /// What anybody may take.
    pub limits: Limits,
}

/// A code or a token: where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub kept: Kept,
    /// Since when it may not be used any more, in time since the Unix epoch.
    pub expires: Option<Duration>,
}

/// Where a secret is kept: never in the config file itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this file.
    File(PathBuf),
    /// With the service manager (`LoadCredential=`, systemd.exec(5)), under this name.
    Credential(String),
}

/// What anybody may take of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of HTTP.
    pub connections: ConnectionLimits,
    /// Members of the room.
    pub members: RoomLimits,
    /// How long is waited for a request's head, and for its body.
    pub request: Duration,
    /// Wrong codes a minute, of all addresses together, that get an ordinary answer.
    pub wrong_codes: u32,
    /// Offers by WHEP of one address in a minute.
    pub offers: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: ConnectionLimits::default(),
            members: RoomLimits::default(),
            request: Deadlines::default().head,
            wrong_codes: WRONG_PER_MINUTE,
            offers: OFFERS_PER_MINUTE,
        }
    }
}

/// What the tables are called.
pub(super) const TABLES: &[&str] = &["scenes", "codes", "tokens", "limits"];
/// The keys of `[limits]`, with the least and the most that each may be.
const LIMITS: &[(&str, u64, u64)] = &[
    ("connections", 8, 1_000_000),
    ("connections-per-address", 4, 1_000_000),
    ("room-members", 1, 1_000_000),
    ("room-members-per-address", 1, 1_000_000),
    ("request-seconds", 1, 300),
    ("wrong-codes-per-minute", 1, 1_000_000),
    ("offers-per-minute-per-address", 1, 1_000_000),
];
/// What may be a name.
pub const NAME_ADVICE: &str = "write 1 to 64 of a-z A-Z 0-9 . _ -";

/// Reads a table that is one of [`TABLES`]; what is wrong goes to `errors`.
pub(super) fn read(
    text: &Text<'_>,
    table: &str,
    span: Range<usize>,
    value: &DeValue<'_>,
    tables: &mut Tables,
    errors: &mut Vec<ConfigError>,
) {
    let DeValue::Table(entries) = value else {
        let found = format!("{table}: {} where a table must be", name(value));
        return errors.push(text.error(span, found, format!("write [{table}] on a line of its own, its keys below")));
    };
    let reader = Reader { text, table };
    match table {
        "scenes" => reader.scenes(entries, &mut tables.scenes, errors),
        "codes" => tables.codes = reader.secrets(entries, errors),
        "tokens" => tables.tokens = reader.secrets(entries, errors),
        _ => reader.limits(entries, &mut tables.limits, errors),
    }
}

struct Reader<'a> {
    text: &'a Text<'a>,
    table: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, span: Range<usize>, found: &str, advice: impl Into<String>) -> ConfigError {
        self.text.error(span, format!("{}.{}: {found}", self.table, one_line(key)), advice)
    }

    fn scenes(&self, entries: &DeTable<'_>, scenes: &mut BTreeMap<String, SourceSpec>, errors: &mut Vec<ConfigError>) {
        for (key, value) in entries {
            let (key, span) = (key.get_ref().as_ref(), value.span());
            let DeValue::String(spec) = value.get_ref() else {
                let advice = format!("write {} = \"SPEC\", as it is written for source", one_line(key));
                errors.push(self.wrong(key, span, name(value.get_ref()), advice));
                continue;
            };
            match SourceSpec::parse(spec) {
                _ if !is_name(key) => errors.push(self.wrong(key, span, "no name of a scene", NAME_ADVICE)),
                Ok(spec) => drop(scenes.insert(key.to_owned(), spec)),
                Err(SpecError { found, advice, .. }) => errors.push(self.wrong(key, span, &found, advice)),
            }
        }
    }

    fn secrets(&self, entries: &DeTable<'_>, errors: &mut Vec<ConfigError>) -> Vec<Secret> {
        let mut secrets = Vec::new();
        for (key, value) in entries {
            let (key, span) = (key.get_ref().as_ref(), value.span());
            match value.get_ref() {
                _ if !is_name(key) => errors.push(self.wrong(key, span, "no name", NAME_ADVICE)),
                _ if key == "main" && self.table == "codes" => {
                    let advice =
                        "choose another name; the daemon's own code is main, and auth-code-file says where it is";
                    errors.push(self.wrong(key, span, "the name is taken", advice));
                }
                DeValue::Table(fields) => match self.secret(key, span, fields) {
                    Ok(secret) => secrets.push(secret),
                    Err(more) => errors.extend(more),
                },
                // A secret in a file that everybody reads is none.
                other => {
                    let advice =
                        format!("write [{}.{key}] with file = \"PATH\" below: secrets are kept in files", self.table);
                    errors.push(self.wrong(key, span, name(other), advice));
                }
            }
        }
        secrets
    }

    fn secret(&self, key: &str, span: Range<usize>, fields: &DeTable<'_>) -> Result<Secret, Vec<ConfigError>> {
        let (mut kept, mut expires, mut errors) = (Vec::new(), None, Vec::new());
        for (field, value) in fields {
            let (field, at) = (field.get_ref().as_ref(), value.span());
            let full = format!("{key}.{field}");
            match (field, value.get_ref()) {
                ("file", DeValue::String(path)) if path.starts_with('/') => {
                    kept.push(Kept::File(PathBuf::from(path.as_ref())));
                }
                ("file", DeValue::String(_)) => {
                    errors.push(self.wrong(&full, at, "no absolute path", "begin it with /"));
                }
                ("credential", DeValue::String(credential)) if is_name(credential) => {
                    kept.push(Kept::Credential(credential.as_ref().to_owned()));
                }
                ("credential", DeValue::String(_)) => errors.push(self.wrong(&full, at, "no name", NAME_ADVICE)),
                ("expires", DeValue::Datetime(date)) => match wall(&date.to_string()) {
                    Some(wall) => expires = Some(wall),
                    None => {
                        let advice = "write it with its time and offset, as 2027-07-31T18:00:00+02:00";
                        errors.push(self.wrong(&full, at, "a date that says no moment", advice));
                    }
                },
                ("file" | "credential", other) => {
                    errors.push(self.wrong(&full, at, name(other), format!("write {field} = \"…\"")));
                }
                ("expires", other) => {
                    let advice = "write a date without quotes, as 2027-07-31T18:00:00+02:00";
                    errors.push(self.wrong(&full, at, name(other), advice));
                }
                _ => errors.push(self.wrong(&full, at, "no such key", "file, credential and expires are all")),
            }
        }
        match (kept.pop(), errors.is_empty()) {
            (Some(first), true) if kept.is_empty() => Ok(Secret { name: key.to_owned(), kept: first, expires }),
            (_, false) => Err(errors),
            (Some(_), true) => {
                Err(vec![self.wrong(key, span, "kept at two places", "give file or credential, and not both")])
            }
            (None, true) => {
                Err(vec![self.wrong(key, span, "kept nowhere", "give file = \"PATH\" or credential = \"NAME\"")])
            }
        }
    }

    fn limits(&self, entries: &DeTable<'_>, limits: &mut Limits, errors: &mut Vec<ConfigError>) {
        for (key, value) in entries {
            let (key, span) = (key.get_ref().as_ref(), value.span());
            let Some((_, least, most)) = LIMITS.iter().find(|(known, ..)| *known == key) else {
                let all: Vec<_> = LIMITS.iter().map(|(key, ..)| *key).collect();
                errors.push(self.wrong(key, span, "no such key", format!("{} are all", all.join(", "))));
                continue;
            };
            let number = match value.get_ref() {
                DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
                _ => None,
            };
            let fitting = number.and_then(|number| u64::try_from(number).ok()).filter(|n| (*least..=*most).contains(n));
            let Some(number) = fitting else {
                let found = number.map_or_else(|| name(value.get_ref()).to_owned(), |number| number.to_string());
                errors.push(self.wrong(key, span, &found, format!("write a number from {least} to {most}")));
                continue;
            };
            // Checked above to fit.
            let count = usize::try_from(number).unwrap_or(usize::MAX);
            match key {
                "connections" => limits.connections.total = count,
                "connections-per-address" => limits.connections.per_address = count,
                "room-members" => limits.members.members = count,
                "room-members-per-address" => limits.members.per_address = count,
                "request-seconds" => limits.request = Duration::from_secs(number),
                "offers-per-minute-per-address" => limits.offers = u32::try_from(number).unwrap_or(u32::MAX),
                _ => limits.wrong_codes = u32::try_from(number).unwrap_or(u32::MAX),
            }
        }
    }
}

/// The moment that a date names (RFC 3339), since the Unix epoch.
pub fn wall(date: &str) -> Option<Duration> {
    let moment = OffsetDateTime::parse(date, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp()).ok().map(Duration::from_secs)
}

/// The moment that a text names: a date, or a time from `now` on, as 45m, 8h, 7d or 2w.
pub fn expiry(text: &str, now: Duration) -> Option<Duration> {
    let unit = match text.chars().last()? {
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return wall(text),
    };
    let count: u32 = text.get(..text.len() - 1)?.parse().ok().filter(|count| *count > 0)?;
    Some(now + Duration::from_secs(u64::from(count) * unit))
}

/// A moment since the Unix epoch as a date of RFC 3339, in UTC.
pub fn date(wall: Duration) -> String {
    let moment = i64::try_from(wall.as_secs()).ok().and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{} s", wall.as_secs()))
}

#[cfg(test)]
mod tests;
