//! The room over real loopback connections, with a stub in the broadcast's place.
#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::{CODE, LONG, Running, allow_many_descriptors, config, connect, exchange, rest, start_with, status};
use super::*;
use crate::signaling::access::Code;
use crate::signaling::peers::CallPolicy;
use crate::signaling::room::{RoomPolicy, mailbox};
use crate::signaling::{Answer, Refusal};

/// The daemon's own id.
const DAEMON: u64 = 1;
const OFFER: &str = r#"{"sdp":"v=0\r\no=- 7 2 IN IP4 0.0.0.0\r\n","type":"offer"}"#;
const CANDIDATE: &str = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.7 9 typ host","sdpMLineIndex":0,"sdpMid":"0"}"#;

fn start(access: Access, policy: RoomPolicy, call: CallPolicy) -> Running {
    let room = RoomConfig { name: "desk".to_owned(), policy, call };
    let config = config(ConnectionLimits::default(), Deadlines::default());
    start_with(ServerConfig { access: Arc::new(Mutex::new(access)), room: Some(room), ..config }, 64)
}

fn open() -> Running {
    start(Access::open(), RoomPolicy::Open, CallPolicy::None)
}

fn closed() -> Running {
    start(Access::open(), RoomPolicy::Closed, CallPolicy::None)
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn post(from: u64, to: u64, body: &str) -> String {
    format!(
        "POST /message?peer_id={from}&to={to} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nContent-Type: text/plain\r\n\r\n{body}",
        body.len()
    )
}

fn body(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn pragma(reply: &str) -> u64 {
    let value = reply.lines().find_map(|line| line.strip_prefix("Pragma: "));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no id in {reply:?}"))
}

async fn sign_in(address: SocketAddr, name: &str) -> u64 {
    let reply = exchange(address, &get(&format!("/sign_in?{name}"))).await;
    assert!(reply.starts_with("HTTP/1.1 200 Added\r\n"), "{reply}");
    pragma(&reply)
}

async fn wait(address: SocketAddr, id: u64) -> String {
    exchange(address, &get(&format!("/wait?peer_id={id}"))).await
}

async fn posted(address: SocketAddr, from: u64, to: u64, body: &str) -> u16 {
    status(&exchange(address, &post(from, to, body)).await)
}

async fn signal(running: &mut Running) -> SignalIn {
    tokio::time::timeout(LONG, running.signals.recv()).await.expect("a signal in time").expect("a running server")
}

fn answer() -> Result<Answer, Refusal> {
    Ok(Answer { sdp: "v=0\r\nours\r\n".to_owned() })
}

#[tokio::test]
async fn an_offer_gets_its_answer_by_the_mailbox_and_bye_ends_the_session() {
    let mut running = closed();
    let address = running.address;
    let id = sign_in(address, "alice").await;
    assert_eq!(posted(address, id, DAEMON, CANDIDATE).await, 200);
    assert_eq!(posted(address, id, DAEMON, OFFER).await, 200);
    let SignalIn::Offer { session, sdp, caller, replaces: None, reply } = signal(&mut running).await else {
        panic!("an offer comes first")
    };
    assert!(sdp.starts_with("v=0\r\no=- 7") && caller.to_string() == "alice at room");
    match signal(&mut running).await {
        SignalIn::Trickle { session: of, trickle, .. } => assert!(of == session && trickle.candidates.len() == 1),
        other => panic!("{other:?} where the candidate from before the offer is expected"),
    }
    reply.send(answer()).unwrap();
    let reply = wait(address, id).await;
    assert!(pragma(&reply) == DAEMON && body(&reply) == r#"{"sdp":"v=0\r\nours\r\n","type":"answer"}"#, "{reply}");
    assert_eq!(posted(address, id, DAEMON, "BYE").await, 200);
    match signal(&mut running).await {
        SignalIn::Leave { session: left, .. } => assert_eq!(left, session),
        other => panic!("{other:?} where the session is to be ended"),
    }
}

#[tokio::test]
async fn who_joins_and_waits_is_called_and_its_answer_is_taken() {
    let mut running = start(Access::open(), RoomPolicy::Closed, CallPolicy::Joined);
    let address = running.address;
    let joined = Instant::now();
    let id = sign_in(address, "alice").await;
    let waiting = tokio::spawn(async move { wait(address, id).await });
    let SignalIn::Call { session, replaces: None, reply, .. } = signal(&mut running).await else { panic!("a call") };
    assert!(joined.elapsed() >= Duration::from_secs(1), "it had a second to offer");
    reply.send(answer()).unwrap();
    let offered = waiting.await.unwrap();
    assert_eq!(body(&offered), r#"{"sdp":"v=0\r\nours\r\n","type":"offer"}"#);
    assert_eq!(posted(address, id, DAEMON, r#"{"type":"answer","sdp":"v=0\r\n"}"#).await, 200);
    match signal(&mut running).await {
        SignalIn::Accept { session: of, sdp, .. } => assert_eq!((of, sdp.as_str()), (session, "v=0\r\n")),
        other => panic!("{other:?} where an answer was sent"),
    }
}

#[tokio::test]
async fn garbage_harms_its_sender_only() {
    let mut running = closed();
    let address = running.address;
    let (mallory, alice) = (sign_in(address, "mallory").await, sign_in(address, "alice").await);
    for garbage in ["{", "[[[[", "\0\u{1}", r#"{"type":"moon"}"#, r#"{"type":"offer-loopback"}"#] {
        assert_eq!(posted(address, mallory, DAEMON, garbage).await, 200, "as the original, which reads none of it");
    }
    assert_eq!(posted(address, mallory, alice, "x").await, 500, "in a closed room nobody sees another");
    assert_eq!(posted(address, alice, DAEMON, OFFER).await, 200);
    assert!(matches!(signal(&mut running).await, SignalIn::Offer { .. }));
}

#[tokio::test]
async fn the_code_is_in_the_path_and_wrong_ones_are_slowed() {
    let mut running = start(Access::with_code(Code::parse(CODE).unwrap()), RoomPolicy::Closed, CallPolicy::None);
    let address = running.address;
    let reply = exchange(address, &get("/sign_in?alice")).await;
    assert!(
        status(&reply) == 401 && reply.contains("/k/CODE") && reply.contains("Access-Control-Allow-Origin: *"),
        "{reply}"
    );
    for endpoint in ["wait?peer_id=1", "sign_out?peer_id=1", "whep"] {
        assert_eq!(status(&exchange(address, &get(&format!("/k/wrong/{endpoint}"))).await), 401);
    }
    for path in ["/k/wrong/sign_in?alice", "/k/wrong"] {
        assert_eq!(status(&exchange(address, &get(path)).await), 401);
    }
    assert_eq!(status(&exchange(address, &get("/k/wrong/sign_in?alice")).await), 429);
    let reply = exchange(address, &get(&format!("/k/{CODE}/sign_in?alice"))).await;
    let id = pragma(&reply);
    let offer = post(id, DAEMON, OFFER).replace("/message", &format!("/k/{CODE}/message"));
    assert_eq!(status(&exchange(address, &offer).await), 200);
    assert!(matches!(signal(&mut running).await, SignalIn::Offer { .. }));
    assert_eq!(status(&exchange(address, &get(&format!("/k/{CODE}/nothing"))).await), 500);
    for base in [format!("/k/{CODE}"), format!("/k/{CODE}/")] {
        let reply = exchange(address, &get(&base)).await;
        assert!(status(&reply) == 200 && reply.contains("open the page at /"), "{reply}");
    }
    assert_eq!(status(&exchange(address, &get("/nothing")).await), 404, "the page's server knows what it has");
    let preflight =
        "OPTIONS /k/whatever/message HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(address, preflight).await), 200, "a preflight carries no code");
}

#[tokio::test]
async fn requests_in_any_lawful_form_are_answered_and_others_refused() {
    let running = open();
    let address = running.address;
    let old = exchange(address, "GET /sign_in?native@host HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.1 200 Added\r\n") && body(&old) == "native@host,2,1\ndesk,1,1\n", "{old}");
    let id = pragma(&old);
    let lower = "POST /message?peer_id=2&to=2 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-type: text/x\r\n\r\na";
    assert_eq!(status(&exchange(address, lower).await), 200);
    let chunked = "POST /message?peer_id=2&to=2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
                   Content-Type: text/plain\r\n\r\n1\r\nb\r\n2\r\ncd\r\n0\r\n\r\n";
    assert_eq!(status(&exchange(address, chunked).await), 200);
    let mut split = connect(address).await;
    let whole = post(id, id, "in two packets");
    let (head, tail) = whole.split_at(whole.find("two").unwrap());
    split.write_all(head.as_bytes()).await.unwrap();
    // Another exchange lies between the two, so that the head has been read.
    assert_eq!(status(&exchange(address, &get("/healthz")).await), 200);
    split.write_all(tail.as_bytes()).await.unwrap();
    assert_eq!(status(&rest(&mut split).await), 200);
    for (sent, content_type) in [("a", "text/x"), ("bcd", "text/plain"), ("in two packets", "text/plain")] {
        let reply = wait(address, id).await;
        assert!(body(&reply) == sent && reply.contains(&format!("Content-Type: {content_type}\r\n")), "{reply}");
    }
    for (request, expected) in [
        ("HEAD /sign_in?z HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("PUT /message?peer_id=2&to=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", 405),
        ("get /sign_in?z HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("POST /message?peer_id=2&to=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\r\n", 411),
        ("POST /message?peer_id=2&to=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", 415),
        ("GET /sign_in?z HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    ] {
        // The server closes by itself each time.
        assert_eq!(status(&exchange(address, request).await), expected, "{request}");
    }
    let huge = post(id, id, &"x".repeat(70_000));
    assert_eq!(status(&exchange(address, &huge).await), 413);
    assert_eq!(posted(address, id, id, "").await, 400);
}

#[tokio::test]
async fn a_full_mailbox_loses_the_oldest() {
    let running = open();
    let address = running.address;
    let id = sign_in(address, "alice").await;
    for number in 0..mailbox::MESSAGES + 2 {
        assert_eq!(posted(address, id, id, &number.to_string()).await, 200);
    }
    assert_eq!(body(&wait(address, id).await), "2");
}

#[tokio::test]
async fn a_wait_is_replaced_by_the_next_and_freed_by_its_connections_end() {
    let running = open();
    let address = running.address;
    let id = sign_in(address, "alice").await;
    let mut first = connect(address).await;
    first.write_all(get(&format!("/wait?peer_id={id}")).as_bytes()).await.unwrap();
    // Whether the first is hanging yet can't be seen, but the second always finds it: each connection's request is read in turn.
    let mut second = connect(address).await;
    second.write_all(get(&format!("/wait?peer_id={id}")).as_bytes()).await.unwrap();
    let is_first = tokio::select! {
        _ = first.readable() => true,
        _ = second.readable() => false,
    };
    let (mut over, hanging) = if is_first { (first, second) } else { (second, first) };
    assert_eq!(status(&rest(&mut over).await), 409);
    drop(hanging);
    // Whether the server has seen that end yet or not, the message is kept: for a dead wait it is put back.
    assert_eq!(posted(address, id, id, "kept").await, 200);
    assert_eq!(body(&wait(address, id).await), "kept");
    let unknown = wait(address, 99).await;
    assert!(unknown.starts_with("HTTP/1.1 500 Sorry\r\n"), "{unknown}");
}

#[tokio::test]
async fn a_wait_with_bytes_behind_it_is_freed_by_its_connections_end() {
    let running = open();
    let address = running.address;
    for behind in ["", "x"] {
        let id = sign_in(address, "alice").await;
        let mut stream = connect(address).await;
        stream.write_all(format!("{}{behind}", get(&format!("/wait?peer_id={id}"))).as_bytes()).await.unwrap();
        assert_eq!(status(&exchange(address, &get("/healthz")).await), 200);
        stream.shutdown().await.unwrap();
        let end = tokio::time::timeout(LONG, stream.read(&mut [0; 1])).await;
        assert!(matches!(end, Ok(Ok(0) | Err(_))), "{behind:?} behind it: {end:?}");
    }
}

#[tokio::test]
async fn five_hundred_waits_hang_at_once_and_all_are_answered() {
    allow_many_descriptors();
    let Running { address, mut signals, stop: _stop, .. } = closed();
    let mut waits = Vec::new();
    for number in 0..500 {
        let id = sign_in(address, &format!("pupil{number}")).await;
        let mut stream = connect(address).await;
        stream.write_all(get(&format!("/wait?peer_id={id}")).as_bytes()).await.unwrap();
        waits.push((id, stream));
    }
    let health = exchange(address, &get("/healthz")).await;
    assert_eq!(status(&health), 200, "others of the same address are still served");
    for (_, stream) in &waits {
        let nothing = stream.try_read(&mut [0; 1]).expect_err("each hangs, and is open");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
    tokio::spawn(async move {
        while let Some(signal) = signals.recv().await {
            let SignalIn::Offer { sdp, reply, .. } = signal else { panic!("{signal:?} where all offer") };
            reply.send(Ok(Answer { sdp: format!("{sdp}answered\r\n") })).unwrap();
        }
    });
    for (id, _) in &waits {
        let offer = format!(r#"{{"sdp":"v=0\r\no=- {id} 2 IN IP4 0.0.0.0\r\n","type":"offer"}}"#);
        assert_eq!(posted(address, *id, DAEMON, &offer).await, 200);
    }
    for (id, mut stream) in waits {
        let reply = rest(&mut stream).await;
        let own = format!(r#"o=- {id} 2 IN IP4 0.0.0.0\r\nanswered\r\n","type":"answer"}}"#);
        assert!(body(&reply).ends_with(&own), "{reply}");
    }
}

#[tokio::test]
async fn hanging_waits_do_not_delay_the_end() {
    let Running { address, stop, task, signals: _signals } = open();
    let id = sign_in(address, "alice").await;
    let mut hanging = connect(address).await;
    hanging.write_all(get(&format!("/wait?peer_id={id}")).as_bytes()).await.unwrap();
    assert_eq!(status(&exchange(address, &get("/healthz")).await), 200);
    stop.send(()).unwrap();
    tokio::time::timeout(LONG, task).await.unwrap().unwrap();
    let last = one_reply_or_end(&mut hanging).await;
    assert!(last.is_empty() || status(&last) == 503, "{last}");
}

async fn one_reply_or_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("an end in time") {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}
