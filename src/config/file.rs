//! The config file: TOML → what is written in it, and all that is wrong with how it is written.
//!
//! Knows the form of each setting, not what its values mean. Pure: the text is an argument.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::setting::{Kind, Setting};
use super::tables::{self, TABLES, Tables};
use super::value::scaled;
use super::written::{Asked, Given, Origin, Place, Written, without_secrets};
use super::{ConfigError, one_line};
use crate::cli::FLAGS_NOT_YET;

/// What the parser says of a value without quotes that is no number.
const BARE: &[&str] = &[
    "string values must be quoted",
    "invalid boolean",
    "invalid float",
    "invalid integer",
    "invalid mantissa",
    "invalid fraction",
    "invalid exponent",
];
/// What it says at the end of the text.
const UNCLOSED: &[&str] = &["unclosed array,", "unclosed inline table,"];

/// Reads the text of `file`. What can be read is given along with what is wrong, so that the values can be judged too.
pub fn parse(file: &Arc<Path>, text: &str) -> (Written, Tables, Vec<ConfigError>) {
    let (mut table, mut broken) = DeTable::parse_recoverable(text);
    // The parser stops at a line that is neither a setting nor a table: what comes after it is read without that line.
    let rest = without_stray_lines(text, &broken);
    if let Some(rest) = &rest {
        let (of_rest, more) = DeTable::parse_recoverable(rest);
        table = of_rest;
        let told = |error: &toml::de::Error| (error.span().map(|span| span.start), error.message().to_owned());
        let known: BTreeSet<_> = broken.iter().map(told).collect();
        broken.extend(more.into_iter().filter(|error| !known.contains(&told(error))));
    }
    let text = Text { file, text, starts: line_starts(text) };
    let opened = text.opened(&broken);
    let mut errors = text.syntax(&broken, opened);
    let broken: BTreeSet<usize> = errors.iter().filter_map(|error| error.place()).map(|place| place.line).collect();
    // What is made of a line that is no TOML is a guess, so nothing more is said of it.
    let unclosed = opened.map_or(usize::MAX, |opened| text.place(opened).line);
    let is_broken = |place: &Place| broken.contains(&place.line) || place.line >= unclosed;
    let (mut written, mut tables) = (Written::default(), Tables::default());
    for (key, value) in table.get_ref() {
        let place = text.place(key.span().start);
        if TABLES.contains(&key.get_ref().as_ref()) {
            let mut more = Vec::new();
            tables::read(&text, key.get_ref(), value.span(), value.get_ref(), &mut tables, &mut more);
            errors.extend(more.into_iter().filter(|error| !error.place().is_some_and(is_broken)));
            continue;
        }
        let values = match Setting::of(key.get_ref()) {
            Some(setting) => text.read(setting, value.get_ref(), value.span()).map(|values| (setting, values)),
            None => Err(vec![text.unknown(key.get_ref(), key.span(), value.get_ref())]),
        };
        match values {
            Ok((setting, values)) => {
                if !is_broken(&place) && !values.iter().filter_map(Asked::place).any(is_broken) {
                    written.insert(setting, Given { origin: Origin::File(place), values });
                }
            }
            Err(more) => errors.extend(more.into_iter().filter(|error| !error.place().is_some_and(is_broken))),
        }
    }
    (written, tables, errors)
}

/// The text with spaces in place of the lines that hold a syntax error and can be no part of what is around them; `None` where there are none.
fn without_stray_lines(text: &str, broken: &[toml::de::Error]) -> Option<String> {
    let starts = line_starts(text);
    let lines: BTreeSet<_> = broken.iter().filter_map(|error| Some(line_of(&starts, error.span()?.start))).collect();
    let mut found = false;
    let lines = text.split_inclusive('\n').enumerate().map(|(at, line)| {
        let quotes = |quote| line.matches(quote).count() % 2 == 0 && !line.contains(&String::from(quote).repeat(3));
        let is_stray =
            lines.contains(&(at + 1)) && !line.contains(['=', '[', ']', '{', '}']) && quotes('"') && quotes('\'');
        found |= is_stray;
        if is_stray {
            line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
        } else {
            line.to_owned()
        }
    });
    let rest: String = lines.collect();
    found.then_some(rest)
}

