#![allow(clippy::unwrap_used)]
use super::*;
use crate::ice_server::Login;
use crate::id::random_bytes;
use crate::session::reach::{CandidateKind, ReachConfig};
use crate::session::relay::wire::{ALLOCATE, BINDING, Class, Writer, attribute};

struct Bench {
    reach: Arc<Reach>,
    relays: Arc<Relays>,
    now: Instant,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn server() -> SocketAddr {
    address("198.51.100.1:3478")
}

/// The local address that the servers answer to.
fn base() -> SocketAddr {
    address("127.0.0.1:5000")
}

fn bench() -> Bench {
    let reach = Arc::new(Reach::new(ReachConfig { port: 5000, ..ReachConfig::default() }));
    let relays = Arc::new(Relays::new(reach.clone(), Waker::new().unwrap()));
    Bench { reach, relays, now: Instant::now() }
}

impl Bench {
    fn open(&self, way: Way, contact: Contact) -> (ServerId, mpsc::Receiver<News>) {
        let (sender, news) = mpsc::channel(8);
        let id = self.relays.add(sender, None);
        self.relays.open(id, way, contact).unwrap();
        (id, news)
    }

    fn probe(&self) -> Contact {
        Contact::Probe(Probe::new(self.now, false, random_bytes))
    }

    fn allocation(&self, on_stream: bool) -> Contact {
        let sign_in = Login { username: "u".to_owned(), password: "p".to_owned() };
        let crypto = rtc_crypto::default_provider().unwrap();
        Contact::Allocation(Box::new(Allocation::new(self.now, crypto, sign_in, on_stream, random_bytes)))
    }

    /// What goes to the socket.
    fn pump(&self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        self.relays.pump(self.now, |_, message| sent.push(message.to_vec()));
        sent
    }

