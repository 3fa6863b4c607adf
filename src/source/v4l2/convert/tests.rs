#![allow(clippy::unwrap_used)]
use super::*;

/// Bars of colours: 320x180, baseline, with the usual tables.
const BARS: &[u8] = include_bytes!("../../../../tests/data/camera.jpg");
const BARS_SIZE: Size = Size::new(320, 180);
const LIMITED: Colours = Colours { is_709: false, is_full: false };

fn converter(pixels: Pixels, size: Size, stride: usize) -> Converter {
    Converter::new(Layout { pixels, size, stride, colours: LIMITED })
}

fn converted(converter: &mut Converter, bytes: &[u8]) -> Result<Vec<u8>, Damaged> {
    let mut bgrx = vec![0; converter.store()];
    converter.convert(bytes, &mut bgrx).map(|()| bgrx)
}

/// Red, green and blue at a place.
fn at(bgrx: &[u8], width: usize, x: usize, y: usize) -> [u8; 3] {
    let pixel = (y * width + x) * 4;
    [bgrx[pixel + 2], bgrx[pixel + 1], bgrx[pixel]]
}

fn is_near(found: [u8; 3], expected: [u8; 3], by: u8) -> bool {
    found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= by)
}

/// A picture whose left half is red and whose right half is blue, in BT.601 and the limited range; rows end in rubbish.
fn halves(pixels: Pixels, width: usize, height: usize, stride: usize) -> Vec<u8> {
    const RED: [u8; 3] = [81, 90, 240];
    const BLUE: [u8; 3] = [41, 240, 110];
    let yuv = |x: usize| if x < width / 2 { RED } else { BLUE };
    let rgb = |x: usize| if x < width / 2 { [255, 0, 0] } else { [0, 0, 255] };
    let row = |length: usize, byte: &dyn Fn(usize) -> u8, stride: usize| {
        let mut row: Vec<_> = (0..length).map(byte).collect();
        row.resize(stride, 77);
        row
    };
    let chroma = height.div_ceil(2);
    match pixels {
        Pixels::Yuyv => {
            row(width * 2, &|i| yuv(i / 4 * 2)[if i % 2 == 0 { 0 } else { i % 4 / 2 + 1 }], stride).repeat(height)
        }
        Pixels::Uyvy => {
            row(width * 2, &|i| yuv(i / 4 * 2)[if i % 2 == 1 { 0 } else { i % 4 / 2 + 1 }], stride).repeat(height)
        }
        Pixels::Rgb => row(width * 3, &|i| rgb(i / 3)[i % 3], stride).repeat(height),
        Pixels::Bgr => row(width * 3, &|i| rgb(i / 3)[2 - i % 3], stride).repeat(height),
        Pixels::Nv12 => {
            let luma = row(width, &|i| yuv(i)[0], stride).repeat(height);
            [luma, row(width, &|i| yuv(i)[i % 2 + 1], stride).repeat(chroma)].concat()
        }
        _ => {
            let luma = row(width, &|i| yuv(i)[0], stride).repeat(height);
            let plane = |at: usize| row(width / 2, &|i| yuv(i * 2)[at], stride / 2).repeat(chroma);
            [luma, plane(1), plane(2)].concat()
        }
    }
}

#[test]
fn each_layout_shows_its_colours_whatever_its_stride() {
    for pixels in [Pixels::Yuyv, Pixels::Uyvy, Pixels::Nv12, Pixels::I420, Pixels::Rgb, Pixels::Bgr] {
        let bytes_a_pixel = match pixels {
            Pixels::Yuyv | Pixels::Uyvy => 2,
            Pixels::Rgb | Pixels::Bgr => 3,
            _ => 1,
        };
        for (width, height) in [(64, 48), (36, 17), (320, 180), (4, 2)] {
            for padding in [0, 4, 64] {
                let stride = width * bytes_a_pixel + padding;
                let picture = halves(pixels, width, height, stride);
                let size = Size::new(width as u32, height as u32);
                let mut told = converter(pixels, size, stride);
                let bgrx = converted(&mut told, &picture).unwrap();
                for y in [0, height / 2, height - 1] {
                    for (x, colour) in [
                        (0, [255, 0, 0]),
                        (width / 2 - 1, [255, 0, 0]),
                        (width / 2, [0, 0, 255]),
                        (width - 1, [0, 0, 255]),
                    ] {
                        let found = at(&bgrx, width, x, y);
                        assert!(is_near(found, colour, 6), "{pixels} {size} +{padding} ({x}, {y}): {found:?}");
                    }
                }
                if padding == 0 {
                    assert_eq!(
                        converted(&mut converter(pixels, size, 0), &picture).unwrap(),
                        bgrx,
                        "a stride that is not told"
                    );
                }
                // The last row's padding may be missing, nothing else.
                let ends = picture.len() - if matches!(pixels, Pixels::I420) { padding / 2 } else { padding };
                assert_eq!(converted(&mut told, &picture[..ends]).unwrap(), bgrx);
                let short = converted(&mut told, &picture[..ends - 1]);
                assert!(
                    matches!(short, Err(Damaged::Short { needed, .. }) if needed == ends),
                    "{pixels} {size}: {short:?}"
                );
                assert!(matches!(converted(&mut told, &[]), Err(Damaged::Short { found: 0, .. })));
            }
        }
    }
}

