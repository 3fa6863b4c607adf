//! The server over real loopback connections, with a stub in the broadcast's place.
#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::id::SessionId;
use crate::signaling::access::Code;
use crate::signaling::{Answer, Refusal};

pub(super) const CODE: &str = "abcdefgh23";
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n";
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) signals: mpsc::Receiver<SignalIn>,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) task: JoinHandle<()>,
}

pub(super) fn config(limits: ConnectionLimits, deadlines: Deadlines) -> ServerConfig {
    ServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        inherited: Vec::new(),
        access: Arc::new(Mutex::new(Access::with_code(Code::parse(CODE).unwrap()))),
        own_names: OwnNames::new("teacher", []),
        room: None,
        ice: IceServers::default(),
        tls: None,
        terms: watch::channel(ServerTerms { connections: limits, deadlines, ..ServerTerms::default() }).1,
    }
}

pub(super) fn start_with(config: ServerConfig, queue: usize) -> Running {
    let (server, _) = Server::bind(config).unwrap();
    let address = server.local_addrs()[0];
    let (sender, signals) = mpsc::channel(queue);
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(sender, async {
        if stopped.await.is_err() {
            std::future::pending().await
        }
    }));
    Running { address, signals, stop, task }
}

fn start() -> Running {
    start_with(config(ConnectionLimits::default(), Deadlines::default()), 8)
}

/// Answers offers, and knows one session: the last.
fn stub_broadcast(mut signals: mpsc::Receiver<SignalIn>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut known = None;
        while let Some(signal) = signals.recv().await {
            match signal {
                SignalIn::Offer { session, reply, .. } => {
                    known = Some(session);
                    let _ = reply.send(Ok(Answer { sdp: "v=0\r\ns=answer\r\n".to_owned() }));
                }
                SignalIn::Trickle { session, reply, .. } => {
                    let _ = reply.send(if known == Some(session) { Ok(()) } else { Err(Refusal::UnknownSession) });
                }
                SignalIn::Leave { session, reply } => {
                    let is_known = known.take_if(|known| *known == session).is_some();
                    let _ = reply.send(if is_known { Ok(()) } else { Err(Refusal::UnknownSession) });
                }
                other => panic!("WHEP asks no such thing: {other:?}"),
            }
        }
    })
}

pub(super) async fn connect(address: SocketAddr) -> TcpStream {
    timeout(LONG, TcpStream::connect(address)).await.unwrap().unwrap()
}

/// Reads until the server closes.
pub(super) async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the server closes in time").unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one reply's head and body by its `Content-Length`.
async fn one_reply(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(LONG, async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
                if body.len() >= length.parse().unwrap() {
                    return text;
                }
            }
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "closed after {text}");
        }
    })
    .await
    .expect("a reply in time")
}

pub(super) async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn post_offer(body: &str) -> String {
    request("POST", "/whep", &format!("Authorization: Bearer {CODE}\r\nContent-Type: application/sdp\r\n"), body)
}

pub(super) fn status(reply: &str) -> u16 {
    reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {reply:?}"))
}

/// Both ends of all connections are in this process.
pub(super) fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let had = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: had.maximum.or(Some(65_536)), maximum: had.maximum }).unwrap();
}

#[tokio::test]
async fn the_page_and_its_parts_are_served_with_strict_headers() {
    let running = start();
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/viewer.js", "text/javascript; charset=utf-8"),
        ("/sound.js", "text/javascript; charset=utf-8"),
        ("/viewer.css", "text/css; charset=utf-8"),
        ("/favicon.ico", "image/svg+xml"),
    ] {
        let reply = exchange(running.address, &request("GET", path, "", "")).await;
        assert_eq!(status(&reply), 200);
        for line in [
            &format!("Content-Type: {content_type}\r\n"),
            "Content-Security-Policy: default-src 'none'; script-src 'self'; ",
            "Referrer-Policy: no-referrer\r\n",
            "X-Content-Type-Options: nosniff\r\n",
            "Cache-Control: no-cache\r\n",
        ] {
            assert!(reply.to_lowercase().contains(&line.to_lowercase()), "{path}: {line} in {reply}");
        }
        let tag = reply.lines().find_map(|line| line.strip_prefix("Etag: ")).expect("a tag");
        let again = exchange(running.address, &request("GET", path, &format!("If-None-Match: {tag}\r\n"), "")).await;
        assert_eq!(status(&again), 304);
    }
    let health = exchange(running.address, &request("GET", "/healthz", "", "")).await;
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("\r\n\r\nok\n"), "{health}");
    let head = exchange(running.address, &request("HEAD", "/", "", "")).await;
    assert!(status(&head) == 200 && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(status(&exchange(running.address, &request("GET", "/nothing", "", "")).await), 404);
    let post = exchange(running.address, &request("POST", "/", "", "x")).await;
    assert!(status(&post) == 405 && post.contains("Allow: GET, HEAD\r\n"), "{post}");
}

