//! The X11 source against real X servers (Xvfb), with X clients that draw.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::randr::ConnectionExt as _;
use x11rb::protocol::xproto::{self, ConnectionExt as _, Rectangle};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::*;
use crate::frame::{Damage, Frame, Rect, Size};
use crate::orders::{CLOSING, OPENING};
use crate::source::{CaptureBackend, SourceSpec};

const DEADLINE: Duration = Duration::from_secs(20);
/// How long nothing must happen to be called still.
const STILL: Duration = Duration::from_millis(800);
const OPTIONS: SourceOptions =
    SourceOptions { fps: 60, pointer: false, size: None, capture: CaptureBackend::X11, state: None };
const WITH_POINTER: SourceOptions = SourceOptions { pointer: true, ..OPTIONS };

/// An X server of our own.
struct Xvfb {
    process: Child,
    display: String,
}

impl Xvfb {
    fn start(geometry: &str) -> Self {
        Self::start_with(&["-screen", "0", geometry])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let mut process = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-ac"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed");
        let mut number = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut number).unwrap();
        Self { process, display: format!(":{}", number.trim()) }
    }

    fn painter(&self) -> Painter {
        let (connection, screen) = RustConnection::connect(Some(&self.display)).unwrap();
        let root = connection.setup().roots[screen].root;
        let (window, gc) = (connection.generate_id().unwrap(), connection.generate_id().unwrap());
        connection.create_gc(gc, root, &xproto::CreateGCAux::new()).unwrap();
        Painter { connection, root, window, gc }
    }

    fn source(&self, options: SourceOptions) -> (Source, Receiver<Frame>) {
        let (sender, frames) = sync_channel(1_000);
        let sink: FrameSink = Arc::new(move |frame| drop(sender.send(frame)));
        (
            Source::open_on(Some(&self.display), &SourceSpec::SCREEN.base, &options, sink, &Watch::new().0).unwrap(),
            frames,
        )
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// An X client.
struct Painter {
    connection: RustConnection,
    root: xproto::Window,
    window: xproto::Window,
    gc: xproto::Gcontext,
}

impl Painter {
    /// Covers a part of the screen with a window to draw in.
    fn open_window(&self, x: i16, y: i16, width: u16, height: u16) {
        let values = xproto::CreateWindowAux::new().override_redirect(1).background_pixel(0x10_2030);
        let (depth, visual) = (x11rb::COPY_DEPTH_FROM_PARENT, x11rb::COPY_FROM_PARENT);
        let class = xproto::WindowClass::INPUT_OUTPUT;
        let (window, root) = (self.window, self.root);
        self.connection.create_window(depth, window, root, x, y, width, height, 0, class, visual, &values).unwrap();
        self.connection.map_window(window).unwrap();
        self.connection.sync().unwrap();
    }

    fn fill(&self, drawable: xproto::Drawable, rgb: u32, x: i16, y: i16, width: u16, height: u16) {
        self.connection.change_gc(self.gc, &xproto::ChangeGCAux::new().foreground(rgb)).unwrap();
        self.connection.poly_fill_rectangle(drawable, self.gc, &[Rectangle { x, y, width, height }]).unwrap();
        self.connection.sync().unwrap();
    }

    /// Moves the pointer as a mouse does.
    fn move_pointer(&self, x: i16, y: i16) {
        let (motion, now) = (xproto::MOTION_NOTIFY_EVENT, x11rb::CURRENT_TIME);
        self.connection.xtest_fake_input(motion, 0, now, self.root, x, y, 0).unwrap();
        self.connection.sync().unwrap();
    }

    /// Moves the pointer as a program does.
    fn warp_pointer(&self, x: i16, y: i16) {
        self.connection.warp_pointer(x11rb::NONE, self.root, 0, 0, 0, 0, x, y).unwrap();
        self.connection.sync().unwrap();
    }

    /// The whole screen as the server has it, in RGB.
    fn screen(&self, size: Size) -> Vec<u32> {
        let (width, height, all) = (size.width as u16, size.height as u16, !0);
        let format = xproto::ImageFormat::Z_PIXMAP;
        let image = self.connection.get_image(format, self.root, 0, 0, width, height, all).unwrap().reply().unwrap();
        image.data.chunks_exact(4).map(rgb).collect()
    }
}

fn rgb(bgrx: &[u8]) -> u32 {
    u32::from_le_bytes([bgrx[0], bgrx[1], bgrx[2], 0])
}

fn pixels(frame: &Frame) -> Vec<u32> {
    let row = frame.picture.size().width as usize * 4;
    frame
        .picture
        .bytes()
        .chunks(frame.picture.stride())
        .flat_map(|bytes| bytes[..row].chunks_exact(4).map(rgb))
        .collect()
}

fn pixel(frame: &Frame, x: usize, y: usize) -> u32 {
    rgb(&frame.picture.bytes()[y * frame.picture.stride() + x * 4..])
}

fn next(frames: &Receiver<Frame>) -> Frame {
    frames.recv_timeout(DEADLINE).expect("a frame comes")
}

/// Awaits the frame for which `holds`.
fn await_frame(frames: &Receiver<Frame>, holds: impl Fn(&Frame) -> bool) -> Frame {
    let end = Instant::now() + DEADLINE;
    loop {
        let frame = frames.recv_timeout(end.saturating_duration_since(Instant::now())).expect("the frame comes");
        if holds(&frame) {
            return frame;
        }
    }
}

/// Takes frames until none comes any more; the last one, if any came.
fn settle(frames: &Receiver<Frame>) -> Option<Frame> {
    let mut last = None;
    while let Ok(frame) = frames.recv_timeout(STILL) {
        last = Some(frame);
    }
    last
}

fn covered(damage: &Damage, rect: Rect) -> bool {
    damage.rects().iter().any(|known| known.bounding(rect) == *known)
}

#[test]
fn drawing_arrives_with_its_damage_and_the_right_pixels() {
    for size in [Size::new(1365, 767), Size::new(640, 480), Size::new(3840, 2160)] {
        let server = Xvfb::start(&format!("{size}x24"));
        let painter = server.painter();
        painter.open_window(0, 0, size.width as u16, size.height as u16);
        let (source, frames) = server.source(OPTIONS);
        assert_eq!((source.size(), source.describe()), (size, format!("screen {} {size}", server.display)));
        source.set_active(true);
        let first = next(&frames);
        assert_eq!(first.damage, Damage::whole(size));
        assert!(pixels(&first) == painter.screen(size), "the first frame of {size}");
        settle(&frames);
        for step in 0..8_u32 {
            let rect = Rect { x: 50 * step + 3, y: 37 * step + 1, width: 21, height: 13 };
            let (x, y) = (rect.x as i16, rect.y as i16);
            painter.fill(painter.window, 0xff_0000 >> step | 0xff, x, y, 21, 13);
            let frame = next(&frames);
            assert!(covered(&frame.damage, rect), "{rect:?} is not in {:?}", frame.damage);
            assert!(frame.damage.bounds().area() < 10_000, "too much damage: {:?}", frame.damage);
            assert!(pixels(&frame) == painter.screen(size), "step {step} at {size}");
            assert_eq!(frame.pointer, None);
        }
    }
}

#[test]
fn a_picture_stays_as_it_is_while_it_is_held() {
    let server = Xvfb::start("320x240x24");
    let painter = server.painter();
    painter.open_window(0, 0, 320, 240);
    let (source, frames) = server.source(OPTIONS);
    source.set_active(true);
    next(&frames);
    settle(&frames);
    let mut held = Vec::new();
    for shade in [0x11_1111, 0x22_2222, 0x33_3333] {
        painter.fill(painter.window, shade, 0, 0, 320, 240);
        held.push(await_frame(&frames, |frame| pixel(frame, 319, 239) == shade));
    }
    // The fourth store serves all that follows, and with it held too, drawing waits.
    painter.fill(painter.window, 0x44_4444, 0, 0, 320, 240);
    held.push(await_frame(&frames, |frame| pixel(frame, 319, 239) == 0x44_4444));
    painter.fill(painter.window, 0x55_5555, 0, 0, 320, 240);
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout));
    for (frame, shade) in held.iter().zip([0x11_1111, 0x22_2222, 0x33_3333, 0x44_4444]) {
        assert!(pixels(frame).iter().all(|pixel| *pixel == shade), "{shade:x} was overwritten");
    }
    drop(held);
    let after = next(&frames);
    assert!(covered(&after.damage, Rect { x: 0, y: 0, width: 320, height: 240 }));
    assert!(pixels(&after).iter().all(|pixel| *pixel == 0x55_5555));
}

