//! The room as clients of libwebrtc's server meet it: its recordings played against the daemon, and an offer that the daemon answers.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::Setup;
use crate::support::http::request;

const RECORDED: &str = include_str!("../data/peerconnection_server.txt");
const WITHIN: Duration = Duration::from_secs(20);
/// The daemon is the room's first member, so everybody's id is one more than recorded.
const SHIFT: u64 = 1;

/// One turn of a recording.
#[derive(Debug)]
enum Turn {
    /// Somebody sends these bytes on a connection of its own.
    Sent { who: String, bytes: String },
    /// Somebody gets these bytes, or nothing at all.
    Got { who: String, bytes: Option<String> },
}

/// Reads the recordings: heads have `\r\n` written out, bodies are as long as their heads say.
fn turns() -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut rest = RECORDED;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        let Some((who, direction)) = line.split_once(' ').filter(|(_, direction)| matches!(*direction, ">>>" | "<<<"))
        else {
            continue;
        };
        let who = who.to_owned();
        let mut head = String::new();
        let mut length = 0;
        while let Some((line, after)) = rest.split_once('\n').filter(|(line, _)| line.ends_with("\\r\\n")) {
            rest = after;
            let line = line.trim_end_matches("\\r\\n");
            let is_length = |name: &str| name.eq_ignore_ascii_case("Content-Length");
            if let Some((_, value)) = line.split_once(": ").filter(|(name, _)| is_length(name)) {
                length = value.parse().unwrap();
            }
            head += &format!("{line}\r\n");
            if line.is_empty() {
                break;
            }
        }
        let (body, after) = rest.split_at(length);
        rest = after;
        let bytes = head + body;
        turns.push(match direction {
            ">>>" => Turn::Sent { who, bytes },
            _ => Turn::Got { who, bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) },
        });
    }
    turns
}

fn shifted(id: &str) -> String {
    (id.parse::<u64>().unwrap() + SHIFT).to_string()
}

/// A recorded request as it is sent here: another host, other ids.
fn sent_here(bytes: &str, host: SocketAddr) -> String {
    let bytes = bytes.replace("Host: h\r\n", &format!("Host: {host}\r\n"));
    let bytes = bytes.replace("host: h\r\n", &format!("host: {host}\r\n"));
    let (line, rest) = bytes.split_once("\r\n").unwrap();
    let words = line.split(' ').map(|word| match word.split_once('?') {
        Some((path, query)) if path != "/sign_in" => {
            let pairs = query.split('&').map(|pair| {
                let (name, id) = pair.split_once('=').unwrap();
                format!("{name}={}", shifted(id))
            });
            format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
        }
        _ => word.to_owned(),
    });
    let line = words.collect::<Vec<_>>().join(" ");
    // Where the recording keeps the connection open, the original closes it no less.
    format!("{line}\r\n{rest}")
}

/// A recorded reply as it must be here: other ids, the daemon in lists, and `Pragma` exposed.
fn got_here(bytes: &str, daemon: &str) -> String {
    let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
    let is_list = body.lines().next().is_some_and(|line| line.ends_with(",1") || line.ends_with(",0"));
    let mut lines: Vec<String> = Vec::new();
    for line in body.split_inclusive('\n').filter(|_| is_list) {
        let fields: Vec<_> = line.split(',').collect();
        let [name, id, flag] = fields[..] else { panic!("{line}") };
        let name = if name == format!("peer_{id}") { format!("peer_{}", shifted(id)) } else { name.to_owned() };
        lines.push(format!("{name},{},{flag}", shifted(id)));
    }
    if head.starts_with("HTTP/1.1 200 Added\r\n") {
        lines.insert(1, format!("{daemon},1,1\n"));
    }
    let body = if is_list { lines.concat() } else { body.to_owned() };
    let head = head.split("\r\n").map(|line| match line.split_once(": ") {
        Some(("Pragma", id)) => format!("Pragma: {}", shifted(id)),
        Some(("Content-Length", _)) => format!("Content-Length: {}", body.len()),
        Some(("Access-Control-Expose-Headers", names)) => format!("Access-Control-Expose-Headers: {names}, Pragma"),
        _ => line.to_owned(),
    });
    format!("{}\r\n\r\n{body}", head.collect::<Vec<_>>().join("\r\n"))
}