#[tokio::test]
async fn a_viewer_comes_trickles_and_leaves() {
    let Running { address, signals, .. } = start();
    stub_broadcast(signals);
    let reply = exchange(address, &post_offer(OFFER)).await;
    assert!(status(&reply) == 201 && reply.ends_with("s=answer\r\n"), "{reply}");
    let location = reply.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().to_owned();
    assert!(SessionId::parse(location.strip_prefix("/whep/").unwrap()).is_some(), "{location}");
    let fragment = "Content-Type: application/trickle-ice-sdpfrag\r\n";
    let patch = request("PATCH", &location, fragment, "a=end-of-candidates\r\n");
    assert_eq!(status(&exchange(address, &patch).await), 204);
    assert_eq!(status(&exchange(address, &request("PATCH", &location, fragment, "{}")).await), 400);
    assert_eq!(status(&exchange(address, &request("DELETE", &location, "", "")).await), 200);
    assert_eq!(status(&exchange(address, &request("DELETE", &location, "", "")).await), 404);
    assert_eq!(status(&exchange(address, &patch).await), 404);
}

#[tokio::test]
async fn a_candidate_before_its_offer_is_for_no_session() {
    let Running { address, signals, .. } = start();
    stub_broadcast(signals);
    let path = format!("/whep/{}", SessionId::random());
    let headers = "Content-Type: application/trickle-ice-sdpfrag\r\n";
    let reply = exchange(address, &request("PATCH", &path, headers, "a=end-of-candidates")).await;
    assert_eq!(status(&reply), 404);
}

#[tokio::test]
async fn old_clients_and_persistent_ones_are_answered() {
    let Running { address, .. } = start();
    let old = exchange(address, "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(status(&old) == 200 && old.contains("Content-Length: 3\r\n"), "{old}");
    let mut stream = connect(address).await;
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: [::1]:8888\r\n\r\n").await.unwrap();
        assert_eq!(status(&one_reply(&mut stream).await), 200);
    }
}

#[tokio::test]
async fn another_machines_name_is_refused_by_name() {
    let Running { address, .. } = start();
    for host in ["evil.example", "evil.example:8888", "localhost.evil.example"] {
        let reply = exchange(address, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(status(&reply) == 403 && reply.contains("DNS rebinding") && reply.contains(host), "{reply}");
    }
    let absolute = "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(address, absolute).await), 403);
    let twice = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(address, twice).await), 400);
    for host in ["teacher.local:8888", "192.0.2.7", "LOCALHOST"] {
        let reply = exchange(address, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status(&reply), 200, "{host}");
    }
}

#[tokio::test]
async fn wrong_codes_are_slowed_and_the_right_one_is_not() {
    let Running { address, signals, .. } = start();
    stub_broadcast(signals);
    let wrong = request("POST", "/whep", "Authorization: Bearer wrong\r\nContent-Type: application/sdp\r\n", OFFER);
    for _ in 0..5 {
        assert_eq!(status(&exchange(address, &wrong).await), 401);
    }
    let slowed = exchange(address, &wrong).await;
    assert!(status(&slowed) == 429 && slowed.contains("Retry-After: 1\r\n"), "{slowed}");
    assert_eq!(status(&exchange(address, &post_offer(OFFER)).await), 201);
}

#[tokio::test]
async fn a_huge_body_is_refused_in_words_however_it_is_sent() {
    let Running { address, .. } = start();
    let huge = post_offer(&"v=0\r\n".repeat(1 << 18));
    let reply = exchange(address, &huge).await;
    assert!(status(&reply) == 413 && reply.contains("larger than 65536 bytes"), "{reply}");
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(1 << 16));
    let chunked = format!(
        "POST /whep HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CODE}\r\nContent-Type: application/sdp\r\n\
         Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(16)
    );
    assert_eq!(status(&exchange(address, &chunked).await), 413);
    let unauthorised = request("POST", "/whep", "Content-Type: application/sdp\r\n", &"a".repeat(1 << 20));
    assert_eq!(status(&exchange(address, &unauthorised).await), 401);
    let mut stream = connect(address).await;
    let asking = post_offer("").replace("Content-Length: 0", "Content-Length: 9999999\r\nExpect: 100-continue");
    stream.write_all(asking.as_bytes()).await.unwrap();
    let reply = rest(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 413"), "nothing is asked for: {reply}");
}

