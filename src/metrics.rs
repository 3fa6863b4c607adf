//! The daemon's state for Prometheus, in its text format (version 0.0.4), named by its conventions: base units, `_total` for counters.
//!
//! Pure. No label has a name, an address or anything else of a viewer, so there are as many series for five hundred as for one.

use std::fmt::{Display, Write as _};

use crate::control::wire::{IceStanding, Stage, Standing, Status};

/// What the text is, as the header says it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text. `started` is when the daemon was ready, in seconds since the Unix epoch.
pub fn text(status: &Status, started: u64) -> String {
    let mut out = Text(String::new());
    out.family("laterna_build_info", "gauge", "The version; the value is always 1.");
    out.sample("laterna_build_info", &[("version", &status.version)], 1);
    out.family("laterna_start_time_seconds", "gauge", "When the daemon was ready, since the Unix epoch.");
    out.sample("laterna_start_time_seconds", &[], started);

    out.family(
        "laterna_source_running",
        "gauge",
        "Whether the source works at the moment: it does while somebody watches.",
    );
    out.sample("laterna_source_running", &[], u64::from(status.source.running));
    out.family("laterna_sound_running", "gauge", "Whether sound is taken at the moment.");
    out.sample("laterna_sound_running", &[], u64::from(status.sound.as_ref().is_some_and(|sound| sound.running)));
    type Count = fn(&crate::control::wire::Encoder) -> u64;
    let counts: [(&str, &str, &str, Count); 7] = [
        ("laterna_encoder_running", "gauge", "Whether the encoder works at the moment.", |e| u64::from(e.running)),
        ("laterna_encoder_pictures_total", "counter", "Pictures made, keyframes included.", |e| e.units),
        ("laterna_encoder_keyframes_total", "counter", "Keyframes made.", |e| e.keyframes),
        ("laterna_encoder_bytes_total", "counter", "Bytes of all pictures.", |e| e.bytes),
        (
            "laterna_encoder_passed_total",
            "counter",
            "Pictures of a recorded lesson that were sent as they are, without being encoded again; they are among the pictures.",
            |e| e.passed,
        ),
        (
            "laterna_encoder_skipped_total",
            "counter",
            "Captures that a newer one replaced before they were encoded.",
            |e| e.skipped,
        ),
        ("laterna_encoder_restarts_total", "counter", "Times that the encoder failed and was made anew.", |e| {
            e.restarts
        }),
    ];
    for (name, kind, help, count) in counts {
        out.family(name, kind, help);
        for encoder in &status.encoders {
            out.sample(name, &[("codec", &encoder.codec)], count(encoder));
        }
    }

    out.family("laterna_viewers", "gauge", "Viewers by how far they are.");
    for (state, stage) in [("joining", Stage::Joining), ("connected", Stage::Connected)] {
        let count = status.viewers.iter().filter(|viewer| viewer.state == stage).count();
        out.sample("laterna_viewers", &[("state", state)], count as u64);
    }
    out.family("laterna_viewers_limit", "gauge", "So many viewers at once, at most.");
    out.sample("laterna_viewers_limit", &[], status.max_viewers as u64);
    let times = status.viewers.iter().filter_map(|viewer| viewer.rtt_ms);
    out.spread("laterna_viewer_round_trip_seconds", "Round trip times of the viewers as they are now.", times, 1000.0);
    let losses = status.viewers.iter().filter_map(|viewer| viewer.loss_percent.map(u64::from));
    out.spread("laterna_viewer_loss_ratio", "The part of its packets that a viewer lost lately.", losses, 100.0);

    out.family(
        "laterna_signaling_servers",
        "gauge",
        "Signaling servers, the room included, by how the daemon stands with them.",
    );
    for (label, standing) in [
        ("connecting", Standing::Connecting),
        ("signed-in", Standing::SignedIn),
        ("publishing", Standing::Publishing),
        ("away", Standing::Away),
        ("dismissed", Standing::Dismissed),
    ] {
        let count = status.signaling.iter().filter(|server| server.standing == standing).count();
        out.sample("laterna_signaling_servers", &[("standing", label)], count as u64);
    }
    out.family("laterna_ice_servers", "gauge", "STUN and TURN servers by how the daemon stands with them.");
    for (label, standing) in [
        ("connecting", IceStanding::Connecting),
        ("ready", IceStanding::Ready),
        ("away", IceStanding::Away),
        ("for-viewers", IceStanding::ForViewers),
    ] {
        let count = status.ice_servers.iter().filter(|server| server.standing == standing).count();
        out.sample("laterna_ice_servers", &[("standing", label)], count as u64);
    }
    out.family("laterna_problems", "gauge", "What is wrong, as `laterna status` lists it.");
    out.sample("laterna_problems", &[], status.problems.len() as u64);
    out.0
}

/// What follows that text: how many tasks of the control side (connections, clients of servers, operators) there are.
pub fn tasks(alive: usize) -> String {
    let mut out = Text(String::new());
    out.family("laterna_tasks", "gauge", "Tasks of the control side: connections, clients of servers, operators.");
    out.sample("laterna_tasks", &[], alive);
    out.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text never fails.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// The median, the 95th percentile and the largest of `values`, of which a unit has `per_unit`; nothing where there are none.
    fn spread(&mut self, name: &str, help: &str, values: impl Iterator<Item = u64>, per_unit: f64) {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable();
        self.family(name, "gauge", help);
        for (quantile, percent) in [("0.5", 50), ("0.95", 95), ("1", 100)] {
            // The nearest rank.
            let rank = (values.len() * percent).div_ceil(100);
            if let Some(value) = rank.checked_sub(1).and_then(|rank| values.get(rank)) {
                self.sample(name, &[("quantile", quantile)], *value as f64 / per_unit);
            }
        }
    }
}