fn send(to: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&to, WITHIN).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream
}

/// All that comes until the server closes.
fn all(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_recordings_of_the_original_are_played_byte_for_byte() {
    let daemon =
        Setup::new(&["--source", "pattern", "--auth", "none", "--room", "open", "--name", "the daemon"]).start();
    let mut open: BTreeMap<String, VecDeque<(String, TcpStream)>> = BTreeMap::new();
    let mut replies = 0;
    for turn in turns() {
        match turn {
            Turn::Sent { who, bytes } => {
                let bytes = sent_here(&bytes, daemon.http());
                let stream = send(daemon.http(), &bytes);
                open.entry(who).or_default().push_back((bytes, stream));
            }
            Turn::Got { who, bytes } => {
                let (request, stream) = open.get_mut(&who).and_then(VecDeque::pop_front).unwrap();
                let reply = all(stream);
                match bytes {
                    Some(recorded) => assert_eq!(reply, got_here(&recorded, "the daemon"), "after {request}"),
                    // The original says nothing and does not close.
                    None if request.starts_with("HEAD") => assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}"),
                    // Here the case of header names does not matter, so this is as lawful as the others.
                    None => assert!(
                        request.contains("content-length") && reply.starts_with("HTTP/1.1 200 OK\r\n"),
                        "{reply}"
                    ),
                }
                replies += 1;
            }
        }
    }
    assert_eq!(replies, RECORDED.matches(" <<<\n").count(), "each reply is compared");
    assert!(replies > 20 && open.values().all(VecDeque::is_empty), "{replies}");
}

/// What a browser offers of itself, shortened.
const OFFER: &str = "v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
a=ice-options:trickle\r\na=fingerprint:sha-256 \
00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\na=setup:actpass\r\na=mid:0\r\n\
a=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:102 H264/90000\r\na=rtcp-fb:102 nack\r\na=rtcp-fb:102 nack pli\r\n\
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n";

#[test]
fn the_daemon_answers_an_offer_in_its_room_under_its_code() {
    let daemon = Setup::new(&["--source", "pattern"]).start();
    let to = daemon.http();
    let under = |path: &str| format!("/k/{}{path}", daemon.code().unwrap());
    assert_eq!(request(to, "GET", "/sign_in?viewer", &[], b"").status, 401);
    let signed_in = request(to, "GET", &under("/sign_in?viewer"), &[], b"");
    let id = signed_in.header("pragma").unwrap();
    let lines: Vec<_> = signed_in.body.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("laterna@") && lines[1].ends_with(",1,1"), "{lines:?}");
    let post = |body: &Value| {
        let path = under(&format!("/message?peer_id={id}&to=1"));
        request(to, "POST", &path, &[("Content-Type", "text/plain")], body.to_string().as_bytes()).status
    };
    let next = || {
        let reply = request(to, "GET", &under(&format!("/wait?peer_id={id}")), &[], b"");
        assert_eq!(reply.header("pragma"), Some("1"), "from the daemon: {reply:?}");
        serde_json::from_str::<Value>(&reply.body).unwrap()
    };
    assert_eq!(post(&json!({ "sdp": OFFER, "type": "offer" })), 200);
    let answer = next();
    assert_eq!(answer["type"], "answer");
    let sdp = answer["sdp"].as_str().unwrap();
    assert!(sdp.contains("a=sendonly\r\n") && sdp.contains("a=candidate:"), "{sdp}");
    let log = daemon.log().lines();
    let code = daemon.code().unwrap();
    assert!(log.iter().all(|line| !line.text.contains(&code)), "the code is a secret");
    daemon.stop();
}
