//! Recorded lessons: files with video, or folders of them, played in real time with their sound.
//!
//! Owns the thread `capture-file`, which decodes while somebody watches; else the lesson stands, and goes on from there. It decodes and never encodes; what
//! FFmpeg says goes to the log's target `ffmpeg` at DEBUG.

use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use self::clock::Clock;
use self::lesson::{Lesson, Step};
use self::movie::Picture;
use self::screen::{Painted, Screen};
use self::streams::codec_name;
use super::{FrameSink, Kind, Opened, Source, SourceError, SourceOptions};
use crate::alive::Watch;
use crate::frame::{Damage, Size};
use crate::orders::{Health, Mode, Orders};

mod clock;
mod colours;
mod layout;
mod lesson;
mod movie;
mod passage;
pub(super) mod picture;
pub(super) mod playlist;
mod screen;
mod sound;
mod streams;
#[cfg(test)]
mod tests;
pub(super) mod turn;

/// Opening may take so long: where it starts late, all pictures since the last keyframe are decoded.
const OPENING: Duration = Duration::from_secs(20);
/// So far ahead of its time sound is decoded, and so much of that may be used up before more is.
const LEAD: Duration = Duration::from_millis(500);
const LEAST_LEAD: Duration = Duration::from_millis(250);
/// How soon what could not be had is tried again.
const RETRY: Duration = Duration::from_millis(5);
/// How soon a file that is gone is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Where the machine can't keep up, one picture is shown at least so often.
const SELDOM: Duration = Duration::from_millis(200);

/// Opens a file, or a folder of them.
///
/// # Errors
/// [`SourceError`] where nothing there can be shown.
pub(super) fn open(
    path: &Path,
    looped: bool,
    start: Duration,
    options: &SourceOptions,
    sink: FrameSink,
    watch: &Watch,
) -> Result<Source, SourceError> {
    quieten();
    let spec = Kind::File { path: path.to_owned(), looped, start }.to_string();
    let (asked, path, fps) = (spec.clone(), path.to_owned(), options.fps);
    let open = move |_: &Orders| {
        let refuse = |(found, advice): playlist::Wrong| SourceError::unavailable(&asked, found, advice);
        let player = Player::open(&path, looped, start, fps).map_err(refuse)?;
        Ok((player.opened(), player))
    };
    let run = move |mut player: Player, orders: &Orders| player.run(orders, &sink);
    Source::spawn_within(OPENING, &spec, "capture-file", watch, open, run)
}

/// Sends what FFmpeg says to our log.
pub(super) fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ac_ffmpeg::set_log_callback(|_, message| debug!(target: "ffmpeg", "{}", message.trim_end()));
    });
}

/// A lesson that plays.
struct Player {
    lesson: Lesson,
    clock: Clock,
    screen: Screen,
    /// The next pictures, two at most: the first is shown unless the second is due by then.
    upcoming: Vec<Picture>,
    /// When a picture was shown.
    shown: Option<Instant>,
    /// Which file was described, and of which size.
    played: (usize, Option<Size>),
    is_over: bool,
    was_late: bool,
    /// When what could not be opened any more is tried again.
    gone: Option<Instant>,
}

impl Player {
    fn open(path: &Path, looped: bool, start: Duration, fps: u32) -> Result<Self, playlist::Wrong> {
        let mut lesson = Lesson::open(path, looped, start)?;
        let mut screen = Screen::new();
        let mut problem = "no picture".to_owned();
        // A first picture that can't be converted need not be the only one.
        for _ in 0..3 {
            let Step::Picture(picture) = lesson.next_picture(None) else { break };
            match screen.paint(&picture) {
                Ok(_) => {
                    let (clock, upcoming, played) = (Clock::new(fps), Vec::new(), (lesson.place().0, screen.size()));
                    let (shown, is_over, was_late, gone) = (None, false, false, None);
                    return Ok(Self { lesson, clock, screen, upcoming, shown, played, is_over, was_late, gone });
                }
                Err(error) => problem = error.to_string(),
            }
        }
        Err((problem, "convert it: ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p lesson.mp4".to_owned()))
    }

    fn opened(&self) -> Opened {
        let facts = self.lesson.movie().facts();
        debug!("{}: {facts:?}", self.lesson.movie().name());
        let size = self.screen.size().unwrap_or(facts.size);
        Opened { size, description: self.describe(), sound: self.lesson.feed().cloned() }
    }

    /// The file that is played, for people.
    fn describe(&self) -> String {
        let (movie, (at, files)) = (self.lesson.movie(), self.lesson.place());
        let facts = movie.facts();
        let size = self.screen.size().unwrap_or(facts.size);
        let (pictures, sound) = (codec_name(facts.codecs.0), facts.codecs.1.map_or("no sound", codec_name));
        let more = if files > 1 { format!(", {at} of {files}") } else { String::new() };
        let end = if self.is_over { ", at its end" } else { "" };
        format!("file {} {size} ({pictures}, {sound}{more}{end})", movie.name())
    }