#[tokio::test]
async fn a_huge_head_and_garbage_are_refused() {
    let Running { address, .. } = start();
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(status(&exchange(address, &head).await), 431);
    assert_eq!(status(&exchange(address, "\x16\x03\x01 hello\r\n\r\n").await), 400);
    assert_eq!(status(&exchange(address, &request("GET", "/healthz", "", "")).await), 200);
}

#[tokio::test]
async fn slow_heads_and_bodies_are_not_waited_for() {
    let short = Duration::from_millis(200);
    let deadlines = Deadlines { head: short, body: short, answer: short };
    let Running { address, signals: _signals, .. } = start_with(config(ConnectionLimits::default(), deadlines), 8);
    let reply = exchange(address, "GET / HTTP/1.1\r\nHost: loc").await;
    assert!(reply.is_empty() || status(&reply) == 408, "{reply}");
    let silent = exchange(address, "").await;
    assert!(silent.is_empty() || status(&silent) == 408, "{silent}");
    let mut idle = connect(address).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(status(&one_reply(&mut idle).await), 200);
    assert_eq!(rest(&mut idle).await, "", "closed between requests, too");
    let half = post_offer(OFFER).replace("Content-Length: ", "Content-Length: 9");
    assert_eq!(status(&exchange(address, &half).await), 408);
}

#[tokio::test]
async fn a_broadcast_that_does_not_answer_is_left_and_the_session_ended() {
    let deadlines = Deadlines { answer: Duration::from_millis(100), ..Deadlines::default() };
    let Running { address, mut signals, .. } = start_with(config(ConnectionLimits::default(), deadlines), 1);
    let first = tokio::spawn(async move { exchange(address, &post_offer(OFFER)).await });
    let Some(SignalIn::Offer { session: asked, reply: _kept, caller, .. }) =
        timeout(LONG, signals.recv()).await.unwrap()
    else {
        panic!("an offer comes first")
    };
    assert_eq!(caller.name, address.ip().to_string());
    assert_eq!(status(&first.await.unwrap()), 504);
    match timeout(LONG, signals.recv()).await.unwrap() {
        Some(SignalIn::Leave { session, .. }) => assert_eq!(session, asked),
        other => panic!("{other:?} where the session is to be ended"),
    }
}

#[tokio::test]
async fn a_viewer_gone_before_its_answer_leaves_no_session() {
    let Running { address, mut signals, .. } = start();
    let mut stream = connect(address).await;
    stream.write_all(post_offer(OFFER).as_bytes()).await.unwrap();
    let Some(SignalIn::Offer { session: asked, reply: _kept, .. }) = timeout(LONG, signals.recv()).await.unwrap()
    else {
        panic!("an offer comes first")
    };
    drop(stream);
    match timeout(LONG, signals.recv()).await.unwrap() {
        Some(SignalIn::Leave { session, .. }) => assert_eq!(session, asked),
        other => panic!("{other:?} where the session is to be ended"),
    }
}

#[tokio::test]
async fn a_full_queue_and_a_gone_broadcast_are_told() {
    let deadlines = Deadlines { answer: Duration::from_millis(100), ..Deadlines::default() };
    let Running { address, signals, .. } = start_with(config(ConnectionLimits::default(), deadlines), 1);
    assert_eq!(status(&exchange(address, &post_offer(OFFER)).await), 504);
    let full = exchange(address, &post_offer(OFFER)).await;
    assert!(status(&full) == 503 && full.contains("Laterna-Reason: busy"), "{full}");
    drop(signals);
    let gone = exchange(address, &post_offer(OFFER)).await;
    assert!(status(&gone) == 503 && gone.contains("Laterna-Reason: closing"), "{gone}");
}

