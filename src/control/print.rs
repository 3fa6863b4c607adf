//! What the daemon says, in plain words for people and as a line of JSON for programs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

mod event;

pub use event::event;

use super::wire::{
    Called, Code, CodeOrigin, IceServer, IceStanding, Kicked, Problem, Quality, Revoked, Server, Stage, Standing,
    Status, Switched, Viewer,
};
use crate::config::one_line;
use crate::config::tables::date;

/// A reply's value as one line of JSON; its fields are those of [`super::wire`].
pub fn json(value: &impl Serialize) -> String {
    // Types of the wire have no keys but text, and no way to fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Where HTTP listens, as the ready line has it.
pub fn listening(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    if addresses.is_empty() { "off".to_owned() } else { addresses.join(",") }
}

/// The status in words: what the daemon is, what works, who watches and where it is signed in.
pub fn status(status: &Status) -> String {
    let http = listening(&status.http);
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
        ("config", status.config.clone().unwrap_or_else(|| "no file".to_owned())),
    ];
    let certificate = status.tls_fingerprint.clone().map(|fingerprint| ("https", format!("certificate {fingerprint}")));
    let facts = facts.into_iter().chain(certificate);
    let mut text = table("", facts.map(|(name, value)| vec![name.to_owned(), value]));
    let heading = ["CODEC", "STATE", "PICTURES", "KEYFRAMES", "BYTES"].map(str::to_owned).to_vec();
    let encoders = status.encoders.iter().map(|encoder| {
        let more = [(encoder.passed, "as recorded"), (encoder.skipped, "left out")];
        let more = more.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let more = more.collect::<Vec<_>>().join(", ");
        let more = if more.is_empty() { more } else { format!(" ({more})") };
        let pictures = format!("{}{more}", encoder.units);
        let counts = [pictures, encoder.keyframes.to_string(), encoder.bytes.to_string()];
        [encoder.codec.clone(), works(encoder.running).to_owned()].into_iter().chain(counts).collect()
    });
    let _ = write!(text, "\n{}", table("", std::iter::once(heading).chain(encoders)));
    let connected = status.viewers.iter().filter(|viewer| viewer.state == Stage::Connected).count();
    let _ = writeln!(text, "\nviewers: {connected} connected, of {} at most", status.max_viewers);
    if !status.viewers.is_empty() {
        let heading =
            ["VIEWER", "STATE", "SINCE", "CODECS", "RTT", "LOSS", "WHERE", "WHO", "HOW"].map(str::to_owned).to_vec();
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
            let how = how(viewer);
            vec![number, state.to_owned(), since, codecs, rtt, loss, viewer.at.clone(), viewer.name.clone(), how]
        });
        text += &table("  ", std::iter::once(heading).chain(viewers));
    }
    text += if status.signaling.is_empty() { "\nsignaling: none\n" } else { "\nsignaling:\n" };
    let servers = status.signaling.iter().map(|server| {
        let count = server.peers.len();
        let peers = if count == 1 { "1 peer".to_owned() } else { format!("{count} peers") };
        vec![server.server.clone(), peers, standing(server)]
    });
    text += &table("  ", servers);
    if !status.ice_servers.is_empty() {
        text += "\nice servers:\n";
        text += &table("  ", status.ice_servers.iter().map(|server| vec![server.url.clone(), ice_standing(server)]));
    }
    text += &problems(&status.problems);
    text
}

/// What is wrong and what to do about each, or that nothing is.
fn problems(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "\nall is well\n".to_owned();
    }
    let mut text = "\nproblems:\n".to_owned();
    for Problem { what, since_s, advice } in problems {
        let since = since_s.map_or_else(String::new, |since| format!(", for {}", time(since)));
        let _ = writeln!(text, "  {}{since}\n    -> {}", one_line(what), one_line(advice));
    }
    text
}

/// How well a viewer is served, and why not better.
fn how(viewer: &Viewer) -> String {
    let quality = match viewer.quality {
        None => "-",
        Some(Quality::Good) => "good",
        Some(Quality::Fair) => "fair",
        Some(Quality::Bad) => "bad",
        Some(Quality::Other) => "other",
    };
    if viewer.because.is_empty() { quality.to_owned() } else { format!("{quality}: {}", viewer.because.join(", ")) }
}

/// Who is signed in where, in words.
pub fn peers(servers: &[Server]) -> String {
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "{}: {}", one_line(&server.server), standing(server));
        if server.peers.is_empty() {
            text += if server.standing == Standing::SignedIn { "  nobody else is there\n" } else { "" };
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
    let Called { server, id, name } = called;
    // A server that the stream is published at is its own only peer.
    let text = if name == server { format!("called {server}") } else { format!("called {name} ({id} at {server})") };
    one_line(&text)
}

