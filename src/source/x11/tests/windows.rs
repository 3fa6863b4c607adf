//! Windows: covered, moved, resized, hidden, closed.

use std::sync::mpsc::Receiver;

use x11rb::protocol::xproto::{AtomEnum, ConfigureWindowAux, CreateWindowAux, PropMode, StackMode, WindowClass};

use super::*;
use crate::orders::Health;

const GREY: u32 = 0x10_2030;

/// A server, a window called `Slides` of 400x300 at 50+40, and a source of it.
fn slides(options: SourceOptions) -> (Xvfb, Painter, Source, Receiver<Frame>) {
    let server = Xvfb::start("1024x768x24");
    let painter = server.painter();
    painter.open_window(50, 40, 400, 300);
    painter.name_window("Lesson 3: Slides");
    let (source, frames) = server.open("window:slides", options).unwrap();
    (server, painter, source, frames)
}

/// A window over everything.
fn cover(server: &Xvfb, shade: u32) -> Painter {
    let other = server.painter();
    other.open_window(0, 0, 1024, 768);
    other.fill(other.window, shade, 0, 0, 1024, 768);
    other
}

fn unmap(painter: &Painter) {
    painter.connection.unmap_window(painter.window).unwrap();
    painter.connection.sync().unwrap();
}

fn map(painter: &Painter) {
    painter.connection.map_window(painter.window).unwrap();
    painter.connection.sync().unwrap();
}

fn close(painter: &Painter) {
    painter.connection.destroy_window(painter.window).unwrap();
    painter.connection.sync().unwrap();
}

#[test]
fn a_covered_window_is_right_and_what_covers_it_is_not_heard_of() {
    let (server, painter, source, frames) = slides(OPTIONS);
    assert_eq!(source.describe(), format!("window 'Lesson 3: Slides' of {} 400x300", server.display));
    let other = cover(&server, 0xff_0000);
    source.set_active(true);
    let first = next(&frames);
    assert_eq!((first.picture.size(), &first.damage), (Size::new(400, 300), &Damage::whole(source.size())));
    assert!(pixels(&first).iter().all(|pixel| *pixel == GREY), "{:x}", pixel(&first, 0, 0));
    settle(&frames);
    other.fill(other.window, 0xff, 0, 0, 1024, 768);
    assert_eq!(frames.recv_timeout(STILL).err(), Some(RecvTimeoutError::Timeout), "another window was drawn to");
    painter.fill(painter.window, 0x12_3456, 20, 30, 40, 50);
    let drawn = next(&frames);
    assert_eq!(drawn.damage.bounds(), Rect { x: 20, y: 30, width: 40, height: 50 });
    let inside = |at: usize| (20..60).contains(&(at % 400)) && (30..80).contains(&(at / 400));
    let right = |(at, pixel): (usize, &u32)| *pixel == if inside(at) { 0x12_3456 } else { GREY };
    assert!(pixels(&drawn).iter().enumerate().all(right));
    // Nor does it matter where it is stacked.
    painter.configure(&ConfigureWindowAux::new().stack_mode(StackMode::ABOVE));
    painter.fill(painter.window, 0x65_4321, 0, 0, 400, 300);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0x65_4321));
    settle(&frames);
    assert_eq!(*source.health().borrow(), Health::Well);
}

