#![allow(clippy::unwrap_used)]
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Notify;

use super::*;
use crate::control::wire::Kicked;
use crate::events::Events;

const WITHIN: Duration = Duration::from_secs(20);

/// Answers kicks at once, but that of viewer 0 when it is let go.
#[derive(Default)]
struct Echo {
    go: Notify,
    asked: Notify,
    dropped: Arc<Dropped>,
    events: Events,
}

#[derive(Default)]
struct Dropped(AtomicBool);

impl Drop for Echo {
    fn drop(&mut self) {
        self.dropped.0.store(true, Ordering::Relaxed);
    }
}

impl Operator for Echo {
    async fn answer(&self, request: Request) -> Reply {
        let Request::Kick { viewer } = request else {
            let many = "x".repeat(1 << 20);
            return Reply::Error(Complaint::new(Kind::Unknown, many));
        };
        if viewer == 0 {
            self.asked.notify_one();
            self.go.notified().await;
        }
        Reply::Kicked(Kicked { viewer, at: "test".into(), name: String::new() })
    }

    fn follow(&self) -> (Listener, Event) {
        (self.events.listen(), Event::Following { name: "test".into() })
    }
}

struct Served {
    path: PathBuf,
    operator: Arc<Echo>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    _directory: TempDir,
}

fn served() -> Served {
    let long = Duration::from_secs(3600);
    served_with(Patience { closed: long, gives_way: long, new_gives_way: long })
}

fn served_with(patience: Patience) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let (stop, stopped) = watch::channel(false);
    let operator = Arc::<Echo>::default();
    let task =
        tokio::spawn(serve_with(patience, ControlSocket::bind(&path, None).unwrap(), Arc::clone(&operator), stopped));
    Served { path, operator, stop, task, _directory: directory }
}

struct Client(BufReader<UnixStream>);

