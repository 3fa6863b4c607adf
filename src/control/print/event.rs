//! What happens, in a line: when, what, and its fields.

use super::super::wire::{Event, Happened, IceStanding, Standing};
use crate::config::one_line;

/// An event in words.
pub fn event(happened: &Happened) -> String {
    let (what, fields) = words(&happened.event);
    let fields: Vec<_> = fields.into_iter().map(|(key, value)| format!("{key}={}", quoted(&value))).collect();
    one_line(format!("{}  {what:<17} {}", time(happened.at_ms), fields.join(" ")).trim_end())
}

type Fields = Vec<(&'static str, String)>;

fn words(event: &Event) -> (&'static str, Fields) {
    let viewer = |viewer: &u32, at: &String, name: &String| {
        vec![("viewer", viewer.to_string()), ("at", at.clone()), ("name", name.clone())]
    };
    let seconds = |ms: &u64| format!("{}.{:01}s", ms / 1000, ms % 1000 / 100);
    match event {
        Event::Following { name } => ("following", vec![("name", name.clone())]),
        Event::Lost { events } => ("lost", vec![("events", events.to_string())]),
        Event::ViewerConnected { viewer: number, at, name, took_ms, watching } => {
            let mut fields = viewer(number, at, name);
            fields.extend([("took", format!("{took_ms}ms")), ("watching", watching.to_string())]);
            ("viewer-connected", fields)
        }
        Event::ViewerEnded { viewer: number, at, name, why, after_ms, watching } => {
            let mut fields = viewer(number, at, name);
            fields.extend([("why", why.clone()), ("after", seconds(after_ms)), ("watching", watching.to_string())]);
            ("viewer-ended", fields)
        }
        Event::ViewerFailed { viewer: number, at, name, why } => {
            let mut fields = viewer(number, at, name);
            fields.push(("why", why.clone()));
            ("viewer-failed", fields)
        }
        Event::ViewerRefused { at, name, why } => {
            ("viewer-refused", vec![("at", at.clone()), ("name", name.clone()), ("why", why.clone())])
        }
        Event::Encoder { codec, running } => {
            let state = if *running { "running" } else { "idle" };
            ("encoder", vec![("codec", codec.clone()), ("state", state.to_owned())])
        }
        Event::SourceLost { source, why } => ("source-lost", vec![("source", source.clone()), ("why", why.clone())]),
        Event::SourceBack { source } => ("source-back", vec![("source", source.clone())]),
        Event::OverlayLost { why } => ("overlay-lost", vec![("why", why.clone())]),
        Event::OverlayBack {} => ("overlay-back", Vec::new()),
        Event::SoundLost { sound, why } => ("sound-lost", vec![("sound", sound.clone()), ("why", why.clone())]),
        Event::SoundBack { sound } => ("sound-back", vec![("sound", sound.clone())]),
        Event::Signaling { server, standing, name, why } => {
            let state = match standing {
                Standing::Connecting => "connecting",
                Standing::SignedIn => "signed-in",
                Standing::Publishing => "publishing",
                Standing::Away => "away",
                Standing::Dismissed => "dismissed",
                Standing::Unknown => "unknown",
            };
            let mut fields = vec![("server", server.clone()), ("state", state.to_owned())];
            fields.extend(name.iter().map(|name| ("name", name.clone())));
            fields.extend(why.iter().map(|why| ("why", why.clone())));
            ("signaling", fields)
        }
        Event::IceServer { url, standing, why } => {
            let state = match standing {
                IceStanding::Connecting => "connecting",
                IceStanding::Ready => "ready",
                IceStanding::Away => "away",
                IceStanding::ForViewers => "for-viewers",
                IceStanding::Other => "other",
            };
            let mut fields = vec![("server", url.clone()), ("state", state.to_owned())];
            fields.extend(why.iter().map(|why| ("why", why.clone())));
            ("ice-server", fields)
        }
        Event::Reloaded { changed, waiting } => {
            let changed = if changed.is_empty() { "nothing".to_owned() } else { changed.join(",") };
            let mut fields = vec![("changed", changed)];
            fields.extend((!waiting.is_empty()).then(|| ("next-start", waiting.join(","))));
            ("reloaded", fields)
        }
        Event::ReloadRefused { why } => ("reload-refused", vec![("why", why.clone())]),
        Event::Switched { source } => ("switched", vec![("source", source.clone())]),
        Event::Stopping { why } => ("stopping", vec![("why", why.clone())]),
        Event::Other => ("other", Vec::new()),
    }
}

/// A value as one word: in quotes where it has spaces, or is empty.
fn quoted(value: &str) -> String {
    if value.is_empty() || value.contains([' ', '"', '=']) { format!("{value:?}") } else { value.to_owned() }
}

/// The time in UTC, to the millisecond (RFC 3339), by the calendar of Howard Hinnant's `civil_from_days`.
fn time(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the odd day is the last one; eras have 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_795_296_795, "2026-11-21T21:33:15.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(seconds * 1000), expected);
        }
        assert_eq!(time(7), "1970-01-01T00:00:00.007Z");
    }

    #[test]
    fn an_event_is_one_line_of_words() {
        let line = |event| super::event(&Happened { at_ms: 0, event });
        let viewer = Event::ViewerEnded {
            viewer: 3,
            at: "room".into(),
            name: "two\nlines".into(),
            why: "it left".into(),
            after_ms: 12_345,
            watching: 0,
        };
        assert_eq!(
            line(viewer),
            "1970-01-01T00:00:00.000Z  viewer-ended      viewer=3 at=room name=two\\nlines why=\"it left\" after=12.3s watching=0"
        );
        assert!(line(Event::Lost { events: 7 }).ends_with("lost              events=7"));
        assert!(line(Event::Other).ends_with("other"));
    }

    #[test]
    fn a_kind_of_a_newer_daemon_is_read_as_another() {
        let read = |text: &str| serde_json::from_str::<Happened>(text).unwrap();
        let newer = read(r#"{"at_ms":5,"what":"reloaded","file":"x"}"#);
        assert_eq!(newer, Happened { at_ms: 5, event: Event::Other });
        let lost = Happened { at_ms: 5, event: Event::SourceLost { source: "screen :0".into(), why: "gone".into() } };
        let text = serde_json::to_string(&lost).unwrap();
        assert_eq!(text, r#"{"at_ms":5,"what":"source-lost","source":"screen :0","why":"gone"}"#);
        assert_eq!(read(&text), lost);
    }
}