#[test]
fn a_window_is_followed_where_it_is_moved_and_resized() {
    let (_server, painter, source, frames) = slides(OPTIONS);
    source.set_active(true);
    next(&frames);
    painter.fill(painter.window, 0xff00, 0, 0, 400, 300);
    await_frame(&frames, |frame| pixel(frame, 399, 299) == 0xff00);
    settle(&frames);
    // A third of it is beyond the screen's edge then, and is shown all the same.
    painter.configure(&ConfigureWindowAux::new().x(-100).y(600));
    settle(&frames);
    painter.fill(painter.window, 0xff, 0, 250, 400, 50);
    let moved = next(&frames);
    assert_eq!(moved.damage.bounds(), Rect { x: 0, y: 250, width: 400, height: 50 });
    assert_eq!((pixel(&moved, 0, 299), pixel(&moved, 0, 0)), (0xff, 0xff00));
    for (width, height) in [(500, 200), (501, 301), (64, 48)] {
        let (w, h) = (u32::from(width), u32::from(height));
        painter.configure(&ConfigureWindowAux::new().width(w).height(h));
        let resized = await_frame(&frames, |frame| frame.picture.size() == Size::new(w, h));
        assert_eq!(resized.damage, Damage::whole(Size::new(w, h)));
        painter.fill(painter.window, w, 0, 0, width, height);
        let drawn = await_frame(&frames, |frame| pixel(frame, w as usize - 1, h as usize - 1) == w);
        assert!(pixels(&drawn).iter().all(|pixel| *pixel == w));
    }
    // Several steps are one for whoever looks later.
    source.set_active(false);
    for width in 100..140 {
        painter.configure(&ConfigureWindowAux::new().width(width).border_width(width % 5));
    }
    source.set_active(true);
    let last = await_frame(&frames, |frame| frame.picture.size() == Size::new(139, 48));
    assert!(pixels(&last).iter().all(|pixel| [GREY, 64].contains(pixel)), "the border is not shown");
    painter.fill(painter.window, 0xabcdef, 0, 0, 139, 48);
    let drawn = await_frame(&frames, |frame| pixel(frame, 0, 0) == 0xabcdef);
    assert!(pixels(&drawn).iter().all(|pixel| *pixel == 0xabcdef), "the border is not shown");
}

#[test]
fn the_last_picture_of_a_hidden_window_stands() {
    let (server, painter, source, frames) = slides(OPTIONS);
    source.set_active(true);
    painter.fill(painter.window, 0xff00, 0, 0, 400, 300);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0xff00));
    unmap(&painter);
    cover(&server, 0xff_0000);
    if let Some(last) = settle(&frames) {
        assert!(pixels(&last).iter().all(|pixel| *pixel == 0xff00));
    }
    source.set_active(false);
    source.set_active(true);
    assert!(pixels(&next(&frames)).iter().all(|pixel| *pixel == 0xff00), "its last picture stands");
    let error = server.open(&format!("window:{:#x}", painter.window), OPTIONS).unwrap_err().to_string();
    assert!(error.contains("the window 'Lesson 3: Slides' is not on the screen now; show it first"), "{error}");
    painter.configure(&ConfigureWindowAux::new().width(320).height(240));
    map(&painter);
    let shown = await_frame(&frames, |frame| frame.picture.size() == Size::new(320, 240));
    assert_eq!(shown.damage, Damage::whole(Size::new(320, 240)));
    painter.fill(painter.window, 0xff, 0, 0, 320, 240);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0xff));
    // Shown again in the same size, its pixels are elsewhere all the same.
    unmap(&painter);
    settle(&frames);
    map(&painter);
    painter.fill(painter.window, 0xff_00ff, 0, 0, 320, 240);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0xff_00ff));
    assert_eq!(*source.health().borrow(), Health::Well);
}

#[test]
fn a_window_that_was_closed_is_shown_again_once_it_is_back() {
    let (_server, painter, source, frames) = slides(OPTIONS);
    source.set_active(true);
    let held = next(&frames);
    for round in 1..=2 {
        close(&painter);
        assert_eq!(await_loss(&source), "the window 'Lesson 3: Slides' was closed");
        settle(&frames);
        painter.open_window(0, 0, 300 + round, 200);
        painter.name_window("Lesson 3: Slides");
        await_health(&source, |health| *health == Health::Well);
        let back = next(&frames);
        assert_eq!(back.damage, Damage::whole(Size::new(300 + u32::from(round), 200)));
    }
    assert!(pixels(&held).iter().all(|pixel| *pixel == GREY), "a picture outlives its window");
    // Closed while nobody watches, it is lost all the same.
    source.set_active(false);
    settle(&frames);
    close(&painter);
    await_loss(&source);
    drop(source);
}

#[test]
fn a_window_that_was_named_by_its_number_stays_lost() {
    let server = Xvfb::start("640x480x24");
    let painter = server.painter();
    painter.open_window(0, 0, 100, 100);
    let (source, frames) = server.open(&format!("window:{:#x}", painter.window), OPTIONS).unwrap();
    source.set_active(true);
    next(&frames);
    close(&painter);
    assert_eq!(await_loss(&source), format!("the window {:#x} was closed", painter.window));
    painter.open_window(0, 0, 100, 100);
    settle(&frames);
    assert_eq!(frames.recv_timeout(RETRY + STILL).err(), Some(RecvTimeoutError::Timeout), "that is another window");
    let before = Instant::now();
    drop(source);
    assert!(before.elapsed() < Duration::from_millis(500), "dropping took {:?}", before.elapsed());
}