#[test]
fn a_still_screen_gives_one_frame_and_an_idle_source_none() {
    let server = Xvfb::start("1920x1080x24");
    let painter = server.painter();
    painter.open_window(0, 0, 400, 400);
    let (source, frames) = server.source(WITH_POINTER);
    painter.fill(painter.window, 0xff, 0, 0, 10, 10);
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "not active yet");
    source.set_active(true);
    assert_eq!(next(&frames).damage, Damage::whole(source.size()));
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "nothing has changed");
    source.refresh();
    assert_eq!(next(&frames).damage, Damage::whole(source.size()));
    source.set_active(false);
    settle(&frames);
    painter.fill(painter.window, 0xff00, 0, 0, 10, 10);
    painter.move_pointer(99, 98);
    source.refresh();
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "not active any more");
    source.set_active(true);
    let again = next(&frames);
    assert_eq!(again.damage, Damage::whole(source.size()));
    assert_eq!(pixel(&again, 5, 5), 0xff00);
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "it was one frame");
    let before = Instant::now();
    drop(source);
    assert!(before.elapsed() < Duration::from_millis(500), "dropping took {:?}", before.elapsed());
    assert_eq!(frames.recv_timeout(DEADLINE).err(), Some(RecvTimeoutError::Disconnected));
}

