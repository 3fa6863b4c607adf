//! The shell against servers of the tests' own, which behave well or don't.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::*;
use crate::clock::Clock;
use crate::events::Events;
use crate::id::{PeerId, SessionId};
use crate::session::engine::identity::Identity;
use crate::session::reach::{Reach, ReachConfig};
use crate::session::relay::table::Relays;
use crate::session::relay::told::RelayStarter;
use crate::session::wake::Waker;
use crate::signaling::ask::Asker;
use crate::signaling::client::Desk;
use crate::signaling::client::url::SignalingUrl;
use crate::signaling::peers::{CallError, CallPolicy};
use crate::signaling::{Answer, SignalIn};

const WITHIN: Duration = Duration::from_secs(20);
const PEER: PeerId = PeerId(7);
const MEGABYTE: usize = 1 << 20;

/// A protocol of the tests: the daemon says hello, and is signed in once it is welcome; then there is a peer.
struct Plain {
    peers: Peers,
    outputs: Vec<Output>,
    heard: mpsc::Sender<String>,
}

impl FrameProtocol for Plain {
    fn subprotocol(&self) -> Option<&'static str> {
        Some("plain")
    }

    fn address(&self, url: &Url) -> Url {
        url.join("plain?is=here").unwrap()
    }

    fn handle_refused(&mut self, status: u16) {
        self.heard.try_send(format!("(refused: {status})")).unwrap();
    }

    fn handle_open(&mut self, _: Instant) {
        self.outputs.push(Output::Frame("hello".to_owned()));
    }

    fn handle_frame(&mut self, now: Instant, frame: &str) -> Result<(), Breach> {
        match frame {
            "welcome" => {
                self.outputs.push(Output::SignedIn("desk".to_owned()));
                self.peers.handle_joined(PEER, b"alice", now);
            }
            "nonsense" => return Err(Breach("the server speaks nonsense".to_owned())),
            "talk" => self.outputs.extend((0..64).map(|_| Output::Frame("x".repeat(MEGABYTE / 4)))),
            frame => self.heard.try_send(frame.to_owned()).unwrap(),
        }
        Ok(())
    }

    fn handle_closed(&mut self, _: Instant) {
        self.peers.handle_dropped(PEER);
        self.heard.try_send("(closed)".to_owned()).unwrap();
    }

    fn sign_out(&mut self) {
        self.outputs.push(Output::Frame("goodbye".to_owned()));
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Breach> {
        self.peers.handle_timeout(now);
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.peers.poll_timeout()
    }

    fn rename(&mut self, name: &str) {
        self.heard.try_send(format!("(renamed: {name})")).unwrap();
    }

    fn poll_own(&mut self) -> Option<Output> {
        (!self.outputs.is_empty()).then(|| self.outputs.remove(0))
    }

    fn say(&mut self, to: PeerId, _: &Word) {
        self.outputs.push(Output::Frame(format!("word for {to}")));
    }

    fn peers(&self) -> &Peers {
        &self.peers
    }

    fn peers_mut(&mut self) -> &mut Peers {
        &mut self.peers
    }
}

/// A client that runs, and the port it connects to.
struct Running {
    listener: TcpListener,
    desk: Desk,
    heard: mpsc::Receiver<String>,
    signals: mpsc::Receiver<SignalIn>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

type Server = WebSocketStream<TcpStream>;

impl Running {
    async fn start(patience: Patience, signing_in: Duration, token_file: Option<PathBuf>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let text = format!("channel+ws://{}/a/b?secret=1", listener.local_addr().unwrap());
        let (signals, asked) = mpsc::channel(16);
        let url = SignalingUrl { token_file, ..SignalingUrl::parse(&text).unwrap() };
        let asker = Asker::new(signals, WITHIN);
        let (reach, waker) = (Arc::new(Reach::new(ReachConfig::default())), Waker::new().unwrap());
        let crypto = Identity::generate().unwrap().crypto();
        let (relays, clock) = (Arc::new(Relays::new(reach, waker)), Clock::start());
        let relays = RelayStarter { relays, crypto, has_ipv6: false, given: Arc::default() };
        let config = ClientConfig {
            url,
            name: "desk".to_owned(),
            call: CallPolicy::None,
            asker,
            clock,
            relays,
            events: Events::default(),
        };
        let (hears, heard) = mpsc::channel(64);
        let peers = Peers::new(CallPolicy::None, SessionId::random);
        let (desk, operations) = Desk::new(config.url.label());
        let (stop, stopped) = watch::channel(false);
        let protocol = Plain { peers, outputs: Vec::new(), heard: hears };
        let task = tokio::spawn(Shell::new(config, protocol, patience, signing_in).run(operations, stopped));
        Self { listener, desk, heard, signals: asked, stop, task }
    }

    async fn ordinary() -> Self {
        Self::start(Patience::default(), SIGNING_IN, None).await
    }

