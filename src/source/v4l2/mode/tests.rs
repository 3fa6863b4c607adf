#![allow(clippy::unwrap_used)]
use super::*;

const HD: Size = Size::new(1280, 720);
const VGA: Size = Size::new(640, 480);

fn rates(list: &[u32]) -> Intervals {
    Intervals::These(list.iter().map(|rate| Interval::of_rate(*rate)).collect())
}

fn offer(pixels: Pixels, width: u32, height: u32, list: &[u32]) -> Offer {
    Offer { pixels, size: Size::new(width, height), intervals: rates(list) }
}

/// What most cameras are: few pictures uncompressed where they are large, all of them as JPEG.
fn webcam() -> Vec<Offer> {
    use Pixels::{Mjpeg, Yuyv};
    vec![
        offer(Yuyv, 640, 480, &[30, 15]),
        offer(Yuyv, 320, 180, &[30]),
        offer(Yuyv, 1280, 720, &[10, 5]),
        offer(Yuyv, 1920, 1080, &[5]),
        offer(Mjpeg, 640, 480, &[30]),
        offer(Mjpeg, 1280, 720, &[60, 30]),
        offer(Mjpeg, 1920, 1080, &[30]),
    ]
}

fn chosen(offers: &[Offer], size: Option<Size>, fps: u32) -> String {
    let mode = choose(offers, Wish { size, fps }).unwrap();
    format!("{} {} {}", mode.pixels, mode.size, mode.interval.map_or_else(|| "?".to_owned(), |i| i.to_string()))
}

#[test]
fn the_asked_size_is_taken_else_the_next_larger_else_the_largest() {
    let offers = webcam();
    for (width, height, expected) in [
        (640, 480, "YUYV 640x480 30"),
        (320, 180, "YUYV 320x180 30"),
        (1920, 1080, "MJPEG 1920x1080 30"),
        (600, 300, "YUYV 640x480 30"),
        (640, 481, "MJPEG 1280x720 30"),
        (1, 1, "YUYV 320x180 30"),
        (4000, 3000, "MJPEG 1920x1080 30"),
        (100, 1080, "MJPEG 1920x1080 30"),
    ] {
        assert_eq!(chosen(&offers, Some(Size::new(width, height)), 30), expected, "{width}x{height}");
    }
}

#[test]
fn what_is_not_compressed_is_preferred_where_it_has_the_rate() {
    let offers = webcam();
    for (fps, expected) in [
        (5, "YUYV 1280x720 5"),
        (8, "YUYV 1280x720 10"),
        (10, "YUYV 1280x720 10"),
        (11, "MJPEG 1280x720 30"),
        (30, "MJPEG 1280x720 30"),
        (31, "MJPEG 1280x720 60"),
        (120, "MJPEG 1280x720 60"),
    ] {
        assert_eq!(chosen(&offers, Some(HD), fps), expected, "{fps}");
    }
    let slow = [offer(Pixels::Mjpeg, 640, 480, &[10]), offer(Pixels::Nv12, 640, 480, &[15])];
    assert_eq!(chosen(&slow, None, 30), "NV12 640x480 15", "the highest where none has the rate");
    let even = [offer(Pixels::Mjpeg, 640, 480, &[15]), offer(Pixels::Rgb, 640, 480, &[15])];
    assert_eq!(chosen(&even, None, 30), "RGB3 640x480 15");
}

#[test]
fn without_a_wish_it_is_a_moderate_size_that_moves() {
    assert_eq!(chosen(&webcam(), None, 30), "MJPEG 1280x720 30");
    assert_eq!(chosen(&webcam(), None, 10), "YUYV 1280x720 10");
    let uncompressed: Vec<_> = webcam().into_iter().filter(|offer| offer.pixels == Pixels::Yuyv).collect();
    assert_eq!(chosen(&uncompressed, None, 30), "YUYV 640x480 30", "ten large pictures a second are too few");
    assert_eq!(chosen(&uncompressed, None, 20), "YUYV 640x480 30", "a rate beats a size");
    let slow = [offer(Pixels::Yuyv, 1280, 720, &[25]), offer(Pixels::Yuyv, 320, 240, &[28])];
    assert_eq!(chosen(&slow, None, 30), "YUYV 1280x720 25", "but a few pictures do not");
    let large = [offer(Pixels::Yuyv, 3840, 2160, &[30]), offer(Pixels::Yuyv, 1920, 1080, &[30])];
    assert_eq!(chosen(&large, None, 30), "YUYV 1920x1080 30", "the smallest where all are large");
    let upright = [offer(Pixels::Yuyv, 720, 1280, &[30]), offer(Pixels::Yuyv, 480, 640, &[30])];
    assert_eq!(chosen(&upright, None, 30), "YUYV 480x640 30");
}

#[test]
fn formats_are_preferred_in_their_order() {
    for fewer in 1..Pixels::ALL.len() {
        let offers: Vec<_> = Pixels::ALL.iter().rev().take(fewer).map(|p| offer(*p, 640, 480, &[30])).collect();
        assert_eq!(
            choose(&offers, Wish { size: None, fps: 30 }).unwrap().pixels,
            Pixels::ALL[Pixels::ALL.len() - fewer]
        );
    }
}