#[tokio::test]
async fn a_thousand_silent_connections_do_not_stop_a_good_one() {
    allow_many_descriptors();
    let Running { address, signals, .. } = start();
    stub_broadcast(signals);
    let (mut silent, too_many) = (Vec::new(), 76);
    for _ in 0..ConnectionLimits::default().per_address + too_many {
        silent.push(connect(address).await);
    }
    assert_eq!(status(&exchange(address, &request("GET", "/healthz", "", "")).await), 200);
    assert_eq!(status(&exchange(address, &post_offer(OFFER)).await), 201);
    // All but the places of one address are closed; the first are.
    for stream in silent.iter_mut().take(too_many) {
        assert_eq!(timeout(LONG, stream.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn a_place_is_refused_only_where_all_are_being_answered() {
    let limits = ConnectionLimits { total: 4, per_address: 2 };
    let Running { address, mut signals, .. } = start_with(config(limits, Deadlines::default()), 8);
    let mut busy = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(address).await;
        stream.write_all(post_offer(OFFER).as_bytes()).await.unwrap();
        kept.push(timeout(LONG, signals.recv()).await.unwrap());
        busy.push(stream);
    }
    let refused = rest(&mut connect(address).await).await;
    assert!(status(&refused) == 503 && refused.ends_with("try again\n"), "{refused}");
    assert!(refused.contains(&format!("Content-Length: {}\r\n", refused.split("\r\n\r\n").nth(1).unwrap().len())));
    for asked in kept {
        let Some(SignalIn::Offer { reply, .. }) = asked else { panic!("an offer") };
        reply.send(Ok(Answer { sdp: "v=0\r\n".to_owned() })).unwrap();
    }
    for mut stream in busy {
        assert_eq!(status(&rest(&mut stream).await), 201);
    }
    assert_eq!(status(&exchange(address, &request("GET", "/healthz", "", "")).await), 200);
}

#[tokio::test]
async fn it_stops_when_told_and_frees_its_port() {
    let Running { address, stop, task, .. } = start();
    let mut idle = connect(address).await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(status(&one_reply(&mut idle).await), 200);
    let mut silent = connect(address).await;
    stop.send(()).unwrap();
    timeout(LONG, task).await.unwrap().unwrap();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let listen = vec![address];
    drop(Server::bind(ServerConfig { listen, ..config(ConnectionLimits::default(), Deadlines::default()) }).unwrap());
}

#[test]
fn a_port_already_taken_is_said_with_what_to_do() {
    let (first, _) = Server::bind(config(ConnectionLimits::default(), Deadlines::default())).unwrap();
    let listen = vec![first.local_addrs()[0]];
    let error = Server::bind(ServerConfig { listen, ..config(ConnectionLimits::default(), Deadlines::default()) });
    let error = error.unwrap_err();
    assert!(matches!(error, ServerError::Taken { .. }), "{error}");
    assert!(error.to_string().contains(&first.local_addrs()[0].to_string()), "{error}");
    let listen = vec!["192.0.2.77:0".parse().unwrap()];
    let error = Server::bind(ServerConfig { listen, ..config(ConnectionLimits::default(), Deadlines::default()) });
    assert!(matches!(error, Err(ServerError::NoSuchAddress { .. })), "{error:?}");
}

#[tokio::test]
async fn the_default_takes_both_families_on_one_socket() {
    let listen = vec![SocketAddr::new(default_listen().ip(), 0)];
    let config = ServerConfig { listen, ..config(ConnectionLimits::default(), Deadlines::default()) };
    let Running { address, mut signals, .. } = start_with(config, 8);
    let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port());
    let asking = tokio::spawn(async move { exchange(v4, &post_offer(OFFER)).await });
    match timeout(LONG, signals.recv()).await.unwrap() {
        Some(SignalIn::Offer { caller, reply, .. }) => {
            assert_eq!(caller.name, "127.0.0.1", "not in its mapped form");
            reply.send(Err(Refusal::Full { limit: 1 })).unwrap();
        }
        other => panic!("{other:?} where an offer was sent"),
    }
    let full = asking.await.unwrap();
    assert!(status(&full) == 503 && full.contains("Laterna-Reason: full"), "{full}");
}

#[tokio::test]
async fn ice_servers_come_before_and_with_an_answer() {
    let ice = IceServers::open(&[crate::ice_server::IceServer::parse("stun:stun.example.org").unwrap()]).unwrap();
    let config = ServerConfig { ice, ..config(ConnectionLimits::default(), Deadlines::default()) };
    let Running { address, signals, .. } = start_with(config, 8);
    let broadcast = stub_broadcast(signals);
    let link = "Link: <stun:stun.example.org:3478>; rel=\"ice-server\"\r\n";
    let code = format!("Authorization: Bearer {CODE}\r\n");
    let before = exchange(address, &request("OPTIONS", "/whep", &code, "")).await;
    assert!(before.starts_with("HTTP/1.1 204") && before.contains(link), "{before}");
    let with = exchange(address, &post_offer(OFFER)).await;
    assert!(with.starts_with("HTTP/1.1 201") && with.contains(link), "{with}");
    let stranger = exchange(address, &request("OPTIONS", "/whep", "", "")).await;
    assert!(stranger.starts_with("HTTP/1.1 204") && !stranger.contains("Link: "), "{stranger}");
    broadcast.abort();
}

#[tokio::test]
async fn a_daemon_that_does_not_say_how_it_is_is_not_ready() {
    let Running { address, .. } = &start();
    // Nobody answers: the receiver of such questions is gone.
    let reply = exchange(*address, "GET /readyz HTTP/1.1\r\nHost: teacher\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&reply), 503);
    assert!(reply.contains("not ready") && reply.contains("Retry-After: "), "{reply}");
    let reply = exchange(*address, "GET /metrics HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&reply), 403, "also what is said of the daemon is guarded against DNS rebinding");
}
