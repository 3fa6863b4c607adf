//! One file that is open: its pictures and its sound, in their order and with their times.
//!
//! Owns demuxer and decoders. Packets are read as they are wanted, and those of the other stream wait in a bounded queue. What can't be decoded is counted and
//! left out. It knows no clock: times are by the file's beginning, or by where it was asked to begin.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ac_ffmpeg::codec::Decoder as _;
use ac_ffmpeg::codec::video::{VideoDecoder, VideoFrame};
use ac_ffmpeg::format::demuxer::{Demuxer, SeekTarget};
use ac_ffmpeg::format::io::IO;
use ac_ffmpeg::format::stream::Stream;
use ac_ffmpeg::packet::Packet;
use ac_ffmpeg::time::Timestamp;
use tracing::{debug, warn};

use super::colours;
use super::layout::Layout;
use super::passage::{self, Passage};
use super::picture::Painter;
use super::playlist::{self, Wrong};
use super::sound::Sound;
use super::streams::{Input, best_video, sound_of, turn_of};
use super::turn::Turn;
use crate::audio::feed::time_of;
use crate::frame::Size;
use crate::frame::coded::Coded;
use crate::orders::Orders;

/// So many bytes of packets wait at most, of both streams.
const MOST_HELD: usize = 64 << 20;
/// So many pictures are read at most while sound is looked for.
const MOST_AHEAD: usize = 600;
/// So many errors of the file one after the other are its end.
const MOST_ERRORS: u32 = 50;
/// So long the last picture of a file may last, in microseconds, where its length is not written.
const MOST_STILL: i64 = 500_000;
/// Times that go back by more than this, in microseconds, begin anew.
const MOST_BACK: i64 = 500_000;
/// What a picture lasts where nothing tells.
const USUAL_INTERVAL: Duration = Duration::from_millis(40);
/// Larger pictures than this are decoded by two threads.
const ONE_THREAD: usize = 1280 * 720;
/// Sound that begins earlier than the pictures by more than this, in microseconds, is wrong about its times.
const MOST_APART: i64 = 10_000_000;

/// What is known of a file's streams, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// FFmpeg's name for what decodes the pictures, and the sound where there is some.
    pub(super) codecs: (&'static str, Option<&'static str>),
    /// The size of the pictures as they are coded.
    pub(super) size: Size,
}

/// A decoded picture.
pub(super) struct Picture {
    /// Its time.
    pub(super) at: Duration,
    pub(super) frame: VideoFrame,
    /// How it was recorded, where it can be sent so.
    pub(super) coded: Option<Arc<Coded>>,
    /// By what it becomes one of ours.
    pub(super) painter: Arc<Mutex<Painter>>,
}

/// A picture with its time in the file, in microseconds, and how it was recorded.
type Decoded = (i64, VideoFrame, Option<Arc<Coded>>);

/// A file that is open.
pub(super) struct Movie {
    name: String,
    demuxer: Demuxer<Input>,
    video: VideoDecoder,
    sound: Option<Sound>,
    /// The numbers of the streams that are read.
    indexes: (usize, Option<usize>),
    packets: VecDeque<Packet>,
    sound_packets: VecDeque<Packet>,
    held: usize,
    state: Reading,
    painter: Arc<Mutex<Painter>>,
    /// The time of the file that counts as zero, in microseconds.
    origin: i64,
    /// Pictures that were decoded already, by their times in microseconds.
    decoded: VecDeque<Decoded>,
    /// When the last picture was, and how long it lasts.
    last: (Duration, Duration),
    errors: u64,
    /// How many bytes of it are missing at its end, as far as that can be known.
    missing: Option<u64>,
    /// What is wrong with it was told already.
    is_known: bool,
    facts: Facts,
    /// What of it can be sent as it is.
    passage: Option<Passage>,
}

/// How far a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// There is more.
    More,
    /// No packet is left in it; the decoders may have pictures or sound.
    End { video_flushed: bool, sound_flushed: bool },
}

impl Movie {
    /// Opens a file and decodes its first picture, or the one that is seen at `start`.
    ///
    /// # Errors
    /// Where it can't be read, has no video, or is shorter than that.
    pub(super) fn open(path: &Path, start: Duration) -> Result<Self, Wrong> {
        Self::open_again(path, start, false)
    }