/// The byte at which an error is.
fn start(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// The line that a byte is in, from 1.
fn line_of(starts: &[usize], byte: usize) -> usize {
    starts.partition_point(|start| *start <= byte).max(1)
}

/// The byte at which each line starts.
fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

/// The text of a file, and where its lines start.
pub(super) struct Text<'a> {
    file: &'a Arc<Path>,
    text: &'a str,
    starts: Vec<usize>,
}

impl Text<'_> {
    fn place(&self, byte: usize) -> Place {
        let line = line_of(&self.starts, byte);
        let before = self.text.get(self.starts[line - 1]..byte).unwrap_or_default();
        Place { file: Arc::clone(self.file), line, column: before.chars().count() + 1 }
    }

    pub(super) fn error(&self, span: Range<usize>, found: String, advice: impl Into<String>) -> ConfigError {
        ConfigError::File { place: self.place(span.start), found, advice: advice.into() }
    }

    /// What is no TOML: one error for a line, as what follows in it is a guess, and none after something that is never closed.
    fn syntax(&self, broken: &[toml::de::Error], opened: Option<usize>) -> Vec<ConfigError> {
        let mut all: Vec<_> = broken.iter().map(|error| (start(error), error.message())).collect();
        all.sort_by_key(|(at, _)| *at);
        all.dedup_by_key(|(at, _)| line_of(&self.starts, *at));
        all.retain(|(at, _)| opened.is_none_or(|opened| line_of(&self.starts, *at) < line_of(&self.starts, opened)));
        let unclosed = opened.map(|opened| {
            let (what, end) = if self.text[opened..].starts_with('[') { ("list", ']') } else { ("table", '}') };
            let found = format!("not TOML: a {what} begins here and has no end");
            self.error(opened..opened, found, format!("write {end} where it ends"))
        });
        all.into_iter().map(|(at, message)| self.no_toml(at, message)).chain(unclosed).collect()
    }

    fn no_toml(&self, at: usize, message: &str) -> ConfigError {
        if BARE.iter().any(|start| message.starts_with(start)) {
            let found = "not TOML: neither a number nor a text in quotes".to_owned();
            return self.error(at..at, found, self.how_to_write(at));
        }
        let advice = "`laterna config default` shows how settings are written";
        self.error(at..at, format!("not TOML: {}", one_line(message)), advice)
    }

    /// How the setting of a line is written whose value has no quotes.
    fn how_to_write(&self, at: usize) -> String {
        let (_, line) = self.line(line_of(&self.starts, at));
        let (key, value) = line.split_once('=').map_or(("", ""), |(key, value)| (key.trim(), value.trim()));
        let is_plain = (1..=64).contains(&value.len()) && !value.contains(['"', '\'', '#', '\\']);
        match Setting::of(key) {
            Some(setting) if setting.kind == Kind::Switch => advice(setting),
            Some(setting) if setting.kind == Kind::Number && scaled(value).is_none() => advice(setting),
            Some(setting) if is_plain && one_line(&without_secrets(setting, value)) == value => {
                format!("put it in quotes: {key} = \"{value}\"")
            }
            _ => "put texts in quotes, as room = \"open\"".to_owned(),
        }
    }

    /// Where the first list or table begins that is never closed.
    fn opened(&self, broken: &[toml::de::Error]) -> Option<usize> {
        let is_unclosed = |message: &str| UNCLOSED.iter().any(|start| message.starts_with(start));
        let unclosed = broken.iter().filter(|error| is_unclosed(error.message()));
        unclosed.filter_map(|error| self.opening(start(error))).min()
    }

    /// Where a list or a table begins that has no end by then: in the last line with such a value.
    fn opening(&self, at: usize) -> Option<usize> {
        (1..=line_of(&self.starts, at)).rev().find_map(|number| {
            let (start, line) = self.line(number);
            let value = line.get(line.find('=')? + 1..)?.trim_start();
            let count = |bracket| value.matches(bracket).count();
            let is_open = count('[') > count(']') || count('{') > count('}');
            (is_open && value.starts_with(['[', '{'])).then(|| start + line.len() - value.len())
        })
    }

    /// A line, and the byte at which it starts.
    fn line(&self, number: usize) -> (usize, &str) {
        let start = self.starts[number - 1];
        (start, self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default())
    }

    /// What is wrong with a key that no setting has.
    fn unknown(&self, key: &str, span: Range<usize>, value: &DeValue<'_>) -> ConfigError {
        let shown = one_line(key);
        if FLAGS_NOT_YET.iter().any(|(flag, _)| *flag == key) {
            let advice = "leave it out; `laterna config default` lists what this version does";
            return self.error(span, format!("{shown}: not yet"), advice);
        }
        let what = if matches!(value, DeValue::Table(_)) { "table" } else { "key" };
        let advice = match Setting::near(key) {
            Some(near) => format!("did you mean {}?", near.key),
            None if key == "config" => "the file is named by --config or LATERNA_CONFIG".to_owned(),
            None => "`laterna config default` lists all".to_owned(),
        };
        self.error(span, format!("{shown}: no such {what}"), advice)
    }

    /// The values of a setting.
    fn read(
        &self,
        setting: &'static Setting,
        value: &DeValue<'_>,
        span: Range<usize>,
    ) -> Result<Vec<Asked>, Vec<ConfigError>> {
        let asked =
            |text: &str, at: usize| Asked { setting, origin: Origin::File(self.place(at)), value: text.to_owned() };
        let wrong =
            |found: &str, span: Range<usize>| self.error(span, format!("{}: {found}", setting.key), advice(setting));
        match (setting.kind, value) {
            (Kind::List { .. }, DeValue::String(text)) => {
                Ok(text.split(',').map(|text| asked(text, span.start)).collect())
            }
            (Kind::List { may_be_empty: false }, DeValue::Array(values)) if values.is_empty() => {
                Err(vec![wrong("nothing in the list", span)])
            }
            (Kind::List { .. }, DeValue::Array(values)) => {
                let (mut texts, mut errors) = (Vec::new(), Vec::new());
                for value in values.iter() {
                    match value.get_ref() {
                        DeValue::String(text) => texts.push(asked(text, value.span().start)),
                        other => errors.push(wrong(&format!("{} in the list", name(other)), value.span())),
                    }
                }
                if errors.is_empty() { Ok(texts) } else { Err(errors) }
            }
            (_, DeValue::String(text)) => Ok(vec![asked(text, span.start)]),
            (Kind::Switch, DeValue::Boolean(on)) => Ok(vec![asked(if *on { "on" } else { "off" }, span.start)]),
            (Kind::Number, DeValue::Integer(number)) => {
                let decimal = i128::from_str_radix(number.as_str(), number.radix());
                Ok(vec![asked(&decimal.map_or_else(|_| number.to_string(), |n| n.to_string()), span.start)])
            }
            (Kind::Number, DeValue::Float(number)) => Ok(vec![asked(number.as_str(), span.start)]),
            (_, other) => Err(vec![wrong(name(other), span)]),
        }
    }
}

/// What a value is called.
pub(super) fn name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// How a setting is written.
fn advice(setting: &Setting) -> String {
    let (key, meaning) = (setting.key, setting.value_name);
    match setting.kind {
        Kind::Text => format!("write {key} = \"…\" with {meaning} between the quotes"),
        Kind::Number => format!("write {key} = {meaning} with a number"),
        Kind::Switch => format!("write {key} = \"on\" or \"off\""),
        Kind::List { .. } => format!("write {key} = [\"…\", \"…\"] with {meaning} between the quotes"),
    }
}
