//! Source specs: what is written after `--source`. Parsing and printing only; nothing is opened here.
//!
//! A spec is a layer, or several joined by `+`: the first one fills the picture, the others stand in its corners. A layer is a kind, perhaps
//! with a value behind a colon and options behind a question mark; titles and paths are percent-decoded (RFC 3986, section 2.1).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::one_line;
use crate::frame::Size;
use crate::frame::overlay::{Corner, Placement};

mod options;
mod percent;
#[cfg(test)]
mod tests;

use options::Options;

/// A source as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// What fills the picture.
    pub base: Layer,
    /// What stands over it, the topmost last.
    pub overlays: Vec<Overlay>,
}

/// One layer of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it shows.
    pub kind: Kind,
    /// The size asked for, of those that can choose one: cameras and the pattern.
    pub size: Option<Size>,
    /// At most so many pictures a second, where less than the broadcast's.
    pub fps: Option<u32>,
}

/// A layer over the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// What it shows.
    pub layer: Layer,
    /// Where it stands.
    pub place: Placement,
}

/// What a layer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The screen if there is one, else the camera, else the pattern.
    Auto,
    /// All of the screen, or the monitor of this name or number.
    Screen(Option<String>),
    /// One window.
    Window(WindowSpec),
    /// A part of the screen.
    Region(Region),
    /// The first camera, or that of this device.
    Camera(Option<PathBuf>),
    /// A recorded lesson, or a folder of them.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether it begins again at its end.
        looped: bool,
        /// Where it begins.
        start: Duration,
    },
    /// A picture that stands still.
    Image(PathBuf),
    /// The test card.
    Pattern,
    /// Nothing: the card that says so.
    Off,
}

/// Which window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowSpec {
    /// By its number at the X server.
    Id(u32),
    /// By a part of its title, in capitals or not, that no other window has.
    Title(String),
}

/// A part of the screen, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its extent, at least 1x1.
    pub size: Size,
    /// Column of its left edge.
    pub x: u32,
    /// Row of its top edge.
    pub y: u32,
}

/// Why a source spec is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source '{spec}': {found}; {advice}")]
pub struct SpecError {
    /// What was written.
    pub spec: String,
    /// What is wrong with it.
    pub found: String,
    /// What to write.
    pub advice: String,
}

impl SpecError {
    /// The same of a layer behind a `+`, which may have been meant as a part of what is before it.
    fn behind_a_plus(mut self) -> Self {
        if self.advice == GRAMMAR {
            self.advice = format!("{GRAMMAR}; where the + is part of a title or a path, write it as %2B");
        }
        self
    }
}

/// What all sources are written like, in short.
pub const GRAMMAR: &str = "write auto, screen, screen:NAME, window:TITLE, region:WxH+X+Y, camera, camera:/dev/videoN, file:PATH, image:PATH, pattern or off";

/// The kinds, and what their value is: none, one that may be left out, or one that must be there.
const KINDS: [(&str, Value); 9] = [
    ("auto", Value::None),
    ("screen", Value::May),
    ("window", Value::Must),
    ("region", Value::Must),
    ("camera", Value::May),
    ("file", Value::Must),
    ("image", Value::Must),
    ("pattern", Value::None),
    ("off", Value::None),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    May,
    Must,
}

/// What is wrong, and what to write.
type Wrong = (String, String);

impl SourceSpec {
    /// The whole screen.
    pub const SCREEN: Self = Self::of(Kind::Screen(None));
    /// The test card.
    pub const PATTERN: Self = Self::of(Kind::Pattern);
    /// The screen, a camera or the test card.
    pub const AUTO: Self = Self::of(Kind::Auto);
    /// The card that says that nothing is shown.
    pub const OFF: Self = Self::of(Kind::Off);

    /// A source of one layer without options.
    pub const fn of(kind: Kind) -> Self {
        Self { base: Layer { kind, size: None, fps: None }, overlays: Vec::new() }
    }

    /// The same with paths that hold in every working directory.
    pub fn with_absolute_paths(mut self) -> Self {
        let layers = self.overlays.iter_mut().map(|overlay| &mut overlay.layer);
        for layer in std::iter::once(&mut self.base).chain(layers) {
            if let Kind::File { path, .. } | Kind::Image(path) = &mut layer.kind
                && let Ok(absolute) = std::path::absolute(&*path)
            {
                *path = absolute;
            }
        }
        self
    }

