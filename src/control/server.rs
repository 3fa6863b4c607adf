//! The daemon's end of the control socket: takes lines, has them answered, writes the replies.
//!
//! A shell: it knows no request. Clients are independent of each other, and each has one request under way at a time; a client that does not read
//! its replies waits for itself.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{timeout, timeout_at};

use super::lines::Lines;
use super::socket::ControlSocket;
use super::wire::{Complaint, Event, Kind, Reply, Request};
use crate::events::{Listener, happened};
use crate::trouble::{Exhausted, until};

/// The most bytes of a request; the longest has a peer's name and a server's label.
pub const MOST_LINE: usize = 4096;
/// So many clients at once, at most.
const MOST_CLIENTS: usize = 32;
/// So many of them may follow what happens; the others' places are for those who ask.
const MOST_FOLLOWERS: usize = 16;
/// How long those who follow hear of the daemon's end, and how long it waits for them.
const LAST_WORDS: Duration = Duration::from_millis(200);
const GOODBYE: Duration = Duration::from_millis(500);
/// How long a client may take to read a reply.
const WRITING: Duration = Duration::from_secs(5);
/// The pause after the system had no resources for another client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may say nothing; one that watches asks each second.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Whoever has sent no whole line for so long is closed.
    closed: Duration,
    /// The same, where all places are taken and another client comes.
    gives_way: Duration,
    /// The same of who has asked nothing yet: whoever comes to ask does so at once.
    new_gives_way: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            closed: Duration::from_secs(10),
            gives_way: Duration::from_secs(2),
            new_gives_way: Duration::from_millis(250),
        }
    }
}

/// Who answers requests.
pub trait Operator: Send + Sync + 'static {
    /// Does what is asked, or says why not.
    fn answer(&self, request: Request) -> impl Future<Output = Reply> + Send;

    /// What happens from now on, and what is said first to whoever follows it.
    fn follow(&self) -> (Listener, Event);
}

/// Serves until `stop` becomes true; then clients are cut off, and socket and operator dropped.
pub async fn serve(socket: ControlSocket, operator: Arc<impl Operator>, stop: watch::Receiver<bool>) {
    serve_with(Patience::default(), socket, operator, stop).await;
}

