//! Wayland screens: granted by the ScreenCast portal, delivered by PipeWire.
//!
//! Owns the thread `capture-portal` and what becomes of a source whose screen is gone: `session` asks, `stream` brings buffers, `capture`
//! makes frames of them, `asking` says when to ask again. A dialog appears at the start, unless the permission was kept, and after a loss
//! at most once a minute; never after the user has stopped the sharing.

use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use tracing::{debug, error, info, warn};

use super::list::Found;
use super::{Caption, FrameSink, Opened, Source, SourceError, SourceOptions, SourceSpec};
use crate::alive::Watch;
use crate::orders::{Health, Mode, Orders};
use crate::signaling::access::state_dir;

mod asking;
mod capture;
mod news;
mod params;
mod pixels;
mod raw;
mod session;
mod stream;
mod token;

use asking::{Asking, Outcome, RETRY};
use capture::Capture;
use session::{End, Grant, Session, Told};
use stream::Stream;
use token::Keeper;

/// How long somebody may take to answer the desktop's dialog.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a start may take before it is said that somebody has to answer.
const TELLING: Duration = Duration::from_secs(3);
/// How long a start may take that nobody should have to answer.
const SILENT: Duration = Duration::from_secs(10);
/// How long PipeWire may take to offer a format.
const FORMAT: Duration = Duration::from_secs(8);
/// How long opening may take in all.
const OPENING: Duration = Duration::from_secs(75);
/// How long a stream that should run may stand still before it is given up.
const STANDSTILL: Duration = Duration::from_secs(4);
/// How long the portal may take to say what it can do, where somebody waits.
const PROBE: Duration = Duration::from_millis(800);

/// Whether this is a session of Wayland whose portal could be asked.
pub(crate) fn is_session() -> bool {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_wayland =
        variable("WAYLAND_DISPLAY").is_some() || variable("XDG_SESSION_TYPE").is_some_and(|kind| kind == "wayland");
    is_wayland && has_bus()
}

/// Whether there is a session bus, as far as the environment tells.
fn has_bus() -> bool {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("DBUS_SESSION_BUS_ADDRESS").is_some()
        || variable("XDG_RUNTIME_DIR").is_some_and(|directory| std::path::Path::new(&directory).join("bus").exists())
}

/// The screens that the portal offers: the one that is chosen in its dialog.
pub(super) fn list() -> Vec<Found> {
    if !is_session() || !session::probe(PROBE).is_ok_and(|abilities| abilities.has_monitors) {
        return Vec::new();
    }
    let what = if is_kept() {
        "the screen that was chosen in the desktop's dialog (Wayland); it is not asked for again"
    } else {
        "the screen that is chosen in the desktop's dialog (Wayland)"
    };
    vec![Found::new(SourceSpec::SCREEN.to_string(), what)]
}

/// Whether the permission of an earlier start is kept.
fn is_kept() -> bool {
    Keeper::new(state_dir().as_deref()).token().is_some()
}

/// What the portal offers, or why it can't be used and what to do; asks nobody anything.
///
/// # Errors
/// One line, with what to do after a semicolon.
pub(crate) fn look(within: Duration) -> Result<String, String> {
    let words = |end| {
        let (found, advice) = Failure::Ended(end).in_words();
        format!("a Wayland session: {found}; {advice}")
    };
    let abilities = session::probe(within).map_err(words)?;
    if !abilities.has_monitors {
        return Err(words(End::NoPortal("it shares no monitors".to_owned())));
    }
    let kept = match (abilities.version, is_kept()) {
        (_, true) => "the permission is kept, so that nobody is asked",
        (4.., false) => "the desktop asks at the first start, and the permission is kept then",
        (_, false) => "the desktop asks at each start: its portal keeps no permission",
    };
    Ok(format!("a Wayland session, whose portal shares a screen (ScreenCast {}): {kept}", abilities.version))
}