    /// Plays until the source is stopped.
    fn run(&mut self, orders: &Orders, sink: &FrameSink) {
        loop {
            let wanted = orders.take();
            let now = Instant::now();
            let deadline = match wanted.mode {
                Mode::Stopped => return,
                Mode::Idle => {
                    self.clock.pause(now);
                    self.play_sound();
                    None
                }
                Mode::Active => {
                    if self.clock.zero().is_none() || wanted.refresh {
                        self.clock.start(now);
                        self.play_sound();
                        // Of what is gone, nothing is shown: a card is, or the fallback.
                        if self.gone.is_none() {
                            self.screen.frame(None, now).into_iter().for_each(|frame| sink(frame));
                            self.clock.handle_shown(now);
                            self.shown = Some(now);
                        }
                    }
                    self.play(orders, sink)
                }
            };
            if let Err(error) = orders.wait(None, deadline) {
                error!("a lesson can't wait: {error}");
                return;
            }
        }
    }

    /// Does what is due; when something will be.
    fn play(&mut self, orders: &Orders, sink: &FrameSink) -> Option<Instant> {
        let position = self.clock.position(Instant::now());
        let sound =
            self.lesson.fill(position + LEAD, Some(orders)).and_then(|end| self.clock.zero().map(|zero| zero + end));
        let sound = sound.map(|used_up| used_up.checked_sub(LEAST_LEAD).unwrap_or(used_up));
        let step = self.decode(orders);
        let now = Instant::now();
        let Some(first) = self.upcoming.first() else {
            return match step {
                Step::End => {
                    self.handle_end(orders);
                    None
                }
                Step::Gone((found, advice)) => Some(self.handle_gone(orders, now, &found, &advice)),
                _ => Some(sound.map_or(now + RETRY, |sound| sound.max(now + RETRY))),
            };
        };
        if self.gone.take().is_some() {
            info!("{} is there again", self.lesson.movie().name());
            orders.tell(Health::Well);
            // Its time has gone on meanwhile, and what was shown instead may look otherwise.
            self.clock.handle_late(first.at, now);
            self.play_sound();
            self.screen.frame(None, now).into_iter().for_each(|frame| sink(frame));
            return Some(now);
        }
        let due = self.clock.due(first.at)?;
        if now < due {
            return Some(sound.map_or(due, |sound| sound.min(due)));
        }
        if self.clock.handle_late(first.at, now) {
            if std::mem::replace(&mut self.was_late, true) {
                debug!("the lesson is late again");
            } else {
                warn!(
                    "the lesson could not be played in time, so it goes on later; if that lasts, this machine is too slow for it"
                );
            }
            self.play_sound();
            return Some(now);
        }
        let starved = self.shown.is_none_or(|shown| now >= shown + SELDOM);
        let next_is_due = self.upcoming.get(1).is_some_and(|next| self.clock.gives_way(next.at, now));
        if next_is_due && !starved {
            self.upcoming.remove(0);
            return Some(now);
        }
        let painted = self.screen.paint(first);
        let played = (self.lesson.place().0, self.screen.size());
        if std::mem::replace(&mut self.played, played) != played {
            orders.describe(self.describe());
        }
        match painted {
            Ok(Painted::Busy) => return Some(now + RETRY),
            Ok(Painted::Differs(damage)) => {
                self.screen.frame(Some(damage), due).into_iter().for_each(|frame| sink(frame))
            }
            // Whatever it looks like, the recorded pictures after it are made of it.
            Ok(Painted::Same) if self.screen.is_coded() => {
                self.screen.frame(Some(Damage::none()), due).into_iter().for_each(|frame| sink(frame))
            }
            Ok(Painted::Same) => {}
            Err(error) => debug!("a picture is left out: {error}"),
        }
        self.clock.handle_shown(due);
        self.shown = Some(now);
        self.upcoming.remove(0);
        Some(now)
    }

    /// Decodes the next two pictures, as far as they are there.
    fn decode(&mut self, orders: &Orders) -> Step {
        while self.upcoming.len() < 2 {
            match self.lesson.next_picture(Some(orders)) {
                Step::Picture(picture) => self.upcoming.push(picture),
                step => return step,
            }
        }
        Step::NotYet
    }

    fn play_sound(&self) {
        if let Some(feed) = self.lesson.feed() {
            feed.play(self.clock.zero());
        }
    }

    /// Nothing is left of what is to be played again: opens it once it is time, and says when to look again.
    fn handle_gone(&mut self, orders: &Orders, now: Instant, found: &str, advice: &str) -> Instant {
        let due = *self.gone.get_or_insert_with(|| {
            let name = self.lesson.movie().name();
            warn!("{name} can't be played again: {found}; {advice}; it is tried every second");
            orders.tell(Health::Lost { why: format!("{name} can't be played again: {found}") });
            now + AGAIN
        });
        if now < due {
            return due;
        }
        self.lesson.try_again();
        self.gone = Some(now + AGAIN);
        now + RETRY
    }

    fn handle_end(&mut self, orders: &Orders) {
        if !std::mem::replace(&mut self.is_over, true) {
            orders.describe(self.describe());
            let movie = self.lesson.movie();
            info!("the lesson is over ({}); its last picture stands", movie.name());
            movie.tell_end();
        }
    }
}