    /// The same; of one that `is_known`, nothing is logged that is wrong with it.
    pub(super) fn open_again(path: &Path, start: Duration, is_known: bool) -> Result<Self, Wrong> {
        let file = playlist::open(path)?;
        let layout = Layout::read(&file);
        let input = Input::new(file);
        let unreadable = |error: ac_ffmpeg::Error| {
            let found = format!("it is no video that FFmpeg can read ({error})");
            (found, "where its recording was cut off, it has no index: mend or convert it".to_owned())
        };
        // A file that names other files or addresses, as a playlist does, gets none of them.
        let builder = Demuxer::builder().set_option("protocol_whitelist", "none");
        let demuxer = builder.build(IO::from_seekable_read_stream(input)).map_err(unreadable)?;
        let demuxer = demuxer.find_stream_info(None).map_err(|(_, error)| unreadable(error))?;
        let container = demuxer.input_format().name().to_owned();
        let streams = demuxer.streams();
        let Some((index, stream)) = best_video(streams) else {
            let found = "it has no video".to_owned();
            return Err((found, "name a file with pictures; sound alone can't be shown".to_owned()));
        };
        let undecodable = |why: String| {
            let found = format!("this machine's FFmpeg can't decode its video ({why})");
            (found, "convert it: ffmpeg -i FILE -c:v libx264 lesson.mp4".to_owned())
        };
        let parameters = stream.codec_parameters();
        let codec = parameters.decoder_name().ok_or_else(|| undecodable("unknown codec".to_owned()))?;
        let parameters = parameters.into_video_codec_parameters().ok_or_else(|| undecodable(codec.to_owned()))?;
        let size = Size::new(parameters.width() as u32, parameters.height() as u32);
        let threads = if parameters.width() * parameters.height() > ONE_THREAD { 2 } else { 1 };
        let video = VideoDecoder::from_codec_parameters(&parameters)
            .and_then(|builder| builder.time_base(stream.time_base()).set_option("threads", threads).build())
            .map_err(|error| undecodable(format!("{codec}: {error}")))?;
        let name = playlist::name(path);
        let sound = sound_of(streams, &name, is_known);
        let begins = |stream: &Stream| stream.start_time().as_micros();
        let video_begins = begins(stream).unwrap_or_default();
        let sound_begins = sound.as_ref().and_then(|(index, ..)| begins(&streams[*index]));
        let begins = sound_begins.filter(|at| *at >= video_begins - MOST_APART).unwrap_or(video_begins);
        let origin = begins.min(video_begins);
        let played = [Some(stream), sound.as_ref().map(|(index, ..)| &streams[*index])];
        let ends = played.into_iter().flatten().filter_map(|stream| {
            Some(stream.start_time().as_micros().unwrap_or_default() + stream.duration().as_micros()?)
        });
        let length = ends.max().map(|end| end - origin).filter(|length| *length > 0);
        let turn = turn_of(stream);
        let extradata = parameters.extradata().unwrap_or_default().to_vec();
        let (sound_index, sound_codec, sound) = match sound {
            Some((index, codec, sound)) => (Some(index), Some(codec), Some(sound)),
            None => (None, None, None),
        };
        let mut movie = Self {
            name,
            demuxer: demuxer.into_demuxer(),
            video,
            sound,
            indexes: (index, sound_index),
            packets: VecDeque::new(),
            sound_packets: VecDeque::new(),
            held: 0,
            state: Reading::More,
            painter: Arc::new(Mutex::new(Painter::new(colours::Told::default(), turn))),
            origin,
            decoded: VecDeque::new(),
            last: (Duration::ZERO, USUAL_INTERVAL),
            errors: 0,
            missing: layout.missing,
            is_known,
            facts: Facts { codecs: (codec, sound_codec), size },
            passage: None,
        };
        while movie.packets.is_empty() && movie.state == Reading::More {
            movie.read(None);
        }
        let keyframe = movie.packets.front().map(Packet::data).unwrap_or_default();
        let told = colours::told(codec, &extradata, keyframe);
        movie.painter = Arc::new(Mutex::new(Painter::new(told, turn)));
        let rows = parameters.height();
        let stream = passage::Stream { codec, container: &container, extradata: &extradata, told, rows };
        movie.passage = Passage::new(stream).filter(|_| turn == Turn::None && !layout.changes);
        movie.begin(start, length)?;
        Ok(movie)
    }