#[test]
fn rates_that_are_nearly_the_asked_one_are_it() {
    let ntsc = Interval { numerator: 1001, denominator: 30_000 };
    let offers = [Offer { pixels: Pixels::Yuyv, size: VGA, intervals: Intervals::These(vec![ntsc]) }];
    assert_eq!(chosen(&offers, None, 30), "YUYV 640x480 29.97");
    assert_eq!(Interval { numerator: 2, denominator: 15 }.to_string(), "7.5");
    assert_eq!(Interval::of_rate(100).to_string(), "100");
}

#[test]
fn a_range_of_rates_gives_the_asked_one() {
    let intervals = Intervals::Between { shortest: Interval::of_rate(60), longest: Interval::of_rate(5) };
    for (fps, expected) in [(30, "30"), (60, "60"), (90, "60"), (1, "5")] {
        assert_eq!(intervals.best(fps).unwrap().to_string(), expected);
    }
    let silent = [Offer { pixels: Pixels::Yuyv, size: HD, intervals: Intervals::Unknown }];
    assert_eq!(chosen(&silent, None, 30), "YUYV 1280x720 ?");
    let empty = [Offer { pixels: Pixels::Yuyv, size: HD, intervals: Intervals::These(Vec::new()) }];
    assert_eq!(chosen(&empty, None, 30), "YUYV 1280x720 ?");
}

#[test]
fn a_range_of_sizes_gives_the_wished_one_on_its_steps() {
    let range = |step| Sizes::Between { least: Size::new(32, 16), most: Size::new(1920, 1080), step };
    let wish = |width, height| Some(Size::new(width, height));
    for (sizes, wish, expected) in [
        (range(Size::new(1, 1)), wish(333, 222), Size::new(333, 222)),
        (range(Size::new(0, 0)), wish(333, 222), Size::new(333, 222)),
        (range(Size::new(16, 8)), wish(333, 222), Size::new(336, 224)),
        (range(Size::new(16, 8)), wish(1, 1), Size::new(32, 16)),
        (range(Size::new(16, 8)), wish(5000, 5000), Size::new(1920, 1080)),
        (range(Size::new(100, 100)), wish(5000, 5000), Size::new(1832, 1016)),
        (range(Size::new(2, 2)), None, HD),
        (range(Size::new(100, 100)), None, Size::new(1232, 716)),
        (Sizes::One(VGA), wish(1, 1), VGA),
        (
            Sizes::Between { least: Size::new(1920, 1080), most: Size::new(3840, 2160), step: VGA },
            None,
            Size::new(1920, 1080),
        ),
    ] {
        assert_eq!(sizes.nearest(wish), expected, "{sizes:?} {wish:?}");
    }
}

#[test]
fn nothing_comes_of_nothing_and_of_nonsense() {
    let wish = Wish { size: None, fps: 30 };
    assert_eq!(choose(&[], wish), None);
    assert_eq!(choose(&[offer(Pixels::Yuyv, 0, 480, &[30]), offer(Pixels::Yuyv, 640, u32::MAX, &[30])], wish), None);
    let endless = Interval { numerator: 0, denominator: 0 };
    let odd = [Offer { pixels: Pixels::Yuyv, size: VGA, intervals: Intervals::These(vec![endless]) }];
    assert!(choose(&odd, Wish { size: None, fps: 0 }).is_some());
}

#[test]
fn formats_are_told_a_line_each() {
    let one = |width, height| Sizes::One(Size::new(width, height));
    let entries =
        [(one(1280, 720), rates(&[5, 10])), (one(640, 480), rates(&[30, 15])), (one(320, 240), rates(&[30, 15]))];
    assert_eq!(describe(Pixels::Yuyv, &entries), "YUYV: 1280x720 at 10, 5 fps; 640x480, 320x240 at 30, 15 fps");
    let range = Sizes::Between { least: Size::new(16, 16), most: HD, step: Size::new(2, 2) };
    let between = Intervals::Between { shortest: Interval::of_rate(60), longest: Interval::of_rate(1) };
    assert_eq!(describe(Pixels::Mjpeg, &[(range, between)]), "MJPEG: 16x16 to 1280x720 at 1 to 60 fps");
    assert_eq!(describe(Pixels::I420, &[(one(640, 480), Intervals::Unknown)]), "YU12: 640x480");
    assert_eq!(describe(Pixels::I420, &[]), "YU12");
    assert_eq!(describe_others(&[*b"YUYV", *b"MJPG"]), None);
    assert_eq!(describe_others(&[*b"YUYV", *b"Y8  ", *b"H264"]).unwrap(), "can't be shown: H264, Y8");
    let many: Vec<_> = (b'A'..b'K').map(|letter| [letter; 4]).collect();
    assert!(describe_others(&many).unwrap().ends_with("HHHH, and 2 more"));
}

#[test]
fn codes_are_read_as_they_are_written() {
    for pixels in Pixels::ALL {
        assert_eq!(Pixels::from_code(pixels.code()), Some(pixels));
    }
    assert_eq!(Pixels::from_code(*b"H264"), None);
    assert_eq!(name([b'Y', 0, 200, b' ']), "Y");
}