/// Opens the screen that the portal grants, perhaps after a dialog.
///
/// # Errors
/// [`SourceError::Unavailable`] with what was found and what to do.
pub(super) fn open(
    name: Option<&str>,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    if let Some(name) = name {
        let found = "which monitor is shown is chosen in a dialog of the desktop, under Wayland";
        return Err(SourceError::unavailable(format!("screen:{name}"), found, "use screen, and choose it there"));
    }
    if !has_bus() {
        return Err(Failure::Ended(End::NoBus("DBUS_SESSION_BUS_ADDRESS is not set".to_owned())).into_error());
    }
    let options = options.clone();
    let open = move |orders: &Orders| {
        let mut keeper = Keeper::new(options.state.as_deref());
        let live = start(&mut keeper, &options, ANSWER, orders).map_err(Failure::into_error)?;
        let size = live.capture.size();
        let mut asking = Asking::new(Instant::now());
        asking.handle(Outcome::Granted, false, Instant::now());
        let caption = Caption::new("screen (Wayland)".to_owned(), size, "");
        let opened = Opened::silent(size, caption.text());
        Ok((opened, Backend { keeper, asking, options, caption, live }))
    };
    Source::spawn_within(OPENING, "screen", "capture-portal", watch, open, move |backend, orders| {
        run(backend, orders, &sink);
    })
}

/// What the thread has.
struct Backend {
    keeper: Keeper,
    asking: Asking,
    options: SourceOptions,
    caption: Caption,
    live: Live,
}

/// A granted screen.
struct Live {
    capture: Capture,
    stream: Stream,
    session: Session,
    /// Readable while the stream or the session has something to tell.
    input: OwnedFd,
    /// Since when the stream stands still although it should run.
    stands_since: Option<Instant>,
}

/// Why there is no screen.
#[derive(Debug)]
enum Failure {
    /// The source was stopped meanwhile.
    Stopped,
    /// The session has ended before it began.
    Ended(End),
    /// Nobody has answered the dialog.
    Unanswered,
    /// PipeWire has no pictures.
    NoPictures(String),
}

impl Failure {
    fn into_error(self) -> SourceError {
        let (found, advice) = self.in_words();
        SourceError::unavailable("screen", found, advice)
    }

    /// What was found, and what to do.
    fn in_words(self) -> (String, &'static str) {
        let packages = "install and start xdg-desktop-portal and the backend of your desktop (xdg-desktop-portal-gnome, -kde, -wlr …)";
        match self {
            Self::Stopped => ("it was not waited for".to_owned(), "ask for it again"),
            Self::Ended(end @ End::NoBus(_)) => {
                (end.to_string(), "start laterna in the desktop's session, as the user who is logged in there")
            }
            Self::Ended(End::NoPortal(why)) => (format!("the desktop's portal can't share a screen: {why}"), packages),
            Self::Ended(end @ (End::Refused | End::Closed)) => (
                end.to_string(),
                "run laterna again, or switch to the screen again, and allow it in the desktop's dialog",
            ),
            Self::Ended(End::Failed(why)) => (
                format!("the desktop's portal has not shared a screen: {why}"),
                "look into `journalctl --user -u 'xdg-desktop-portal*'`, and whether PipeWire and WirePlumber run",
            ),
            Self::Unanswered => (
                format!("nobody has answered the desktop's dialog within {} s", ANSWER.as_secs()),
                "ask again when somebody is there to allow it; the permission is kept then",
            ),
            Self::NoPictures(why) => {
                (format!("PipeWire brings no pictures: {why}"), "start pipewire and wireplumber as this user")
            }
        }
    }

    /// In a few words, for people.
    fn why(&self) -> String {
        match self {
            Self::Stopped => "stopped".to_owned(),
            Self::Ended(end) => end.to_string(),
            Self::Unanswered => "nobody has answered the desktop's dialog".to_owned(),
            Self::NoPictures(why) => why.clone(),
        }
    }
}

/// Starts a session and its stream, with the token that is kept, and keeps the next one.
fn start(keeper: &mut Keeper, options: &SourceOptions, patience: Duration, orders: &Orders) -> Result<Live, Failure> {
    let system = |error: &dyn std::fmt::Display| Failure::Ended(End::Failed(error.to_string()));
    let session = Session::begin(keeper.token(), options.pointer).map_err(|error| system(&error))?;
    let grant = await_grant(&session, patience, orders)?;
    keeper.keep(grant.token);
    let stream = Stream::connect(grant.remote, grant.node, options.fps, grant.has_pointer)
        .map_err(|error| Failure::NoPictures(error.to_string()))?;
    let input = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| system(&error))?;
    for (at, fd) in [stream.fd(), session.as_fd()].into_iter().enumerate() {
        epoll::add(&input, fd, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)
            .map_err(|error| system(&error))?;
    }
    let deadline = Instant::now() + FORMAT;
    loop {
        stream.turn().map_err(Failure::NoPictures)?;
        if let Some(format) = stream.format() {
            let capture = Capture::new(format.size, options.fps);
            return Ok(Live { capture, stream, session, input, stands_since: None });
        }
        if orders.take().mode == Mode::Stopped {
            return Err(Failure::Stopped);
        }
        if Instant::now() >= deadline {
            return Err(Failure::NoPictures(format!("no format within {} s", FORMAT.as_secs())));
        }
        orders.wait(Some(input.as_fd()), Some(deadline)).map_err(|error| system(&error))?;
    }
}

