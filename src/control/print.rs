//! What the daemon says, in plain words for people and as a line of JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::wire::{Called, Kicked, Server, Stage, Standing, Status};
use crate::config::one_line;

/// A reply's value as one line of JSON; its fields are those of [`super::wire`].
pub fn json(value: &impl Serialize) -> String {
    // Types of the wire have no keys but text, and no way to fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// The status in words: what the daemon is, what works, who watches and where it is signed in.
pub fn status(status: &Status) -> String {
    let http: Vec<_> = status.http.iter().map(ToString::to_string).collect();
    let http = if http.is_empty() { "off".to_owned() } else { http.join(",") };
    let works = |running| if running { "running" } else { "idle" };
    let sound = status.sound.as_ref().map(|sound| format!("{}, {}", sound.what, works(sound.running)));
    let facts = [
        ("laterna", format!("{}, up {}", status.version, time(status.uptime_s))),
        ("name", status.name.clone()),
        ("http", http),
        ("udp", status.udp.to_string()),
        ("source", format!("{}, {}", status.source.what, works(status.source.running))),
        ("sound", sound.unwrap_or_else(|| "off".to_owned())),
        ("size", status.size.clone()),
    ];
    let mut text = table("", facts.map(|(name, value)| vec![name.to_owned(), value]));
    let heading = ["CODEC", "STATE", "PICTURES", "KEYFRAMES", "BYTES"].map(str::to_owned).to_vec();
    let encoders = status.encoders.iter().map(|encoder| {
        let counts = [encoder.units, encoder.keyframes, encoder.bytes].map(|count| count.to_string());
        [encoder.codec.clone(), works(encoder.running).to_owned()].into_iter().chain(counts).collect()
    });
    let _ = write!(text, "\n{}", table("", std::iter::once(heading).chain(encoders)));
    let connected = status.viewers.iter().filter(|viewer| viewer.state == Stage::Connected).count();
    let _ = writeln!(text, "\nviewers: {connected} connected, of {} at most", status.max_viewers);
    if !status.viewers.is_empty() {
        let heading = ["VIEWER", "STATE", "SINCE", "CODECS", "RTT", "LOSS", "WHERE", "WHO"].map(str::to_owned).to_vec();
        let viewers = status.viewers.iter().map(|viewer| {
            let state = match viewer.state {
                Stage::Joining => "joining",
                Stage::Connected => "connected",
                Stage::Other => "other",
            };
            let codecs = if viewer.codecs.is_empty() { "-".to_owned() } else { viewer.codecs.join(",") };
            let (number, since) = (viewer.viewer.to_string(), time(viewer.since_s));
            let rtt = viewer.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt}ms"));
            let loss = viewer.loss_percent.map_or_else(|| "-".to_owned(), |loss| format!("{loss}%"));
            vec![number, state.to_owned(), since, codecs, rtt, loss, viewer.at.clone(), viewer.name.clone()]
        });
        text += &table("  ", std::iter::once(heading).chain(viewers));
    }
    text += "\nsignaling:\n";
    let servers = status.signaling.iter().map(|server| {
        let count = server.peers.len();
        let peers = if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") };
        vec![server.server.clone(), peers, standing(server)]
    });
    text += &table("  ", servers);
    text
}

/// Who is signed in where, in words.
pub fn peers(servers: &[Server]) -> String {
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "{}: {}", one_line(&server.server), standing(server));
        if server.peers.is_empty() {
            text += "  nobody else is there\n";
            continue;
        }
        let heading = ["ID", "VIEWER", "NAME"].map(str::to_owned).to_vec();
        let peers = server.peers.iter().map(|peer| {
            let viewer = peer.viewer.map_or_else(|| "-".to_owned(), |viewer| viewer.to_string());
            vec![peer.id.to_string(), viewer, peer.name.clone()]
        });
        text += &table("  ", std::iter::once(heading).chain(peers));
    }
    if servers.is_empty() {
        text += "the daemon is at no signaling server: run it with --signaling URL, or without --listen off\n";
    }
    text
}

/// Who is called.
pub fn called(called: &Called) -> String {
    one_line(&format!("called {} ({} at {})", called.name, called.id, called.server))
}

/// Whose connection is ended.
pub fn kicked(kicked: &Kicked) -> String {
    let who = if kicked.name.is_empty() { kicked.at.clone() } else { format!("{} at {}", kicked.name, kicked.at) };
    one_line(&format!("ended viewer {} ({who})", kicked.viewer))
}

fn standing(server: &Server) -> String {
    let detail = server.detail.as_deref().map(one_line).unwrap_or_default();
    match server.standing {
        Standing::SignedIn if detail.is_empty() => "signed in".to_owned(),
        Standing::SignedIn => format!("signed in as {detail}"),
        Standing::Connecting => "signing in".to_owned(),
        Standing::Away => format!("away, tries again: {detail}"),
        Standing::Unknown => "does not answer".to_owned(),
    }
}

/// Aligned columns, the last as wide as it is; no cell is cut.
fn table(indent: &str, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |row: Vec<String>| row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = rows.into_iter().map(line).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        let _ = writeln!(text, "{}", format!("{indent}{}", cells.collect::<String>()).trim_end());
    }
    text
}

fn time(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds:02}s"),
        _ => format!("{hours}h{minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Peer;
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_cut_or_breaks_a_line() {
        let peer = |id, name: &str, viewer| Peer { id, name: name.to_owned(), viewer };
        let room = Server {
            server: "room".into(),
            standing: Standing::SignedIn,
            detail: Some("laterna@host".into()),
            peers: vec![peer(2, "alice", Some(11)), peer(1234, "two\nlines", None)],
        };
        let away = Server {
            server: "mdn+ws://h/".into(),
            standing: Standing::Away,
            detail: Some("refused".into()),
            peers: vec![],
        };
        let expected = "\
room: signed in as laterna@host
  ID    VIEWER  NAME
  2     11      alice
  1234  -       two\\nlines
mdn+ws://h/: away, tries again: refused
  nobody else is there
";
        assert_eq!(peers(&[room, away]), expected);
        assert!(peers(&[]).contains("--signaling"));
    }

    #[test]
    fn times_are_short() {
        assert_eq!([0, 59, 60, 3599, 3600, 90_061].map(time), ["0s", "59s", "1m00s", "59m59s", "1h00m", "25h01m"]);
    }
}
