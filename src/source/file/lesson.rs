//! A lesson: one file after the other, as one row of pictures and sound.
//!
//! Owns the open file and the one that follows, which is opened in a thread of its own before it is needed. Times are by the beginning of the lesson, and go
//! on over the ends of files and from a lesson's end to its beginning. It knows no clock.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, info, warn};

use super::movie::{Movie, Picture};
use super::playlist::{self, Wrong};
use crate::audio::feed::{Feed, samples_in, time_of};
use crate::orders::Orders;

/// So many files are looked into for sound when a folder is opened.
const MOST_LISTENED: usize = 16;

/// A lesson that is open.
pub(super) struct Lesson {
    files: Vec<PathBuf>,
    looped: bool,
    /// Which of the files is open.
    at: usize,
    movie: Movie,
    /// When that began, by the lesson's time.
    offset: Duration,
    next: Following,
    /// Where its sound goes, if it has any.
    feed: Option<Arc<Feed>>,
    /// The files of which was said what is wrong with them.
    told: Arc<Mutex<HashSet<usize>>>,
}

/// What comes after the open file.
enum Following {
    /// It was not looked for yet.
    Unknown,
    /// It is being opened.
    Opening(mpsc::Receiver<Result<(usize, Movie), Wrong>>),
    /// Nothing does.
    Nothing,
    /// It could not be opened, though the lesson begins again.
    Gone(Wrong),
}

/// What there is of pictures.
pub(super) enum Step {
    /// The next one.
    Picture(Picture),
    /// The next file is not open yet, or the sound of this one is not over.
    NotYet,
    /// There is no more.
    End,
    /// Of a lesson that begins again, nothing can be opened any more: [`Lesson::try_again`] tries.
    Gone(Wrong),
}

impl Lesson {
    /// Opens the first file that `path` stands for, at `start`.
    ///
    /// # Errors
    /// Where there is none that can be shown; with several, what is wrong with the first.
    pub(super) fn open(path: &Path, looped: bool, start: Duration) -> Result<Self, Wrong> {
        let files = playlist::files(path)?;
        let is_folder = files.len() > 1 || files.first().is_some_and(|file| file != path);
        let (mut first_wrong, mut told) = (None, HashSet::new());
        for (at, file) in files.iter().enumerate() {
            match Movie::open(file, Duration::ZERO) {
                Ok(mut movie) => {
                    if !start.is_zero() {
                        let of_first = |(found, advice): Wrong| (format!("{}: {found}", playlist::name(file)), advice);
                        let opened = Movie::open(file, start);
                        movie = if is_folder { opened.map_err(of_first)? } else { opened? };
                    }
                    let sounds = || files[at + 1..].iter().take(MOST_LISTENED);
                    let has_sound = movie.has_sound()
                        || sounds().any(|file| Movie::open(file, Duration::ZERO).is_ok_and(|movie| movie.has_sound()));
                    let feed = has_sound.then(Feed::new).transpose();
                    let feed =
                        feed.map_err(|error| (format!("no eventfd ({error})"), "raise LimitNOFILE=".to_owned()))?;
                    let (offset, next, feed) = (Duration::ZERO, Following::Unknown, feed.map(Arc::new));
                    movie.tell();
                    told.insert(at);
                    let told = Arc::new(Mutex::new(told));
                    return Ok(Self { files, looped, at, movie, offset, next, feed, told });
                }
                Err((found, advice)) if is_folder => {
                    let name = playlist::name(file);
                    warn!("{name} is left out: {found}; {advice}");
                    told.insert(at);
                    first_wrong.get_or_insert((format!("{name}: {found}"), advice));
                }
                Err(wrong) => return Err(wrong),
            }
        }
        Err(first_wrong.unwrap_or_else(|| ("no files".to_owned(), "name one".to_owned())))
    }

    /// Where its sound goes, if it has any.
    pub(super) fn feed(&self) -> Option<&Arc<Feed>> {
        self.feed.as_ref()
    }

    /// The open file.
    pub(super) fn movie(&self) -> &Movie {
        &self.movie
    }

