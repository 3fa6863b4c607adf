#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::convert::{Colours, Layout};
use super::device::Taken;
use super::machine::{Camera, Stream};
use super::mode::{Interval, Pixels};
use super::refusal::Refusal;
use super::*;
use crate::frame::{Damage, Frame, Size};
use crate::orders::Health;

const DEADLINE: Duration = Duration::from_secs(10);
const SIZE: Size = Size::new(4, 2);
/// A grey picture.
const PICTURE: [u8; 16] = [128; 16];

/// What a test's device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Free(&'static str),
    Busy(&'static str),
    Metadata,
    Denied,
}

#[derive(Debug, Default)]
struct World {
    devices: BTreeMap<u32, Is>,
    /// The bells of what streams, and whether the next picture is broken.
    streams: BTreeMap<u32, OwnedFd>,
    breaks: bool,
}

/// The machine of a test.
#[derive(Debug, Clone, Default)]
struct Lab(Arc<Mutex<World>>);

struct Fake {
    lab: Lab,
    number: u32,
    name: &'static str,
    bell: OwnedFd,
}

impl Lab {
    fn with(devices: &[(u32, Is)]) -> Self {
        let lab = Self::default();
        lab.lock().devices.extend(devices.iter().copied());
        lab
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Plugs something in, where `is` says what, or out.
    fn plug(&self, number: u32, is: Option<Is>) {
        let mut world = self.lock();
        match is {
            Some(is) => drop(world.devices.insert(number, is)),
            None => drop(world.devices.remove(&number)),
        }
        if let Some(bell) = world.streams.get(&number) {
            rustix::io::write(bell, &1_u64.to_ne_bytes()).unwrap();
        }
    }

    /// Has whatever streams give a picture, as soon as something does.
    fn give(&self) {
        await_until("a camera streams", || !self.lock().streams.is_empty());
        for bell in self.lock().streams.values() {
            rustix::io::write(bell, &1_u64.to_ne_bytes()).unwrap();
        }
    }

    fn await_closed(&self) {
        await_until("the camera is closed", || self.lock().streams.is_empty());
    }
}

fn await_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

fn number(path: &Path) -> u32 {
    path.to_str().unwrap().trim_start_matches("/dev/video").parse().unwrap()
}

impl Machine for Lab {
    type Stream = Fake;

    fn devices(&self) -> Vec<PathBuf> {
        self.lock().devices.keys().map(|number| PathBuf::from(format!("/dev/video{number}"))).collect()
    }

    fn cameras(&self) -> Vec<PathBuf> {
        let world = self.lock();
        let cameras = world.devices.iter().filter(|(_, is)| **is != Is::Metadata);
        cameras.map(|(number, _)| PathBuf::from(format!("/dev/video{number}"))).collect()
    }

    fn look(&self, path: &Path, _wish: Wish, only: Option<&str>) -> Result<Camera, Refusal> {
        let name = match self.lock().devices.get(&number(path)).copied() {
            None => return Err(Refusal::Absent),
            Some(Is::Metadata) => return Err(Refusal::NoCapture { is: "a camera's metadata".to_owned() }),
            Some(Is::Denied) => return Err(Refusal::Denied { group: None }),
            Some(Is::Busy(name) | Is::Free(name)) if only.is_some_and(|only| only != name) => {
                return Err(Refusal::Another);
            }
            Some(Is::Busy(_)) => return Err(Refusal::Busy { by: vec!["cheese (pid 7)".to_owned()] }),
            Some(Is::Free(name)) => name,
        };
        let colours = Colours { is_709: false, is_full: true };
        let layout = Layout { pixels: Pixels::Yuyv, size: SIZE, stride: 8, colours };
        Ok(Camera { path: path.to_path_buf(), name: name.to_owned(), layout, interval: Some(Interval::of_rate(30)) })
    }