#[test]
fn what_the_driver_says_of_colours_is_kept_to() {
    // White by the full range, by the limited range; red by BT.709.
    let shown = |yuv: [u8; 3], colours| {
        let layout = Layout { pixels: Pixels::Yuyv, size: Size::new(2, 2), stride: 4, colours };
        let bytes = [yuv[0], yuv[1], yuv[0], yuv[2]].repeat(2);
        at(&converted(&mut Converter::new(layout), &bytes).unwrap(), 2, 0, 0)
    };
    assert!(is_near(shown([255, 128, 128], Colours { is_full: true, ..LIMITED }), [255; 3], 2));
    assert!(is_near(shown([235, 128, 128], LIMITED), [255; 3], 2));
    assert!(is_near(shown([235, 128, 128], Colours { is_full: true, ..LIMITED }), [235; 3], 2));
    assert!(is_near(shown([63, 102, 240], Colours { is_709: true, ..LIMITED }), [255, 0, 0], 6));
}

fn is_bars(bgrx: &[u8]) {
    for (x, colour) in
        [(20, [191, 191, 191]), (70, [191, 191, 0]), (160, [0, 191, 0]), (250, [191, 0, 0]), (300, [0, 0, 191])]
    {
        let found = at(bgrx, 320, x, 60);
        assert!(is_near(found, colour, 8), "{x}: {found:?}");
    }
}

/// The bars without their Huffman tables, as some cameras send them.
fn bare_bars() -> Vec<u8> {
    let (mut bare, mut at) = (BARS[..2].to_vec(), 2);
    while BARS[at + 1] != 0xDA {
        let end = at + 2 + usize::from(u16::from_be_bytes([BARS[at + 2], BARS[at + 3]]));
        if BARS[at + 1] != 0xC4 {
            bare.extend_from_slice(&BARS[at..end]);
        }
        at = end;
    }
    bare.extend_from_slice(&BARS[at..]);
    bare
}

#[test]
fn a_jpeg_shows_its_colours_with_its_tables_or_without_and_padded() {
    let mut converter = converter(Pixels::Mjpeg, BARS_SIZE, 0);
    is_bars(&converted(&mut converter, BARS).unwrap());
    let bare = bare_bars();
    assert!(bare.len() < BARS.len() && missing_tables(BARS).is_none());
    is_bars(&converted(&mut converter, &bare).unwrap());
    for padding in [vec![0; 5_000], b"rubbish".to_vec(), vec![0xFF; 3]] {
        is_bars(&converted(&mut converter, &[BARS, &padding].concat()).unwrap());
    }
}

#[test]
fn a_broken_jpeg_is_an_error_and_the_next_one_is_shown() {
    let mut converter = converter(Pixels::Mjpeg, BARS_SIZE, 0);
    for broken in
        [&[][..], &BARS[..1], b"no picture at all", &BARS[..200], &BARS[..BARS.len() / 2], &BARS[BARS.len() / 2..]]
    {
        let error = converted(&mut converter, broken).unwrap_err();
        assert!(matches!(&error, Damaged::Jpeg(why) if !why.contains("panicked")), "{} bytes: {error}", broken.len());
        is_bars(&converted(&mut converter, BARS).unwrap());
    }
    let mut other = self::converter(Pixels::Mjpeg, Size::new(640, 480), 0);
    let error = converted(&mut other, BARS).unwrap_err().to_string();
    assert_eq!(error, "its JPEG is 320x180, not 640x480");
    assert!(converted(&mut self::converter(Pixels::Mjpeg, Size::new(64, 48), 0), BARS).is_err());
}

#[test]
fn no_rubbish_makes_the_decoder_panic() {
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut shown = 0;
    for round in 0..400 {
        let mut converter = converter(Pixels::Mjpeg, BARS_SIZE, 0);
        // Lenient, as it is with a camera whose pictures all are odd.
        converter.broken = if round % 2 == 0 { LENIENT_AFTER } else { 0 };
        let mut jpeg = if round % 3 == 0 { bare_bars() } else { BARS.to_vec() };
        for _ in 0..=random(8) {
            let place = if round % 5 == 0 { random(620) } else { random(jpeg.len()) };
            jpeg[place] = random(256) as u8;
        }
        if round % 7 == 0 {
            jpeg.truncate(random(jpeg.len()));
        }
        match converted(&mut converter, &jpeg) {
            Ok(_) => shown += 1,
            Err(error) => assert!(!error.to_string().contains("panicked"), "round {round}: {error}"),
        }
    }
    assert!((1..400).contains(&shown), "{shown}");
}

#[test]
fn a_camera_that_never_keeps_to_the_letter_is_shown_anyway() {
    // Rubbish between the segments.
    let odd = [&BARS[..2], b"rubbish", &BARS[2..]].concat();
    let mut converter = converter(Pixels::Mjpeg, BARS_SIZE, 0);
    for _ in 0..LENIENT_AFTER {
        assert!(converted(&mut converter, &odd).is_err());
    }
    is_bars(&converted(&mut converter, &odd).unwrap());
}

/// What a picture costs: `LATERNA_JPEG=1280x720.jpg cargo test --release cost_of_a_camera -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
fn cost_of_a_camera() {
    let size = Size::new(1280, 720);
    let jpeg = std::env::var("LATERNA_JPEG").ok().map(|path| std::fs::read(path).unwrap());
    for pixels in Pixels::ALL {
        let bytes = match (pixels.is_compressed(), &jpeg) {
            (true, Some(jpeg)) => jpeg.clone(),
            (true, None) => continue,
            (false, _) => vec![90; 1280 * 720 * 3],
        };
        let mut converter = converter(pixels, size, 0);
        let mut bgrx = vec![0; converter.store()];
        let worked = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            time.tv_sec as f64 * 1_000.0 + time.tv_nsec as f64 / 1_000_000.0
        };
        let begun = worked();
        for _ in 0..50 {
            converter.convert(&bytes, &mut bgrx).unwrap();
        }
        println!("{pixels}: {:.2} ms of a core for a picture of {size}", (worked() - begun) / 50.0);
    }
}