/// Waits until the portal grants a screen.
fn await_grant(session: &Session, patience: Duration, orders: &Orders) -> Result<Grant, Failure> {
    let deadline = Instant::now() + patience;
    // When to say that somebody has to answer.
    let mut told_at = None;
    loop {
        while let Some(told) = session.poll() {
            match told {
                Told::Asked => told_at = Some(Instant::now() + TELLING),
                Told::Granted(grant) => return Ok(grant),
                Told::Ended(end) => return Err(Failure::Ended(end)),
            }
        }
        let now = Instant::now();
        if orders.take().mode == Mode::Stopped {
            return Err(Failure::Stopped);
        }
        if now >= deadline {
            return Err(Failure::Unanswered);
        }
        if told_at.is_some_and(|at| now >= at) {
            told_at = None;
            let left = deadline.saturating_duration_since(now).as_secs();
            info!("a dialog on the desktop asks which screen to share: it has to be answered within {left} s");
        }
        let until = told_at.map_or(deadline, |at| at.min(deadline));
        if let Err(error) = orders.wait(Some(session.as_fd()), Some(until)) {
            return Err(Failure::Ended(End::Failed(error.to_string())));
        }
    }
}

/// Captures, and brings a lost screen back, until the source is stopped.
fn run(mut backend: Backend, orders: &Orders, sink: &FrameSink) {
    loop {
        let failure = match serve(&mut backend.live, &mut backend.caption, orders, sink) {
            Ok(()) => return,
            Err(failure) => failure,
        };
        let why = failure.why();
        orders.tell(Health::Lost { why: why.clone() });
        let Backend { mut keeper, mut asking, options, mut caption, live } = backend;
        let is_stopped = is_stopped(&failure, &live.session, orders);
        drop(live);
        let restored = if is_stopped {
            let why = End::Closed.to_string();
            orders.tell(Health::Lost { why: why.clone() });
            warn!("{why}: switch to the screen again to go on");
            rest(orders)
        } else {
            warn!("the screen is lost ({why}); trying to have it back every second");
            restore(&mut keeper, &mut asking, &options, orders)
        };
        let ControlFlow::Continue(live) = restored else { return };
        info!("the screen is back: {}", live.capture.size());
        caption.follow(live.capture.size(), orders);
        orders.tell(Health::Well);
        backend = Backend { keeper, asking, options, caption, live };
    }
}

/// Captures until the source is stopped (`Ok`), or the screen is lost.
fn serve(live: &mut Live, caption: &mut Caption, orders: &Orders, sink: &FrameSink) -> Result<(), Failure> {
    loop {
        let wanted = orders.take();
        if wanted.mode == Mode::Stopped {
            return Ok(());
        }
        let now = Instant::now();
        live.capture.set_active(wanted.mode == Mode::Active, now);
        if wanted.refresh {
            live.capture.refresh(now);
        }
        let due = live.advance(wanted.mode == Mode::Active, sink)?;
        caption.follow(live.capture.size(), orders);
        if let Err(error) = orders.wait(Some(live.input.as_fd()), due) {
            error!("waiting for the screen: {error}");
            return Err(Failure::NoPictures(error.to_string()));
        }
    }
}

impl Live {
    /// Handles what has come, and captures what is due; says when there is something to do, whatever comes.
    fn advance(&mut self, is_active: bool, sink: &FrameSink) -> Result<Option<Instant>, Failure> {
        if let Some(Told::Ended(end)) = self.session.poll() {
            return Err(Failure::Ended(end));
        }
        // Until there is a picture to begin with, pictures are let come.
        let runs = is_active || !self.capture.has_picture();
        self.stream.set_active(runs);
        self.stream.turn().map_err(Failure::NoPictures)?;
        let now = Instant::now();
        let (news, is_gone) = self.stream.take_news();
        if is_gone {
            self.capture.handle_gone();
        }
        self.capture.handle(news, now, |nanos| instant(nanos, now));
        if let Some(due) = self.capture.poll_timeout()
            && due <= now
        {
            let was_waiting = self.capture.is_waiting();
            let capture = &mut self.capture;
            let frame = self.stream.with_pixels(|pixels| capture.capture(now, pixels));
            if was_waiting && !self.capture.is_waiting() {
                self.stream.release();
            }
            if let Some(frame) = frame {
                sink(frame);
            }
            return Ok(Some(now));
        }
        let stands = runs && !self.stream.is_streaming();
        self.stands_since = stands.then(|| self.stands_since.unwrap_or(now));
        let given_up = self.stands_since.map(|since| since + STANDSTILL);
        if given_up.is_some_and(|at| at <= now) {
            return Err(Failure::NoPictures("the desktop sends no pictures any more".to_owned()));
        }
        Ok([self.capture.poll_timeout(), given_up].into_iter().flatten().min())
    }
}

