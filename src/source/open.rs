//! Which backend opens which kind of source.

use tracing::warn;

use super::{CaptureBackend, FrameSink, Kind, Source, SourceError, SourceOptions, pattern, still, x11};
use crate::alive::Watch;
use crate::frame::Size;

/// Opens a source of this kind; `size` is the layer's own, `options.size` what the broadcast would have.
///
/// # Errors
/// [`SourceError`] where a named source can't be opened; `auto` takes the next best and says so in the log.
pub(super) fn open(
    display: Option<&str>,
    kind: &Kind,
    size: Option<Size>,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    match kind {
        Kind::Screen(name) => screen(display, name.as_deref(), options, sink, watch),
        Kind::Window(window) => x11::open(display, x11::Target::Window(window.clone()), options, sink, watch),
        Kind::Region(region) => x11::open(display, x11::Target::Region(*region), options, sink, watch),
        // What the broadcast's size is, is no wish for a camera's.
        #[cfg(feature = "camera")]
        Kind::Camera(device) => {
            let options = SourceOptions { size, ..options.clone() };
            super::v4l2::open(device.as_deref(), &options, sink, watch)
        }
        #[cfg(feature = "files")]
        Kind::File { path, looped, start } => super::file::open(path, *looped, *start, options, sink, watch),
        #[cfg(feature = "files")]
        Kind::Image(path) => super::image::open(path, sink, watch),
        Kind::Pattern => pattern::open(size.or(options.size), options, sink, watch),
        Kind::Off => still::open_pause(options, sink, watch),
        Kind::Auto => any(display, options, sink, watch),
        #[cfg(not(all(feature = "camera", feature = "files")))]
        _ => Err(SourceError::unavailable(
            kind,
            "this program was built without it",
            "build it with its default features",
        )),
    }
}

/// The screen by whatever means shows it.
fn screen(
    display: Option<&str>,
    name: Option<&str>,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    let target = || x11::Target::Screen(name.map(str::to_owned));
    match options.capture {
        CaptureBackend::X11 => x11::open(display, target(), options, sink, watch),
        #[cfg(feature = "wayland")]
        CaptureBackend::Portal => super::portal::open(name, options, sink, watch),
        #[cfg(feature = "wayland")]
        CaptureBackend::Auto if super::portal::is_session() => super::portal::open(name, options, sink, watch),
        CaptureBackend::Auto => x11::open(display, target(), options, sink, watch),
        #[cfg(feature = "scrap")]
        CaptureBackend::Scrap => super::scrap::open(display, name, options, sink, watch),
        #[cfg(not(all(feature = "wayland", feature = "scrap")))]
        _ => Err(SourceError::unavailable(
            "screen",
            "this program was built without that way to capture",
            "use --capture x11",
        )),
    }
}

/// The screen, else the first camera, else the pattern.
fn any(display: Option<&str>, options: &SourceOptions, sink: FrameSink, watch: &Watch) -> Result<Source, SourceError> {
    let error = match screen(display, None, options, sink.clone(), watch) {
        Ok(source) => return Ok(source),
        Err(error) => error,
    };
    #[cfg(feature = "camera")]
    match super::v4l2::open(None, &SourceOptions { size: None, ..options.clone() }, sink.clone(), watch) {
        Ok(source) => {
            warn!("no screen, so the camera is shown: {error}");
            return Ok(source);
        }
        Err(error) => tracing::debug!("{error}"),
    }
    warn!("no screen, so the test pattern is shown: {error}");
    pattern::open(options.size, options, sink, watch)
}
