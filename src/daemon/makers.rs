//! What makes units: a source, an encoder for each video codec, and sound; each runs while somebody takes what it makes (rule 1).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use tracing::info;

use super::herald;
use crate::alive::Watch;
use crate::audio::{AudioCapture, AudioSpec};
use crate::config::RunConfig;
use crate::control::wire;
use crate::encoder::worker::{EncodeWorker, EncoderCounters, UnitSink, WorkerConfig};
use crate::encoder::{AccessUnit, Bitrate, Codec};
use crate::events::Events;
use crate::fanout::Unit;
use crate::frame::canvas::canvas_size;
use crate::frame::{Frame, Size};
use crate::session::inbox::Inbox;
use crate::signaling::access::state_dir;
use crate::source::SourceOptions;
use crate::source::stage::{Stage, StageConfig, StageSound};

/// One for each video codec.
type Workers = Vec<(Codec, Arc<EncodeWorker>)>;

/// What makes units: the source puts frames into the workers, one for each video codec. Clones are the same.
#[derive(Clone)]
pub(super) struct Makers(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Where sources put their frames.
    outlet: Arc<OnceLock<Workers>>,
    canvas: Size,
    sound_queue: Inbox<Arc<Unit>>,
    watch: Watch,
    events: Events,
    /// Told where the sound of what is shown may be another.
    sounds: Arc<Notify>,
    /// Dropped last, so that they end here and not in a source's thread.
    workers: Workers,
}

/// What a reload may change.
struct State {
    source: Gated<Stage>,
    sound: Gated<AudioCapture>,
    /// The sound that comes with what is shown, where that is what is heard.
    heard: StageSound,
    /// The video codecs that are wanted: the source runs while there is one.
    wanted: Vec<Codec>,
    hears: bool,
}

/// What makes pictures or sound, and whether what it makes is still taken: of two that take turns, only one may be.
struct Gated<T> {
    maker: Arc<T>,
    gate: Gate,
}

/// Open while what comes through it is taken.
#[derive(Clone)]
struct Gate(Arc<Mutex<bool>>);

impl Gate {
    fn open() -> Self {
        Self(Arc::new(Mutex::new(true)))
    }

    fn pass(&self, take: impl FnOnce()) {
        let is_open = lock(&self.0);
        if *is_open {
            take();
        }
    }

    /// Nothing passes once this is done.
    fn close(&self) {
        *lock(&self.0) = false;
    }
}

/// Makers that are open and wait to take the place of those that run.
pub(super) struct Prepared {
    source: Option<Gated<Stage>>,
    sound: Option<(Gated<AudioCapture>, StageSound)>,
    bitrate: Bitrate,
    fps: u32,
}

impl Makers {
    pub(super) fn open(
        config: &RunConfig,
        pictures: &Inbox<Arc<Unit>>,
        sound: &Inbox<Arc<Unit>>,
        watch: &Watch,
        events: &Events,
    ) -> anyhow::Result<Self> {
        let outlet: Arc<OnceLock<Workers>> = Arc::default();
        let source = open_source(config, None, &outlet, watch)?;
        let canvas = canvas_size(source.maker.size(), config.size);
        let start = |codec: &Codec| -> anyhow::Result<(Codec, Arc<EncodeWorker>)> {
            let worker_config =
                WorkerConfig { codec: *codec, canvas, bitrate: config.bitrate, fps: config.fps, fit: config.fit };
            let sink = unit_sink(pictures, Gate::open());
            Ok((*codec, Arc::new(EncodeWorker::start(worker_config, sink, watch)?)))
        };
        let workers = config.codecs.iter().map(start).collect::<anyhow::Result<Workers>>()?;
        let heard = heard(&config.audio, &source.maker);
        let audio = open_sound(&config.audio, &heard, sound, watch)?;
        info!(source = source.maker.describe(), audio = audio.maker.describe(), %canvas, fps = config.fps, bitrate = config.bitrate.0, "ready");
        let sounds = Arc::default();
        herald::follow_source(&source.maker, events);
        herald::follow_sounds(&source.maker, &sounds);
        herald::follow_sound(&audio.maker, events);
        // A source is inactive when opened, so no frame has come yet.
        let _ = outlet.set(workers.clone());
        let state = Mutex::new(State { source, sound: audio, heard, wanted: Vec::new(), hears: false });
        Ok(Self(Arc::new(Inner {
            outlet,
            workers,
            state,
            canvas,
            sound_queue: sound.clone(),
            watch: watch.clone(),
            events: events.clone(),
            sounds,
        })))
    }