    /// Parses what was written after `--source`.
    ///
    /// # Errors
    /// [`SpecError`] with what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let refuse = |(found, advice)| SpecError { spec: one_line(text), found, advice };
        let mut layers = layers(text).map(|layer| parse_layer(layer).map_err(refuse));
        let (base, mut options) = layers.next().unwrap_or_else(|| Err(refuse(no_source(""))))?;
        options.take_size_and_fps(&base).map_err(refuse)?;
        let base = Layer { kind: base, size: options.size, fps: options.fps };
        if options.is_placed() {
            let advice = "place what follows a +: screen + camera?at=bottom-right";
            return Err(refuse(("the first layer fills the picture and has no place".to_owned(), advice.to_owned())));
        }
        let mut overlays = Vec::new();
        for layer in layers {
            let (kind, mut options) = layer.map_err(|error| error.behind_a_plus())?;
            if matches!(kind, Kind::Auto | Kind::Off) {
                let advice = "name what stands over the picture: camera, image:PATH, file:PATH, a window or a region";
                return Err(refuse(("auto and off can't stand over another layer".to_owned(), advice.to_owned())));
            }
            options.take_size_and_fps(&kind).map_err(refuse)?;
            let layer = Layer { kind, size: options.size, fps: options.fps };
            overlays.push(Overlay { layer, place: options.placement() });
        }
        if overlays.len() > MOST_OVERLAYS {
            let found = format!("{} layers over the first", overlays.len());
            return Err(refuse((found, format!("write {MOST_OVERLAYS} at most"))));
        }
        Ok(Self { base, overlays })
    }
}

/// So many layers may stand over the first one.
const MOST_OVERLAYS: usize = 8;

fn no_source(kind: &str) -> Wrong {
    let found = if kind.is_empty() {
        "no source at all".to_owned()
    } else {
        format!("no source is called '{}'", one_line(kind))
    };
    let advice = match kind {
        "scene" => {
            "write scene:NAME for `laterna switch` alone, with a name of the config file's; elsewhere write what it stands for"
        }
        path if path.contains(['/', '.']) => "write file:PATH for a recorded lesson, image:PATH for a picture",
        _ => GRAMMAR,
    };
    (found, advice.to_owned())
}

fn parse_layer(text: &str) -> Result<(Kind, Options), Wrong> {
    let (what, options) = text.split_once('?').map_or((text, None), |(what, options)| (what, Some(options)));
    let (name, value) = what.split_once(':').map_or((what, None), |(name, value)| (name, Some(value)));
    let Some((_, takes)) = KINDS.iter().find(|(known, _)| *known == name) else { return Err(no_source(name)) };
    let value = match (takes, value) {
        (Value::None, Some(_)) => return Err((format!("{name} has no name"), format!("write {name} alone"))),
        (Value::Must, None | Some("")) => return Err((format!("{name} of what"), example(name))),
        (Value::May, Some("")) => return Err((format!("nothing behind {name}:"), example(name))),
        (_, value) => value.map(percent::decode).transpose().map_err(|found| (found, "write % as %25".to_owned()))?,
    };
    let mut options = Options::parse(options.unwrap_or_default())?;
    let kind = match (name, value) {
        ("auto", _) => Kind::Auto,
        ("screen", name) => Kind::Screen(name),
        ("window", Some(name)) => Kind::Window(window(&name)),
        ("region", Some(region)) => {
            Kind::Region(parse_region(&region).ok_or_else(|| ("no region of a screen".to_owned(), example("region")))?)
        }
        ("camera", device) => Kind::Camera(device.map(|device| absolute("camera", &device)).transpose()?),
        ("file", Some(path)) => {
            Kind::File { path: PathBuf::from(path), looped: options.take_loop(), start: options.take_start() }
        }
        ("image", Some(path)) => Kind::Image(PathBuf::from(path)),
        ("pattern", _) => Kind::Pattern,
        _ => Kind::Off,
    };
    Ok((kind, options))
}

impl Kind {
    /// What it is for who watches: without percents and folders.
    pub fn in_words(&self) -> String {
        let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        match self {
            Self::Screen(Some(monitor)) => format!("screen {monitor}"),
            Self::Window(WindowSpec::Title(title)) => format!("window {title}"),
            Self::File { path, .. } | Self::Image(path) => name(path),
            other => other.to_string(),
        }
    }
}

