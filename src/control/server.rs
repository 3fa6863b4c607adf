//! The daemon's end of the control socket: takes lines, has them answered, writes the replies.
//!
//! A shell: it knows no request. Clients are independent of each other, and each has one request under way at a time; a client that does not read
//! its replies waits for itself.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{timeout, timeout_at};

use super::lines::Lines;
use super::socket::ControlSocket;
use super::wire::{Complaint, Kind, Reply, Request};
use crate::trouble::{Exhausted, until};

/// The most bytes of a request; the longest has a peer's name and a server's label.
pub const MOST_LINE: usize = 4096;
/// So many clients at once, at most.
const MOST_CLIENTS: usize = 32;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
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
}

impl Default for Patience {
    fn default() -> Self {
        Self { closed: Duration::from_secs(10), gives_way: Duration::from_secs(2) }
    }
}

/// Who answers requests.
pub trait Operator: Send + Sync + 'static {
    /// Does what is asked, or says why not.
    fn answer(&self, request: Request) -> impl Future<Output = Reply> + Send;
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
                    let task = clients.spawn(attend(stream, Arc::clone(&operator), silence.clone(), patience.closed));
                    places.taken.push((silence, task));
                }
                Err(error) => {
                    exhausted.note(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    clients.shutdown().await;
}

/// Who is served.
struct Places {
    patience: Patience,
    taken: Vec<(Silence, AbortHandle)>,
}

impl Places {
    /// Whether there is a place for another client; where there is none, whoever has been silent longest may have to give way.
    fn have_one(&mut self, now: Instant) -> bool {
        self.taken.retain(|(_, task)| !task.is_finished());
        if self.taken.len() < MOST_CLIENTS {
            return true;
        }
        let silent = self.taken.iter().enumerate().filter_map(|(at, (silence, _))| Some((silence.since()?, at)));
        let Some((_, at)) = silent.min().filter(|(since, _)| now >= *since + self.patience.gives_way) else {
            return false;
        };
        let (_, task) = self.taken.swap_remove(at);
        task.abort();
        true
    }
}

/// Since when a client has sent no whole line; nothing while it is being answered.
#[derive(Clone)]
struct Silence(Arc<Mutex<Option<Instant>>>);

impl Silence {
    fn new(since: Instant) -> Self {
        Self(Arc::new(Mutex::new(Some(since))))
    }

    fn since(&self) -> Option<Instant> {
        *self.lock()
    }

    fn set(&self, since: Option<Instant>) {
        *self.lock() = since;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a client until it leaves, sends no whole line for too long, or does not read.
async fn attend(mut stream: UnixStream, operator: Arc<impl Operator>, silence: Silence, most: Duration) {
    let mut lines = Lines::new(MOST_LINE);
    let mut bytes = [0; 1024];
    let mut heard = Instant::now();
    while let Ok(Ok(count @ 1..)) = timeout_at((heard + most).into(), stream.read(&mut bytes)).await {
        lines.handle_bytes(&bytes[..count]);
        while let Some(line) = lines.poll_line() {
            silence.set(None);
            let request = match line {
                Ok(line) => Request::parse(&line),
                Err(error) => Err(Complaint::new(Kind::BadRequest, format!("{error}; requests are short"))),
            };
            let reply = match request {
                Ok(request) => timeout(ANSWER, operator.answer(request)).await.unwrap_or_else(|_| late()),
                Err(complaint) => Reply::Error(complaint),
            };
            if !matches!(timeout(WRITING, stream.write_all(reply.line().as_bytes())).await, Ok(Ok(()))) {
                return;
            }
            heard = Instant::now();
            silence.set(Some(heard));
        }
    }
}

fn late() -> Reply {
    let message = format!("the daemon is too busy: no answer within {} s; try again", ANSWER.as_secs());
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
