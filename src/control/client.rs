//! The commands' end of the control socket: finds the daemon, asks it, and prints what it says.

use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lines::Lines;
use super::print;
use super::socket::places;
use super::wire::{Complaint, Reply, ReplyError, Request, Status};

/// The most bytes of a reply: all peers of all servers.
const MOST_LINE: usize = 64 << 20;
/// How long the daemon may take to answer; it takes five seconds at most itself.
const WITHIN: Duration = Duration::from_secs(10);
/// How often `--watch` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// To know how the daemon is.
    Status {
        /// As a line of JSON.
        json: bool,
        /// Again whenever it has changed.
        watch: bool,
    },
    /// To know who is signed in where.
    Peers {
        /// As a line of JSON.
        json: bool,
    },
    /// To know what happens, until the daemon ends.
    Events {
        /// Each as a line of JSON.
        json: bool,
    },
    /// To offer the stream to a peer.
    Call {
        /// Its id or name.
        peer: String,
        /// The server, where the peer alone is not clear.
        server: Option<String>,
    },
    /// To end a viewer's connection.
    Kick {
        /// Its number.
        viewer: u32,
    },
    /// To show another source.
    Switch {
        /// Its spec, or `scene:NAME`.
        to: String,
    },
    /// To know the codes of viewers.
    Codes {
        /// As a line of JSON.
        json: bool,
        /// With the addresses to open.
        show: bool,
    },
    /// To add a code.
    AddCode {
        /// Its name.
        name: String,
        /// Since when it may not be used any more, in time since the Unix epoch.
        expires: Option<Duration>,
        /// As a line of JSON.
        json: bool,
    },
    /// To revoke a code.
    RevokeCode {
        /// Its name.
        name: String,
    },
}

/// Why a command is not done; one line.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon is there.
    #[error("no daemon answers at {}; start one with `laterna run`, or name its socket with --control PATH", list(.0))]
    Absent(Vec<(PathBuf, io::Error)>),
    /// The daemon says why.
    #[error(transparent)]
    Refused(#[from] Complaint),
    /// What came is not what was asked for.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The connection is lost.
    #[error("the daemon at {path} does not answer: {why}; see its log")]
    Lost {
        /// Where.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// What it says can't be printed.
    #[error("stdout: {0}")]
    Output(io::Error),
}

fn list(tried: &[(PathBuf, io::Error)]) -> String {
    let why = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not use it".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
        _ => error.to_string(),
    };
    let tried: Vec<_> = tried.iter().map(|(path, error)| format!("{} ({})", path.display(), why(error))).collect();
    tried.join(" or ")
}

/// Does what `command` says, by the daemon at `control` or, where that is not given, at one of the default places.
///
/// # Errors
/// Where there is no daemon, or it does not do it.
pub fn run(command: &Command, control: Option<&Path>, out: &mut impl Write) -> Result<(), ClientError> {
    let mut daemon = Daemon::find(&places(control, std::env::var_os("XDG_RUNTIME_DIR")))?;
    match command {
        Command::Status { json, watch } => {
            let status = daemon.status()?;
            show(out, &status, *json)?;
            if *watch { follow(daemon, status, *json, out) } else { Ok(()) }
        }
        Command::Peers { json } => match daemon.ask(&Request::Peers)? {
            Reply::Peers(servers) if *json => write_line(out, &print::json(&servers)),
            Reply::Peers(servers) => write_line(out, &print::peers(&servers)),
            other => Err(strange(&other).into()),
        },
        Command::Events { json } => daemon.listen(*json, out),
        Command::Call { peer, server } => {
            match daemon.ask(&Request::Call { peer: peer.clone(), server: server.clone() })? {
                Reply::Called(called) => write_line(out, &print::called(&called)),
                other => Err(strange(&other).into()),
            }
        }
        Command::Kick { viewer } => match daemon.ask(&Request::Kick { viewer: *viewer })? {
            Reply::Kicked(kicked) => write_line(out, &print::kicked(&kicked)),
            other => Err(strange(&other).into()),
        },
        Command::Switch { to } => match daemon.ask(&Request::Switch { to: to.clone() })? {
            Reply::Switched(switched) => write_line(out, &print::switched(&switched)),
            other => Err(strange(&other).into()),
        },
        Command::Codes { json, show } => match daemon.ask(&Request::Codes { show: *show })? {
            Reply::Codes(codes) if *json => write_line(out, &print::json(&codes)),
            Reply::Codes(codes) => write_line(out, &print::codes(&codes)),
            other => Err(strange(&other).into()),
        },
        Command::AddCode { name, expires, json } => {
            let expires_s = expires.map(|expires| expires.as_secs());
            match daemon.ask(&Request::AddCode { name: name.clone(), expires_s })? {
                Reply::CodeAdded(code) if *json => write_line(out, &print::json(&code)),
                Reply::CodeAdded(code) => write_line(out, &print::added(&code)),
                other => Err(strange(&other).into()),
            }
        }
        Command::RevokeCode { name } => match daemon.ask(&Request::RevokeCode { name: name.clone() })? {
            Reply::CodeRevoked(revoked) => write_line(out, &print::revoked(&revoked)),
            other => Err(strange(&other).into()),
        },
    }
}

/// How the daemon at `control` is, or the one at a default place.
///
/// # Errors
/// Where there is none, or it does not say.
pub fn status(control: Option<&Path>) -> Result<Status, ClientError> {
    Daemon::find(&places(control, std::env::var_os("XDG_RUNTIME_DIR")))?.status()
}