#[test]
fn the_last_of_a_burst_is_always_captured() {
    let server = Xvfb::start("640x480x24");
    let painter = server.painter();
    painter.open_window(0, 0, 640, 480);
    let (source, frames) = server.source(SourceOptions { fps: 20, ..OPTIONS });
    source.set_active(true);
    next(&frames);
    for burst in 1..=5 {
        for step in 0..200 {
            painter.fill(painter.window, burst << 16 | step, (step % 640) as i16, (step * 7 % 460) as i16, 20, 20);
        }
        let mut count = 1;
        let mut last = next(&frames);
        while let Ok(frame) = frames.recv_timeout(STILL) {
            (last, count) = (frame, count + 1);
        }
        assert!(pixels(&last) == painter.screen(Size::new(640, 480)), "burst {burst}");
        assert!(count < 40, "{count} frames");
    }
}

#[test]
fn the_pointer_is_followed_by_motion_and_by_warp() {
    let server = Xvfb::start("640x480x24");
    let painter = server.painter();
    painter.open_window(0, 0, 640, 480);
    let (source, frames) = server.source(WITH_POINTER);
    source.set_active(true);
    let first = next(&frames);
    let start = first.pointer.expect("there is a pointer");
    assert!(start.image.argb.len() == start.image.size.width as usize * start.image.size.height as usize);
    settle(&frames);
    painter.move_pointer(100, 120);
    let moved = next(&frames);
    assert!(moved.damage.is_empty());
    let here = moved.pointer.unwrap();
    painter.move_pointer(130, 150);
    let there = next(&frames).pointer.unwrap();
    assert_eq!((there.x - here.x, there.y - here.y), (30, 30));
    painter.warp_pointer(30, 20);
    let warped = next(&frames);
    assert!(warped.damage.is_empty());
    let warped = warped.pointer.unwrap();
    assert_eq!((warped.x - there.x, warped.y - there.y), (-100, -130));
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "the pointer stands still");
}

#[test]
fn a_new_shape_of_the_pointer_is_fetched() {
    let server = Xvfb::start("640x480x24");
    let painter = server.painter();
    painter.open_window(0, 0, 640, 480);
    painter.move_pointer(300, 200);
    let (source, frames) = server.source(WITH_POINTER);
    source.set_active(true);
    let before = next(&frames).pointer.unwrap();
    let (font, cursor) = (painter.connection.generate_id().unwrap(), painter.connection.generate_id().unwrap());
    painter.connection.open_font(font, b"cursor").unwrap();
    painter.connection.create_glyph_cursor(cursor, font, font, 34, 35, 65535, 0, 0, 0, 65535, 0).unwrap();
    let values = xproto::ChangeWindowAttributesAux::new().cursor(cursor);
    painter.connection.change_window_attributes(painter.window, &values).unwrap();
    painter.connection.sync().unwrap();
    let shaped = await_frame(&frames, |frame| frame.pointer.as_ref().is_some_and(|p| p.image != before.image));
    assert!(shaped.damage.is_empty());
}

#[test]
fn without_shared_memory_and_raw_motion_it_works_all_the_same() {
    let server = Xvfb::start("1365x767x24");
    let size = Size::new(1365, 767);
    let painter = server.painter();
    painter.open_window(0, 0, 1365, 767);
    let frames = Arc::new(Mutex::new(Vec::<Frame>::new()));
    let sink: FrameSink = Arc::new({
        let frames = frames.clone();
        move |frame| frames.lock().unwrap().push(frame)
    });
    let mut capture = Capture::new(Screen::connect(&server.display).unwrap(), WITH_POINTER);
    capture.screen_mut().without_shared_memory();
    capture.screen_mut().without_raw_motion();
    capture.set_active(true, Instant::now()).unwrap();
    let end = Instant::now() + DEADLINE;
    let mut step = |done: &dyn Fn(&Frame) -> bool| loop {
        assert!(Instant::now() < end, "the frame does not come");
        capture.drain(Instant::now()).unwrap();
        capture.advance(Instant::now(), &sink).unwrap();
        if let Some(frame) = frames.lock().unwrap().drain(..).find(|frame| done(frame)) {
            return frame;
        }
    };
    let first = step(&|_| true);
    assert!(pixels(&first) == painter.screen(size));
    painter.fill(painter.window, 0x12_3456, 700, 700, 66, 66);
    let drawn = step(&|frame| pixel(frame, 765, 765) == 0x12_3456);
    assert!(pixels(&drawn) == painter.screen(size));
    let before = drawn.pointer.unwrap();
    painter.move_pointer(17, 19);
    step(&|frame| frame.pointer.as_ref().is_some_and(|pointer| pointer.x != before.x));
}