    /// Notified where the sound that goes with what is shown may be another: [`Self::prepare`] opens it then.
    pub(super) fn sounds(&self) -> Arc<Notify> {
        self.0.sounds.clone()
    }

    pub(super) fn set_active(&self, codec: Codec, active: bool) {
        let mut state = lock(&self.0.state);
        if codec == Codec::Opus {
            state.hears = active;
            state.sound.maker.set_active(active);
            return;
        }
        let worker = |active| self.worker(codec).into_iter().for_each(|worker| worker.set_active(active));
        state.wanted.retain(|other| *other != codec);
        if active {
            worker(true);
            if state.wanted.is_empty() {
                state.source.maker.set_active(true);
            } else {
                // A still screen would give this encoder nothing to begin with.
                state.source.maker.refresh();
            }
            state.wanted.push(codec);
        } else {
            state.source.maker.set_active(!state.wanted.is_empty());
            worker(false);
        }
    }

    /// Opens what `wanted` has and `running` has not, and the source in any case where it is to be set `anew`; what runs goes on. It may block for seconds.
    ///
    /// # Errors
    /// Where a source or sound can't be opened.
    pub(super) fn prepare(&self, running: &RunConfig, wanted: &RunConfig, anew: bool) -> anyhow::Result<Prepared> {
        let look = |config: &RunConfig| {
            (config.source.clone(), config.fallback.clone(), config.fps, config.pointer, config.capture)
        };
        // The canvas stays, and so does the size of a source that can choose one.
        let sized = RunConfig { size: Some(self.0.canvas), ..wanted.clone() };
        let (before, heard) = {
            let state = lock(&self.0.state);
            (state.source.maker.clone(), state.heard.clone())
        };
        let source = if anew || look(running) != look(wanted) {
            Some(open_source(&sized, Some(&before), &self.0.outlet, &self.0.watch)?)
        } else {
            None
        };
        let wants = self::heard(&wanted.audio, source.as_ref().map_or(&before, |source| &source.maker));
        let sound = if wants != heard || running.audio != wanted.audio {
            Some((open_sound(&wanted.audio, &wants, &self.0.sound_queue, &self.0.watch)?, wants))
        } else {
            None
        };
        Ok(Prepared { source, sound, bitrate: wanted.bitrate, fps: wanted.fps })
    }

    /// Lets what was prepared take over. It may block for as long as what ran takes to end.
    pub(super) fn take_over(&self, prepared: Prepared) {
        let Prepared { source, sound, bitrate, fps } = prepared;
        for (_, worker) in &self.0.workers {
            worker.set_bitrate(bitrate);
            worker.set_fps(fps);
        }
        let mut state = lock(&self.0.state);
        let (wanted, hears) = (!state.wanted.is_empty(), state.hears);
        let source = source.map(|source| std::mem::replace(&mut state.source, source));
        let sound = sound.map(|(sound, heard)| {
            state.heard = heard;
            std::mem::replace(&mut state.sound, sound)
        });
        if let Some(before) = &source {
            // Its last picture stands until the first one of the other.
            before.gate.close();
            state.source.maker.set_active(wanted);
            state.source.maker.succeed(&before.maker);
            herald::follow_source(&state.source.maker, &self.0.events);
            herald::follow_sounds(&state.source.maker, &self.0.sounds);
        }
        if let Some(before) = &sound {
            before.gate.close();
            herald::follow_sound(&state.sound.maker, &self.0.events);
            state.sound.maker.set_active(hears);
        }
        drop(state);
        // They end here, or with whoever describes them at the moment.
        drop((source, sound));
    }

    /// The extent of the picture that is sent.
    pub(super) fn canvas(&self) -> Size {
        self.0.canvas
    }