/// The moment of a time of the monotonic clock; now, where that makes no sense.
fn instant(nanos: i64, now: Instant) -> Instant {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let elapsed = i128::from(clock.tv_sec) * 1_000_000_000 + i128::from(clock.tv_nsec) - i128::from(nanos);
    let age = u64::try_from(elapsed).ok().map(Duration::from_nanos).filter(|age| *age < Duration::from_secs(1));
    age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
}

/// Whether the user has stopped the sharing: the portal has closed the session, and the desktop is there still.
///
/// The end of the stream may come before the portal's word, and a desktop that dies takes its sessions with it.
fn is_stopped(failure: &Failure, session: &Session, orders: &Orders) -> bool {
    let mut is_closed = matches!(failure, Failure::Ended(End::Closed));
    let mut is_over = matches!(failure, Failure::Ended(_));
    let deadline = Instant::now() + RETRY;
    while Instant::now() < deadline && orders.take().mode != Mode::Stopped {
        let told = if is_over { None } else { session.poll() };
        match told {
            Some(Told::Ended(end)) => (is_closed, is_over) = (end == End::Closed, true),
            Some(Told::Asked | Told::Granted(_)) => {}
            None => {
                let input = (!is_over).then(|| session.as_fd());
                if orders.wait(input, Some(deadline)).is_err() {
                    break;
                }
            }
        }
    }
    is_closed && is_desktop_there()
}

/// Whether the desktop takes connections, as far as the environment tells where.
fn is_desktop_there() -> bool {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let place = variable("XDG_RUNTIME_DIR").zip(variable("WAYLAND_DISPLAY"));
    place.is_none_or(|(directory, name)| {
        std::os::unix::net::UnixStream::connect(std::path::Path::new(&directory).join(name)).is_ok()
    })
}

/// Does nothing until the source is stopped: the user does not want the screen to be seen.
fn rest<T>(orders: &Orders) -> ControlFlow<(), T> {
    while orders.take().mode != Mode::Stopped {
        if let Err(error) = orders.wait(None, None) {
            error!("waiting for orders: {error}");
            break;
        }
    }
    ControlFlow::Break(())
}

/// Tries until the screen is there again; breaks off when the source is stopped.
fn restore(
    keeper: &mut Keeper,
    asking: &mut Asking,
    options: &SourceOptions,
    orders: &Orders,
) -> ControlFlow<(), Live> {
    let mut due = Instant::now() + RETRY;
    loop {
        if orders.take().mode == Mode::Stopped {
            return ControlFlow::Break(());
        }
        let has_token = keeper.token().is_some();
        if Instant::now() >= due && asking.may_start(has_token, Instant::now()) {
            let is_silent = asking.is_silent(has_token);
            let patience = if is_silent { SILENT } else { ANSWER };
            let outcome = match start(keeper, options, patience, orders) {
                Ok(live) => {
                    asking.handle(Outcome::Granted, has_token, Instant::now());
                    return ControlFlow::Continue(live);
                }
                Err(Failure::Stopped) => return ControlFlow::Break(()),
                Err(failure) => {
                    debug!("{}", failure.why());
                    match failure {
                        Failure::Unanswered if is_silent => Outcome::Silent,
                        Failure::Unanswered | Failure::Ended(End::Refused | End::Closed) => Outcome::Refused,
                        Failure::Ended(End::NoBus(_) | End::NoPortal(_)) => Outcome::Failed { asked: false },
                        _ => Outcome::Failed { asked: true },
                    }
                }
            };
            asking.handle(outcome, has_token, Instant::now());
        }
        if Instant::now() >= due {
            due = Instant::now() + RETRY;
        }
        if let Err(error) = orders.wait(None, Some(due)) {
            error!("waiting for the screen: {error}");
            return ControlFlow::Break(());
        }
    }
}

#[cfg(test)]
mod tests;
