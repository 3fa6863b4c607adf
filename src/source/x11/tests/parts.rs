//! Monitors and regions.

use x11rb::protocol::randr;

use super::*;
use crate::orders::Health;

/// The part of the screen, in RGB.
fn part(painter: &Painter, screen: Size, part: Rect) -> Vec<u32> {
    let pixels = painter.screen(screen);
    let rows = pixels.chunks(screen.width as usize).skip(part.y as usize).take(part.height as usize);
    rows.flat_map(|row| row[part.x as usize..(part.x + part.width) as usize].to_vec()).collect()
}

fn set_monitor(painter: &Painter, name: &str, at: Rect) {
    let name = painter.connection.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
    let monitor = randr::MonitorInfo {
        name,
        primary: false,
        automatic: false,
        x: at.x as i16,
        y: at.y as i16,
        width: at.width as u16,
        height: at.height as u16,
        width_in_millimeters: 100,
        height_in_millimeters: 100,
        outputs: Vec::new(),
    };
    // A name that is there is refused, so it is given anew, and in one step for whoever looks.
    painter.connection.grab_server().unwrap();
    let _none_before = painter.connection.randr_delete_monitor(painter.root, name).unwrap().check();
    painter.connection.randr_set_monitor(painter.root, monitor).unwrap().check().unwrap();
    painter.connection.ungrab_server().unwrap();
    painter.connection.sync().unwrap();
}

fn delete_monitor(painter: &Painter, name: &str) {
    let name = painter.connection.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom;
    painter.connection.randr_delete_monitor(painter.root, name).unwrap().check().unwrap();
}

fn set_screen_size(painter: &Painter, width: u16, height: u16) {
    let (width_mm, height_mm) = (u32::from(width) / 4, u32::from(height) / 4);
    painter
        .connection
        .randr_set_screen_size(painter.root, width, height, width_mm, height_mm)
        .unwrap()
        .check()
        .unwrap();
}

fn switch_output_off(painter: &Painter) {
    let resources = painter.connection.randr_get_screen_resources(painter.root).unwrap().reply().unwrap();
    let (crtc, config, now) = (resources.crtcs[0], resources.config_timestamp, x11rb::CURRENT_TIME);
    let upright = randr::Rotation::ROTATE0;
    painter.connection.randr_set_crtc_config(crtc, now, config, 0, 0, 0, upright, &[]).unwrap().reply().unwrap();
}

#[test]
fn a_region_shows_its_part_and_hears_of_nothing_else() {
    let (screen, at) = (Size::new(1280, 720), Rect { x: 501, y: 99, width: 300, height: 200 });
    let server = Xvfb::start("1280x720x24");
    let painter = server.painter();
    painter.open_window(0, 0, 1280, 720);
    painter.fill(painter.window, 0xff_8040, 480, 80, 100, 100);
    painter.move_pointer(3, 3);
    let (source, frames) = server.open("region:300x200+501+99", WITH_POINTER).unwrap();
    assert_eq!(source.describe(), format!("region 300x200+501+99 of {} 300x200", server.display));
    source.set_active(true);
    let first = next(&frames);
    assert_eq!((first.picture.size(), &first.damage), (source.size(), &Damage::whole(source.size())));
    assert!(pixels(&first) == part(&painter, screen, at));
    assert_eq!(first.pointer, None, "it is elsewhere");
    settle(&frames);
    for (x, y) in [(0, 0), (400, 99), (801, 150), (501, 299), (600, 0)] {
        painter.fill(painter.window, 0xff, x, y, 90, 90);
        if (x, y) == (400, 99) {
            painter.fill(painter.window, 0xff, x, y, 101, 90);
        }
    }
    painter.move_pointer(30, 40);
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "it was drawn elsewhere");
    painter.fill(painter.window, 0x12_3456, 481, 279, 40, 40);
    let drawn = next(&frames);
    assert_eq!(drawn.damage.bounds(), Rect { x: 0, y: 180, width: 20, height: 20 });
    assert!(pixels(&drawn) == part(&painter, screen, at));
    painter.move_pointer(511, 119);
    let entered = next(&frames);
    assert!(entered.damage.is_empty());
    let pointer = entered.pointer.expect("it is inside");
    assert!((-20..=10).contains(&pointer.x) && (0..=20).contains(&pointer.y), "{pointer:?}");
    painter.move_pointer(500, 119);
    assert_eq!(next(&frames).pointer, None, "it has left");
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout));
}

#[test]
fn a_region_outside_of_the_screen_is_refused() {
    let server = Xvfb::start("640x480x24");
    for spec in ["region:640x480+1+0", "region:10x10+0+471", "region:641x1+0+0"] {
        let error = server.open(spec, OPTIONS).unwrap_err().to_string();
        assert!(error.starts_with(&format!("source {spec}: the screen is 640x480, and ")), "{error}");
    }
    server.open("region:640x480+0+0", OPTIONS).unwrap();
}