#[test]
fn the_server_may_go_and_come_back_with_another_size() {
    // Other tests let the server choose a number, lowest first: this one is far from those.
    let number = format!(":{}", 20_000 + std::process::id() % 10_000);
    let start = |geometry: &str| Xvfb::start_with(&[&number, "-screen", "0", geometry]);
    let server = start("640x480x24");
    assert_eq!(server.display, number);
    let (source, frames) = server.source(WITH_POINTER);
    source.set_active(true);
    let held = next(&frames);
    drop(server);
    settle(&frames);
    assert!(pixels(&held).len() == 640 * 480, "a picture outlives its server");
    let server = start("801x601x24");
    let back = next(&frames);
    assert_eq!((back.picture.size(), &back.damage), (Size::new(801, 601), &Damage::whole(Size::new(801, 601))));
    let painter = server.painter();
    painter.open_window(0, 0, 801, 601);
    await_frame(&frames, |frame| pixel(frame, 800, 600) == 0x10_2030);
    drop(server);
    settle(&frames);
    let before = Instant::now();
    drop(source);
    assert!(before.elapsed() < Duration::from_millis(500), "dropping took {:?}", before.elapsed());
}

#[test]
fn the_screen_may_be_resized() {
    let server = Xvfb::start("1280x1024x24");
    let painter = server.painter();
    let (source, frames) = server.source(OPTIONS);
    source.set_active(true);
    assert_eq!(next(&frames).picture.size(), Size::new(1280, 1024));
    // The one output has one mode, so it is switched off for the screen to shrink.
    let resources = painter.connection.randr_get_screen_resources(painter.root).unwrap().reply().unwrap();
    let (crtc, config, now) = (resources.crtcs[0], resources.config_timestamp, x11rb::CURRENT_TIME);
    let upright = x11rb::protocol::randr::Rotation::ROTATE0;
    let off = painter.connection.randr_set_crtc_config(crtc, now, config, 0, 0, 0, upright, &[]).unwrap();
    off.reply().unwrap();
    painter.connection.randr_set_screen_size(painter.root, 800, 600, 211, 158).unwrap().check().unwrap();
    let small = await_frame(&frames, |frame| frame.picture.size() == Size::new(800, 600));
    assert_eq!(small.damage, Damage::whole(Size::new(800, 600)));
    painter.open_window(0, 0, 800, 600);
    let drawn = await_frame(&frames, |frame| pixel(frame, 799, 599) == 0x10_2030);
    assert_eq!(drawn.picture.size(), Size::new(800, 600));
}

#[test]
fn a_screen_of_another_depth_is_refused() {
    let server = Xvfb::start("320x240x16");
    let sink: FrameSink = Arc::new(|_| ());
    let error =
        Source::open_on(Some(&server.display), &SourceSpec::SCREEN.base, &OPTIONS, sink, &Watch::new().0).unwrap_err();
    assert!(error.to_string().contains("depth of 16"), "{error}");
}

#[test]
fn a_server_that_hangs_holds_nobody_up_for_long() {
    let server = Xvfb::start("320x240x24");
    let (source, frames) = server.source(OPTIONS);
    source.set_active(true);
    next(&frames);
    let process = rustix::process::Pid::from_child(&server.process);
    rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    // Going idle needs the server's answer, so the thread is stuck from here on.
    source.set_active(false);
    let before = Instant::now();
    drop(source);
    assert!(before.elapsed() < CLOSING + Duration::from_secs(1), "dropping took {:?}", before.elapsed());
    let (before, sink) = (Instant::now(), Arc::new(|_| ()));
    Source::open_on(Some(&server.display), &SourceSpec::SCREEN.base, &OPTIONS, sink, &Watch::new().0).unwrap_err();
    assert!(before.elapsed() < OPENING + Duration::from_secs(1), "opening took {:?}", before.elapsed());
}
