//! scrap against real X servers (Xvfb).
#![allow(clippy::unwrap_used)]

use std::sync::mpsc::RecvTimeoutError;

use x11rb::protocol::randr::ConnectionExt as _;

use super::*;
use crate::orders::CLOSING;
use crate::source::CaptureBackend;
use crate::source::x11::testing::*;

const OPTIONS: SourceOptions =
    SourceOptions { fps: 30, pointer: false, size: None, capture: CaptureBackend::Scrap, state: None };

/// The modes of this process's shared segments, and who holds them.
fn segments(size: Size) -> Vec<(String, String)> {
    let wanted = (2 * 4 * u64::from(size.width) * u64::from(size.height)).to_string();
    let us = std::process::id().to_string();
    let listed = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let fields = listed.lines().map(|line| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
    fields.filter(|f| f[3] == wanted && f[4] == us).map(|f| (f[2].clone(), f[6].clone())).collect()
}

#[test]
fn the_screen_is_shown_with_what_has_changed_and_nothing_else() {
    let (server, size) = (Xvfb::start("801x601x24"), Size::new(801, 601));
    let painter = server.painter();
    painter.open_window(0, 0, 801, 601);
    let (source, frames) = server.source(OPTIONS);
    assert_eq!(source.describe(), format!("screen {} {size}, by scrap", server.display));
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "not active yet");
    assert_eq!(segments(size), [], "nothing is held while it is idle");
    source.set_active(true);
    let first = next(&frames);
    assert_eq!((&first.damage, first.picture.size()), (&Damage::whole(size), size));
    assert!(pixels(&first) == painter.screen(size));
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "nothing has changed");
    assert_eq!(segments(size), [("1600".to_owned(), "2".to_owned())], "closed to others, and to end with its holders");
    for step in 0..5_u32 {
        let rect = Rect { x: 90 * step + 3, y: 70 * step + 1, width: 21, height: 13 };
        painter.fill(painter.window, 0xff_0000 >> step | 0xff, rect.x as i16, rect.y as i16, 21, 13);
        let frame = await_frame(&frames, |frame| pixel(frame, rect.x as usize + 20, rect.y as usize + 12) != 0x10_2030);
        assert_eq!(frame.damage.bounds(), rect);
        assert!(pixels(&frame) == painter.screen(size), "step {step}");
    }
    source.refresh();
    assert_eq!(next(&frames).damage, Damage::whole(size));
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "nothing has changed");
    source.set_active(false);
    settle(&frames);
    painter.fill(painter.window, 0xff00, 0, 0, 801, 601);
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "not active any more");
    assert_eq!(segments(size), []);
    source.set_active(true);
    let again = next(&frames);
    assert_eq!(again.damage, Damage::whole(size));
    assert!(pixels(&again).iter().all(|pixel| *pixel == 0xff00));
    let before = Instant::now();
    drop(source);
    assert!(before.elapsed() < CLOSING, "dropping took {:?}", before.elapsed());
}

#[test]
fn a_picture_is_of_the_moment_that_it_says() {
    let server = Xvfb::start("320x240x24");
    let painter = server.painter();
    painter.open_window(0, 0, 320, 240);
    let (source, frames) = server.source(SourceOptions { fps: 2, ..OPTIONS });
    source.set_active(true);
    settle(&frames);
    let drawn = Instant::now();
    painter.fill(painter.window, 0xff, 0, 0, 320, 240);
    let after = Instant::now();
    let frame = next(&frames);
    assert!(frame.captured >= drawn && after.elapsed() < Duration::from_millis(900), "{:?}", after.elapsed());
    assert!(pixels(&frame).iter().all(|pixel| *pixel == 0xff));
}

#[test]
fn a_server_that_dies_is_a_loss_and_one_that_comes_is_well() {
    let number = format!(":{}", 31_000 + std::process::id() % 10_000);
    let start = |geometry: &str| Xvfb::start_with(&[&number, "-screen", "0", geometry]);
    for active in [true, false] {
        let server = start("640x480x24");
        let (source, frames) = server.source(OPTIONS);
        source.set_active(active);
        if active {
            next(&frames);
        }
        drop(server);
        assert!(await_loss(&source).contains(&format!("display {number} is gone")));
        settle(&frames);
        let server = start("801x601x24");
        let painter = server.painter();
        painter.open_window(0, 0, 801, 601);
        await_health(&source, |health| *health == Health::Well);
        source.set_active(true);
        await_frame(&frames, |frame| {
            frame.picture.size() == Size::new(801, 601) && pixel(frame, 800, 600) == 0x10_2030
        });
    }
}

#[test]
fn a_screen_of_another_size_is_seen() {
    let server = Xvfb::start("1280x1024x24");
    let painter = server.painter();
    let (source, frames) = server.source(OPTIONS);
    source.set_active(true);
    assert_eq!(next(&frames).picture.size(), Size::new(1280, 1024));
    let resources = painter.connection.randr_get_screen_resources(painter.root).unwrap().reply().unwrap();
    let (crtc, config, now) = (resources.crtcs[0], resources.config_timestamp, x11rb::CURRENT_TIME);
    let upright = x11rb::protocol::randr::Rotation::ROTATE0;
    painter.connection.randr_set_crtc_config(crtc, now, config, 0, 0, 0, upright, &[]).unwrap().reply().unwrap();
    painter.connection.randr_set_screen_size(painter.root, 800, 600, 211, 158).unwrap().check().unwrap();
    let small = await_frame(&frames, |frame| frame.picture.size() == Size::new(800, 600));
    assert_eq!(small.damage, Damage::whole(Size::new(800, 600)));
    painter.open_window(0, 0, 800, 600);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0x10_2030));
    assert_eq!(*source.health().borrow(), Health::Well);
}

#[test]
fn a_monitor_is_found_and_others_are_refused() {
    let server = Xvfb::start("320x240x24");
    for spec in ["screen:screen", "screen:1"] {
        let (source, frames) = server.open(spec, OPTIONS).unwrap();
        source.set_active(true);
        assert_eq!(next(&frames).picture.size(), Size::new(320, 240));
    }
    let error = server.open("screen:HDMI-1", OPTIONS).unwrap_err().to_string();
    assert!(error.starts_with("source screen:HDMI-1: the monitor HDMI-1 is not connected; "), "{error}");
    let odd = Xvfb::start("320x240x16").open("screen", OPTIONS).unwrap_err().to_string();
    assert!(odd.contains("depth of 16"), "{odd}");
}
