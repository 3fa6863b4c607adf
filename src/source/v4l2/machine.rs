//! The machine's cameras: which devices there are, and what is asked of one.
//!
//! Owns the seam between what is decided and the kernel: [`Machine`] is the kernel, or what a test has in its place.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::super::list::Found;
use super::convert::Layout;
use super::device::{Device, Streaming, Taken};
use super::mode::{self, Interval, Offer, Pixels, Sizes, Wish};
use super::refusal::Refusal;
use crate::frame::Size;

/// Which size is asked for of a driver that has no list.
const USUAL: Size = Size::new(1280, 720);

/// Where cameras are.
pub(super) trait Machine: Send + 'static {
    /// A camera that gives pictures.
    type Stream: Stream;

    /// The devices that may be cameras, in order.
    fn devices(&self) -> Vec<PathBuf>;

    /// Those that are cameras, as far as that can be seen.
    fn cameras(&self) -> Vec<PathBuf>;

    /// Looks whether a device gives pictures, and which; `only` is the name that it must have.
    ///
    /// # Errors
    /// Why it can't be had.
    fn look(&self, path: &Path, wish: Wish, only: Option<&str>) -> Result<Camera, Refusal>;

    /// Does the same, and lets it give them.
    ///
    /// # Errors
    /// Why it can't be had.
    fn start(&self, path: &Path, wish: Wish, only: Option<&str>) -> Result<(Camera, Self::Stream), Refusal>;
}

/// A camera that gives pictures, until this is dropped.
pub(super) trait Stream {
    /// What to wait at for the next picture.
    fn input(&self) -> BorrowedFd<'_>;
    /// Takes the newest picture that is ready.
    fn take(&mut self) -> io::Result<Option<Taken>>;
    /// The bytes of a picture.
    fn bytes(&self, taken: &Taken) -> &[u8];
    /// Gives a picture's memory back.
    fn give_back(&mut self, taken: Taken) -> io::Result<()>;
}

/// A camera as it was found, with the mode that it has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Camera {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) layout: Layout,
    /// `None` where it does not tell.
    pub(super) interval: Option<Interval>,
}

impl Camera {
    /// What it gives, for people: `1280x720 30 fps MJPEG`.
    fn mode(&self) -> String {
        let rate = self.interval.map_or_else(String::new, |interval| format!(" {interval} fps"));
        format!("{}{rate} {}", self.layout.size, self.layout.pixels)
    }
}

/// For people: `camera "Integrated Webcam" /dev/video0 1280x720 30 fps MJPEG`.
impl fmt::Display for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "camera \"{}\" {} {}", self.name, self.path.display(), self.mode())
    }
}

/// Why there is no camera.
#[derive(Debug)]
pub(super) enum Missing {
    /// No device is one.
    All,
    /// This one can't be had.
    One(PathBuf, Refusal),
}

/// Tries a device, or one after the other until one can be had; what is no camera is passed over then.
pub(super) fn first<M: Machine, T>(
    machine: &M,
    device: Option<&Path>,
    try_one: impl Fn(&Path) -> Result<T, Refusal>,
) -> Result<T, Missing> {
    if let Some(path) = device {
        return try_one(path).map_err(|refusal| Missing::One(path.to_path_buf(), refusal));
    }
    let mut missing = Missing::All;
    for path in machine.devices() {
        match try_one(&path) {
            Ok(had) => return Ok(had),
            Err(Refusal::NoCapture { .. } | Refusal::Another | Refusal::Absent) => {}
            Err(refusal) if matches!(missing, Missing::All) => missing = Missing::One(path, refusal),
            Err(_) => {}
        }
    }
    Err(missing)
}

/// The devices that the kernel has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel;

impl Machine for Kernel {
    type Stream = Streaming;

    fn devices(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
        let number = |name: &str| name.strip_prefix("video")?.parse::<u32>().ok();
        let mut numbers: Vec<_> = entries.filter_map(|entry| number(&entry.file_name().to_string_lossy())).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| PathBuf::from(format!("/dev/video{number}"))).collect()
    }

    fn cameras(&self) -> Vec<PathBuf> {
        let is_camera = |path: &PathBuf| !matches!(identify(path), Err(Refusal::NoCapture { .. }));
        self.devices().into_iter().filter(is_camera).collect()
    }

    fn look(&self, path: &Path, wish: Wish, only: Option<&str>) -> Result<Camera, Refusal> {
        let (device, camera) = prepare(path, wish, only)?;
        device.check_free().map_err(|error| Refusal::from_error("taking it", path, error))?;
        Ok(camera)
    }

    fn start(&self, path: &Path, wish: Wish, only: Option<&str>) -> Result<(Camera, Streaming), Refusal> {
        let (device, camera) = prepare(path, wish, only)?;
        let stream = Streaming::start(device).map_err(|error| Refusal::from_error("starting it", path, error))?;
        Ok((camera, stream))
    }
}

impl Stream for Streaming {
    fn input(&self) -> BorrowedFd<'_> {
        Self::input(self)
    }

    fn take(&mut self) -> io::Result<Option<Taken>> {
        Self::take(self)
    }

    fn bytes(&self, taken: &Taken) -> &[u8] {
        Self::bytes(self, taken)
    }

    fn give_back(&mut self, taken: Taken) -> io::Result<()> {
        Self::give_back(self, taken)
    }
}