    /// The client's next connection, with its handshake done; gives the request too.
    async fn accept(&self) -> (Server, Request) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut asked = None;
        #[expect(clippy::result_large_err, reason = "the crate's own signature")]
        let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            asked = Some(request.clone());
            response.headers_mut().insert("Sec-WebSocket-Protocol", "plain".parse().unwrap());
            Ok(response)
        };
        let server = accept_hdr_async(stream, answer).await.unwrap();
        (server, asked.unwrap())
    }

    /// The same, signed in.
    async fn welcomed(&self) -> Server {
        let (mut server, _) = self.accept().await;
        assert_eq!(text(&mut server).await, "hello");
        server.send(Message::text("welcome")).await.unwrap();
        server
    }

    async fn standing(&self) -> Standing {
        self.desk.look().await.unwrap().standing
    }

    /// Awaits that the client comes again; says why it was away.
    async fn why_it_came_again(&self) -> String {
        let (_stream, _) = self.listener.accept().await.unwrap();
        match self.standing().await {
            Standing::Away(why) => why,
            other => panic!("{other:?} where it must be away"),
        }
    }
}

async fn text(server: &mut Server) -> String {
    loop {
        match server.next().await.unwrap().unwrap() {
            Message::Text(text) => return text.as_str().to_owned(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?} where text is expected"),
        }
    }
}

fn run_test(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(WITHIN, test).await.expect("it must not take so long") });
}

#[test]
fn a_server_that_goes_is_signed_in_to_again_when_it_is_back() {
    run_test(async {
        let mut client = Running::ordinary().await;
        assert_eq!(client.standing().await, Standing::Connecting);
        for _ in 0..3 {
            let mut server = client.welcomed().await;
            server.send(Message::text("one")).await.unwrap();
            // Relays send text as bytes too, and bytes that are none are passed over.
            server.send(Message::Binary(Bytes::from_static(&[0xff, 0xfe]))).await.unwrap();
            server.send(Message::Binary(Bytes::from_static(b"two"))).await.unwrap();
            assert_eq!(client.heard.recv().await.unwrap(), "one");
            assert_eq!(client.heard.recv().await.unwrap(), "two");
            let state = client.desk.look().await.unwrap();
            assert_eq!((state.standing, state.peers.len()), (Standing::SignedIn("desk".to_owned()), 1));
            assert!(state.label.ends_with("/a/b") && !state.label.contains("secret"), "{}", state.label);
            drop(server);
            assert_eq!(client.heard.recv().await.unwrap(), "(closed)");
            assert!(matches!(client.standing().await, Standing::Away(_)));
        }
    });
}

#[test]
fn a_refusal_says_what_the_server_said() {
    run_test(async {
        let mut client = Running::ordinary().await;
        let (mut stream, _) = client.listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        assert!(request[..length].starts_with(b"GET /a/plain?is=here HTTP/1.1\r\n"));
        let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 25\r\n\r\nno\x1b[31m such\r\ntoken, sorry";
        stream.write_all(refusal.as_bytes()).await.unwrap();
        assert_eq!(client.why_it_came_again().await, "it refuses: 401 Unauthorized: no[31m such token, sorry");
        assert_eq!(client.heard.recv().await.unwrap(), "(refused: 401)");
    });
}

#[test]
fn a_server_that_speaks_no_http_may_speak_tls() {
    run_test(async {
        // The alert of a server of TLS, and one that closes only.
        for said in [&b"\x15\x03\x01\x00\x02\x02\x46"[..], b""] {
            let client = Running::ordinary().await;
            let (mut stream, _) = client.listener.accept().await.unwrap();
            let count = stream.read(&mut [0; 4096]).await.unwrap();
            assert!(count > 0);
            stream.write_all(said).await.unwrap();
            drop(stream);
            let why = client.why_it_came_again().await;
            assert!(why.starts_with("no WebSocket there: ") && why.ends_with("; if it speaks TLS, write wss"), "{why}");
        }
    });
}

#[test]
fn the_token_and_the_subprotocol_are_in_the_request() {
    run_test(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let client = Running::start(Patience::default(), SIGNING_IN, Some(path.clone())).await;
        std::fs::write(&path, "s3cret\n").unwrap();
        let (server, request) = client.accept().await;
        assert_eq!(request.headers()["authorization"], "Bearer s3cret");
        assert_eq!(request.headers()["sec-websocket-protocol"], "plain");
        std::fs::write(&path, "another\n").unwrap();
        drop(server);
        let (_server, request) = client.accept().await;
        assert_eq!(request.headers()["authorization"], "Bearer another", "a token may be renewed");
    });
}