#[test]
fn windows_that_can_not_be_had_are_refused_with_what_is_there() {
    let server = Xvfb::start("640x480x24");
    let refused = |spec: &str| server.open(spec, OPTIONS).unwrap_err().to_string();
    let error = refused("window:Chess");
    assert_eq!(
        error,
        "source window:Chess: no window has 'Chess' in its title; there is no window with a title: open it first"
    );
    let (one, two) = (server.painter(), server.painter());
    for (painter, title) in [(&one, "Slides one"), (&two, "slides two")] {
        painter.open_window(0, 0, 100, 100);
        painter.name_window(title);
    }
    let error = refused("window:SLIDES");
    let (first, second) = (format!("{:#x} 'Slides one'", one.window), format!("{:#x} 'slides two'", two.window));
    assert!(error.contains("2 windows have 'SLIDES' in their titles: ") && error.contains(&first), "{error}");
    assert!(error.contains(&second) && error.contains("write more of the title, or the number: window:0x"), "{error}");
    let error = refused("window:Chess");
    assert!(error.ends_with("`laterna sources` lists what is there: 'slides two', 'Slides one'"), "{error}");
    assert!(refused("window:0x7654321").contains("no window has the number 0x7654321"));
    assert!(refused(&format!("window:{}", one.root)).contains("is the screen itself; write screen"));
    server.open("window:slides%20TWO", OPTIONS).unwrap();
}

#[test]
fn a_window_with_an_alpha_channel_is_shown() {
    let server = Xvfb::start("640x480x24");
    let painter = server.painter();
    let screen = &painter.connection.setup().roots[0];
    let depth = screen.allowed_depths.iter().find(|depth| depth.depth == 32).expect("Xvfb has such visuals");
    let visual = depth.visuals.iter().find(|visual| visual.class == xproto::VisualClass::TRUE_COLOR).unwrap();
    let (colours, gc) = (painter.connection.generate_id().unwrap(), painter.connection.generate_id().unwrap());
    let none = xproto::ColormapAlloc::NONE;
    painter.connection.create_colormap(none, colours, painter.root, visual.visual_id).unwrap();
    let values = CreateWindowAux::new().background_pixel(0x8010_2030).border_pixel(0).colormap(colours);
    let (window, class) = (painter.window, WindowClass::INPUT_OUTPUT);
    painter
        .connection
        .create_window(32, window, painter.root, 10, 10, 200, 100, 3, class, visual.visual_id, &values)
        .unwrap();
    painter.name_window("glass");
    map(&painter);
    let (source, frames) = server.open("window:glass", OPTIONS).unwrap();
    source.set_active(true);
    let first = next(&frames);
    assert_eq!(first.picture.size(), Size::new(200, 100));
    assert!(pixels(&first).iter().all(|pixel| *pixel == GREY));
    painter.connection.create_gc(gc, window, &xproto::CreateGCAux::new().foreground(0xff12_3456)).unwrap();
    let rectangle = xproto::Rectangle { x: 190, y: 90, width: 30, height: 30 };
    painter.connection.poly_fill_rectangle(window, gc, &[rectangle]).unwrap();
    painter.connection.sync().unwrap();
    let drawn = await_frame(&frames, |frame| pixel(frame, 199, 99) == 0x12_3456);
    assert_eq!(drawn.damage.bounds(), Rect { x: 190, y: 90, width: 10, height: 10 });
}

/// Puts the window into a frame as window managers do, and on their list.
fn manage(painter: &Painter) -> xproto::Window {
    let (connection, root) = (&painter.connection, painter.root);
    let frame = connection.generate_id().unwrap();
    let values = CreateWindowAux::new().override_redirect(1).background_pixel(0x77_7777);
    let (depth, visual) = (x11rb::COPY_DEPTH_FROM_PARENT, x11rb::COPY_FROM_PARENT);
    connection
        .create_window(depth, frame, root, 100, 100, 420, 340, 0, WindowClass::INPUT_OUTPUT, visual, &values)
        .unwrap();
    connection.reparent_window(painter.window, frame, 10, 30).unwrap();
    connection.map_window(frame).unwrap();
    let list = connection.intern_atom(false, b"_NET_CLIENT_LIST").unwrap().reply().unwrap().atom;
    let clients = [painter.window];
    connection.change_property32(PropMode::REPLACE, root, list, AtomEnum::WINDOW, &clients).unwrap();
    connection.sync().unwrap();
    frame
}