    /// Where pictures come from, and whether they do at the moment.
    pub(super) fn source(&self) -> wire::Maker {
        let state = lock(&self.0.state);
        wire::Maker { what: state.source.maker.describe(), running: !state.wanted.is_empty() }
    }

    /// Where sound comes from; `running` says whether somebody takes it. `None` where there is none.
    pub(super) fn sound(&self, running: bool) -> Option<wire::Maker> {
        let sound = lock(&self.0.state).sound.maker.clone();
        sound.is_there().then(|| wire::Maker { what: sound.describe(), running })
    }

    /// Whether there is any sound to listen to.
    pub(super) fn has_sound(&self) -> bool {
        lock(&self.0.state).sound.maker.is_there()
    }

    /// What the encoders do and have done; `wanted` are the codecs that somebody takes.
    pub(super) fn encoders(&self, wanted: &[Codec]) -> Vec<wire::Encoder> {
        let encoder = |(codec, worker): &(Codec, Arc<EncodeWorker>)| {
            let EncoderCounters { units, keyframes, passed, bytes, replaced, restarts, recent_time, .. } =
                worker.counters();
            wire::Encoder {
                codec: codec.to_string(),
                running: wanted.contains(codec),
                units,
                keyframes,
                bytes,
                passed,
                skipped: replaced,
                restarts,
                recent_us: u64::try_from(recent_time.as_micros()).unwrap_or(u64::MAX),
            }
        };
        self.0.workers.iter().map(encoder).collect()
    }

    pub(super) fn request_keyframe(&self, codec: Codec) {
        self.worker(codec).into_iter().for_each(|worker| worker.request_keyframe());
    }

    fn worker(&self, codec: Codec) -> Option<&Arc<EncodeWorker>> {
        self.0.workers.iter().find(|(of, _)| *of == codec).map(|(_, worker)| worker)
    }
}

/// The sound that comes with what is shown, where that is what is to be heard.
fn heard(spec: &AudioSpec, stage: &Stage) -> StageSound {
    if matches!(spec, AudioSpec::Auto | AudioSpec::File) { stage.sound() } else { StageSound::None }
}

fn open_source(
    config: &RunConfig,
    before: Option<&Stage>,
    outlet: &Arc<OnceLock<Workers>>,
    watch: &Watch,
) -> anyhow::Result<Gated<Stage>> {
    let (outlet, gate) = (outlet.clone(), Gate::open());
    let frame_sink = {
        let gate = gate.clone();
        Arc::new(move |frame: Frame| {
            gate.pass(|| {
                // Those that nobody watches drop it.
                for (_, worker) in outlet.get().into_iter().flatten() {
                    worker.put(frame.clone());
                }
            });
        })
    };
    let stage = StageConfig {
        spec: config.source.clone(),
        fallback: config.fallback.clone(),
        options: SourceOptions {
            fps: config.fps,
            pointer: config.pointer,
            size: config.size,
            capture: config.capture,
            state: state_dir(),
        },
    };
    Ok(Gated { maker: Arc::new(Stage::open(stage, before, frame_sink, watch)?), gate })
}

fn open_sound(
    spec: &AudioSpec,
    heard: &StageSound,
    queue: &Inbox<Arc<Unit>>,
    watch: &Watch,
) -> anyhow::Result<Gated<AudioCapture>> {
    let gate = Gate::open();
    let sink = unit_sink(queue, gate.clone());
    let maker = match (spec, heard) {
        (_, StageSound::Own(feed)) => AudioCapture::open_feed(feed.clone(), sink, watch)?,
        (_, StageSound::Lost) | (AudioSpec::File, StageSound::None) => {
            AudioCapture::open(&AudioSpec::Off, sink, watch)?
        }
        (spec, StageSound::None) => AudioCapture::open(spec, sink, watch)?,
    };
    Ok(Gated { maker: Arc::new(maker), gate })
}

fn unit_sink(queue: &Inbox<Arc<Unit>>, gate: Gate) -> UnitSink {
    let queue = queue.clone();
    Arc::new(move |unit: AccessUnit| {
        gate.pass(|| queue.push_newest(Arc::new(Unit::new(unit))));
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