/// Shows the status again whenever it has changed, until the daemon ends.
fn follow(mut daemon: Daemon, first: Status, json: bool, out: &mut impl Write) -> Result<(), ClientError> {
    let mut shown = steady(&first);
    while daemon.stays(LOOK_EVERY)? {
        let status = match daemon.status() {
            Err(ClientError::Lost { .. }) if !daemon.stays(Duration::ZERO)? => return Ok(()),
            status => status?,
        };
        let now = steady(&status);
        if now != shown {
            shown = now;
            if !json {
                write_line(out, "")?;
            }
            show(out, &status, json)?;
        }
    }
    Ok(())
}

/// A status without what is another each second: times and counts.
fn steady(status: &Status) -> Status {
    let mut steady = status.clone();
    steady.uptime_s = 0;
    for encoder in &mut steady.encoders {
        (encoder.units, encoder.keyframes, encoder.bytes) = (0, 0, 0);
        (encoder.passed, encoder.skipped, encoder.recent_us) = (0, 0, 0);
    }
    for viewer in &mut steady.viewers {
        (viewer.since_s, viewer.rtt_ms, viewer.loss_percent) = (0, None, None);
        viewer.because.clear();
    }
    for problem in &mut steady.problems {
        problem.since_s = None;
        // Its figures change each second too.
        problem.what.retain(|c| !c.is_ascii_digit());
    }
    steady
}

fn show(out: &mut impl Write, status: &Status, json: bool) -> Result<(), ClientError> {
    write_line(out, &if json { print::json(status) } else { print::status(status) })
}

fn write_line(out: &mut impl Write, text: &str) -> Result<(), ClientError> {
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(ClientError::Output)
}

fn strange(reply: &Reply) -> ReplyError {
    let line = reply.line();
    ReplyError::Strange(format!("it said {}", line.chars().take(60).collect::<String>().trim_end()))
}

/// A connection to a daemon.
struct Daemon {
    stream: UnixStream,
    path: PathBuf,
    lines: Lines,
    ended: bool,
}

impl Daemon {
    /// The first that answers.
    fn find(places: &[PathBuf]) -> Result<Self, ClientError> {
        let mut tried = Vec::new();
        for path in places {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    let (path, lines) = (path.clone(), Lines::new(MOST_LINE));
                    return Ok(Self { stream, path, lines, ended: false });
                }
                Err(_) if path.is_dir() => {
                    let why = format!("it is a directory; is {} meant?", path.join("control.sock").display());
                    tried.push((path.clone(), io::Error::other(why)));
                }
                Err(error) => tried.push((path.clone(), error)),
            }
        }
        Err(ClientError::Absent(tried))
    }

    fn status(&mut self) -> Result<Status, ClientError> {
        match self.ask(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(strange(&other).into()),
        }
    }

    /// Shows what happens, a line each, until the daemon ends.
    fn listen(mut self, json: bool, out: &mut impl Write) -> Result<(), ClientError> {
        let mut reply = self.ask(&Request::Events)?;
        loop {
            let Reply::Event(event) = reply else { return Err(strange(&reply).into()) };
            write_line(out, &if json { print::json(&event) } else { print::event(&event) })?;
            reply = loop {
                match self.line(WITHIN)? {
                    Some(line) => break Reply::parse(&line)?,
                    None if self.ended => return Ok(()),
                    None => {}
                }
            };
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.stream.set_write_timeout(Some(WITHIN)).map_err(|error| self.lost(&error))?;
        // Whoever is refused a place has a reply all the same.
        let written = self.stream.write_all(request.line().as_bytes());
        let within = WITHIN + request.patience();
        let line = match self.line(within)? {
            Some(line) => line,
            None => {
                let why = match (written, self.ended) {
                    (Err(error), _) => error.to_string(),
                    (Ok(()), true) => "it closed the connection".to_owned(),
                    (Ok(()), false) => format!("nothing came within {} s", within.as_secs()),
                };
                return Err(ClientError::Lost { path: self.path.clone(), why });
            }
        };
        match Reply::parse(&line)? {
            Reply::Error(complaint) => Err(complaint.into()),
            reply => Ok(reply),
        }
    }

    /// Waits so long; returns early, and false, where the daemon ends.
    fn stays(&mut self, pause: Duration) -> Result<bool, ClientError> {
        if self.ended {
            return Ok(false);
        }
        match self.line(pause.max(Duration::from_millis(1)))? {
            Some(_) => Err(ReplyError::Strange("it said something unasked".to_owned()).into()),
            None => Ok(!self.ended),
        }
    }

    /// The next line; `None` where none came in time, or the daemon has ended.
    fn line(&mut self, within: Duration) -> Result<Option<Vec<u8>>, ClientError> {
        let deadline = Instant::now() + within;
        let mut bytes = vec![0; 64 * 1024];
        loop {
            if let Some(line) = self.lines.poll_line() {
                let line = line.map_err(|error| ReplyError::Strange(error.to_string()))?;
                return Ok(Some(line));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.ended {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left)).map_err(|error| self.lost(&error))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => self.lines.handle_bytes(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.ended = true,
                Err(error) if is_no_news(&error) => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }

    fn lost(&self, error: &io::Error) -> ClientError {
        ClientError::Lost { path: self.path.clone(), why: error.to_string() }
    }
}

fn is_no_news(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