    fn start(&self, path: &Path, wish: Wish, only: Option<&str>) -> Result<(Camera, Fake), Refusal> {
        let camera = self.look(path, wish, only)?;
        let number = number(path);
        let Some(Is::Free(name)) = self.lock().devices.get(&number).copied() else { panic!("it is free") };
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        self.lock().streams.insert(number, bell.try_clone().unwrap());
        Ok((camera, Fake { lab: self.clone(), number, name, bell }))
    }
}

impl Stream for Fake {
    fn input(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn take(&mut self) -> io::Result<Option<Taken>> {
        let mut count = [0; 8];
        let is_ready = rustix::io::read(&self.bell, &mut count).is_ok();
        let world = self.lab.lock();
        if world.devices.get(&self.number) != Some(&Is::Free(self.name)) {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        let used = if world.breaks { 3 } else { PICTURE.len() };
        Ok(is_ready.then_some(Taken { index: 0, used, is_damaged: false, stamp: None }))
    }

    fn bytes(&self, taken: &Taken) -> &[u8] {
        &PICTURE[..taken.used]
    }

    fn give_back(&mut self, _taken: Taken) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.lab.lock().streams.remove(&self.number);
    }
}

/// An open camera and its frames.
struct Shown {
    source: Source,
    frames: mpsc::Receiver<Frame>,
}

impl Shown {
    fn open(lab: &Lab, device: Option<&str>) -> Self {
        let (sender, frames) = mpsc::sync_channel(1_000);
        let sink: FrameSink = Arc::new(move |frame| sender.send(frame).unwrap());
        let options = SourceOptions { fps: 1_000, ..SourceOptions::default() };
        let source = open_at(lab.clone(), device.map(Path::new), &options, sink, &Watch::new().0).unwrap();
        Self { source, frames }
    }

    fn next(&self) -> Frame {
        self.frames.recv_timeout(DEADLINE).unwrap()
    }

    fn awaits_loss(&self, words: &str) {
        let is_lost = |health| matches!(health, Health::Lost { why } if why.contains(words));
        await_until(words, || is_lost(self.source.health().borrow().clone()));
    }