/// A label's value (backslashes, quotes and line ends are escaped).
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    /// A daemon with names, addresses and codes wherever they can be.
    fn status() -> Status {
        let viewer = |number: u32, state: &str, rtt: u64| {
            format!(
                r#"{{"viewer":{number},"at":"whep","name":"203.0.113.{number}","state":"{state}","since_s":2,"codecs":["h264"],"rtt_ms":{rtt},"loss_percent":{number}}}"#
            )
        };
        let viewers = [viewer(1, "connected", 12), viewer(2, "connected", 40), viewer(3, "joining", 7)].join(",");
        let text = format!(
            r#"{{"version":"1.2.3","name":"room 7","uptime_s":3700,"http":["[::]:8888"],"udp":8889,"max_viewers":20,
            "source":{{"what":"screen :0","running":true}},"sound":null,"size":"1280x720",
            "encoders":[{{"codec":"h264","running":true,"units":30,"keyframes":2,"bytes":9000}},
                        {{"codec":"vp8","running":false,"units":0,"keyframes":0,"bytes":0}}],
            "viewers":[{viewers}],
            "signaling":[{{"server":"room","standing":"signed-in","peers":[]}},
                         {{"server":"whip+https://sfu.example.org/x","standing":"away","why":"203.0.113.9 says no","peers":[]}}],
            "ice_servers":[{{"url":"turn:relay.example.org:3478","standing":"ready"}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn samples_follow_their_families_and_name_nobody() {
        let text = text(&status(), 1_790_000_000);
        for wanted in [
            "laterna_build_info{version=\"1.2.3\"} 1",
            "laterna_start_time_seconds 1790000000",
            "laterna_encoder_pictures_total{codec=\"h264\"} 30",
            "laterna_encoder_bytes_total{codec=\"vp8\"} 0",
            "laterna_viewers{state=\"connected\"} 2",
            "laterna_viewers{state=\"joining\"} 1",
            "laterna_viewers_limit 20",
            "laterna_viewer_round_trip_seconds{quantile=\"0.5\"} 0.012",
            "laterna_viewer_round_trip_seconds{quantile=\"1\"} 0.04",
            "laterna_viewer_loss_ratio{quantile=\"0.95\"} 0.03",
            "laterna_signaling_servers{standing=\"away\"} 1",
            "laterna_ice_servers{standing=\"ready\"} 1",
        ] {
            assert!(text.lines().any(|line| line == wanted), "no {wanted}:\n{text}");
        }
        for secret in ["203.0.113", "room 7", "example.org", ":0", "8888"] {
            assert!(!text.contains(secret), "{secret} in:\n{text}");
        }
        let (mut family, mut samples) = (String::new(), HashSet::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().unwrap().to_owned();
                assert!(help.ends_with('.') && text.contains(&format!("# TYPE {family} ")), "{line}");
            } else if !line.starts_with('#') {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(sample.split('{').next().unwrap(), family);
                assert!(value.parse::<f64>().is_ok() && samples.insert(sample), "{line}");
            }
        }
    }

    #[test]
    fn labels_are_escaped() {
        let strange = Status { version: "a\"b\\c\nd".to_owned(), viewers: Vec::new(), ..status() };
        let text = text(&strange, 0);
        assert!(text.contains(r#"version="a\"b\\c\nd""#), "{text}");
        assert!(!text.contains("quantile"), "nobody has a round trip time");
    }

    /// The families of a text: name, kind.
    fn families(text: &str) -> Vec<(&str, &str)> {
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect()
    }

    #[test]
    fn names_follow_the_conventions() {
        let text = text(&status(), 0);
        let all = families(&text);
        assert!(all.len() >= 15, "{all:?}");
        for (name, kind) in &all {
            let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(name.starts_with("laterna_") && is_plain && !name.contains("__"), "{name}");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(matches!(*kind, "counter" | "gauge"), "{name} is a {kind}");
            for unit in ["_ms", "_milliseconds", "_percent", "_kilobytes", "_count"] {
                assert!(!name.ends_with(unit), "{name}: base units, without their number");
            }
            let heads = text.lines().filter(|line| line.starts_with(&format!("# HELP {name} "))).count();
            assert_eq!(heads, 1, "{name}");
        }
        let names: HashSet<_> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), all.len(), "a family twice");
    }

    #[test]
    fn the_dashboard_shows_each_metric_and_no_other() {
        let dashboard = include_str!("../config/grafana.json");
        let parsed: serde_json::Value = serde_json::from_str(dashboard).unwrap();
        let text = text(&status(), 0);
        let known: HashSet<_> = families(&text).into_iter().map(|(name, _)| name).collect();
        let mut shown = HashSet::new();
        let panels = parsed["panels"].as_array().unwrap();
        for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let metrics: Vec<_> = words.filter(|word| word.starts_with("laterna_")).collect();
            assert!(!metrics.is_empty(), "{expression}");
            for metric in metrics {
                assert!(known.contains(metric), "{metric}, which the daemon has not");
                let is_counter = metric.ends_with("_total");
                assert_eq!(
                    is_counter,
                    expression.contains("rate(") || expression.contains("increase("),
                    "{expression}"
                );
                shown.insert(metric.to_owned());
            }
        }
        let missing: Vec<_> = known.iter().filter(|metric| !shown.contains(**metric)).collect();
        assert!(missing.is_empty(), "the dashboard lacks {missing:?}");
        let ids: HashSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
    }
}