    /// Goes to `start` and decodes what is seen there.
    fn begin(&mut self, start: Duration, length: Option<i64>) -> Result<(), Wrong> {
        let too_short = |length: i64| {
            let found = format!("it is only {:.1} s long", length as f64 / 1e6);
            (found, "let it start earlier (start=SECONDS)".to_owned())
        };
        let begin = i64::try_from(start.as_micros()).unwrap_or(i64::MAX / 4);
        if let Some(length) = length.filter(|length| begin > 0 && begin >= *length) {
            return Err(too_short(length));
        }
        let file_origin = self.origin;
        self.origin = file_origin.saturating_add(begin);
        if begin > 0 {
            let target = Timestamp::from_micros(self.origin);
            match self.demuxer.seek_to_timestamp(target, SeekTarget::UpTo) {
                Ok(()) => {
                    self.packets.clear();
                    self.sound_packets.clear();
                    self.held = 0;
                    self.state = Reading::More;
                }
                // Then all that is before it is decoded.
                Err(error) => debug!("{} can't be searched: {error}", self.name),
            }
        }
        let mut seen = None;
        while let Some(decoded) = self.decode(None) {
            if decoded.0 > self.origin && (begin > 0 || seen.is_some()) {
                self.decoded.push_back(decoded);
                break;
            }
            seen = Some(decoded);
            if begin == 0 {
                break;
            }
        }
        // Where the length is not written, the last picture and the last sound tell it.
        let last_sound = self.sound_packets.back().and_then(|packet| packet.pts().as_micros());
        let goes_on = last_sound.is_some_and(|at| at > self.origin);
        let is_past = |at: i64| begin > 0 && self.decoded.is_empty() && !goes_on && at < self.origin - MOST_STILL;
        match seen {
            Some((at, ..)) if length.is_none() && is_past(at) => return Err(too_short(at - file_origin)),
            Some(picture) => self.decoded.push_front(picture),
            None if self.decoded.is_empty() => {
                let found = "it has no picture that can be decoded".to_owned();
                return Err((found, "play it elsewhere to see whether it is whole".to_owned()));
            }
            None => {}
        }
        Ok(())
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What is known of its streams so far.
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether it has sound.
    pub(super) fn has_sound(&self) -> bool {
        self.sound.is_some()
    }

    /// Whether all its packets were read, so that it will soon be over.
    pub(super) fn is_read(&self) -> bool {
        self.state != Reading::More
    }

    /// Whether all its sound was given.
    pub(super) fn is_silent(&self) -> bool {
        self.sound.is_none() || matches!(self.state, Reading::End { sound_flushed: true, .. })
    }

    /// Where its sound was given to.
    pub(super) fn sound_end(&self) -> u64 {
        self.sound.as_ref().map_or(0, Sound::end)
    }

    /// Where it ends, as far as it was read.
    pub(super) fn end(&self) -> Duration {
        (self.last.0 + self.last.1).max(time_of(self.sound_end()))
    }

    /// How often something in it could not be read or decoded.
    #[cfg(test)]
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    /// How many bytes of it are missing at its end, as far as that can be known.
    #[cfg(test)]
    pub(super) fn missing(&self) -> Option<u64> {
        self.missing
    }

    /// Says what is known to be wrong with it as it begins.
    pub(super) fn tell(&self) {
        if let Some(bytes) = self.missing.filter(|_| !self.is_known) {
            let name = &self.name;
            warn!("{name} was cut off when it was recorded or copied ({bytes} bytes of it are missing); it ends early");
        }
    }

    /// Says how much was wrong with it, once it is over.
    pub(super) fn tell_end(&self) {
        if self.errors > 0 && !self.is_known {
            warn!("{}: {} errors until its end", self.name, self.errors);
        }
    }

    /// The next picture; `None` at its end.
    pub(super) fn next_picture(&mut self, orders: Option<&Orders>) -> Option<Picture> {
        let (micros, frame, coded) = match self.decoded.pop_front() {
            Some(decoded) => decoded,
            None => self.decode(orders)?,
        };
        let last = self.last.0.as_micros() as i64;
        if micros - self.origin < last - MOST_BACK {
            // Recordings that were put together begin their times anew in the middle.
            debug!("{}: its times go back by {} us", self.name, last - (micros - self.origin));
            self.origin = micros - last - self.last.1.min(USUAL_INTERVAL).as_micros() as i64;
        }
        let at = Duration::from_micros((micros - self.origin).max(0).unsigned_abs()).max(self.last.0);
        let interval = at - self.last.0;
        self.last = (at, if interval.is_zero() { self.last.1 } else { interval.min(Duration::from_secs(1)) });
        Some(Picture { at, frame, coded, painter: self.painter.clone() })
    }

    /// Decodes the next packet of sound; whether there was one, or room for it.
    pub(super) fn next_sound(&mut self, orders: Option<&Orders>, sink: &mut dyn FnMut(u64, &[i16])) -> bool {
        if self.sound.is_none() {
            return false;
        }
        while self.sound_packets.is_empty() && self.state == Reading::More {
            // Sound may be over long before the pictures are.
            if self.held > MOST_HELD || self.packets.len() > MOST_AHEAD {
                return false;
            }
            self.read(orders);
        }
        let Some(sound) = &mut self.sound else { return false };
        let packet = self.sound_packets.pop_front();
        match (&packet, &mut self.state) {
            (Some(packet), _) => self.held -= packet.data().len().min(self.held),
            (None, Reading::End { sound_flushed, .. }) if !*sound_flushed => *sound_flushed = true,
            _ => return false,
        }
        if let Err(error) = sound.decode(packet, self.origin, sink) {
            self.note(&format!("sound: {error}"));
        }
        true
    }

    /// The next picture as it is decoded, and its time.
    fn decode(&mut self, orders: Option<&Orders>) -> Option<Decoded> {
        loop {
            match self.video.take() {
                Ok(Some(frame)) => {
                    let at = frame.best_effort_timestamp().as_micros().or_else(|| frame.pts().as_micros());
                    let coded = self.passage.as_mut().zip(at).and_then(|(passage, at)| passage.take(at));
                    return Some((at.unwrap_or_else(|| self.following()), frame, coded));
                }
                Ok(None) => {}
                Err(error) => self.lack(&error.to_string()),
            }
            let pushed = match (self.packets.pop_front(), &mut self.state) {
                (Some(packet), _) => {
                    self.held -= packet.data().len().min(self.held);
                    if let Some(passage) = &mut self.passage {
                        passage.handle_packet(packet.pts().as_micros(), packet.data());
                    }
                    self.video.try_push(packet)
                }
                (None, Reading::More) => {
                    self.read(orders);
                    continue;
                }
                (None, Reading::End { video_flushed, .. }) if !*video_flushed => {
                    *video_flushed = true;
                    self.video.try_flush()
                }
                (None, Reading::End { .. }) => return None,
            };
            if let Err(error) = pushed {
                self.lack(&error.to_string());
            }
        }
    }

    /// The time of a picture that has none, in microseconds: it follows the one before.
    fn following(&self) -> i64 {
        self.origin + (self.last.0 + self.last.1).as_micros() as i64
    }

    /// Reads one packet.
    fn read(&mut self, orders: Option<&Orders>) {
        for _ in 0..MOST_ERRORS {
            // A disk or a server of files may take its time, or for ever.
            let demuxer = &mut self.demuxer;
            let taken = match orders {
                Some(orders) => orders.waiting(|| demuxer.take()),
                None => demuxer.take(),
            };
            match taken {
                Ok(Some(packet)) => return self.keep(packet),
                Ok(None) => {
                    self.state = Reading::End { video_flushed: false, sound_flushed: false };
                    return;
                }
                Err(error) => self.lack(&error.to_string()),
            }
        }
        warn!("{} can't be read any further: it ends here", self.name);
        self.state = Reading::End { video_flushed: false, sound_flushed: false };
    }

    fn keep(&mut self, packet: Packet) {
        let length = packet.data().len();
        if packet.stream_index() == self.indexes.0 {
            self.packets.push_back(packet);
        } else if Some(packet.stream_index()) == self.indexes.1 {
            self.sound_packets.push_back(packet);
        } else {
            return;
        }
        self.held += length;
        // Pictures are read on, however much sound nobody takes lies between them.
        while self.held > MOST_HELD
            && let Some(packet) = self.sound_packets.pop_front()
        {
            self.held -= packet.data().len().min(self.held);
            self.errors += 1;
        }
    }

    /// Notes that what follows may lack something.
    fn lack(&mut self, error: &str) {
        if let Some(passage) = &mut self.passage {
            passage.handle_damage();
        }
        self.note(error);
    }

    /// Counts what went wrong, and says so once.
    fn note(&mut self, error: &str) {
        self.errors += 1;
        if self.errors == 1 && !self.is_known {
            warn!("{} is damaged ({error}); what can be decoded of it is shown", self.name);
        } else {
            debug!("{}: {error}", self.name);
        }
    }
}