fn example(name: &str) -> String {
    let example = match name {
        "screen" => "screen:HDMI-1 or screen:1, as `laterna sources` lists them",
        "window" => "window:TITLE with a part of its title, or window:0x1c00003, as `laterna sources` lists them",
        "region" => "region:1280x720+100+50: width, height, and its distances to the left and to the top",
        "camera" => "camera:/dev/video0, as `laterna sources` lists them",
        "file" => "file:/path/to/lesson.mp4",
        _ => "image:/path/to/slide.png",
    };
    format!("write {example}")
}

fn window(text: &str) -> WindowSpec {
    let id = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    id.map_or_else(|| WindowSpec::Title(text.to_owned()), WindowSpec::Id)
}

fn parse_region(text: &str) -> Option<Region> {
    let (size, place) = text.split_once('+')?;
    let (x, y) = place.split_once('+')?;
    Some(Region { size: parse_size(size)?, x: number(x)?, y: number(y)? })
}

/// `WxH`, each from 1 to what X11 knows.
fn parse_size(text: &str) -> Option<Size> {
    let (width, height) = text.split_once('x')?;
    let size = Size::new(number(width)?, number(height)?);
    (size.width > 0 && size.height > 0).then_some(size)
}

/// Digits alone, as far as X11 counts.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| *number <= 65_535)
}

fn absolute(kind: &str, path: &str) -> Result<PathBuf, Wrong> {
    if path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err((format!("'{}' is no device", one_line(path)), example(kind)))
    }
}

/// The layers of a spec: separated by ` + `, or by `+` right before a kind that is known.
fn layers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let cut = text.match_indices('+').find_map(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + 1..]);
            let spaced = before.ends_with(' ') && after.starts_with(' ');
            (spaced || begins_with_kind(after)).then(|| (before.trim_end(), after.trim_start()))
        });
        rest = cut.map(|(_, after)| after);
        Some(cut.map_or(text, |(before, _)| before))
    })
}

fn begins_with_kind(text: &str) -> bool {
    let kind = text.split([':', '?', '+', ' ']).next().unwrap_or_default();
    KINDS.iter().any(|(name, _)| *name == kind)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Path| percent::encode(&path.to_string_lossy());
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Screen(None) => f.write_str("screen"),
            Self::Screen(Some(name)) => write!(f, "screen:{}", percent::encode(name)),
            Self::Window(WindowSpec::Id(id)) => write!(f, "window:{id:#x}"),
            Self::Window(WindowSpec::Title(title)) => write!(f, "window:{}", percent::encode(title)),
            Self::Region(Region { size, x, y }) => write!(f, "region:{size}+{x}+{y}"),
            Self::Camera(None) => f.write_str("camera"),
            Self::Camera(Some(device)) => write!(f, "camera:{}", path(device)),
            Self::File { path: file, .. } => write!(f, "file:{}", path(file)),
            Self::Image(file) => write!(f, "image:{}", path(file)),
            Self::Pattern => f.write_str("pattern"),
            Self::Off => f.write_str("off"),
        }
    }
}

impl Layer {
    /// The options of this layer as they are written.
    fn written(&self) -> Vec<String> {
        let mut written = Vec::new();
        written.extend(self.size.map(|size| format!("size={size}")));
        written.extend(self.fps.map(|fps| format!("fps={fps}")));
        if let Kind::File { looped, start, .. } = &self.kind {
            written.extend(looped.then(|| "loop".to_owned()));
            written.extend((!start.is_zero()).then(|| format!("start={}", start.as_secs_f64())));
        }
        written
    }
}

fn with_options(f: &mut fmt::Formatter<'_>, kind: &Kind, options: &[String]) -> fmt::Result {
    match options {
        [] => write!(f, "{kind}"),
        options => write!(f, "{kind}?{}", options.join("&")),
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_options(f, &self.kind, &self.written())
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (usual, mut written) = (Placement::default(), self.layer.written());
        let corner = Corner::ALL.iter().find(|(_, corner)| *corner == self.place.corner);
        written.extend(corner.map(|(name, _)| format!("at={name}")));
        let extent = |name, extent, usual| (extent != usual).then(|| format!("{name}={}", options::extent(extent)));
        written.extend(extent("width", self.place.width, usual.width));
        written.extend(extent("margin", self.place.margin, usual.margin));
        with_options(f, &self.layer.kind, &written)
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)?;
        self.overlays.iter().try_for_each(|overlay| write!(f, " + {overlay}"))
    }
}
