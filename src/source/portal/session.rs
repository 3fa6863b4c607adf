//! A session of the ScreenCast portal (org.freedesktop.portal.ScreenCast, .Session): asked for, granted, closed.
//!
//! Owns the thread `portal-session` with a runtime and a connection to the session bus of its own, which live as long as the session does:
//! the portal ends what belongs to a connection that is gone. It never decides whether to ask.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use ashpd::desktop::PersistMode;
use ashpd::desktop::ResponseError;
use ashpd::desktop::screencast::{CursorMode, Screencast, SelectSourcesOptions, SourceType};
use ashpd::enumflags2::BitFlags;
use ashpd::zbus;
use futures_util::StreamExt as _;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;
use tracing::debug;

/// How long the portal may take to take leave.
const LEAVING: Duration = Duration::from_secs(1);

/// A session, from the first call on; closed when dropped.
#[derive(Debug)]
pub(super) struct Session {
    told: Receiver<Told>,
    bell: Arc<OwnedFd>,
    /// Dropped with the session: that ends the thread.
    _stop: oneshot::Sender<()>,
}

/// What a session tells, in this order.
#[derive(Debug)]
pub(super) enum Told {
    /// The desktop was asked to start: from now on there may be a dialog.
    Asked,
    /// Pictures can be had.
    Granted(Grant),
    /// It is over.
    Ended(End),
}

/// What was granted.
#[derive(Debug)]
pub(super) struct Grant {
    /// PipeWire's node.
    pub(super) node: u32,
    /// The connection to PipeWire that shows it.
    pub(super) remote: OwnedFd,
    /// What to begin the next session with.
    pub(super) token: Option<String>,
    /// Whether the pointer comes beside the pictures.
    pub(super) has_pointer: bool,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum End {
    /// There is no session bus.
    #[error("the session bus can't be reached ({0})")]
    NoBus(String),
    /// Nobody answers to the portal's name, or it has no ScreenCast.
    #[error("{0}")]
    NoPortal(String),
    /// The user has closed the dialog.
    #[error("the user has refused")]
    Refused,
    /// The portal has ended a session that was granted: the user has pressed "stop sharing".
    #[error("the sharing was stopped in the desktop")]
    Closed,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// What a portal can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abilities {
    /// The version of its ScreenCast.
    pub(super) version: u32,
    /// Whether whole monitors can be shared.
    pub(super) has_monitors: bool,
}

impl Session {
    /// Begins a session, with the token of the last one; what comes of it is told by and by.
    ///
    /// # Errors
    /// Where there is no thread to be had.
    pub(super) fn begin(token: Option<String>, with_pointer: bool) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        // Three things are told at most.
        let (tell, told) = sync_channel(4);
        let (stop, stopped) = oneshot::channel();
        let teller = Teller { tell, bell: bell.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("portal-session".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    end = live(token, with_pointer, &teller) => {
                        debug!("the session of the portal is over: {end}");
                        teller.tell(Told::Ended(end));
                    }
                }
            });
            // What the portal is told last may still be on its way; a call that hangs is left behind.
            runtime.shutdown_timeout(LEAVING);
        })?;
        Ok(Self { told, bell, _stop: stop })
    }

    /// What it tells next; `None` while there is nothing.
    pub(super) fn poll(&self) -> Option<Told> {
        let mut count = [0; 8];
        let _silent_already = rustix::io::read(&self.bell, &mut count);
        match self.told.try_recv() {
            Ok(told) => {
                // There may be more.
                ring(&self.bell);
                Some(told)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Told::Ended(End::Failed("its thread has ended".to_owned()))),
        }
    }
}

impl AsFd for Session {
    /// Readable while there may be something to poll.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The thread's end of a session.
struct Teller {
    tell: SyncSender<Told>,
    bell: Arc<OwnedFd>,
}

impl Teller {
    fn tell(&self, told: Told) {
        // Where nobody listens any more, the session is dropped.
        let _dropped = self.tell.try_send(told);
        ring(&self.bell);
    }
}

fn ring(bell: &OwnedFd) {
    // It can fail only when the bell rings already.
    let _rings_already = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// The portal, as far as it can be reached; the connection is the caller's own.
async fn reach() -> Result<(Screencast, Abilities), End> {
    let connection = zbus::Connection::session().await.map_err(|error| End::NoBus(error.to_string()))?;
    let screencast = Screencast::with_connection(connection).await.map_err(end)?;
    // A portal that does not answer is found out by the first property that is asked for.
    let types = screencast.available_source_types().await.map_err(end)?;
    let abilities = Abilities { version: screencast.version(), has_monitors: types.contains(SourceType::Monitor) };
    Ok((screencast, abilities))
}

/// What the portal of this session can do; asks nobody anything. Blocks for as long as it takes, at most so long.
pub(super) fn probe(within: Duration) -> Result<Abilities, End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| End::Failed(error.to_string()))?;
    let reached = runtime.block_on(async { tokio::time::timeout(within, reach()).await });
    let found = match reached {
        Ok(reached) => reached.map(|(_, abilities)| abilities),
        Err(_) => Err(End::NoPortal(format!("it has not answered within {} s", within.as_secs()))),
    };
    runtime.shutdown_background();
    found
}

