//! The daemon's end of the control socket: takes lines, has them answered, writes the replies.
//!
//! A shell: it knows no request. Clients are independent of each other, and each has one request under way at a time; a client that does not read
//! its replies waits for itself.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::lines::Lines;
use super::socket::ControlSocket;
use super::wire::{Complaint, Kind, Reply, Request};

/// The most bytes of a request; the longest has a peer's name and a server's label.
pub const MOST_LINE: usize = 4096;
/// So many clients at once, at most.
const MOST_CLIENTS: usize = 32;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a client may take to read a reply.
const WRITING: Duration = Duration::from_secs(5);
/// A client that says nothing for so long makes room.
const MOST_SILENCE: Duration = Duration::from_secs(60);
/// The pause after the system had no resources for another client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who answers requests.
pub trait Operator: Send + Sync + 'static {
    /// Does what is asked, or says why not.
    fn answer(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

/// Serves until `stop` becomes true; then clients are cut off, and socket and operator dropped.
pub async fn serve(socket: ControlSocket, operator: Arc<impl Operator>, mut stop: watch::Receiver<bool>) {
    let listener = socket.listener().try_clone().and_then(UnixListener::from_std);
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "the control socket can't be served");
            return;
        }
    };
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // An error is the sender's end: the daemon's.
            () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if clients.len() >= MOST_CLIENTS => refuse(&stream),
                Ok((stream, _)) => drop(clients.spawn(attend(stream, Arc::clone(&operator)))),
                Err(error) => {
                    tracing::debug!(%error, "no further client of the control socket can be taken for now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    clients.shutdown().await;
}

/// Serves a client until it leaves, says nothing for too long, or does not read.
async fn attend(mut stream: UnixStream, operator: Arc<impl Operator>) {
    let mut lines = Lines::new(MOST_LINE);
    let mut bytes = [0; 1024];
    while let Ok(Ok(count @ 1..)) = timeout(MOST_SILENCE, stream.read(&mut bytes)).await {
        lines.handle_bytes(&bytes[..count]);
        while let Some(line) = lines.poll_line() {
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