/// Opens a device and asks what it is: a camera, and its name.
fn identify(path: &Path) -> Result<(Device, String), Refusal> {
    let device = Device::open(path).map_err(|error| Refusal::from_error("opening it", path, error))?;
    let capability = device.capability().map_err(|error| Refusal::from_error("asking what it is", path, error))?;
    if !capability.captures() {
        return Err(Refusal::NoCapture { is: capability.kind().to_owned() });
    }
    Ok((device, tidy(&capability.card)))
}

/// Opens a device and has it take the best mode.
fn prepare(path: &Path, wish: Wish, only: Option<&str>) -> Result<(Device, Camera), Refusal> {
    let (device, name) = identify(path)?;
    if only.is_some_and(|only| only != name) {
        return Err(Refusal::Another);
    }
    let formats = device.formats();
    let mode = mode::choose(&offers(&device, &formats, wish), wish);
    let mode = mode.ok_or_else(|| Refusal::NoFormat { has: formats.iter().map(|code| mode::name(*code)).collect() })?;
    let set = device.set(&mode).map_err(|error| Refusal::from_error("setting its format", path, error));
    let (layout, interval) = set?;
    Ok((device, Camera { path: path.to_path_buf(), name, layout, interval }))
}

/// What of a device's formats can be shown, at each size that is in question.
fn offers(device: &Device, formats: &[[u8; 4]], wish: Wish) -> Vec<Offer> {
    let mut offers = Vec::new();
    for code in formats {
        let Some(pixels) = Pixels::from_code(*code) else { continue };
        for sizes in device.sizes(*code, wish.size.unwrap_or(USUAL)) {
            let size = sizes.nearest(wish.size);
            offers.push(Offer { pixels, size, intervals: device.intervals(*code, size) });
        }
    }
    offers
}

/// A camera's name without what drivers repeat in it: `Integrated Webcam: Integrated W`.
fn tidy(card: &str) -> String {
    let card = card.trim();
    let name = match card.split_once(": ") {
        Some((name, again)) if name.starts_with(again) => name,
        _ => card,
    };
    if name.is_empty() { "without a name".to_owned() } else { name.to_owned() }
}

/// The cameras of this machine, with what they offer, a line for each format.
pub(super) fn list() -> Vec<Found> {
    Kernel.devices().iter().filter_map(|path| tell(path)).collect()
}

fn tell(path: &Path) -> Option<Found> {
    let spec = super::spec(Some(path));
    let (device, name) = match identify(path) {
        Ok(identified) => identified,
        Err(Refusal::NoCapture { .. } | Refusal::Absent) => return None,
        Err(refusal) => {
            let details = vec![format!("{}; {}", refusal.found(path), refusal.advice(&[]))];
            return Some(Found { spec, what: kernels_name(path), details });
        }
    };
    let formats = device.formats();
    let entries = |code: [u8; 4]| {
        let largest = |sizes: Sizes| match sizes {
            Sizes::One(size) => size,
            Sizes::Between { most, .. } => most,
        };
        let sizes = device.sizes(code, USUAL).into_iter();
        sizes.map(|sizes| (sizes, device.intervals(code, largest(sizes)))).collect::<Vec<_>>()
    };
    let shown = formats.iter().filter_map(|code| Some((Pixels::from_code(*code)?, *code)));
    let details = shown.map(|(pixels, code)| mode::describe(pixels, &entries(code)));
    let details = details.chain(mode::describe_others(&formats)).collect();
    Some(Found { spec, what: name, details })
}

/// The cameras of this machine, and what each would show, or why it can't be had and what to do.
pub(super) fn check() -> Vec<(PathBuf, String, Result<String, String>)> {
    let wish = Wish { size: None, fps: 30 };
    let look = |path: PathBuf| match Kernel.look(&path, wish, None) {
        Ok(camera) => {
            let shows = camera.mode();
            Some((path, camera.name, Ok(shows)))
        }
        Err(Refusal::NoCapture { .. } | Refusal::Absent) => None,
        Err(refusal) => {
            let (name, error) = (kernels_name(&path), format!("{}; {}", refusal.found(&path), refusal.advice(&[])));
            Some((path, name, Err(error)))
        }
    };
    Kernel.devices().into_iter().filter_map(look).collect()
}

/// What the kernel calls a device that may not be opened.
fn kernels_name(path: &Path) -> String {
    let device = path.file_name().unwrap_or_default().to_string_lossy();
    let name = std::fs::read_to_string(format!("/sys/class/video4linux/{device}/name"));
    tidy(name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_once() {
        for (card, name) in [
            ("Integrated Webcam: Integrated W", "Integrated Webcam"),
            ("HD Pro Webcam C920", "HD Pro Webcam C920"),
            ("Cam Link 4K: Cam Link 4K", "Cam Link 4K"),
            ("USB: Camera", "USB: Camera"),
            (" vivid\n", "vivid"),
            ("", "without a name"),
        ] {
            assert_eq!(tidy(card), name);
        }
    }
}