#[test]
fn a_region_is_lost_while_the_screen_is_too_small() {
    let server = Xvfb::start("1280x1024x24");
    let painter = server.painter();
    painter.open_window(0, 0, 1280, 1024);
    let (source, frames) = server.open("region:200x200+700+500", OPTIONS).unwrap();
    source.set_active(true);
    next(&frames);
    switch_output_off(&painter);
    set_screen_size(&painter, 800, 600);
    assert!(await_loss(&source).starts_with("the screen is 800x600, and 200x200+700+500"));
    settle(&frames);
    set_screen_size(&painter, 1000, 700);
    await_health(&source, |health| *health == Health::Well);
    let back = next(&frames);
    assert_eq!(back.damage, Damage::whole(source.size()));
    painter.fill(painter.window, 0xff_00ff, 700, 500, 200, 200);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0xff_00ff));
}

#[test]
fn a_monitor_is_followed_and_lost_and_back() {
    let screen = Size::new(1280, 480);
    let server = Xvfb::start("1280x480x24");
    let painter = server.painter();
    painter.open_window(0, 0, 1280, 480);
    for (x, shade) in [(0, 0xff), (320, 0xff00), (640, 0xff_0000), (960, 0xff_ff00)] {
        painter.fill(painter.window, shade, x, 0, 320, 480);
    }
    let left = Rect { x: 0, y: 0, width: 640, height: 480 };
    set_monitor(&painter, "DP-1", left);
    set_monitor(&painter, "HDMI-1", Rect { x: 640, ..left });
    let listed = list::list_of(Some(&server.display)).unwrap();
    let specs: Vec<_> = listed.iter().map(|found| found.spec.as_str()).collect();
    let number = specs.iter().position(|spec| *spec == "screen:HDMI-1").unwrap_or_else(|| panic!("{specs:?}"));
    assert!(listed[number].what.starts_with(&format!("monitor {number}, 640x480+640+0")), "{:?}", listed[number]);

    let error = server.open("screen:VGA-1", OPTIONS).unwrap_err().to_string();
    let found = "source screen:VGA-1: the monitor VGA-1 is not connected; write screen:NAME with ";
    assert!(error.starts_with(found) && error.contains("or HDMI-1 (640x480+640+0)"), "{error}");
    for spec in ["screen:HDMI-1".to_owned(), format!("screen:{number}")] {
        let (source, frames) = server.open(&spec, OPTIONS).unwrap();
        assert_eq!(source.describe(), format!("monitor HDMI-1 of {} 640x480", server.display));
        source.set_active(true);
        assert!(pixels(&next(&frames)) == part(&painter, screen, Rect { x: 640, ..left }));
        settle(&frames);
        painter.fill(painter.window, 0x33, 100, 100, 50, 50);
        assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "that is another monitor");

        let moved = Rect { x: 320, ..left };
        set_monitor(&painter, "HDMI-1", moved);
        let there = await_frame(&frames, |frame| pixel(frame, 0, 0) == 0xff00);
        assert!(pixels(&there) == part(&painter, screen, moved));
        assert_eq!(there.damage, Damage::whole(source.size()));
        let small = Rect { x: 900, y: 100, width: 200, height: 100 };
        set_monitor(&painter, "HDMI-1", small);
        let there = await_frame(&frames, |frame| frame.picture.size() == Size::new(200, 100));
        assert!(pixels(&there) == part(&painter, screen, small));

        delete_monitor(&painter, "HDMI-1");
        assert_eq!(await_loss(&source), "the monitor HDMI-1 is not connected");
        settle(&frames);
        set_monitor(&painter, "HDMI-1", Rect { x: 640, ..left });
        await_health(&source, |health| *health == Health::Well);
        let back = next(&frames);
        assert_eq!(back.damage, Damage::whole(Size::new(640, 480)));
        assert!(pixels(&back) == part(&painter, screen, Rect { x: 640, ..left }));
        settle(&frames);
        painter.fill(painter.window, 0xaa, 650, 20, 10, 10);
        assert_eq!(next(&frames).damage.bounds(), Rect { x: 10, y: 20, width: 10, height: 10 });
        painter.fill(painter.window, 0xff_0000, 650, 20, 10, 10);
    }
}

#[test]
fn older_servers_tell_outputs() {
    let server = Xvfb::start("640x480x24");
    let painter = server.painter();
    assert!(monitors::version(&painter.connection).unwrap().unwrap() >= (1, 5));
    let [new, old, older] =
        [(1, 5), (1, 4), (1, 2)].map(|version| monitors::all(&painter.connection, painter.root, version).unwrap());
    assert_eq!(new.len(), 1);
    assert_eq!((&new[0].name, new[0].size), (&old[0].name, old[0].size));
    assert_eq!((&new[0].name, new[0].size), (&older[0].name, older[0].size));
    let mut screen = Screen::connect(&server.display, "screen").unwrap();
    screen.aim(&Target::Screen(Some(new[0].name.clone()))).unwrap();
    screen.with_old_randr((1, 4));
    assert!(!screen.renew().unwrap(), "it is where it was");
    switch_output_off(&painter);
    assert!(matches!(screen.renew(), Err(Trouble::Target(_))), "nothing is shown there");
}