    /// Which of how many files is played, from 1 on.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.at + 1, self.files.len())
    }

    /// The next picture.
    pub(super) fn next_picture(&mut self, orders: Option<&Orders>) -> Step {
        loop {
            if let Some(mut picture) = self.movie.next_picture(orders) {
                picture.at += self.offset;
                self.look_ahead();
                return Step::Picture(picture);
            }
            self.look_ahead();
            if self.feed.is_some() && !self.movie.is_silent() {
                return Step::NotYet;
            }
            match &self.next {
                Following::Nothing | Following::Unknown => return Step::End,
                Following::Gone(wrong) => return Step::Gone(wrong.clone()),
                Following::Opening(opened) => match opened.try_recv() {
                    Ok(Ok((at, movie))) => self.follow(at, movie),
                    Err(TryRecvError::Empty) => return Step::NotYet,
                    Ok(Err(wrong)) if self.looped => self.next = Following::Gone(wrong),
                    Ok(Err(_)) | Err(TryRecvError::Disconnected) => self.next = Following::Nothing,
                },
            }
        }
    }

    /// Decodes sound until that time of the lesson is reached; when that will be used up, by the lesson's time, `None` where there is no more.
    pub(super) fn fill(&mut self, until: Duration, orders: Option<&Orders>) -> Option<Duration> {
        let feed = self.feed.as_ref()?;
        let offset = samples_in(self.offset);
        let wanted = samples_in(until);
        if !self.movie.has_sound() {
            return None;
        }
        while offset + self.movie.sound_end() < wanted {
            if !self.movie.next_sound(orders, &mut |at, samples| feed.push(offset + at, samples)) {
                return None;
            }
        }
        Some(self.offset + time_of(self.movie.sound_end()))
    }

    /// Decodes the next sound of the open file for a test.
    #[cfg(test)]
    pub(super) fn listen(&mut self, sink: &mut dyn FnMut(u64, &[i16])) -> bool {
        self.movie.next_sound(None, sink)
    }

    /// Opens what comes next once more, where it could not be opened.
    pub(super) fn try_again(&mut self) {
        self.next = Following::Unknown;
    }

    /// Opens the next file where this one was read to its end.
    fn look_ahead(&mut self) {
        if !self.movie.is_read() || !matches!(self.next, Following::Unknown) {
            return;
        }
        let count = self.files.len();
        let following: Vec<usize> = if self.looped {
            (1..=count).map(|step| (self.at + step) % count).collect()
        } else {
            (self.at + 1..count).collect()
        };
        if following.is_empty() {
            self.next = Following::Nothing;
            return;
        }
        let candidates: Vec<_> = following.into_iter().map(|at| (at, self.files[at].clone())).collect();
        let ((sender, opened), told) = (mpsc::sync_channel(1), self.told.clone());
        let open = move || {
            let mut first = Err(("no file".to_owned(), "name one".to_owned()));
            for (at, file) in candidates {
                let is_known = !told.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
                match Movie::open_again(&file, Duration::ZERO, is_known) {
                    Ok(movie) => {
                        first = Ok((at, movie));
                        break;
                    }
                    Err((found, advice)) => {
                        if count > 1 && !is_known {
                            warn!("{} is left out: {found}; {advice}", playlist::name(&file));
                        }
                        first = Err((found, advice));
                    }
                }
            }
            // Nobody takes it where the lesson was left meanwhile.
            let _left = sender.send(first);
        };
        self.next = match std::thread::Builder::new().name("file-ahead".to_owned()).spawn(open) {
            Ok(_) => Following::Opening(opened),
            Err(error) => {
                warn!("the next file can't be opened, no thread: {error}");
                Following::Nothing
            }
        };
    }

    fn follow(&mut self, at: usize, movie: Movie) {
        self.movie.tell_end();
        if at == self.at {
            debug!("{} begins again", movie.name());
        } else {
            info!("{} follows", movie.name());
        }
        self.offset += self.movie.end();
        (self.at, self.movie, self.next) = (at, movie, Following::Unknown);
        self.movie.tell();
    }
}
