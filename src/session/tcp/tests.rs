//! Real connections on loopback, with the test in the place of the threads of sessions.
#![allow(clippy::unwrap_used)]

use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

use super::*;
use crate::session::wake::Waker;

const LONG: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    streams: Streams,
    inbox: Inbox<StreamPacket>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(limits: ConnectionLimits) -> Running {
    let listener = MediaListener::bind(0, false).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_port()));
    let (streams, inbox) = (Streams::default(), Inbox::new(1000, Waker::new().unwrap()));
    let task = tokio::spawn(listener.serve(streams.clone(), inbox.clone(), limits));
    Running { address, streams, inbox, task }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        timeout(LONG, TcpStream::connect(self.address)).await.unwrap().unwrap()
    }

    /// Awaits `wanted` packets.
    async fn packets(&self, wanted: usize) -> Vec<StreamPacket> {
        let mut packets = Vec::new();
        timeout(LONG, async {
            while packets.len() < wanted {
                packets.extend(self.inbox.drain());
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the packets come in time");
        packets
    }
}

impl Running {
    /// Awaits `wanted` packets, and has a session find them authentic.
    async fn hear(&self, wanted: usize) {
        let packets = self.packets(wanted).await;
        packets.iter().for_each(|packet| self.streams.keep_all_to(packet.path.end()));
    }
}

/// A Binding request for an `ice-ufrag`, framed.
fn request(ufrag: &str) -> Vec<u8> {
    let name = format!("{ufrag}:them");
    let mut attribute = [&[0, 6, 0, name.len() as u8][..], name.as_bytes()].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let message = [&[0, 1, 0, attribute.len() as u8, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12], &attribute].concat();
    framed(&message)
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes()[..], packet].concat()
}

/// Awaits that the other side ends the connection.
async fn is_ended(connection: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    // Bytes that it did not read make it a reset.
    timeout(LONG, connection.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn packets_go_both_ways_and_an_end_is_said_after_the_last() {
    let running = start(LIMITS);
    let mut connection = running.connect().await;
    connection.write_all(&[request("mine"), framed(b"next")].concat()).await.unwrap();
    let packets = running.packets(2).await;
    let path = Path::tcp(running.address, connection.local_addr().unwrap());
    assert!(packets.iter().all(|packet| packet.path == path));
    assert_eq!((stun::local_ufrag(&packets[0].data), &packets[1].data[..]), (Some("mine"), &b"next"[..]));
    let stream = running.streams.of(path).unwrap();
    let push = |packet: &'static [u8]| {
        let mut write = |out: &mut [u8]| {
            out.copy_from_slice(packet);
            true
        };
        stream.push(packet.len(), &mut write).unwrap();
        stream.stir();
    };
    push(b"one");
    push(b"two");
    running.streams.close(path);
    let mut got = Vec::new();
    timeout(LONG, connection.read_to_end(&mut got)).await.expect("an end").unwrap();
    assert_eq!(got, [framed(b"one"), framed(b"two")].concat());
    timeout(LONG, async {
        while running.streams.count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is forgotten");
}

#[tokio::test]
async fn who_does_not_say_whose_it_is_gets_no_further() {
    let running = start(LIMITS);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &framed(&[0; 40]), &framed(&[22, 254, 253, 0, 0]), &[0xff; 9000]] {
        let mut connection = running.connect().await;
        connection.write_all(garbage).await.unwrap();
        assert!(is_ended(&mut connection).await, "{:?}", &garbage[..5]);
    }
    // Later too: what is no frame ends it.
    let mut connection = running.connect().await;
    connection.write_all(&[request("mine"), vec![0xff; 100]].concat()).await.unwrap();
    assert!(is_ended(&mut connection).await);
    assert_eq!(running.packets(1).await.len(), 1);
    assert_eq!(running.streams.count(), 0);
}

#[tokio::test]
async fn the_silent_make_room_and_those_that_are_somebodys_stay() {
    let running = start(ConnectionLimits { total: 8, per_address: 4 });
    let mut known = running.connect().await;
    known.write_all(&request("mine")).await.unwrap();
    running.hear(1).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(running.connect().await);
    }
    // The last three have a place still; the others were closed for them.
    for closed in &mut silent[..17] {
        assert!(is_ended(closed).await);
    }
    for last in &mut silent[17..] {
        last.write_all(&request("mine")).await.unwrap();
    }
    running.hear(3).await;
    let mut refused = running.connect().await;
    assert!(is_ended(&mut refused).await, "all places are somebody's");
    known.write_all(&framed(b"still here")).await.unwrap();
    assert_eq!(&running.packets(1).await[0].data[..], b"still here");
}

#[tokio::test]
async fn requests_that_nobody_finds_authentic_hold_no_place() {
    let running = start(ConnectionLimits { total: 8, per_address: 4 });
    let mut forged = Vec::new();
    for _ in 0..4 {
        let mut connection = running.connect().await;
        connection.write_all(&request("mine")).await.unwrap();
        running.packets(1).await;
        forged.push(connection);
    }
    let mut viewer = running.connect().await;
    assert!(is_ended(&mut forged[0]).await, "the oldest gives way");
    viewer.write_all(&request("mine")).await.unwrap();
    running.hear(1).await;
    for _ in 0..20 {
        forged.push(running.connect().await);
    }
    for closed in &mut forged[1..21] {
        assert!(is_ended(closed).await);
    }
    viewer.write_all(&framed(b"still here")).await.unwrap();
    assert_eq!(&running.packets(1).await[0].data[..], b"still here");
}

#[tokio::test]
async fn who_sends_faster_than_it_is_looked_at_waits() {
    let running = start(LIMITS);
    let mut connection = running.connect().await;
    let flood = [request("mine"), framed(&[9; 1000]).repeat(200)].concat();
    connection.write_all(&flood).await.unwrap();
    let mut other = running.connect().await;
    other.write_all(&request("other")).await.unwrap();
    let first = running.packets(MOST_AHEAD + 1).await;
    assert_eq!(first.len(), MOST_AHEAD + 1, "as many of the flood as may be ahead, and the other's");
    drop(first);
    let mut rest = 201 - MOST_AHEAD;
    while rest > 0 {
        rest -= running.packets(rest.min(MOST_AHEAD)).await.len();
    }
    assert_eq!(running.inbox.lost(), 0);
}

#[test]
fn a_port_that_is_given_up_meanwhile_is_had() {
    let before = MediaListener::bind(0, false).unwrap();
    let port = before.local_port();
    let waiting = std::thread::spawn(move || MediaListener::bind_patiently(port, false));
    drop(before);
    assert_eq!(waiting.join().unwrap().unwrap().local_port(), port);
}