impl Client {
    async fn new(path: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(path).await.unwrap()))
    }

    async fn write(&mut self, bytes: &[u8]) {
        timeout(WITHIN, self.0.write_all(bytes)).await.unwrap().unwrap();
    }

    async fn kick(&mut self, viewer: u32) {
        self.write(Request::Kick { viewer }.line().as_bytes()).await;
    }

    /// The next reply; `None` once the daemon has closed.
    async fn reply(&mut self) -> Option<Reply> {
        let mut line = Vec::new();
        // A reset is an end too.
        let count = timeout(WITHIN, self.0.read_until(b'\n', &mut line)).await.unwrap().unwrap_or_default();
        (count > 0).then(|| Reply::parse(&line).unwrap())
    }

    async fn kicked(&mut self) -> u32 {
        match self.reply().await {
            Some(Reply::Kicked(kicked)) => kicked.viewer,
            other => panic!("{other:?}"),
        }
    }

    async fn complaint(&mut self) -> Complaint {
        match self.reply().await {
            Some(Reply::Error(complaint)) => complaint,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn whatever_is_no_request_is_refused_and_the_next_is_answered() {
    let served = served();
    let mut client = Client::new(&served.path).await;
    for bad in [&b"garbage\n"[..], b"\n", b"\0\xff\xfe\n", b"{\"laterna\":1,\"ask\":\"moon\"}\n", b"GET / HTTP/1.1\r\n"]
    {
        client.write(bad).await;
        assert_eq!(client.complaint().await.kind, Kind::BadRequest);
        client.kick(1).await;
        assert_eq!(client.kicked().await, 1);
    }
    client.write(b"{\"laterna\":9,\"ask\":\"status\"}\n").await;
    assert_eq!(client.complaint().await.kind, Kind::Version);
    let mut long = vec![b'x'; 1 << 20];
    long.push(b'\n');
    client.write(&long).await;
    assert!(client.complaint().await.message.contains("longer than 4096 bytes"));
    client.kick(2).await;
    assert_eq!(client.kicked().await, 2);
    // A line in parts, several at once, and one that never ends.
    let line = Request::Kick { viewer: 3 }.line();
    for byte in line.as_bytes() {
        client.write(&[*byte]).await;
    }
    assert_eq!(client.kicked().await, 3);
    client.write(line.repeat(50).as_bytes()).await;
    for _ in 0..50 {
        assert_eq!(client.kicked().await, 3);
    }
    client.write(&line.as_bytes()[..10]).await;
    client.0.get_mut().shutdown().await.unwrap();
    assert_eq!(client.reply().await, None);
}

#[tokio::test]
async fn clients_do_not_wait_for_each_other() {
    let served = served();
    let mut slow = Client::new(&served.path).await;
    slow.kick(0).await;
    served.operator.asked.notified().await;
    // One that asks for megabytes and reads none of them.
    let mut deaf = Client::new(&served.path).await;
    for _ in 0..8 {
        deaf.write(Request::Status.line().as_bytes()).await;
    }
    let mut others = Vec::new();
    for viewer in 1..20 {
        let mut client = Client::new(&served.path).await;
        client.kick(viewer).await;
        assert_eq!(client.kicked().await, viewer);
        others.push(client);
    }
    served.operator.go.notify_one();
    assert_eq!(slow.kicked().await, 0);
}

#[tokio::test]
async fn one_too_many_is_told_so_and_gets_in_when_another_has_left() {
    let served = served();
    let mut inside = Vec::new();
    for viewer in 1..=MOST_CLIENTS as u32 {
        let mut client = Client::new(&served.path).await;
        client.kick(viewer).await;
        assert_eq!(client.kicked().await, viewer);
        inside.push(client);
    }
    let mut outside = Client::new(&served.path).await;
    assert_eq!(outside.complaint().await.kind, Kind::Busy);
    assert_eq!(outside.reply().await, None);
    inside.pop();
    let got_in = async {
        loop {
            let mut next = Client::new(&served.path).await;
            next.kick(99).await;
            if let Some(Reply::Kicked(_)) = next.reply().await {
                break;
            }
        }
    };
    timeout(WITHIN, got_in).await.unwrap();
}

#[tokio::test]
async fn who_sends_no_whole_line_is_closed_however_many_bytes_come() {
    let served = served_with(Patience { closed: Duration::from_millis(300), ..Patience::default() });
    let mut silent = Client::new(&served.path).await;
    assert_eq!(silent.reply().await, None);
    let mut spoken = Client::new(&served.path).await;
    spoken.kick(1).await;
    assert_eq!(spoken.kicked().await, 1);
    assert_eq!(spoken.reply().await, None);
    let mut dripping = UnixStream::connect(&served.path).await.unwrap();
    let drips = async { while dripping.write_all(b"x").await.is_ok() {} };
    timeout(WITHIN, drips).await.unwrap();
    // Whoever waits for an answer is not silent.
    let mut waiting = Client::new(&served.path).await;
    waiting.kick(0).await;
    served.operator.asked.notified().await;
    let mut silent = Client::new(&served.path).await;
    assert_eq!(silent.reply().await, None);
    served.operator.go.notify_one();
    assert_eq!(waiting.kicked().await, 0);
}

#[tokio::test]
async fn where_all_places_are_taken_the_one_silent_longest_gives_way() {
    let long = Duration::from_secs(3600);
    let served = served_with(Patience { closed: long, gives_way: Duration::ZERO, new_gives_way: long });
    let mut asking = Client::new(&served.path).await;
    asking.kick(0).await;
    served.operator.asked.notified().await;
    let mut inside = Vec::new();
    for viewer in 2..=MOST_CLIENTS as u32 {
        let mut client = Client::new(&served.path).await;
        client.kick(viewer).await;
        assert_eq!(client.kicked().await, viewer);
        inside.push(client);
    }
    // The oldest speaks again: now the second is.
    inside[0].kick(1).await;
    assert_eq!(inside[0].kicked().await, 1);
    let mut newcomer = Client::new(&served.path).await;
    newcomer.kick(99).await;
    assert_eq!(newcomer.kicked().await, 99);
    assert_eq!(inside.remove(1).reply().await, None);
    for client in &mut inside {
        client.kick(5).await;
        assert_eq!(client.kicked().await, 5);
    }
    served.operator.go.notify_one();
    assert_eq!(asking.kicked().await, 0, "whoever waits for an answer stays");
}

#[tokio::test]
async fn who_has_asked_nothing_gives_way_before_who_has() {
    let long = Duration::from_secs(3600);
    let served = served_with(Patience { closed: long, gives_way: long, new_gives_way: Duration::ZERO });
    let mut asked = Client::new(&served.path).await;
    asked.kick(1).await;
    assert_eq!(asked.kicked().await, 1);
    let mut idle = Vec::new();
    for _ in 1..MOST_CLIENTS {
        idle.push(Client::new(&served.path).await);
    }
    // Each newcomer stays, so that in the end all idle ones have given way.
    let mut newcomers = Vec::new();
    for viewer in 2..=MOST_CLIENTS as u32 {
        let mut newcomer = Client::new(&served.path).await;
        newcomer.kick(viewer).await;
        assert_eq!(newcomer.kicked().await, viewer);
        newcomers.push(newcomer);
    }
    for client in &mut idle {
        assert_eq!(client.reply().await, None);
    }
    asked.kick(3).await;
    assert_eq!(asked.kicked().await, 3);
}

#[tokio::test]
async fn the_end_waits_for_nobody_and_leaves_nothing() {
    let served = served();
    let mut client = Client::new(&served.path).await;
    client.kick(0).await;
    served.operator.asked.notified().await;
    let dropped = Arc::clone(&served.operator.dropped);
    drop(served.operator);
    served.stop.send_replace(true);
    timeout(WITHIN, served.task).await.unwrap().unwrap();
    assert_eq!(client.reply().await, None);
    assert!(dropped.0.load(Ordering::Relaxed), "the operator is let go");
    assert!(!served.path.exists());
}

impl Client {
    async fn event(&mut self) -> Option<Event> {
        match self.reply().await {
            Some(Reply::Event(happened)) => Some(happened.event),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    /// Follows, and has heard the first line.
    async fn following(path: &Path) -> Self {
        let mut client = Self::new(path).await;
        client.write(Request::Events.line().as_bytes()).await;
        assert_eq!(client.event().await, Some(Event::Following { name: "test".into() }));
        client
    }
}

fn told(n: u64) -> Event {
    Event::Stopping { why: format!("{n} {}", "x".repeat(1000)) }
}

#[tokio::test]
async fn all_who_follow_hear_what_happens_up_to_the_end() {
    let served = served();
    let mut clients = [Client::following(&served.path).await, Client::following(&served.path).await];
    served.operator.events.tell(told(1));
    clients[0].write(b"whatever it says is passed over\n").await;
    served.stop.send_replace(true);
    served.operator.events.tell(told(2));
    for client in &mut clients {
        assert_eq!(
            [client.event().await, client.event().await, client.event().await],
            [Some(told(1)), Some(told(2)), None]
        );
    }
    timeout(WITHIN, served.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_follows_slowly_loses_the_oldest_and_is_told_how_many() {
    let served = served();
    let mut slow = Client::following(&served.path).await;
    let mut quick = Client::following(&served.path).await;
    const ALL: u64 = 2000;
    for n in 0..ALL {
        served.operator.events.tell(told(n));
        assert_eq!(quick.event().await, Some(told(n)), "another's slowness is nobody else's");
    }
    let (mut seen, mut lost) = (0, 0);
    loop {
        match slow.event().await.unwrap() {
            Event::Lost { events } => lost += events,
            event => {
                assert_eq!(event, told(seen + lost), "in order, and nothing goes without a word");
                seen += 1;
            }
        }
        if seen + lost == ALL {
            break;
        }
    }
    assert!(lost > 0, "2 MB were kept");
}

#[tokio::test]
async fn followers_leave_places_for_those_who_ask() {
    let served = served();
    let mut followers = Vec::new();
    for _ in 0..MOST_FOLLOWERS {
        followers.push(Client::following(&served.path).await);
    }
    let mut another = Client::new(&served.path).await;
    another.write(Request::Events.line().as_bytes()).await;
    assert_eq!(another.complaint().await.kind, Kind::Busy);
    another.kick(1).await;
    assert_eq!(another.kicked().await, 1);
    followers.pop();
    // Its place is free once its end is seen.
    let again = async {
        loop {
            another.write(Request::Events.line().as_bytes()).await;
            match another.reply().await {
                Some(Reply::Event(_)) => return,
                Some(Reply::Error(complaint)) => assert_eq!(complaint.kind, Kind::Busy),
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(WITHIN, again).await.unwrap();
}