    fn awaits_well(&self) {
        await_until("it is well", || *self.source.health().borrow() == Health::Well);
    }
}

fn refused(lab: &Lab, device: Option<&str>) -> String {
    let options = SourceOptions::default();
    open_at(lab.clone(), device.map(Path::new), &options, Arc::new(|_| ()), &Watch::new().0).unwrap_err().to_string()
}

#[test]
fn pictures_come_only_while_they_are_wanted_and_the_first_is_whole() {
    let lab = Lab::with(&[(0, Is::Metadata), (1, Is::Free("Desk"))]);
    let shown = Shown::open(&lab, None);
    assert_eq!(shown.source.describe(), "camera \"Desk\" /dev/video1 4x2 30 fps YUYV");
    assert_eq!(shown.source.size(), SIZE);
    for _ in 0..2 {
        assert!(lab.lock().streams.is_empty(), "it is open though nobody watches");
        shown.source.set_active(true);
        lab.give();
        let frame = shown.next();
        assert_eq!((frame.picture.size(), frame.damage), (SIZE, Damage::whole(SIZE)));
        assert!(frame.picture.bytes()[..3].iter().all(|part| part.abs_diff(128) < 3));
        // The last one again, without a new one.
        shown.source.refresh();
        let again = shown.next();
        assert_eq!(again.damage, Damage::whole(SIZE));
        assert!(again.captured >= frame.captured);
        shown.source.set_active(false);
        lab.await_closed();
    }
}

#[test]
fn a_camera_that_is_unplugged_comes_back_under_another_number() {
    let lab = Lab::with(&[(0, Is::Free("Desk"))]);
    let shown = Shown::open(&lab, None);
    shown.source.set_active(true);
    lab.give();
    shown.next();
    lab.plug(1, Some(Is::Free("Face")));
    lab.plug(0, None);
    shown.awaits_loss("the camera was unplugged");
    lab.await_closed();
    lab.plug(2, Some(Is::Free("Desk")));
    lab.give();
    shown.next();
    shown.awaits_well();
    assert_eq!(lab.lock().streams.keys().copied().collect::<Vec<_>>(), [2], "another camera is not shown unasked");
}

#[test]
fn a_device_that_was_asked_for_comes_back_as_itself() {
    let lab = Lab::with(&[(0, Is::Free("Desk")), (1, Is::Free("Desk"))]);
    let shown = Shown::open(&lab, Some("/dev/video1"));
    shown.source.set_active(true);
    lab.give();
    shown.next();
    lab.plug(1, None);
    shown.awaits_loss("unplugged");
    lab.plug(1, Some(Is::Free("Face")));
    lab.give();
    shown.next();
    shown.awaits_well();
    assert_eq!(lab.lock().streams.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_camera_that_another_program_has_is_tried_until_it_is_free() {
    let lab = Lab::with(&[(0, Is::Free("Desk"))]);
    let shown = Shown::open(&lab, None);
    lab.plug(0, Some(Is::Busy("Desk")));
    shown.source.set_active(true);
    shown.awaits_loss("/dev/video0 is in use by cheese (pid 7)");
    lab.plug(0, Some(Is::Free("Desk")));
    lab.give();
    shown.next();
    shown.awaits_well();
}

#[test]
fn a_lost_camera_is_looked_for_while_nobody_watches() {
    let lab = Lab::with(&[(0, Is::Free("Desk"))]);
    let shown = Shown::open(&lab, None);
    lab.plug(0, None);
    shown.source.set_active(true);
    shown.awaits_loss("the camera is not plugged in");
    shown.source.set_active(false);
    lab.plug(0, Some(Is::Free("Desk")));
    shown.awaits_well();
    assert!(lab.lock().streams.is_empty(), "it is open though nobody watches");
    assert!(shown.frames.try_recv().is_err());
}

#[test]
fn broken_pictures_are_left_out() {
    let lab = Lab::with(&[(0, Is::Free("Desk"))]);
    let shown = Shown::open(&lab, None);
    shown.source.set_active(true);
    lab.lock().breaks = true;
    lab.give();
    assert!(shown.frames.recv_timeout(Duration::from_millis(100)).is_err());
    lab.lock().breaks = false;
    lab.give();
    shown.next();
    assert_eq!(*shown.source.health().borrow(), Health::Well);
}

#[test]
fn a_camera_that_gives_nothing_is_started_anew() {
    let lab = Lab::with(&[(0, Is::Free("Desk"))]);
    let shown = Shown::open(&lab, None);
    shown.source.set_active(true);
    shown.awaits_loss("gives no picture");
    lab.give();
    shown.next();
    shown.awaits_well();
}

#[test]
fn what_cannot_be_opened_is_told_with_what_to_do() {
    let lab = Lab::with(&[(0, Is::Busy("Desk")), (1, Is::Metadata), (2, Is::Denied)]);
    for (device, words) in [
        (Some("/dev/video0"), &["source camera:/dev/video0: ", "in use by cheese (pid 7); end that program"][..]),
        (Some("/dev/video1"), &["is a camera's metadata", "camera:/dev/video0, camera:/dev/video2"]),
        (Some("/dev/video2"), &["permission denied", "usermod -aG video"]),
        (Some("/dev/video9"), &["there is no /dev/video9", "camera:/dev/video0"]),
        (None, &["source camera: /dev/video0 is in use by cheese"]),
    ] {
        let told = refused(&lab, device);
        assert!(words.iter().all(|words| told.contains(words)) && !told.contains('\n'), "{told}");
    }
    assert!(refused(&Lab::with(&[(0, Is::Metadata)]), None).contains("this machine has no camera"));
    let other = Shown::open(&Lab::with(&[(0, Is::Denied), (3, Is::Free("Desk"))]), None);
    assert!(other.source.describe().contains("/dev/video3"), "the first one that can be opened");
}