/// Whose connection is ended, and until when it stays so.
pub fn kicked(kicked: &Kicked) -> String {
    let Kicked { viewer, at, name } = kicked;
    let who = if name.is_empty() { at.clone() } else { format!("{name} at {at}") };
    let until = if at.starts_with("whip+") {
        format!("; nothing is published there until `laterna call {at}`, or the daemon's next start")
    } else if at == "whep" {
        "; its page stays away until it is loaded again".to_owned()
    } else {
        "; it is not called again by itself while it stays signed in".to_owned()
    };
    one_line(&format!("ended viewer {viewer} ({who}){until}"))
}

fn standing(server: &Server) -> String {
    match (server.standing, &server.name) {
        (Standing::SignedIn, None) => "signed in".to_owned(),
        (Standing::SignedIn, Some(name)) => format!("signed in as {}", one_line(name)),
        (Standing::Publishing, _) => "publishing".to_owned(),
        (Standing::Connecting, _) => "connecting".to_owned(),
        (Standing::Away, _) => away(server.why.as_deref()),
        (Standing::Dismissed, _) => format!("ended by the operator; `laterna call {}` publishes again", server.server),
        (Standing::Unknown, _) => "does not answer".to_owned(),
    }
}

fn ice_standing(server: &IceServer) -> String {
    match server.standing {
        IceStanding::Connecting => "connecting".to_owned(),
        IceStanding::Ready => "ready".to_owned(),
        IceStanding::Away => away(server.why.as_deref()),
        IceStanding::ForViewers => "for viewers only".to_owned(),
        IceStanding::Other => "other".to_owned(),
    }
}

/// That a server is away, and why, where that is known.
fn away(why: Option<&str>) -> String {
    why.map_or_else(|| "away, tries again".to_owned(), |why| format!("away, tries again: {}", one_line(why)))
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
        // By hand, as widths of format strings end at 65535.
        let pad = |cell: &String, width: usize| " ".repeat(width.saturating_sub(cell.chars().count()) + 2);
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell}{}", pad(cell, *width)));
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

/// What is shown now, in words.
pub fn switched(switched: &Switched) -> String {
    format!("{} is shown", one_line(&switched.source))
}

/// The codes as a table, and with their addresses where those were asked for.
pub fn codes(codes: &[Code]) -> String {
    let heading = ["NAME", "FROM", "EXPIRES", "VIEWERS"].map(str::to_owned).to_vec();
    let rows = codes.iter().map(|code| {
        let origin = match code.origin {
            CodeOrigin::Main => "state directory",
            CodeOrigin::Config => "config file",
            CodeOrigin::Added => "added",
            CodeOrigin::Other => "?",
        };
        let expires = code.expires_s.map_or_else(|| "never".to_owned(), |at| date(Duration::from_secs(at)));
        let expires = if code.expired { format!("{expires} (expired)") } else { expires };
        vec![code.name.clone(), origin.to_owned(), expires, code.viewers.to_string()]
    });
    let mut text = table("", std::iter::once(heading).chain(rows));
    for code in codes.iter().filter(|code| !code.open.is_empty()) {
        let _ = write!(text, "\n{}:\n{}", code.name, opened(code));
    }
    text
}

/// A code that was added, and where to open it.
pub fn added(code: &Code) -> String {
    let until = code.expires_s.map(|at| format!(" until {}", date(Duration::from_secs(at)))).unwrap_or_default();
    format!("{} can be used{until}:\n{}", code.name, opened(code))
}

/// A code that was revoked, and the one that replaces it.
pub fn revoked(revoked: &Revoked) -> String {
    let viewers = match revoked.viewers {
        0 => "nobody watched by it".to_owned(),
        1 => "1 viewer is ended".to_owned(),
        more => format!("{more} viewers are ended"),
    };
    let instead = revoked.instead.as_ref().map(|code| format!("; the new one:\n{}", opened(code)));
    format!("{} is revoked, {viewers}{}", revoked.name, instead.unwrap_or_default())
}

