//! The composition root: opens everything, wires it, and takes it apart in order.
//!
//! The thread that calls [`run`] becomes the control side (HTTP, signals); pictures and packets have threads of their own.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::alive::Watch;
use crate::alive::beats::{Beat, Registry};
use crate::clock::Clock;
use crate::config::{Listen, RunConfig};
use crate::control;
use crate::control::socket::ControlSocket;
use crate::control::wire::Event;
use crate::events::{Events, Listener};
use crate::hooks;
use crate::ice_server::{IceServer, IceServers, Scheme};
use crate::private_file;
use crate::service::{self, ServiceManager};
use crate::session::engine::identity::Identity;
use crate::session::inbox::Inbox;
use crate::session::join::{Demand, Join, JoinConfig};
use crate::session::media::{Media, UnitQueues};
use crate::session::messages::JoinIn;
use crate::session::port;
use crate::session::reach::{NetworkFilter, Reach, ReachConfig};
use crate::session::relay;
use crate::session::relay::table::Relays;
use crate::session::relay::told::RelayStarter;
use crate::session::sink::SocketSink;
use crate::session::streams::{StreamPacket, Streams};
use crate::session::tcp::MediaListener;
use crate::session::wake::Waker;
use crate::signaling::SignalIn;
use crate::signaling::access::{OwnNames, state_dir};
use crate::signaling::ask::Asker;
use crate::signaling::client;
use crate::signaling::server::{ConnectionLimits, Deadlines, Looks, RoomConfig, Server, ServerConfig};

mod access;
mod announce;
mod checks;
mod closing;
mod herald;
mod makers;
mod operate;
mod problems;
mod steering;
mod surroundings;
mod tls;

use access::Codes;
use announce::{announce, report};
pub use checks::{check, check_files};
use closing::close;
use makers::Makers;
use operate::{Desks, Facts, Queues};
pub use steering::Reloads;
use steering::{ClientKit, LiveTerms, RoomFor, Steering};

/// Bounds of the queues between threads.
const MOST_COMMANDS: usize = 4096;
const MOST_UNITS: usize = 64;
/// A second of sound.
const MOST_SOUND: usize = 50;
const MOST_SIGNALS: usize = 256;
/// Of operators, who are answered one after the other.
const MOST_ORDERS: usize = 16;
/// How much less urgent HTTP and signaling are than pictures (nice(2)).
const LESS_URGENT: i32 = 5;
/// How long all threads may take to end: the join thread's second for goodbyes, the source's two, the sound's two, and some more.
const CLOSING: Duration = Duration::from_secs(6);

