//! What may change while the daemon runs, and the reload that changes it: nobody's connection is touched.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};

use super::access::{self, Codes};
use super::makers::{Makers, Prepared};
use super::operate::{Desks, Live};
use crate::clock::Clock;
use crate::config::load::{LoadError, Loaded};
use crate::config::tables::Limits;
use crate::config::{RunConfig, one_line};
use crate::control::wire::Event;
use crate::events::Events;
use crate::session::inbox::Inbox;
use crate::session::messages::{JoinIn, Terms};
use crate::session::relay::told::RelayStarter;
use crate::session::tcp;
use crate::signaling::ask::Asker;
use crate::signaling::client::url::SignalingUrl;
use crate::signaling::client::{self, Client, ClientConfig, Desk, MOST_SIGNING_OUT};
use crate::signaling::room::RoomLimits;
use crate::signaling::server::{ConnectionLimits, Deadlines, ServerTerms};
use crate::source::SourceSpec;

/// Descriptors for everything but connections: the media, the sources, the sound.
const DESCRIPTORS: usize = 256;

/// How long reading it may take: a server of files that is away must not keep operators waiting.
const READING: Duration = Duration::from_secs(10);

/// How a configuration is read anew, and what of the process itself it steers.
#[derive(Clone)]
pub struct Reloads {
    /// Reads flags, variables and file again.
    pub load: Arc<dyn Fn() -> Result<Loaded, LoadError> + Send + Sync>,
    /// Sets what is logged.
    pub log: Arc<dyn Fn(LevelFilter) + Send + Sync>,
}

/// What every client of a signaling server needs.
pub(super) struct ClientKit {
    pub(super) asker: Asker,
    pub(super) clock: Clock,
    pub(super) relays: RelayStarter,
    pub(super) events: Events,
}

/// What of the server a reload may change.
pub(super) struct LiveTerms {
    pub(super) server: watch::Sender<ServerTerms>,
    pub(super) room_for: RoomFor,
    pub(super) codes: Arc<Codes>,
}

/// How many connections there are descriptors for.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoomFor {
    /// Of HTTP, and of the room's members, whose waits are connections too.
    pub(super) descriptors: usize,
    /// Of viewers over TCP.
    pub(super) streams: ConnectionLimits,
}

impl RoomFor {
    /// Raises the limit of descriptors as far as it goes, and keeps those for connections that nothing else needs.
    pub(super) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, ..limit };
        let current = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit.maximum,
            Err(error) => {
                warn!(%error, "the limit of descriptors can't be raised: there is room for fewer members");
                limit.current
            }
        };
        let all = usize::try_from(current.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let spare = all.saturating_sub(DESCRIPTORS).max(2);
        let streams = ConnectionLimits { total: tcp::LIMITS.total.min(spare / 4), ..tcp::LIMITS };
        Self { descriptors: spare - streams.total, streams }
    }
}

/// How the server serves by a configuration, as far as there are descriptors.
pub(super) fn server_terms(config: &RunConfig, room_for: &RoomFor) -> ServerTerms {
    let Limits { connections, members, request, offers, .. } = config.tables.limits;
    let total = connections.total.min(room_for.descriptors / 2);
    let per_address = connections.per_address.min(total.div_ceil(2));
    ServerTerms {
        connections: ConnectionLimits { total, per_address },
        members: RoomLimits { members: members.members.min(room_for.descriptors - total), ..members },
        deadlines: Deadlines { head: request, body: request, ..Deadlines::default() },
        origins: config.origins.clone(),
        offers_per_minute: offers,
    }
}

/// What an operator wants of the steering.
pub(super) enum Order {
    /// Another source: a spec, or `scene:NAME`. Told is what is shown then, or why all goes on as it was.
    Switch {
        /// What was written.
        to: String,
        /// Takes the outcome.
        reply: oneshot::Sender<Result<String, String>>,
    },
}

/// The running configuration, and all that follows it.
pub(super) struct Steering {
    /// What the configuration says.
    running: RunConfig,
    /// What is shown: the configuration's source, until an operator chooses another.
    shown: SourceSpec,
    /// The config file in use.
    file: Option<Arc<Path>>,
    reloads: Reloads,
    kit: ClientKit,
    terms: LiveTerms,
    makers: Makers,
    join: Inbox<JoinIn>,
    room: Option<Desk>,
    clients: Vec<Running>,
    /// Those that sign out.
    ending: JoinSet<()>,
}

/// The client of a server.
struct Running {
    /// As it was written.
    written: SignalingUrl,
    /// With its number among those that look the same.
    url: SignalingUrl,
    client: Client,
    stop: watch::Sender<bool>,
}

/// How sessions are made by a configuration.
pub(super) fn terms(config: &RunConfig, makers: &Makers) -> Terms {
    Terms {
        name: config.name.clone(),
        max_viewers: config.max_viewers,
        audio: makers.has_sound(),
        sync: config.sync.resolve(&config.audio),
        bitrate: config.bitrate,
    }
}

