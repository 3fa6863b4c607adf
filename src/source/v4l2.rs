//! Cameras by V4L2.
//!
//! Owns the thread `capture-camera`. A camera's device is open only while its pictures are wanted, so that its light says who watches, and
//! for a moment when the source is opened. What a camera is asked for is `mode`'s to decide, what is done with its pictures `run`'s;
//! `machine` has the devices.

use std::path::{Path, PathBuf};

use super::list::Found;
use super::{FrameSink, Opened, Source, SourceError, SourceOptions};
use crate::alive::Watch;

mod convert;
mod device;
mod machine;
mod mode;
mod pace;
mod refusal;
mod run;

use machine::{Kernel, Machine, Missing, first};
use mode::Wish;

/// Opens the camera of `device`, or the first one that can be opened; `options.size` is what is wished for of it.
///
/// # Errors
/// [`SourceError::Unavailable`] with what was found and what to do.
pub(super) fn open(
    device: Option<&Path>,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    open_at(Kernel, device, options, sink, watch)
}

/// The cameras of this machine.
pub(super) fn list() -> Vec<Found> {
    machine::list()
}

/// Each camera of this machine by its device and its name, and what it would show, or why it can't be had and what to do.
pub(crate) fn check() -> Vec<(PathBuf, String, Result<String, String>)> {
    machine::check()
}

fn open_at<M: Machine>(
    machine: M,
    device: Option<&Path>,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    let spec = spec(device);
    let wish = Wish { size: options.size, fps: options.fps.max(1) };
    let (device, asked) = (device.map(Path::to_path_buf), spec.clone());
    let open = move || {
        let camera = first(&machine, device.as_deref(), |path| machine.look(path, wish, None));
        let camera = camera.map_err(|missing| unavailable(&asked, &missing, &machine.cameras()))?;
        let opened = Opened::silent(camera.layout.size, camera.to_string());
        Ok((opened, run::Watched { machine, device, wish, camera }))
    };
    Source::spawn(&spec, "capture-camera", watch, open, move |watched, orders| run::run(watched, orders, &sink))
}

fn spec(device: Option<&Path>) -> String {
    device.map_or_else(|| "camera".to_owned(), |device| format!("camera:{}", device.display()))
}

/// The error of a camera that can't be had, where `cameras` are there.
fn unavailable(asked: &str, missing: &Missing, cameras: &[PathBuf]) -> SourceError {
    match missing {
        Missing::All => SourceError::unavailable(
            asked,
            "this machine has no camera (no /dev/video* captures pictures)",
            "plug one in, or use another source",
        ),
        Missing::One(path, refusal) => {
            let others = cameras.iter().filter(|other| *other != path).map(|other| spec(Some(other)));
            SourceError::unavailable(asked, refusal.found(path), refusal.advice(&others.collect::<Vec<_>>()))
        }
    }
}

#[cfg(test)]
mod tests;
