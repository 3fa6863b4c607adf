#![allow(clippy::unwrap_used)]
use super::*;
use crate::frame::overlay::Extent;

fn parsed(text: &str) -> SourceSpec {
    SourceSpec::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn file(path: &str, looped: bool, start: Duration) -> Kind {
    Kind::File { path: path.into(), looped, start }
}

#[test]
fn every_kind_parses_and_prints_as_it_is_written() {
    for (text, kind) in [
        ("auto", Kind::Auto),
        ("screen", Kind::Screen(None)),
        ("screen:HDMI-1", Kind::Screen(Some("HDMI-1".to_owned()))),
        ("window:0x1200003", Kind::Window(WindowSpec::Id(0x120_0003))),
        ("window:Slides: week 3", Kind::Window(WindowSpec::Title("Slides: week 3".to_owned()))),
        ("window:100%25 %2B more%3F", Kind::Window(WindowSpec::Title("100% + more?".to_owned()))),
        ("region:640x480+10+20", Kind::Region(Region { size: Size::new(640, 480), x: 10, y: 20 })),
        ("camera", Kind::Camera(None)),
        ("camera:/dev/video0", Kind::Camera(Some("/dev/video0".into()))),
        ("file:/tmp/a b.mp4", file("/tmp/a b.mp4", false, Duration::ZERO)),
        ("file:a.mp4?loop&start=90", file("a.mp4", true, Duration::from_secs(90))),
        ("image:/tmp/a.png", Kind::Image("/tmp/a.png".into())),
        ("pattern", Kind::Pattern),
        ("off", Kind::Off),
    ] {
        assert_eq!(parsed(text), SourceSpec::of(kind), "{text}");
        assert_eq!(parsed(text).to_string(), text);
    }
    assert_eq!(parsed("window:4660").base.kind, Kind::Window(WindowSpec::Id(0x1234)));
}

#[test]
fn options_are_those_of_the_layer() {
    let camera = parsed("camera:/dev/video2?size=1280x720&fps=15");
    assert_eq!((camera.base.size, camera.base.fps), (Some(Size::new(1280, 720)), Some(15)));
    for (start, seconds) in [("90", 90.0), ("1:30", 90.0), ("1:01:30.5", 3690.5)] {
        let spec = parsed(&format!("file:/l.mkv?start={start}"));
        assert_eq!(spec.base.kind, file("/l.mkv", false, Duration::from_secs_f64(seconds)), "{start}");
    }
}

#[test]
fn layers_are_joined_by_a_plus_that_nothing_else_means() {
    for (text, layers) in [
        ("screen + camera?at=bottom-right", 1),
        ("screen+camera", 1),
        ("screen + camera?at=top-left&width=20%&margin=0 + image:/logo.png?at=top-right&width=96", 2),
        ("region:640x480+10+20+camera", 1),
        ("file:/a+b.mp4", 0),
        ("window:C++ primer", 0),
    ] {
        let spec = parsed(text);
        assert_eq!(spec.overlays.len(), layers, "{text}: {spec:?}");
        assert_eq!(parsed(&spec.to_string()), spec, "{text}");
    }
    let spec = parsed("screen + camera?size=640x480&at=top-left&width=20%&margin=8");
    let place = Placement { corner: Corner::TopLeft, width: Extent::Percent(20), margin: Extent::Pixels(8) };
    assert_eq!(spec.overlays[0].place, place);
    assert_eq!(spec.overlays[0].layer.size, Some(Size::new(640, 480)));
    assert_eq!(spec.to_string(), "screen + camera?size=640x480&at=top-left&width=20%&margin=8");
}

#[test]
fn anything_else_is_refused_with_what_to_write() {
    for (text, found, advice) in [
        ("", "no source", "write auto"),
        ("Auto", "'Auto'", "write auto"),
        ("screens", "'screens'", "write auto"),
        (" screen", "' screen'", "write auto"),
        ("http://a/b", "'http'", "write auto"),
        ("/home/me/lesson.mp4", "'/home/me/lesson.mp4'", "file:PATH"),
        ("scene:one", "'scene'", "laterna switch"),
        ("window", "window of what", "window:TITLE"),
        ("file", "file of what", "file:/path"),
        ("image:", "image of what", "image:/path"),
        ("screen:", "nothing behind screen:", "screen:HDMI-1"),
        ("off:now", "off has no name", "write off alone"),
        ("camera:video0", "'video0' is no device", "camera:/dev/video0"),
        ("region:640+10+20", "no region", "region:1280x720+100+50"),
        ("region:0x480+10+20", "no region", "region:1280x720+100+50"),
        ("region:640x480+-1+20", "no region", "region:1280x720+100+50"),
        ("region:99999x480+1+20", "no region", "region:1280x720+100+50"),
        ("window:50%", "hexadecimal", "%25"),
        ("window:%ff", "UTF-8", "%25"),
        ("file:/a%00b", "zero byte", "%25"),
        ("camera?size=1280", "'size=1280'", "size=1280x720"),
        ("camera?fps=0", "'fps=0'", "from 1 to 120"),
        ("camera?fps=5&fps=6", "twice", "once"),
        ("camera?rate=5", "no option is called 'rate=5'", "fps="),
        ("camera?loop", "files alone", "leave it out"),
        ("screen?start=5", "files alone", "leave it out"),
        ("screen?size=640x480", "cameras and the pattern", "--size"),
        ("image:/a.png?fps=5", "does not move", "leave fps= out"),
        ("file:/a?start=1:2:3:4", "'start=1:2:3:4'", "start=90"),
        ("file:/a?start=-1", "'start=-1'", "start=90"),
        ("file:/a?start=1e99", "'start=1e99'", "start=90"),
        ("screen?at=top-left", "no place", "behind"),
        ("screen + camera?at=middle", "'at=middle'", "at=top-left"),
        ("screen + camera?width=0%", "'width=0%'", "width=25%"),
        ("screen + auto", "auto and off", "camera"),
        ("screen + ", "no source", "write auto"),
        ("window:Notes + moon", "called 'moon'", "%2B"),
        ("pattern?size=16000x16000", "a pattern of 16000x16000", "3840x2160"),
        ("screen + pattern?size=1x1", "a pattern of 1x1", "16x16"),
        (&format!("screen{}", " + pattern".repeat(9)), "9 layers", "8 at most"),
    ] {
        let error = SourceSpec::parse(text).unwrap_err();
        let message = error.to_string();
        let matched = error.found.contains(found) && (error.advice.contains(advice) || advice == "behind");
        assert!(matched && message.contains(text) && !message.contains('\n'), "{message}");
    }
}

#[test]
fn whoever_watches_reads_names_as_people_write_them() {
    for (text, words) in [
        ("window:100%25 %2B more%3F", "window 100% + more?"),
        ("screen:HDMI-1", "screen HDMI-1"),
        ("file:/srv/a b/lesson 1.mp4?loop", "lesson 1.mp4"),
        ("image:slide.png", "slide.png"),
        ("camera:/dev/video0", "camera:/dev/video0"),
    ] {
        assert_eq!(SourceSpec::parse(text).unwrap().base.kind.in_words(), words);
    }
}