#[test]
fn a_window_in_a_frame_is_hidden_and_shown_with_it() {
    let server = Xvfb::start("1024x768x24");
    let painter = server.painter();
    painter.open_window(0, 0, 400, 300);
    painter.name_window("editor");
    let frame = manage(&painter);
    let (source, frames) = server.open("window:editor", WITH_POINTER).unwrap();
    source.set_active(true);
    painter.fill(painter.window, 0xff00, 0, 0, 400, 300);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0xff00));
    let visit = |x: i16, y: i16| {
        painter.move_pointer(x, y);
        settle(&frames).and_then(|frame| frame.pointer)
    };
    let before = visit(150, 180).expect("it is over the window");
    painter.connection.configure_window(frame, &ConfigureWindowAux::new().x(200).y(200)).unwrap();
    painter.connection.sync().unwrap();
    assert!(visit(215, 205).is_none(), "it is over the frame");
    let moved = visit(250, 280).expect("it is over the window");
    assert_eq!((moved.x, moved.y), (before.x, before.y));
    let other = cover(&server, 0xff);
    assert!(visit(251, 281).is_none(), "another window is over it there");
    unmap(&other);
    settle(&frames);
    painter.connection.unmap_window(frame).unwrap();
    painter.connection.sync().unwrap();
    if let Some(last) = settle(&frames) {
        assert!(pixels(&last).iter().all(|pixel| *pixel == 0xff00), "its last picture stands");
    }
    painter.connection.map_window(frame).unwrap();
    painter.fill(painter.window, 0xff_ff00, 0, 0, 400, 300);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0xff_ff00));
    // Out of its frame, as when the window manager is replaced.
    painter.connection.reparent_window(painter.window, painter.root, 0, 0).unwrap();
    painter.connection.destroy_window(frame).unwrap();
    painter.fill(painter.window, 0xff_00ff, 0, 0, 400, 300);
    await_frame(&frames, |frame| pixels(frame).iter().all(|pixel| *pixel == 0xff_00ff));
    assert_eq!(*source.health().borrow(), Health::Well);
}

#[test]
fn what_is_there_is_listed_with_its_spec() {
    let server = Xvfb::start("1024x768x24");
    let (slides, menu, hidden) = (server.painter(), server.painter(), server.painter());
    slides.open_window(0, 0, 400, 300);
    slides.name_window("100% Slides");
    let class = AtomEnum::WM_CLASS;
    let value = b"impress\0LibreOffice\0";
    slides.connection.change_property8(PropMode::REPLACE, slides.window, class, AtomEnum::STRING, value).unwrap();
    slides.connection.sync().unwrap();
    menu.open_window(0, 0, 50, 50);
    hidden.open_window(0, 0, 50, 50);
    hidden.name_window("hidden");
    unmap(&hidden);
    let before = Instant::now();
    let listed = list::list_of(Some(&server.display)).unwrap();
    assert!(before.elapsed() < Duration::from_secs(1), "listing took {:?}", before.elapsed());
    let lines: Vec<_> = listed.iter().map(|found| (found.spec.clone(), found.what.clone())).collect();
    let line = |spec: &str, what: &str| (spec.to_owned(), what.to_owned());
    let whole = format!("all of the screen {}, 1024x768", server.display);
    assert_eq!(lines[0], line("screen", &whole));
    assert!(lines[1].0 == "screen:screen" && lines[1].1.starts_with("monitor 1, 1024x768+0+0"), "{:?}", lines[1]);
    let window = format!("{:#x}", slides.window);
    assert_eq!(lines[2..], [line(&format!("window:{window}"), "window '100% Slides' of LibreOffice, 400x300")]);
    for found in &listed {
        assert!(SourceSpec::parse(&found.spec).is_ok_and(|spec| spec.to_string() == found.spec), "{found:?}");
        server.open(&found.spec, OPTIONS).unwrap();
    }
    // Where windows are managed, only what the window manager knows is listed: menus have names too.
    manage(&slides);
    menu.name_window("menu");
    let listed = list::list_of(Some(&server.display)).unwrap();
    assert_eq!(listed.iter().filter(|found| found.spec.starts_with("window:")).count(), 1, "{listed:?}");
    assert_eq!(list::list_of(None).unwrap_err(), "DISPLAY is not set");
    assert!(list::list_of(Some(":9999")).unwrap_err().contains(":9999"));
}
