//! The composition root: opens everything, wires it, and takes it apart in order.
//!
//! The thread that calls [`run`] becomes the control side (HTTP, signals); pictures and packets have threads of their own.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::{AuthConfig, Listen, RunConfig};
use crate::encoder::AccessUnit;
use crate::encoder::worker::{EncodeWorker, WorkerConfig};
use crate::fanout::Unit;
use crate::frame::Frame;
use crate::frame::canvas::canvas_size;
use crate::session::engine::identity::Identity;
use crate::session::inbox::Inbox;
use crate::session::join::{Demand, Join, JoinConfig};
use crate::session::media::Media;
use crate::session::messages::JoinIn;
use crate::session::sink::SocketSink;
use crate::session::udp::{MediaSocket, local_addresses};
use crate::session::wake::Waker;
use crate::signaling::SignalIn;
use crate::signaling::access::{Access, Code, OwnNames, state_dir};
use crate::signaling::server::{ConnectionLimits, Deadlines, Server, ServerConfig};
use crate::source::{Source, SourceOptions};

/// Bounds of the queues between threads.
const MOST_COMMANDS: usize = 4096;
const MOST_UNITS: usize = 64;
const MOST_SIGNALS: usize = 256;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// Where something that was asked for can't be opened, or a thread ends that must not.
pub fn run(config: RunConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let mut stop = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let daemon = Daemon::start(config)?;
        let told = async move {
            tokio::select! {
                _ = stop.0.recv() => "SIGINT",
                _ = stop.1.recv() => "SIGTERM",
            }
        };
        daemon.serve(told).await
    })
}

/// Everything that is open and running.
struct Daemon {
    server: Option<Server>,
    signals: (mpsc::Sender<SignalIn>, mpsc::Receiver<SignalIn>),
    join: Inbox<JoinIn>,
    threads: Vec<JoinHandle<()>>,
    /// Resolves when one of the threads has ended.
    ended: mpsc::Receiver<()>,
    /// Owned to the end: dropping them stops and joins their threads.
    _pictures: Pictures,
}

/// What makes pictures: the source puts frames into the worker.
#[derive(Clone)]
struct Pictures {
    source: Arc<Source>,
    worker: Arc<EncodeWorker>,
}

impl Daemon {
    fn start(config: RunConfig) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let identity = Identity::generate()?;
        let socket = MediaSocket::bind(config.udp_port)?;
        let (access, code) = access(&config.auth)?;
        let server = match &config.listen {
            Listen::Off => None,
            Listen::At(addresses) => Some(Server::bind(ServerConfig {
                listen: addresses.clone(),
                access,
                own_names: OwnNames::of_this_machine([]),
                limits: ConnectionLimits::default(),
                deadlines: Deadlines::default(),
            })?),
        };
        let waker = || Waker::new().context("no descriptors left");
        let media_waker = waker()?;
        let units = Inbox::new(MOST_UNITS, media_waker.clone());
        let media = Inbox::new(MOST_COMMANDS, media_waker);
        let join = Inbox::new(MOST_COMMANDS, waker()?);

        let pictures = Pictures::open(&config, &units)?;
        let keyframe = {
            let worker = pictures.worker.clone();
            Arc::new(move || worker.request_keyframe())
        };
        let demand: Demand = {
            let pictures = pictures.clone();
            Box::new(move |wanted| pictures.set_active(wanted))
        };
        let join_config = JoinConfig {
            name: config.name.clone(),
            max_viewers: config.max_viewers,
            bitrate: config.bitrate,
            clock,
            identity,
        };
        let join_sink = SocketSink::new(socket.try_clone_sender().context("no descriptors left")?);
        let media_sink = SocketSink::new(socket.try_clone_sender().context("no descriptors left")?);
        let udp_port = socket.local_port();
        let join_state = Join::new(join_config, join_sink, join.clone(), media.clone(), demand);
        let media_state = Media::new(media_sink, media, units, join.clone(), keyframe);

        let (alive, ended) = mpsc::channel(1);
        let threads = vec![
            spawn("media", alive.clone(), move || media_state.run(socket))?,
            spawn("join", alive, move || join_state.run())?,
        ];
        announce(server.as_ref(), udp_port, code.as_ref(), &config.name).context("stdout")?;
        Ok(Self { server, signals: mpsc::channel(MOST_SIGNALS), join, threads, ended, _pictures: pictures })
    }

    /// Serves until `told`; then viewers are told, threads joined, and requests in flight answered.
    async fn serve(mut self, told: impl Future<Output = &'static str>) -> anyhow::Result<()> {
        let (sender, mut receiver) = self.signals;
        let (stop_http, http_stopped) = oneshot::channel::<()>();
        let http = async {
            match self.server {
                Some(server) => server.run(sender, async { drop(http_stopped.await) }).await,
                None => drop(http_stopped.await),
            }
        };
        let join = self.join.clone();
        let relay = async move {
            while let Some(signal) = receiver.recv().await {
                // A full queue drops the request, and with it the reply's sender: the protocol says so to its viewer.
                drop(join.push(JoinIn::Signal(signal)));
            }
            std::future::pending::<()>().await;
        };
        let threads = self.threads;
        let join = self.join;
        let control = async move {
            let result = tokio::select! {
                why = told => {
                    info!(signal = why, "stopping");
                    Ok(())
                }
                _ = self.ended.recv() => Err(anyhow!("a thread has ended that must not; this is a bug, its message is above")),
            };
            if result.is_ok() {
                join.push_always(JoinIn::Shutdown);
                // Both end within a turn of their loops.
                for thread in threads {
                    drop(thread.join());
                }
            }
            drop(stop_http);
            result
        };
        tokio::select! {
            (result, ()) = async { tokio::join!(control, http) } => result,
            () = relay => Ok(()),
        }
    }
}