#[test]
fn who_breaks_the_protocol_or_is_silent_or_takes_nothing_is_given_up() {
    run_test(async {
        let client = Running::ordinary().await;
        let mut server = client.welcomed().await;
        server.send(Message::text("nonsense")).await.unwrap();
        assert_eq!(client.why_it_came_again().await, "the server speaks nonsense");

        let client = Running::ordinary().await;
        let mut server = client.welcomed().await;
        server.send(Message::text("x".repeat(MEGABYTE + 1))).await.unwrap();
        let why = client.why_it_came_again().await;
        assert!(why.contains("too long"), "{why}");

        let soon = Duration::from_millis(400);
        let client = Running::start(Patience::default(), soon, None).await;
        let (_server, _) = client.accept().await;
        assert_eq!(client.why_it_came_again().await, "connected, but not signed in within 400ms");

        let patience = Patience { ping: soon / 4, silence: soon, ..Patience::default() };
        let client = Running::start(patience, SIGNING_IN, None).await;
        let _server = client.welcomed().await;
        let why = client.why_it_came_again().await;
        assert_eq!(why, Lost::Silent(soon).to_string(), "its pings were not answered");

        let patience = Patience { sending: soon, ..Patience::default() };
        let client = Running::start(patience, SIGNING_IN, None).await;
        let mut server = client.welcomed().await;
        server.send(Message::text("talk")).await.unwrap();
        assert_eq!(client.why_it_came_again().await, Lost::Stuck.to_string());

        let patience = Patience { connecting: soon, ..Patience::default() };
        let client = Running::start(patience, SIGNING_IN, None).await;
        let (_stream, _) = client.listener.accept().await.unwrap();
        assert_eq!(client.why_it_came_again().await, "it can't be reached within 400ms");
    });
}

#[test]
fn who_answers_pings_stays() {
    run_test(async {
        let silence = Duration::from_secs(1);
        let patience = Patience { ping: silence / 10, silence, ..Patience::default() };
        let client = Running::start(patience, SIGNING_IN, None).await;
        let mut server = client.welcomed().await;
        let end = tokio::time::Instant::now() + silence * 2;
        let mut pings = 0;
        while let Ok(message) = timeout_at(end, server.next()).await {
            pings += usize::from(matches!(message, Some(Ok(Message::Ping(_)))));
        }
        assert!(pings > 5, "{pings}");
        assert_eq!(client.standing().await, Standing::SignedIn("desk".to_owned()));
    });
}

#[test]
fn who_takes_what_is_sent_and_says_nothing_stays() {
    run_test(async {
        let soon = Duration::from_millis(60);
        let mut client = Running::start(Patience { sending: soon, ..Patience::default() }, SIGNING_IN, None).await;
        let mut server = client.welcomed().await;
        server.send(Message::text("one")).await.unwrap();
        assert_eq!(client.heard.recv().await.unwrap(), "one");
        assert_eq!(client.desk.call(PEER).await, Ok(()));
        let Some(SignalIn::Call { reply, .. }) = client.signals.recv().await else { panic!("no call") };
        reply.send(Ok(Answer { sdp: "v=0".to_owned() })).unwrap();
        assert_eq!(text(&mut server).await, "word for 7");
        assert!(timeout(soon * 5, server.next()).await.is_err(), "the connection has ended");
    });
}

#[test]
fn a_call_goes_to_the_broadcast_and_its_offer_to_the_peer() {
    run_test(async {
        let mut client = Running::ordinary().await;
        assert_eq!(client.desk.call(PEER).await, Err(CallError::Unknown));
        let mut server = client.welcomed().await;
        server.send(Message::text("one")).await.unwrap();
        assert_eq!(client.heard.recv().await.unwrap(), "one");
        assert_eq!(client.desk.call(PEER).await, Ok(()));
        assert_eq!(client.desk.call(PEER).await, Err(CallError::Busy));
        let Some(SignalIn::Call { caller, reply, .. }) = client.signals.recv().await else { panic!("no call") };
        assert!(caller.to_string().starts_with("alice at channel+ws://"), "{caller}");
        reply.send(Ok(Answer { sdp: "v=0".to_owned() })).unwrap();
        assert_eq!(text(&mut server).await, "word for 7");
    });
}

#[test]
fn when_it_stops_it_says_goodbye_and_closes() {
    run_test(async {
        let client = Running::ordinary().await;
        let mut server = client.welcomed().await;
        client.stop.send_replace(true);
        assert_eq!(text(&mut server).await, "goodbye");
        assert!(matches!(server.next().await, Some(Ok(Message::Close(_)))));
        assert!(server.next().await.is_none());
        drop(server);
        client.task.await.unwrap();

        let client = Running::ordinary().await;
        let _deaf = client.welcomed().await;
        client.stop.send_replace(true);
        let asked = Instant::now();
        client.task.await.unwrap();
        assert!(asked.elapsed() < MOST_SIGNING_OUT * 2, "a server that does not close is not waited for");
    });
}
