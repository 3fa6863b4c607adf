#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::config::RunConfig;
use crate::config::load::{Found, layer};

fn loaded(text: &str) -> Result<RunConfig, Vec<String>> {
    let found = Found { path: Path::new("f").into(), bytes: text.into() };
    let loaded = layer(&Default::default(), Some(&found), "HOST");
    loaded.map(|loaded| loaded.config).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn all_tables_are_read() {
    let config = loaded(
        "fps = 10\n[scenes]\nslides = \"screen\"\ncard = \"pattern\"\n\
         [codes.monday]\nfile = \"/etc/laterna/monday\"\nexpires = 1970-01-02T00:00:00+01:00\n\
         [codes.guests]\ncredential = \"guests\"\n\
         [tokens.grafana]\nfile = \"/g\"\n\
         [limits]\nconnections = 100\nrequest-seconds = 7\nroom-members-per-address = 3\nwrong-codes-per-minute = 9\n",
    );
    let tables = config.unwrap().tables;
    assert_eq!(tables.scenes["slides"], SourceSpec::SCREEN);
    assert_eq!(tables.scenes.len(), 2);
    let names: Vec<_> = tables.codes.iter().map(|code| code.name.as_str()).collect();
    assert_eq!(names, ["guests", "monday"]);
    assert_eq!(tables.codes[0].kept, Kept::Credential("guests".into()));
    assert_eq!(tables.codes[1].expires, Some(Duration::from_secs(82_800)));
    assert_eq!(tables.tokens[0].kept, Kept::File("/g".into()));
    assert_eq!((tables.limits.connections.total, tables.limits.request), (100, Duration::from_secs(7)));
    assert_eq!((tables.limits.members.per_address, tables.limits.wrong_codes), (3, 9));
    assert_eq!(loaded("").unwrap().tables, Tables::default());
}

#[test]
fn what_is_wrong_in_a_table_is_an_error_with_its_line() {
    for (text, place, found) in [
        ("[scenes]\na = 1", "f:2:5", "scenes.a: a number; write a = \"SPEC\""),
        ("[scenes]\na = \"moon\"", "f:2:5", "scenes.a: no source is called"),
        ("[scenes]\na = \"screen + off\"", "f:2:5", "scenes.a: auto and off"),
        ("[scenes]\n\"a b\" = \"screen\"", "f:2:9", "scenes.a b: no name of a scene"),
        ("scenes = 1", "f:1:10", "scenes: a number where a table must be"),
        ("[codes]\nmonday = \"abcdefgh23\"", "f:2:10", "codes.monday: a text; write [codes.monday] with file"),
        ("[codes.a]", "f:1:1", "codes.a: kept nowhere"),
        ("[codes.main]\nfile = \"/a\"", "f:1:1", "codes.main: the name is taken"),
        ("[codes.a]\nfile = \"a\"", "f:2:8", "codes.a.file: no absolute path"),
        ("[codes.a]\nfile = \"/a\"\ncredential = \"b\"", "f:1:1", "codes.a: kept at two places"),
        ("[codes.a]\ncredential = \"../b\"", "f:2:14", "codes.a.credential: no name"),
        ("[codes.a]\nfile = \"/a\"\nexpires = \"tomorrow\"", "f:3:11", "codes.a.expires: a text; write a date"),
        ("[codes.a]\nfile = \"/a\"\nexpires = 2027-01-01", "f:3:11", "codes.a.expires: a date that says no moment"),
        ("[codes.a]\nfile = \"/a\"\nmoon = 1", "f:3:8", "codes.a.moon: no such key"),
        ("[tokens.a]\nfile = 7", "f:2:8", "tokens.a.file: a number"),
        ("[limits]\nmoon = 1", "f:2:8", "limits.moon: no such key; connections, "),
        ("[limits]\nconnections = 1", "f:2:15", "limits.connections: 1; write a number from 8"),
        ("[limits]\nrequest-seconds = \"5\"", "f:2:19", "limits.request-seconds: a text"),
    ] {
        let errors = loaded(text).unwrap_err();
        assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        assert!(errors[0].starts_with(&format!("{place}: {found}")), "{text}: {}", errors[0]);
    }
    // A secret is not repeated.
    assert!(!loaded("[codes]\nmonday = \"abcdefgh23\"").unwrap_err()[0].contains("abcdefgh23"));
}

#[test]
fn dates_are_read_and_written() {
    assert_eq!(wall("2027-07-31T18:00:00+02:00"), wall("2027-07-31T16:00:00Z"));
    assert_eq!(date(wall("2027-07-31T18:00:00+02:00").unwrap()), "2027-07-31T16:00:00Z");
    let now = Duration::from_secs(100);
    assert_eq!(expiry("2h", now), Some(Duration::from_secs(7300)));
    assert_eq!(expiry("1w", now), Some(Duration::from_secs(604_900)));
    assert_eq!(expiry("2027-07-31T18:00:00Z", now), wall("2027-07-31T18:00:00Z"));
    for text in ["", "h", "0h", "-1h", "1.5h", "5", "1y", "5é", "99999999999w"] {
        assert_eq!(expiry(text, now), None, "{text}");
    }
    for text in ["", "2027-07-31", "tomorrow", "1969-12-31T23:59:59Z"] {
        assert_eq!(wall(text), None, "{text}");
    }
}

#[test]
fn what_is_printed_is_read_as_the_same() {
    let text = "[scenes]\na = \"screen\"\n\"b.c\" = \"pattern\"\n[codes.\"d.e\"]\nfile = \"/a \\\"b\\\"\"\nexpires = 2027-07-31T18:00:00+02:00\n\
                [tokens.f]\ncredential = \"g\"\n[limits]\nroom-members = 7\n";
    let found = Found { path: Path::new("f").into(), bytes: text.into() };
    let first = layer(&Default::default(), Some(&found), "HOST").unwrap();
    let printed = crate::config::print::print(&first);
    assert_eq!(loaded(&printed).unwrap().tables, first.config.tables, "{printed}");
}