/// Reads the files that signaling servers' URLs name.
pub(super) fn check_files<'a>(urls: impl IntoIterator<Item = &'a SignalingUrl>) -> anyhow::Result<()> {
    for url in urls {
        client::check_files(url).with_context(|| format!("--signaling {}", url.label()))?;
    }
    Ok(())
}

impl Steering {
    /// Starts the clients of all signaling servers; to be called in a tokio runtime.
    pub(super) fn start(
        (running, file): (RunConfig, Option<Arc<Path>>),
        reloads: Reloads,
        (kit, terms): (ClientKit, LiveTerms),
        makers: Makers,
        join: Inbox<JoinIn>,
        room: Option<Desk>,
    ) -> Self {
        let mut steering = Self {
            shown: running.source.clone(),
            running,
            file,
            reloads,
            kit,
            terms,
            makers,
            join,
            room,
            clients: Vec::new(),
            ending: JoinSet::new(),
        };
        steering.start_clients();
        steering
    }

    /// What operators are told.
    pub(super) fn live(&self) -> Live {
        let desks = self.room.iter().chain(self.clients.iter().map(|running| &running.client.desk));
        Live {
            name: self.running.name.clone(),
            max_viewers: self.running.max_viewers,
            fps: self.running.fps,
            file: self.file.clone(),
            desks: desks.cloned().collect(),
        }
    }

    /// Reads the configuration again and takes over what can change; where anything of it makes no sense or can't be had, all goes on as it was.
    pub(super) async fn reload(&mut self, desks: &Desks) {
        let why = match read(self.reloads.load.clone(), READING).await {
            Ok(Loaded { config, file, .. }) => match self.take_over(config).await {
                Ok(()) => {
                    self.file = file;
                    desks.set_live(self.live());
                    return;
                }
                Err(error) => format!("{error:#}"),
            },
            Err(why) => why,
        };
        self.kit.events.tell(Event::ReloadRefused { why: why.clone() });
        for why in why.lines() {
            warn!(why, "the configuration is not taken over, and all goes on as it was");
        }
    }

    async fn take_over(&mut self, wanted: RunConfig) -> anyhow::Result<()> {
        let mut next = self.running.clone();
        let changes = next.take_over(&wanted);
        check_files(next.signaling.iter().filter(|url| !self.running.signaling.contains(url)))?;
        let secrets = access::read(&next.tables)?;
        // What an operator chose is shown until the configuration names another source than before.
        let shown = if next.source == self.running.source { self.shown.clone() } else { next.source.clone() };
        let prepared = self.prepare(RunConfig { source: shown.clone(), ..next.clone() }, false).await?;
        let (revoked, new_codes) = self.terms.codes.take_over(secrets, &next)?;
        // From here on nothing can fail.
        revoked.into_iter().for_each(|pass| self.join.push_always(JoinIn::Revoke(pass)));
        self.terms.server.send_replace(server_terms(&next, &self.terms.room_for));
        self.let_take_over(prepared).await?;
        (self.reloads.log)(next.log);
        (self.running, self.shown) = (next, shown);
        self.join.push_always(JoinIn::Terms(terms(&self.running, &self.makers)));
        self.stop_clients(|url, running| !running.signaling.contains(url));
        for desk in self.live().desks {
            desk.set_terms(self.running.name.clone(), self.running.call.clone()).await;
        }
        self.start_clients();
        let mut changes = changes;
        if new_codes && !changes.live.contains(&"codes") {
            changes.live.push("codes");
        }
        match changes.live.as_slice() {
            [] => info!("the configuration was read again: nothing new"),
            changed => info!(changed = changed.join(" "), "the configuration is taken over"),
        }
        let names = |settings: &[&str]| settings.iter().map(|name| (*name).to_owned()).collect();
        let (changed, waiting) = (names(&changes.live), names(&changes.fixed));
        self.kit.events.tell(Event::Reloaded { changed, waiting });
        if !changes.fixed.is_empty() {
            warn!(settings = changes.fixed.join(" "), "what has changed here holds from the next start on");
        }
        Ok(())
    }

    /// Does what an operator wants.
    pub(super) async fn obey(&mut self, order: Order) {
        let Order::Switch { to, reply } = order;
        let switched = match self.spec(&to) {
            Ok(spec) => self
                .switch(spec)
                .await
                .map_err(|error| format!("{error:#}; {} is shown as before", self.makers.source().what)),
            Err(why) => Err(why),
        };
        match &switched {
            Ok(source) => {
                info!(source, "switched by the operator");
                self.kit.events.tell(Event::Switched { source: source.clone() });
            }
            Err(why) => info!(why, "not switched"),
        }
        // Whoever asked may have gone away.
        let _ = reply.send(switched);
    }

    /// The source that an operator means.
    fn spec(&self, text: &str) -> Result<SourceSpec, String> {
        let Some(name) = text.strip_prefix("scene:") else {
            return SourceSpec::parse(text).map_err(|error| error.to_string());
        };
        let scenes = &self.running.tables.scenes;
        scenes.get(name).cloned().ok_or_else(|| {
            let all: Vec<_> = scenes.keys().map(String::as_str).collect();
            let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            let alone = if name.contains(['+', '?']) {
                "; a scene stands alone, with its layers and options in that file"
            } else {
                ""
            };
            format!("scene:{}: there is no such scene; the config file has {all}{alone}", one_line(name))
        })
    }