/// Runs the daemon until it is told to stop. `config` is what holds at the start, and `file` the config file of it; at SIGHUP it is read again by `reloads`.
///
/// # Errors
/// Where something that was asked for can't be opened, a thread ends that must not, or the end is not in order.
pub fn run(config: RunConfig, file: Option<Arc<Path>>, reloads: Reloads) -> anyhow::Result<()> {
    let inherited = service::inherited_sockets();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(async {
        let stops = Stops { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
        let hangups = signal(SignalKind::hangup())?;
        let manager = ServiceManager::from_environment();
        let ended = match Daemon::start(inherited, config) {
            Ok(daemon) => daemon.serve((stops, hangups), file, reloads, &manager).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &ended {
            manager.status(&format!("failed: {error:#}")).await;
        }
        ended
    });
    // A file of a reload that can't be read to its end is waited for no longer.
    runtime.shutdown_background();
    ended
}

/// The signals that tell the daemon to stop.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// What serves viewers over TCP.
struct TcpMedia {
    listener: MediaListener,
    streams: Streams,
    packets: Inbox<StreamPacket>,
    limits: ConnectionLimits,
}

/// Everything that is open and running.
struct Daemon {
    server: Option<Server>,
    /// What the server asks of the daemon.
    looks: Option<Looks>,
    streams: Option<TcpMedia>,
    signals: (mpsc::Sender<SignalIn>, mpsc::Receiver<SignalIn>),
    /// What holds at the start.
    config: RunConfig,
    /// Where operators ask, and what of the answers stays as it is.
    control: Option<ControlSocket>,
    facts: Facts,
    /// What the clients of signaling servers need; they start with the serving.
    kit: ClientKit,
    /// What of the server a reload may change.
    live: LiveTerms,
    /// What the tasks of STUN and TURN servers need; the same.
    ice_servers: Vec<relay::server::ServerConfig>,
    join: Inbox<JoinIn>,
    threads: Vec<JoinHandle<()>>,
    /// Gets the name of a thread that has ended.
    ended: mpsc::Receiver<String>,
    /// The threads that must not hang.
    beating: Registry,
    /// How many are watching.
    watching: watch::Receiver<usize>,
    /// Tells operators what happens.
    events: Events,
    /// What was told since the start, for who keeps account of it.
    account: Listener,
    /// Which networks viewers are told of.
    networks: NetworkFilter,
    /// Owned to the end: dropping them stops and joins their threads.
    makers: Makers,
}

impl Daemon {
    fn start(inherited: Vec<TcpListener>, config: RunConfig) -> anyhow::Result<Self> {
        hooks::open(std::env::var_os(hooks::VARIABLE))?;
        let clock = Clock::start();
        let identity = Identity::generate()?;
        let (socket, listener) = port::bind(config.udp_port)?;
        let ice = IceServers::open(&config.ice_servers).context("--ice-server")?;
        steering::check_files(&config.signaling)?;
        let codes = Codes::open(&config)?;
        let own_names = OwnNames::of_this_machine([]);
        let room_for = RoomFor::of_this_process();
        let (server_terms, terms) = watch::channel(steering::server_terms(&config, &room_for));
        let (server, looks) = match &config.listen {
            Listen::Off if inherited.is_empty() => {
                if config.signaling.is_empty() {
                    warn!(
                        "--listen off without --signaling: no page, no WHEP, no room and no server, so nobody at all can watch"
                    );
                }
                (None, None)
            }
            listen => {
                let listen = match listen {
                    Listen::At(addresses) => addresses.clone(),
                    Listen::Off => Vec::new(),
                };
                if !inherited.is_empty() {
                    info!(
                        sockets = inherited.len(),
                        "the service manager listens for the daemon, in the place of --listen"
                    );
                }
                let (server, looks) = Server::bind(ServerConfig {
                    listen,
                    inherited,
                    access: codes.access(),
                    tls: tls::open(&config.tls, &own_names, clock.wall(Instant::now()))?,
                    own_names,
                    room: Some(RoomConfig {
                        name: config.name.clone(),
                        policy: config.room,
                        call: config.call.clone(),
                    }),
                    ice: ice.clone(),
                    terms,
                })?;
                (Some(server), Some(looks))
            }
        };
        state_dir().as_deref().into_iter().for_each(private_file::warn_of_others);
        let control = operate::open(config.control.as_deref(), config.control_group.as_deref())?;
        let waker = || Waker::new().context("no descriptors left");
        let media_waker = waker()?;
        let pictures = Inbox::new(MOST_UNITS, media_waker.clone());
        let sound = Inbox::new(MOST_SOUND, media_waker.clone());
        let packets = Inbox::new(MOST_COMMANDS, media_waker.clone());
        let media = Inbox::new(MOST_COMMANDS, media_waker);
        let join = Inbox::new(MOST_COMMANDS, waker()?);

        let (watch, ended) = Watch::new();
        let events = Events::default();
        let account = events.listen();
        let makers = Makers::open(&config, &pictures, &sound, &watch, &events)?;
        let keyframe = {
            let makers = makers.clone();
            Arc::new(move |codec| makers.request_keyframe(codec))
        };
        let demand: Demand = {
            let makers = makers.clone();
            Box::new(move |codec, wanted| makers.set_active(codec, wanted))
        };
        let listener = listener.inspect_err(|error| {
            let port = socket.local_port();
            warn!(%error, port, "the media port can't be had for TCP too: viewers whose network lets no UDP through can't watch; choose another with --udp-port");
        });
        let reach = Reach::new(ReachConfig {
            port: socket.local_port(),
            tcp: listener.is_ok(),
            public_ips: config.public_ips.clone(),
            networks: config.networks.clone(),
        });
        report(&reach, &config.networks);
        let networks = config.networks.clone();
        let reach = Arc::new(reach);
        let relays = Arc::new(Relays::new(reach.clone(), media.waker().clone()));
        let starter = RelayStarter {
            relays: relays.clone(),
            crypto: identity.crypto(),
            has_ipv6: socket.has_ipv6(),
            given: config.ice_servers.iter().map(IceServer::url).collect(),
        };
        let ice_servers = config.ice_servers.iter().map(|server| ice_server(server, &starter));
        let ice_servers = ice_servers.collect::<anyhow::Result<Vec<_>>>()?;
        let ice_standings =
            ice_servers.iter().map(|config| (config.server.url(), config.standing.subscribe())).collect();
        let join_config = JoinConfig {
            terms: steering::terms(&config, &makers),
            codecs: config.codecs.clone(),
            clock,
            identity,
            reach,
            watching: watch::Sender::new(0),
            events: events.clone(),
        };
        let watching = join_config.watching.subscribe();
        let streams = Streams::default();
        let sink = || {
            let sender = socket.try_clone_sender().context("no descriptors left")?;
            anyhow::Ok(SocketSink::new(sender, streams.clone()).with_relays(relays.clone()))
        };
        let (join_sink, media_sink) = (sink()?, sink()?);
        let udp_port = socket.local_port();
        let join_state = Join::new(join_config, join_sink, join.clone(), media.clone(), demand);
        let queues = Queues { pictures: pictures.clone(), sound: sound.clone() };
        let media_state = Media::new(
            media_sink,
            media,
            UnitQueues { pictures, sound, packets: packets.clone() },
            join.clone(),
            keyframe,
        );

        let threads = vec![
            spawn("media", &watch, move |beat| media_state.run(socket, beat))?,
            spawn("join", &watch, move |beat| join_state.run(beat))?,
        ];
        // On Linux this is the thread's own: pictures go before requests. It never fails upwards.
        let _ = rustix::process::nice(LESS_URGENT);
        if let Err(error) = announce(server.as_ref(), udp_port, codes.main().as_ref(), &config.name) {
            warn!(%error, "stdout does not take the addresses to open; the daemon runs all the same");
        }
        let signals = mpsc::channel(MOST_SIGNALS);
        let asker = Asker::new(signals.0.clone(), Deadlines::default().answer);
        let kit = ClientKit { asker, clock, relays: starter, events: events.clone() };
        let live = LiveTerms { server: server_terms, room_for, codes };
        let facts = Facts {
            started: Instant::now(),
            http: server.as_ref().map(|server| server.local_addrs().to_vec()).unwrap_or_default(),
            udp: udp_port,
            has_tcp: listener.is_ok(),
            queues,
            tls: server.as_ref().and_then(Server::tls).cloned(),
            ice_servers: ice_standings,
        };
        let streams = listener.ok().map(|listener| TcpMedia { listener, streams, packets, limits: room_for.streams });
        let beating = watch.beating().clone();
        Ok(Self {
            server,
            looks,
            streams,
            signals,
            config,
            control,
            facts,
            kit,
            live,
            ice_servers,
            join,
            threads,
            ended,
            beating,
            watching,
            events,
            account,
            networks,
            makers,
        })
    }

    /// Serves until told to stop; then viewers are told, threads joined, and requests in flight answered.
    ///
    /// Told again, it leaves all that undone.
    async fn serve(
        mut self,
        (mut stops, mut hangups): (Stops, Signal),
        file: Option<Arc<Path>>,
        reloads: Reloads,
        manager: &ServiceManager,
    ) -> anyhow::Result<()> {
        let (sender, mut receiver) = self.signals;
        let (stop_http, http_stopped) = oneshot::channel::<()>();
        let room = self.server.as_ref().and_then(Server::desk);
        let http = async {
            match self.server {
                Some(server) => server.run(sender, async { drop(http_stopped.await) }).await,
                None => drop(http_stopped.await),
            }
        };
        let streams = async {
            if let Some(TcpMedia { listener, streams, packets, limits }) = self.streams {
                listener.serve(streams, packets, limits).await;
            }
            std::future::pending::<()>().await;
        };
        let join = self.join.clone();
        let relay = async move {
            while let Some(signal) = receiver.recv().await {
                // A full queue drops the request, and with it the reply's sender: the protocol says so to its viewer.
                drop(join.push(JoinIn::Signal(signal)));
            }
            std::future::pending::<()>().await;
        };
        let (threads, join, makers) = (self.threads, self.join, self.makers);
        // They end with the runtime: the media thread gives allocations back.
        self.ice_servers.into_iter().for_each(|server| drop(relay::server::start(server)));
        let (stop_tasks, tasks_stopped) = watch::channel(false);
        let codes = self.live.codes.clone();
        let mut steering =
            Steering::start((self.config, file), reloads, (self.kit, self.live), makers.clone(), join.clone(), room);
        let events = self.events;
        // It ends with the serving.
        let mut heralds = herald::watch_all(&self.facts.ice_servers, &events);
        let chronicle = Arc::default();
        heralds.spawn(herald::keep_account(self.account, Arc::clone(&chronicle)));
        let facts = (self.facts, steering.live());
        let (orders, mut ordered) = mpsc::channel(MOST_ORDERS);
        let desks = Arc::new(Desks::new(
            facts,
            join.clone(),
            makers.clone(),
            (codes.clone(), orders),
            events.clone(),
            chronicle,
        ));
        // Not an owner: what the desks hold ends with the serving, while the service manager is still attended to.
        let seen = Arc::downgrade(&desks);
        let status = |watching| seen.upgrade().map_or_else(|| "stopping".to_owned(), |desks| desks.in_words(watching));
        // It ends with the runtime.
        drop(tokio::spawn(codes.keep_time()));
        let mut operators = JoinSet::new();
        if let Some(socket) = self.control {
            operators.spawn(control::server::serve(socket, desks.clone(), tasks_stopped.clone()));
        }
        if let Some(looks) = self.looks {
            operators.spawn(desks.clone().tell(looks, tasks_stopped));
        }
        let (tell, mut told) = oneshot::channel::<&str>();
        // Not an owner of the makers, which end before the serving does.
        let (watching, sounds) = (self.watching.clone(), makers.sounds());
        let control = async {
            let steer = async {
                loop {
                    tokio::select! {
                        Some(()) = hangups.recv() => {
                            manager.reloading().await;
                            steering.reload(&desks).await;
                            let count = *watching.borrow();
                            manager.ready(&status(count)).await;
                        }
                        Some(order) = ordered.recv() => {
                            steering.obey(order).await;
                            let count = *watching.borrow();
                            manager.status(&status(count)).await;
                        }
                        () = sounds.notified() => steering.follow_sound().await,
                        else => return,
                    }
                }
            };
            let result = tokio::select! {
                Ok(signal) = &mut told => {
                    info!(signal, "stopping");
                    Ok(signal)
                }
                Some(name) = self.ended.recv() => {
                    Err(anyhow!("the thread {name} has ended and must not; this is a bug, its message is above"))
                }
                () = steer => Err(anyhow!("nothing is left that could end")),
            };
            let why = result.as_ref().map_or_else(|error| format!("{error:#}"), |signal| (*signal).to_owned());
            events.tell(Event::Stopping { why });
            let result = result.map(drop);
            manager.stopping().await;
            join.push_always(JoinIn::Shutdown);
            stop_tasks.send_replace(true);
            // It lets go of the makers, which end with their last owner, and waits for nobody.
            while operators.join_next().await.is_some() {}
            drop(desks);
            let (closed, ()) = tokio::join!(close(threads, makers, CLOSING), steering.stop());
            drop(stop_http);
            result.and(closed)
        };
        let insisted = async move {
            // Nobody is told where a thread's end came first: then all ends already.
            let _ = tell.send(stops.next().await);
            stops.next().await
        };
        manager.ready(&status(0)).await;
        tokio::select! {
            (result, ()) = async { tokio::join!(control, http) } => result,
            () = manager.attend(&self.beating, self.watching, status) => Ok(()),
            () = surroundings::watch_clocks() => Ok(()),
            () = surroundings::watch_networks(self.networks) => Ok(()),
            () = relay => Ok(()),
            () = streams => Ok(()),
            signal = insisted => Err(anyhow!("{signal} came while stopping: ended at once, not in order")),
        }
    }
}

/// What the task of a STUN or TURN server needs.
fn ice_server(server: &IceServer, starter: &RelayStarter) -> anyhow::Result<relay::server::ServerConfig> {
    let tls = (server.scheme == Scheme::Turns).then(|| client::tls::client(server.ca_file.as_deref())).transpose();
    let tls = tls.with_context(|| format!("--ice-server {}", server.url()))?;
    Ok(starter.config(server.clone(), tls, None))
}

/// Starts a thread that must not end, nor hang.
fn spawn(name: &str, watch: &Watch, body: impl FnOnce(&Beat) + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    let (alive, beat) = (watch.guard(), watch.beat(name));
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Never released: once the daemon stops, nobody listens any more.
            let _alive = alive;
            body(&beat);
        })
        .with_context(|| format!("thread {name}"))
}