async fn serve_with(
    patience: Patience,
    socket: ControlSocket,
    operator: Arc<impl Operator>,
    mut stop: watch::Receiver<bool>,
) {
    let listener = socket.listener().try_clone().and_then(UnixListener::from_std);
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "the control socket can't be served");
            return;
        }
    };
    let mut clients = JoinSet::new();
    let following = Arc::new(Semaphore::new(MOST_FOLLOWERS));
    let mut places = Places { patience, taken: Vec::new() };
    let mut exhausted = Exhausted::new("operators");
    loop {
        tokio::select! {
            biased;
            // An error is the sender's end: the daemon's.
            () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
            Some(_) = clients.join_next() => {}
            () = until(exhausted.poll_timeout()) => exhausted.look(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if !places.have_one(Instant::now()) => refuse(&stream),
                Ok((stream, _)) => {
                    let silence = Silence::new(Instant::now());
                    let client = Client {
                        stream,
                        operator: Arc::clone(&operator),
                        silence: silence.clone(),
                        most: patience.closed,
                        following: Arc::clone(&following),
                        stop: stop.clone(),
                    };
                    let task = clients.spawn(client.attend());
                    places.taken.push((silence, task));
                }
                Err(error) => {
                    exhausted.note(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    // Those who follow are told that the daemon ends.
    let _ = timeout(GOODBYE, async { while clients.join_next().await.is_some() {} }).await;
    clients.shutdown().await;
}

/// Who is served.
struct Places {
    patience: Patience,
    taken: Vec<(Silence, AbortHandle)>,
}

impl Places {
    /// Whether there is a place for another client; where there is none, whoever has been silent longest beyond what is borne has to give way.
    fn have_one(&mut self, now: Instant) -> bool {
        self.taken.retain(|(_, task)| !task.is_finished());
        if self.taken.len() < MOST_CLIENTS {
            return true;
        }
        let due = |silence: &Silence| match silence.standing() {
            Standing::New(since) => Some(since + self.patience.new_gives_way),
            Standing::Asked(since) => Some(since + self.patience.gives_way),
            Standing::Answered => None,
        };
        let silent = self.taken.iter().enumerate().filter_map(|(at, (silence, _))| Some((due(silence)?, at)));
        let Some((_, at)) = silent.min().filter(|(due, _)| now >= *due) else { return false };
        let (_, task) = self.taken.swap_remove(at);
        task.abort();
        true
    }
}

/// How a client stands, as whoever gives places away sees it.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// It has sent no whole line since it came.
    New(Instant),
    /// It has sent none since its last answer.
    Asked(Instant),
    /// It is being answered, or follows what happens.
    Answered,
}

/// The standing of a client, which its task and the listener share.
#[derive(Clone)]
struct Silence(Arc<Mutex<Standing>>);

impl Silence {
    fn new(since: Instant) -> Self {
        Self(Arc::new(Mutex::new(Standing::New(since))))
    }

    fn standing(&self) -> Standing {
        *self.lock()
    }

    fn set(&self, standing: Standing) {
        *self.lock() = standing;
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client, and what serves it.
struct Client<O> {
    stream: UnixStream,
    operator: Arc<O>,
    silence: Silence,
    /// How long it may say nothing.
    most: Duration,
    /// Places of those who follow.
    following: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl<O: Operator> Client<O> {
    /// Serves it until it leaves, sends no whole line for too long, does not read, or the daemon ends.
    async fn attend(mut self) {
        let mut lines = Lines::new(MOST_LINE);
        let mut bytes = [0; 1024];
        let mut heard = Instant::now();
        loop {
            let read = tokio::select! {
                biased;
                () = async { drop(self.stop.wait_for(|stop| *stop).await) } => return,
                read = timeout_at((heard + self.most).into(), self.stream.read(&mut bytes)) => read,
            };
            let Ok(Ok(count @ 1..)) = read else { return };
            lines.handle_bytes(&bytes[..count]);
            while let Some(line) = lines.poll_line() {
                self.silence.set(Standing::Answered);
                let request = match line {
                    Ok(line) => Request::parse(&line),
                    Err(error) => Err(Complaint::new(Kind::BadRequest, format!("{error}; requests are short"))),
                };
                let reply = match request {
                    Ok(Request::Events) => match Arc::clone(&self.following).try_acquire_owned() {
                        Ok(place) => {
                            self.follow().await;
                            drop(place);
                            return;
                        }
                        Err(_) => {
                            let message =
                                format!("{MOST_FOLLOWERS} follow already, which is the most; end one of them");
                            Reply::Error(Complaint::new(Kind::Busy, message))
                        }
                    },
                    Ok(request) => {
                        let patience = request.patience();
                        timeout(patience, self.operator.answer(request)).await.unwrap_or_else(|_| late(patience))
                    }
                    Err(complaint) => Reply::Error(complaint),
                };
                if !matches!(timeout(WRITING, self.stream.write_all(reply.line().as_bytes())).await, Ok(Ok(()))) {
                    return;
                }
                heard = Instant::now();
                self.silence.set(Standing::Asked(heard));
            }
        }
    }

    /// Writes what happens, as quickly as the client reads, until it leaves or the daemon ends; what it says is passed over.
    async fn follow(self) {
        let Self { stream, operator, mut stop, .. } = self;
        let (mut listener, first) = operator.follow();
        // Nobody waits for a client that follows: not even the daemon's end.
        drop(operator);
        let (mut read, mut write) = stream.into_split();
        let told = async {
            let mut line = Reply::Event(happened(first)).line();
            while write.write_all(line.as_bytes()).await.is_ok() {
                line = match listener.recv().await {
                    Ok(event) => Reply::Event(event).line(),
                    Err(RecvError::Lagged(events)) => Reply::Event(happened(Event::Lost { events })).line(),
                    Err(RecvError::Closed) => return,
                };
            }
        };
        let left = async {
            let mut bytes = [0; 1024];
            while matches!(read.read(&mut bytes).await, Ok(1..)) {}
        };
        let stopped = async {
            drop(stop.wait_for(|stop| *stop).await);
            // What is said of the end comes within this.
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = told => {}
            () = left => {}
            () = stopped => {}
        }
    }
}

fn late(patience: Duration) -> Reply {
    let message = format!("the daemon is too busy: no answer within {} s; try again", patience.as_secs());
    Reply::Error(Complaint::new(Kind::Unavailable, message))
}

/// Says that there is no place, as far as that can be said without waiting.
fn refuse(stream: &UnixStream) {
    let message = format!("all {MOST_CLIENTS} places at the control socket are taken; try again");
    // The socket is dropped either way.
    let _ = stream.try_write(Reply::Error(Complaint::new(Kind::Busy, message)).line().as_bytes());
}

#[cfg(test)]
mod tests;
