#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use super::*;
use crate::clock::MediaTime;
use crate::encoder::Bitrate;
use crate::encoder::h264::H264Encoder;
use crate::encoder::scenes;

const HD: Size = Size::new(1920, 1080);

fn order(qp: u8, keyframe: bool) -> Order {
    Order { qp: Qp(qp), keyframe, refine: false, measure: true }
}

#[allow(unsafe_code)]
fn cpu() -> f64 {
    unsafe {
        let mut t: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t);
        t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
    }
}

#[test]
#[ignore]
fn course() {
    let use_h = knob("H264", 0);
    let mut h =
        H264Encoder::new(HD, if use_h == 2 { Tool::Screen } else { Tool::Camera }, Bitrate(2_500_000), 30).unwrap();
    let mut v = Vp8Encoder::new(HD).unwrap();
    let mut n = 0u64;
    let mut enc = |p: &I420, o: Order| {
        n += 1;
        let c = cpu();
        let u = if use_h > 0 {
            h.encode(p, MediaTime(n * 33_000_000), o).unwrap()
        } else {
            v.encode(p, if knob("FAR", 0) == 1 { Tool::Screen } else { Tool::Camera }, o).unwrap()
        };
        (cpu() - c, u)
    };
    let say = |what: &str, (ms, u): &(f64, Encoded)| {
        println!("{what:10} {ms:6.2} ms {:7} B {:5.2} dB key {}", u.data.len(), u.luma_psnr.unwrap_or(0.0), u.keyframe)
    };
    let mut page = scenes::text(HD, 1, 2);
    for _ in 0..3 {
        say("page 32", &enc(&page, order(32, true)));
    }
    for qp in [28, 24, 22, 20, 18, 16] {
        say(&format!("refine {qp}"), &enc(&page, Order { refine: true, ..order(qp, false) }));
    }
    let mut dice = scenes::Dice::new(1);
    let mut nomeasure = |qp| Order { measure: false, ..order(qp, false) };
    let (mut t, mut b) = (0.0, 0);
    for key in 0..20usize {
        scenes::glyph(&mut page, &mut dice, 1400 + key * 8, 507);
        let r = enc(&page, nomeasure(20));
        t += r.0;
        b += r.1.data.len();
    }
    println!("typed mean {:.2} ms {} B", t / 20.0, b / 20);
    for qp in [40, 40, 40, 20] {
        let r = enc(&page, order(qp, false));
        std::fs::write("/tmp/vp8pulse.bin", &r.1.data).unwrap();
        say(&format!("pulse {qp}"), &r);
    }
    // A film in a window at the coarsest quantiser; the rest must stay sharp.
    for i in 0..30u64 {
        let f = scenes::film(Size::new(480, 270), i);
        for row in 0..270 {
            page.y[(row + 700) * 1920 + 1000..][..480].copy_from_slice(&f.y[row * 480..][..480]);
        }
        let r = enc(&page, order(40, false));
        if i % 10 == 9 {
            say("window 40", &r);
        }
    }
    let tall = scenes::text(Size::new(1920, 8000), 9, 2);
    for (step, qp) in [(16usize, 32u8), (60, 32), (100, 32), (3, 32)] {
        enc(&scenes::window(&tall, HD, 0), order(32, true));
        let (mut t, mut b, mut d) = (0.0, 0, 0.0);
        for i in 1..=20usize {
            let r = enc(&scenes::window(&tall, HD, step * i), order(qp, false));
            t += r.0;
            b += r.1.data.len();
            d += r.1.luma_psnr.unwrap();
        }
        println!("scroll {step} at {qp}: {:.2} ms {} B {:.2} dB", t / 20.0, b / 20, d / 20.0);
    }
    let small = Size::new(960, 540);
    let (mut t, mut b, mut d) = (0.0, 0, 0.0);
    let mut v = Vp8Encoder::new(small).unwrap();
    let mut h = H264Encoder::new(small, Tool::Camera, Bitrate(2_500_000), 30).unwrap();
    for i in 0..20u64 {
        let c = cpu();
        let f = scenes::film(small, i);
        let u = if use_h > 0 {
            h.encode(&f, MediaTime(i * 33_000_000), order(30, false)).unwrap()
        } else {
            v.encode(&f, Tool::Camera, order(30, false)).unwrap()
        };
        if i > 0 {
            t += cpu() - c;
            b += u.data.len();
            d += u.luma_psnr.unwrap();
        }
    }
    println!("film 540p at 30: {:.2} ms {} B {:.2} dB", t / 19.0, b / 19, d / 19.0);
    let _ = Instant::now();
}
fn knob(name: &str, default: i32) -> i32 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}
