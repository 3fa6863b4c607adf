//! The X11 source against real X servers (Xvfb), with X clients that draw.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use x11rb::connection::Connection;
use x11rb::protocol::randr::ConnectionExt as _;
use x11rb::protocol::xproto::{self, ConnectionExt as _};
use x11rb::wrapper::ConnectionExt as _;

use super::testing::*;
use super::*;
use crate::frame::{Damage, Frame, Rect, Size};
use crate::orders::{CLOSING, OPENING};
use crate::source::{CaptureBackend, SourceSpec};

mod parts;
mod windows;

const OPTIONS: SourceOptions =
    SourceOptions { fps: 60, pointer: false, size: None, capture: CaptureBackend::X11, state: None };
const WITH_POINTER: SourceOptions = SourceOptions { pointer: true, ..OPTIONS };

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
    let mut capture = Capture::new(Screen::connect(&server.display, "screen").unwrap(), WITH_POINTER);
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