impl Pictures {
    fn open(config: &RunConfig, units: &Inbox<Arc<Unit>>) -> anyhow::Result<Self> {
        let options = SourceOptions { fps: config.fps, pointer: config.pointer, size: config.size };
        let worker: Arc<OnceLock<Arc<EncodeWorker>>> = Arc::default();
        let sink = {
            let worker = worker.clone();
            Arc::new(move |frame: Frame| {
                if let Some(worker) = worker.get() {
                    worker.put(frame);
                }
            })
        };
        let source = Arc::new(Source::open(&config.source, options, sink)?);
        let canvas = canvas_size(source.size(), config.size);
        let units = units.clone();
        let unit_sink = Arc::new(move |unit: AccessUnit| units.push_newest(Arc::new(Unit::new(unit))));
        let worker_config = WorkerConfig { canvas, bitrate: config.bitrate, fps: config.fps };
        let started = Arc::new(EncodeWorker::start(worker_config, unit_sink)?);
        info!(source = source.describe(), %canvas, fps = config.fps, bitrate = config.bitrate.0, "ready");
        // A source is inactive when opened, so no frame has come yet.
        let _ = worker.set(started.clone());
        Ok(Self { source, worker: started })
    }

    fn set_active(&self, active: bool) {
        if active {
            self.worker.set_active(true);
            self.source.set_active(true);
        } else {
            self.source.set_active(false);
            self.worker.set_active(false);
        }
    }
}

/// Starts a thread that holds `alive` for as long as it runs.
fn spawn(name: &str, alive: mpsc::Sender<()>, body: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    struct Ended(mpsc::Sender<()>);
    impl Drop for Ended {
        fn drop(&mut self) {
            // Full means that word of another thread's end is under way.
            let _ = self.0.try_send(());
        }
    }
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _ended = Ended(alive);
            body();
        })
        .with_context(|| format!("thread {name}"))
}

/// Who may watch, and the code to print.
fn access(auth: &AuthConfig) -> anyhow::Result<(Access, Option<Code>)> {
    let code = match auth {
        AuthConfig::None => {
            warn!("--auth none: every browser that reaches this machine's ports can watch, and so can any web page opened in one");
            return Ok((Access::Open, None));
        }
        AuthConfig::Code { file: Some(file) } => {
            Code::load_or_create(file).with_context(|| format!("--auth-code-file {}", file.display()))?
        }
        AuthConfig::Code { file: None } => {
            let path = state_dir().map(|dir| dir.join("code"));
            match path.as_deref().map(Code::load_or_create) {
                Some(Ok(code)) => code,
                Some(Err(error)) => {
                    warn!(%error, "the code can't be kept: it lasts for this run");
                    Code::random()
                }
                None => {
                    warn!("there is no state directory (set HOME or STATE_DIRECTORY): the code lasts for this run");
                    Code::random()
                }
            }
        }
    };
    Ok((Access::with_code(code.clone()), Some(code)))
}

/// Prints the ready lines of the contract, and a QR code on a terminal.
fn announce(server: Option<&Server>, udp_port: u16, code: Option<&Code>, name: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let addresses = server.map_or(&[][..], Server::local_addrs);
    let listening: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    let http = if listening.is_empty() { "off".to_owned() } else { listening.join(",") };
    writeln!(out, "listening http={http} udp={udp_port}")?;
    let urls = urls(addresses, code);
    for url in &urls {
        writeln!(out, "open {url}")?;
    }
    if rustix::termios::isatty(&out)
        && let Some(picture) = urls.first().and_then(|url| qr_code(url))
    {
        writeln!(out, "{picture}\n{name}: scan this with a phone, or open one of the addresses above")?;
    }
    out.flush()
}

/// The addresses to open: those of all interfaces for a wildcard, loopback last and once.
fn urls(listening: &[SocketAddr], code: Option<&Code>) -> Vec<String> {
    let mut places: Vec<SocketAddr> = Vec::new();
    for bound in listening {
        if !bound.ip().is_unspecified() {
            places.push(*bound);
            continue;
        }
        let own = local_addresses().unwrap_or_else(|_| vec![IpAddr::from(Ipv4Addr::LOCALHOST)]);
        let reached = own
            .into_iter()
            .filter(|ip| bound.is_ipv6() || ip.is_ipv4())
            .filter(|ip| !(ip.is_ipv6() && ip.is_loopback()));
        places.extend(reached.map(|ip| SocketAddr::new(ip, bound.port())));
    }
    places.dedup();
    let code = code.map_or(String::new(), |code| format!("#{}", code.reveal()));
    places.into_iter().map(|place| format!("http://{place}/{code}")).collect()
}

fn qr_code(url: &str) -> Option<String> {
    let code = qrcode::QrCode::new(url).ok()?;
    Some(code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build())
}