    async fn switch(&mut self, spec: SourceSpec) -> anyhow::Result<String> {
        let prepared = self.prepare(RunConfig { source: spec.clone(), ..self.running.clone() }, true).await?;
        self.let_take_over(prepared).await?;
        self.shown = spec;
        // Who comes from now on has the sound that there is now.
        self.join.push_always(JoinIn::Terms(terms(&self.running, &self.makers)));
        Ok(self.makers.source().what)
    }

    /// Has the sound heard that goes with what is shown now.
    pub(super) async fn follow_sound(&mut self) {
        let shown = RunConfig { source: self.shown.clone(), ..self.running.clone() };
        let heard = match self.prepare(shown, false).await {
            Ok(prepared) => self.let_take_over(prepared).await,
            Err(error) => Err(error),
        };
        match heard {
            // Who comes from now on has it.
            Ok(()) => self.join.push_always(JoinIn::Terms(terms(&self.running, &self.makers))),
            Err(error) => warn!("the sound of what is shown can't be had, and all goes on as it was: {error:#}"),
        }
    }

    /// Opens what `wanted` has and is not there; what runs goes on.
    async fn prepare(&self, wanted: RunConfig, anew: bool) -> anyhow::Result<Prepared> {
        let (makers, now) = (self.makers.clone(), RunConfig { source: self.shown.clone(), ..self.running.clone() });
        spawn_blocking(move || makers.prepare(&now, &wanted, anew)).await.context("opening it")?
    }

    async fn let_take_over(&self, prepared: Prepared) -> anyhow::Result<()> {
        let makers = self.makers.clone();
        spawn_blocking(move || makers.take_over(prepared)).await.context("closing what was before")
    }

    /// Starts the clients of servers that have none.
    fn start_clients(&mut self) {
        let is_running = |clients: &[Running], url: &SignalingUrl| clients.iter().any(|client| client.written == *url);
        for written in &self.running.signaling {
            if is_running(&self.clients, written) {
                continue;
            }
            let mut url = written.clone();
            url.number_beside(self.clients.iter().map(|client| &client.url));
            let config = ClientConfig {
                url: url.clone(),
                name: self.running.name.clone(),
                call: self.running.call.clone(),
                asker: self.kit.asker.clone(),
                clock: self.kit.clock,
                relays: self.kit.relays.clone(),
                events: self.kit.events.clone(),
            };
            let (stop, stopped) = watch::channel(false);
            let client = client::start(config, stopped);
            self.clients.push(Running { written: written.clone(), url, client, stop });
        }
    }

    /// Has those clients sign out; who watches by them goes on.
    fn stop_clients(&mut self, which: impl Fn(&SignalingUrl, &RunConfig) -> bool) {
        for running in self.clients.extract_if(.., |client| which(&client.written, &self.running)) {
            running.stop.send_replace(true);
            self.ending.spawn(async move {
                // A panic has said so itself.
                let _ = running.client.task.await;
            });
        }
        while self.ending.try_join_next().is_some() {}
    }

    /// Signs out everywhere.
    pub(super) async fn stop(mut self) {
        self.stop_clients(|_, _| true);
        let Self { mut ending, makers, .. } = self;
        // They end with their last owner, which is not to be this one.
        drop(makers);
        let signed_out = async { while ending.join_next().await.is_some() {} };
        if tokio::time::timeout(MOST_SIGNING_OUT, signed_out).await.is_err() {
            tracing::debug!("signing out has taken too long");
        }
    }
}

/// Reads the configuration anew in a thread that may hang with its files; or why it could not be.
async fn read(
    load: Arc<dyn Fn() -> Result<Loaded, LoadError> + Send + Sync>,
    within: Duration,
) -> Result<Loaded, String> {
    match timeout(within, spawn_blocking(move || load())).await {
        Err(_) => Err(format!("its files could not be read within {within:?}")),
        Ok(Ok(read)) => read.map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(format!("reading it has failed by a bug: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[tokio::test]
    async fn files_that_can_not_be_read_in_time_are_given_up() {
        let (release, hanging) = mpsc::sync_channel::<()>(1);
        let hanging = Mutex::new(hanging);
        let load = Arc::new(move || {
            // As of a file server that is away, until the test is over.
            let _ = hanging.lock().map(|hanging| hanging.recv());
            Err(LoadError::Invalid(Vec::new()))
        });
        let why = read(load, Duration::from_millis(20)).await.err();
        assert_eq!(why.as_deref(), Some("its files could not be read within 20ms"));
        drop(release);
        let broken = Arc::new(|| panic!("a bug"));
        let why = read(broken, READING).await.err();
        assert!(why.is_some_and(|why| why.starts_with("reading it has failed by a bug")));
    }
}
