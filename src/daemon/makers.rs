//! What makes units: a source, an encoder for each video codec, and sound; each runs while somebody takes what it makes (rule 1).

use std::ffi::OsString;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::bail;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::alive::Watch;
use crate::audio::AudioCapture;
use crate::config::RunConfig;
use crate::control::wire;
use crate::encoder::worker::{EncodeWorker, EncoderCounters, WorkerConfig};
use crate::encoder::{AccessUnit, Codec};
use crate::fanout::Unit;
use crate::frame::canvas::canvas_size;
use crate::frame::{Frame, Size};
use crate::orders::Health;
use crate::session::inbox::Inbox;
use crate::source::{Source, SourceOptions};

/// A hook for tests of the watchdog: with the value `encode`, an encoder's thread hangs at its first picture.
const HANG: &str = "LATERNA_TEST_HANG";

/// One for each video codec.
type Workers = Vec<(Codec, Arc<EncodeWorker>)>;

/// What makes units: the source puts frames into the workers, one for each video codec.
#[derive(Clone)]
pub(super) struct Makers {
    source: Arc<Source>,
    workers: Workers,
    /// The video codecs that are wanted: the source runs while there is one.
    wanted: Arc<Mutex<Vec<Codec>>>,
    pub(super) sound: Arc<AudioCapture>,
    canvas: Size,
}

impl Makers {
    pub(super) fn open(
        config: &RunConfig,
        pictures: &Inbox<Arc<Unit>>,
        sound: &Inbox<Arc<Unit>>,
        watch: &Watch,
    ) -> anyhow::Result<Self> {
        let hangs = encoders_hang(std::env::var_os(HANG))?;
        let unit_sink = |queue: &Inbox<Arc<Unit>>| {
            let queue = queue.clone();
            Arc::new(move |unit: AccessUnit| {
                if hangs && unit.codec != Codec::Opus {
                    loop {
                        std::thread::park();
                    }
                }
                queue.push_newest(Arc::new(Unit::new(unit)));
            })
        };
        let options = SourceOptions { fps: config.fps, pointer: config.pointer, size: config.size };
        let workers: Arc<OnceLock<Workers>> = Arc::default();
        let frame_sink = {
            let workers = workers.clone();
            Arc::new(move |frame: Frame| {
                // Those that nobody watches drop it.
                for (_, worker) in workers.get().into_iter().flatten() {
                    worker.put(frame.clone());
                }
            })
        };
        let source = Arc::new(Source::open(&config.source, options, frame_sink, watch)?);
        let canvas = canvas_size(source.size(), config.size);
        let start = |codec: &Codec| -> anyhow::Result<(Codec, Arc<EncodeWorker>)> {
            let worker_config = WorkerConfig { codec: *codec, canvas, bitrate: config.bitrate, fps: config.fps };
            Ok((*codec, Arc::new(EncodeWorker::start(worker_config, unit_sink(pictures), watch)?)))
        };
        let started = config.codecs.iter().map(start).collect::<anyhow::Result<Workers>>()?;
        let sound = Arc::new(AudioCapture::open(&config.audio, unit_sink(sound), watch)?);
        info!(source = source.describe(), audio = sound.describe(), %canvas, fps = config.fps, bitrate = config.bitrate.0, "ready");
        // A source is inactive when opened, so no frame has come yet.
        let _ = workers.set(started.clone());
        Ok(Self { source, workers: started, wanted: Arc::default(), sound, canvas })
    }

    pub(super) fn set_active(&self, codec: Codec, active: bool) {
        if codec == Codec::Opus {
            self.sound.set_active(active);
            return;
        }
        let worker = |active| self.worker(codec).into_iter().for_each(|worker| worker.set_active(active));
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|other| *other != codec);
        if active {
            worker(true);
            if wanted.is_empty() {
                self.source.set_active(true);
            } else {
                // A still screen would give this encoder nothing to begin with.
                self.source.refresh();
            }
            wanted.push(codec);
        } else {
            self.source.set_active(!wanted.is_empty());
            worker(false);
        }
    }

    /// The extent of the picture that is sent.
    pub(super) fn canvas(&self) -> Size {
        self.canvas
    }

    /// Where pictures come from, and whether they do at the moment.
    pub(super) fn source(&self) -> wire::Maker {
        let running = !self.wanted.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        wire::Maker { what: self.source.describe(), running }
    }

    /// Whether pictures can be had, now and from now on.
    pub(super) fn source_health(&self) -> watch::Receiver<Health> {
        self.source.health()
    }

    /// What the encoders do and have done; `wanted` are the codecs that somebody takes.
    pub(super) fn encoders(&self, wanted: &[Codec]) -> Vec<wire::Encoder> {
        let encoder = |(codec, worker): &(Codec, Arc<EncodeWorker>)| {
            let EncoderCounters { units, keyframes, bytes, .. } = worker.counters();
            wire::Encoder { codec: codec.to_string(), running: wanted.contains(codec), units, keyframes, bytes }
        };
        self.workers.iter().map(encoder).collect()
    }

    pub(super) fn request_keyframe(&self, codec: Codec) {
        self.worker(codec).into_iter().for_each(|worker| worker.request_keyframe());
    }

    fn worker(&self, codec: Codec) -> Option<&Arc<EncodeWorker>> {
        self.workers.iter().find(|(of, _)| *of == codec).map(|(_, worker)| worker)
    }
}

/// Whether a test asks for encoders that hang.
fn encoders_hang(asked: Option<OsString>) -> anyhow::Result<bool> {
    let Some(asked) = asked else { return Ok(false) };
    if asked != "encode" {
        bail!("{HANG} {asked:?}: encode is all that can hang; it is for tests of the watchdog, so leave it unset");
    }
    warn!("{HANG}: the encoder will hang at its first picture; this is for tests of the watchdog only");
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_hangs_unless_a_test_asks_and_anything_else_is_refused() {
        assert!(!encoders_hang(None).unwrap());
        assert!(encoders_hang(Some("encode".into())).unwrap());
        for other in ["", "1", "media"] {
            let error = encoders_hang(Some(other.into())).unwrap_err().to_string();
            assert!(error.contains(HANG) && error.contains("leave it unset"), "{error}");
        }
    }
}