/// Has a session from its beginning to its end.
async fn live(token: Option<String>, with_pointer: bool, teller: &Teller) -> End {
    match cast(token, with_pointer, teller).await {
        Ok(()) => End::Closed,
        Err(end) => end,
    }
}

/// Asks for a screen, and has it until the portal closes the session (`Ok`).
async fn cast(token: Option<String>, with_pointer: bool, teller: &Teller) -> Result<(), End> {
    let (screencast, abilities) = reach().await?;
    if !abilities.has_monitors {
        return Err(End::NoPortal("it shares no monitors".to_owned()));
    }
    let mut owner = screencast.receive_owner_changed().await.map_err(|error| End::Failed(error.to_string()))?;
    // A portal that dies answers nothing any more.
    tokio::select! {
        ended = share(&screencast, abilities, token, with_pointer, teller) => ended,
        changed = owner.next() => {
            let who = if changed.is_some() { "the desktop's portal" } else { "the session bus" };
            Err(End::Failed(format!("{who} is gone")))
        }
    }
}

/// Asks a portal for a screen, and has it until the portal closes the session (`Ok`).
async fn share(
    screencast: &Screencast,
    abilities: Abilities,
    token: Option<String>,
    with_pointer: bool,
    teller: &Teller,
) -> Result<(), End> {
    // Before version 2 there was no choice.
    let modes = screencast.available_cursor_modes().await.unwrap_or_default();
    let cursor = cursor(modes, with_pointer);
    let session = screencast.create_session(Default::default()).await.map_err(end)?;
    let mut closed = session.receive_closed().await.map_err(end)?.boxed();
    let can_persist = abilities.version >= 4;
    let options = SelectSourcesOptions::default()
        .set_sources(BitFlags::from(SourceType::Monitor))
        .set_cursor_mode(cursor)
        .set_multiple(false)
        .set_persist_mode(can_persist.then_some(PersistMode::ExplicitlyRevoked))
        .set_restore_token(token.as_deref().filter(|_| can_persist));
    screencast.select_sources(&session, options).await.and_then(|request| request.response()).map_err(end)?;
    teller.tell(Told::Asked);
    let started = tokio::select! {
        _ = closed.next() => return Err(End::Refused),
        started = screencast.start(&session, None, Default::default()) => started.map_err(end)?,
    };
    let streams = started.response().map_err(end)?;
    let stream = streams.streams().first().ok_or_else(|| End::Failed("it has granted no screen".to_owned()))?;
    debug!("granted: {stream:?}");
    let remote = screencast.open_pipe_wire_remote(&session, Default::default()).await.map_err(end)?;
    teller.tell(Told::Granted(Grant {
        node: stream.pipe_wire_node_id(),
        remote,
        token: streams.restore_token().map(str::to_owned),
        has_pointer: cursor == Some(CursorMode::Metadata),
    }));
    closed.next().await.map(drop).ok_or_else(|| End::Failed("the session bus is gone".to_owned()))
}

/// How the pointer is to come; `None` where the portal is not to be told.
fn cursor(modes: BitFlags<CursorMode>, with_pointer: bool) -> Option<CursorMode> {
    let wanted: &[_] = if with_pointer { &[CursorMode::Metadata, CursorMode::Embedded] } else { &[CursorMode::Hidden] };
    wanted.iter().copied().find(|mode| modes.contains(*mode))
}

/// What a failed call means.
fn end(error: ashpd::Error) -> End {
    use ashpd::{Error, PortalError};
    match &error {
        Error::Response(ResponseError::Cancelled) | Error::Portal(PortalError::Cancelled(_)) => End::Refused,
        Error::Response(ResponseError::Other) => End::Failed("it has failed and does not say why".to_owned()),
        Error::PortalNotFound(_) => End::NoPortal("it has no ScreenCast".to_owned()),
        _ => {
            let text = error.to_string();
            if text.contains("ServiceUnknown") || text.contains("NameHasNoOwner") {
                End::NoPortal("nobody answers to the name org.freedesktop.portal.Desktop".to_owned())
            } else if text.contains("UnknownInterface")
                || text.contains("No such interface")
                || text.contains("InvalidArgs")
            {
                End::NoPortal("it has no ScreenCast".to_owned())
            } else {
                End::Failed(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointer_comes_beside_the_picture_where_that_can_be_had() {
        use CursorMode::{Embedded, Hidden, Metadata};
        assert_eq!(cursor(Hidden | Embedded | Metadata, true), Some(Metadata));
        assert_eq!(cursor(Hidden | Embedded, true), Some(Embedded));
        assert_eq!(cursor(Hidden | Embedded | Metadata, false), Some(Hidden));
        assert_eq!(cursor(BitFlags::empty(), true), None);
    }
}