fn opened(code: &Code) -> String {
    code.open.iter().map(|url| format!("  open {}\n", one_line(url))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::wire::Peer;
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_cut_or_breaks_a_line() {
        let peer = |id, name: &str, viewer| Peer { id, name: name.to_owned(), viewer };
        let room = Server {
            server: "room".into(),
            standing: Standing::SignedIn,
            name: Some("laterna@host".into()),
            why: None,
            peers: vec![peer(2, "alice", Some(11)), peer(1234, "two\nlines", None)],
        };
        let away = Server {
            server: "mdn+ws://h/".into(),
            standing: Standing::Away,
            name: None,
            why: Some("refused".into()),
            peers: vec![],
        };
        let channel = Server { server: "channel+ws://h/".into(), name: None, peers: vec![], ..room.clone() };
        let server = "whip+http://h/w".to_owned();
        let whip =
            Server { standing: Standing::Dismissed, peers: vec![peer(1, &server, None)], server, ..channel.clone() };
        let expected = "\
room: signed in as laterna@host
  ID    VIEWER  NAME
  2     11      alice
  1234  -       two\\nlines
mdn+ws://h/: away, tries again: refused
channel+ws://h/: signed in
  nobody else is there
whip+http://h/w: ended by the operator; `laterna call whip+http://h/w` publishes again
  ID  VIEWER  NAME
  1   -       whip+http://h/w
";
        assert_eq!(peers(&[room, away, channel, whip]), expected);
        assert!(peers(&[]).contains("--signaling"));
    }

    #[test]
    fn a_name_of_any_length_is_shown() {
        let long = "x".repeat(70_000);
        let peers_of = |name: &str| vec![Peer { id: 1, name: name.to_owned(), viewer: None }];
        let server = Server {
            server: long.clone(),
            standing: Standing::SignedIn,
            name: None,
            why: None,
            peers: peers_of(&long),
        };
        assert!(peers(&[server]).contains(&format!("-       {long}\n")));
    }

    #[test]
    fn the_status_is_told_in_words() {
        let json = r#"{"version":"1.2.3","name":"desk","uptime_s":3700,"http":["[::]:8888","127.0.0.1:80"],"udp":8889,"max_viewers":2,
            "source":{"what":"screen :0 1920x1080","running":true},"sound":null,"size":"1920x1080",
            "encoders":[{"codec":"h264","running":true,"units":1234,"keyframes":5,"bytes":67890},
                {"codec":"vp8","running":false,"units":70,"keyframes":2,"bytes":900,"passed":60,"skipped":3}],
            "viewers":[{"viewer":1,"at":"whep","name":"192.0.2.7","state":"connected","since_s":61,"codecs":["h264","opus"],"rtt_ms":7,"loss_percent":2,"way":"tcp","quality":"fair","because":["over TCP"]},
                {"viewer":12,"at":"room","name":"a b","state":"joining","since_s":0,"codecs":[]}],
            "signaling":[{"server":"room","standing":"signed-in","name":"desk","peers":[{"id":2,"name":"a b","viewer":12}]}],
            "ice_servers":[{"url":"stun:h:3478","standing":"ready"},{"url":"turn:relay:3478?transport=tcp","standing":"away","why":"it does not answer"}],
            "config":"/etc/laterna/laterna.toml",
            "problems":[{"what":"screen :0 is lost: gone","since_s":61,"advice":"start it"},{"what":"all 2 places are taken","advice":"raise it"}]}"#;
        let told: Status = serde_json::from_str(json).unwrap();
        let expected = "\
laterna  1.2.3, up 1h01m
name     desk
http     [::]:8888,127.0.0.1:80
udp      8889
source   screen :0 1920x1080, running
sound    off
size     1920x1080
config   /etc/laterna/laterna.toml

CODEC  STATE    PICTURES                         KEYFRAMES  BYTES
h264   running  1234                             5          67890
vp8    idle     70 (60 as recorded, 3 left out)  2          900

viewers: 1 connected, of 2 at most
  VIEWER  STATE      SINCE  CODECS     RTT  LOSS  WHERE  WHO        HOW
  1       connected  1m01s  h264,opus  7ms  2%    whep   192.0.2.7  fair: over TCP
  12      joining    0s     -          -    -     room   a b        -

signaling:
  room  1 peer  signed in as desk

ice servers:
  stun:h:3478                    ready
  turn:relay:3478?transport=tcp  away, tries again: it does not answer

problems:
  screen :0 is lost: gone, for 1m01s
    -> start it
  all 2 places are taken
    -> raise it
";
        assert_eq!(status(&told), expected);
        let bare = Status { signaling: Vec::new(), ice_servers: Vec::new(), problems: Vec::new(), ..told };
        assert!(status(&bare).ends_with("\nsignaling: none\n\nall is well\n"));
    }

    #[test]
    fn whoever_is_ended_stays_so_until_that_is_told() {
        let kicked = |at: &str, name: &str| kicked(&Kicked { viewer: 3, at: at.into(), name: name.into() });
        for (line, expected) in [
            (kicked("whep", "192.0.2.7"), "ended viewer 3 (192.0.2.7 at whep); its page stays away"),
            (kicked("room", "alice"), "ended viewer 3 (alice at room); it is not called again by itself"),
            (
                kicked("whip+http://h/w", ""),
                "ended viewer 3 (whip+http://h/w); nothing is published there until `laterna call whip+http://h/w`",
            ),
        ] {
            assert!(line.starts_with(expected), "{line}");
        }
    }

    #[test]
    fn times_are_short() {
        assert_eq!([0, 59, 60, 3599, 3600, 90_061].map(time), ["0s", "59s", "1m00s", "59m59s", "1h00m", "25h01m"]);
    }
}