    fn told(&self, kind: CandidateKind) -> Vec<SocketAddr> {
        let (candidates, _) = self.reach.candidates("room");
        candidates.iter().filter(|candidate| candidate.kind == kind).map(|candidate| candidate.address).collect()
    }
}

/// Grants a request as a server without passwords does.
fn grant(request: &[u8], seen: SocketAddr) -> Vec<u8> {
    let method = u16::from_be_bytes([request[0], request[1]]);
    let answer = Writer::new(Class::Success, method, request[8..20].try_into().unwrap());
    let answer = answer.with_address(attribute::XOR_MAPPED_ADDRESS, seen);
    match method {
        ALLOCATE => answer.with_address(attribute::XOR_RELAYED_ADDRESS, address("198.51.100.1:50000")).into_bytes(),
        _ => answer.into_bytes(),
    }
}

#[test]
fn a_stun_and_a_turn_server_may_be_one() {
    let bench = bench();
    let (_, mut stun_news) = bench.open(Way::Datagrams(server()), bench.probe());
    let (_, mut turn_news) = bench.open(Way::Datagrams(server()), bench.allocation(false));
    let requests = bench.pump();
    assert_eq!(requests.len(), 2);
    let seen = address("203.0.113.9:4711");
    for request in requests.iter().rev() {
        assert_eq!(bench.relays.handle_datagram(bench.now, server(), base(), &grant(request, seen)), None);
    }
    bench.pump();
    assert_eq!((stun_news.try_recv().unwrap(), turn_news.try_recv().unwrap()), (News::Ready, News::Ready));
    assert_eq!(bench.told(CandidateKind::Relayed), [address("198.51.100.1:50000")]);
    assert_eq!(bench.told(CandidateKind::ServerReflexive), [seen]);
}

#[test]
fn one_turn_server_by_two_names_relays_once() {
    let bench = bench();
    let (first, _news) = bench.open(Way::Datagrams(server()), bench.allocation(false));
    let (sender, _other_news) = mpsc::channel(8);
    let second = bench.relays.add(sender, None);
    let open = || bench.relays.open(second, Way::Datagrams(server()), bench.allocation(false));
    assert_eq!(open(), Err(SameServer));
    // A stream is a client of its own.
    let (queue, _written) = mpsc::channel(16);
    bench.relays.open(second, Way::Stream(queue), bench.allocation(true)).unwrap();
    bench.relays.close(second);
    bench.relays.remove(bench.now, first);
    bench.pump();
    assert_eq!(open(), Ok(()));
}

#[test]
fn the_relay_that_an_sfu_names_is_for_it_alone() {
    let bench = bench();
    let (sender, _news) = mpsc::channel(8);
    let id = bench.relays.add(sender, Some("whip+https://sfu/w".into()));
    bench.relays.open(id, Way::Datagrams(server()), bench.allocation(false)).unwrap();
    let request = bench.pump().remove(0);
    bench.relays.handle_datagram(bench.now, server(), base(), &grant(&request, address("203.0.113.9:99")));
    bench.pump();
    let relayed = |at| bench.reach.candidates(at).0.iter().filter(|way| way.kind == CandidateKind::Relayed).count();
    assert_eq!([relayed("whip+https://sfu/w"), relayed("whep"), relayed("whip+https://other/w")], [1, 0, 0]);
}

#[test]
fn a_server_that_is_taken_out_gets_its_allocation_back() {
    let bench = bench();
    let (id, _news) = bench.open(Way::Datagrams(server()), bench.allocation(false));
    let request = bench.pump().remove(0);
    bench.relays.handle_datagram(bench.now, server(), base(), &grant(&request, address("203.0.113.9:99")));
    bench.pump();
    assert_eq!(bench.told(CandidateKind::Relayed).len(), 1);
    bench.relays.remove(bench.now, id);
    let last = bench.pump();
    let lifetime_of_none = [0, 0x0d, 0, 4, 0, 0, 0, 0];
    assert!(last.len() == 1 && last[0].windows(8).any(|bytes| bytes == lifetime_of_none), "{last:?}");
    assert!(bench.told(CandidateKind::Relayed).is_empty());
    assert!(bench.relays.lock().servers.is_empty());
}

#[test]
fn an_address_that_is_known_already_is_no_other_way() {
    let bench = bench();
    let (id, _news) = bench.open(Way::Datagrams(server()), bench.probe());
    let question = bench.pump().remove(0);
    assert_eq!(u16::from_be_bytes([question[0], question[1]]), BINDING);
    bench.relays.handle_datagram(bench.now, server(), base(), &grant(&question, base()));
    assert!(bench.told(CandidateKind::ServerReflexive).is_empty());
    bench.relays.close(id);
}

#[test]
fn what_goes_with_a_server_goes_and_says_so() {
    let mut bench = bench();
    let (queue, mut written) = mpsc::channel(16);
    let (id, mut news) = bench.open(Way::Stream(queue), bench.allocation(true));
    let mut view = View::new(bench.relays.clone());
    let relayed = address("198.51.100.1:50000");
    assert!(view.relay_at(relayed).is_none() && view.server_at(server()).is_none());
    assert!(bench.pump().is_empty(), "the socket has no part in it");
    let request = written.try_recv().unwrap();
    assert_eq!(request.viewer, 0);
    assert!(bench.relays.handle_message(bench.now, id, &grant(&request.data, address("203.0.113.9:99"))).is_none());
    bench.pump();
    assert_eq!(news.try_recv().unwrap(), News::Ready);
    assert!(view.relay_at(relayed).is_some());
    assert!(bench.told(CandidateKind::ServerReflexive).is_empty(), "a stream's address is nothing to send to");
    let path = Path::udp(relayed, address("192.0.2.7:7"));
    assert!(bench.relays.wrap(bench.now, path, 5).is_some_and(|wrapped| !wrapped.is_channel));
    assert!(bench.relays.wrap(bench.now, Path { local: base(), ..path }, 5).is_none());

    bench.now += Duration::from_secs(60);
    bench.pump();
    bench.now += Duration::from_secs(60);
    bench.pump();
    assert!(matches!(news.try_recv().unwrap(), News::Lost(Lost::NoAnswer)));
    assert!(view.relay_at(relayed).is_none() && bench.told(CandidateKind::Relayed).is_empty());
    assert!(bench.relays.wrap(bench.now, path, 5).is_none());
}

#[test]
fn viewers_whose_packets_are_late_are_told_once() {
    let bench = bench();
    assert!(bench.relays.take_late().is_empty());
    [3, 3, 4].into_iter().for_each(|viewer| bench.relays.note_late(viewer));
    assert_eq!(bench.relays.take_late(), HashSet::from([3, 4]));
    assert!(bench.relays.take_late().is_empty());
}
