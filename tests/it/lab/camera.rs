//! Cameras within the service's walls, seen by a browser outside: each format, who has one open, and a camera that is plugged out and in.
//!
//! The machine's cameras are the kernel's `vivid` and a loopback device; `tests/lab/checks/camera` has them.

use serde_json::{Value, json};

use super::guest::Guest;
use super::{LONG, SIZE, Viewer};
use crate::stage::millis;

/// The service's configuration.
const CONFIG: &str = "/etc/laterna/laterna.toml";
/// The loopback device.
const LOOPBACK: u32 = 9;
/// Where bars are that are yellow, green, red and blue: in the JPEG of tests/data and what is fed as it, and below the words that `vivid`
/// writes over its own.
const FED: [[u32; 2]; 4] = [[70, 100], [160, 100], [250, 100], [300, 100]];
const VIVID: [[u32; 2]; 4] = [[60, 170], [140, 170], [220, 170], [260, 170]];

impl Viewer {
    /// Awaits new pictures that are yellow, green, red and blue at these points.
    fn sees_bars(&self, points: [[u32; 2]; 4]) {
        let script = "
            const before = (await lt.stats()).framesDecoded;
            const bars = [[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]];
            let seen = null;
            const is = (colour, bar) => bar.every((part, i) => (part ? colour[i] > 130 : colour[i] < 90));
            const end = performance.now() + args[0];
            for (;;) {
              const { framesDecoded } = await lt.stats();
              seen = lt.colours(args[1], args[2]);
              if (framesDecoded >= before + 3 && seen.every((colour, i) => is(colour, bars[i]))) return framesDecoded - before;
              if (performance.now() > end) throw new Error(`${framesDecoded - before} frames, colours ${JSON.stringify(seen)}`);
              await lt.pass(100);
            }";
        let arguments = [millis(LONG), json!(points), json!(SIZE)];
        let frames = self.0.run::<u32>(script, &arguments);
        println!("           {frames} frames, then the bars");
    }
}

/// Shows another source, by reloading the configuration under the viewer.
fn show(guest: &Guest, spec: &str) {
    // An & in what sed writes is what it has found.
    let written = spec.replace('&', "\\&");
    guest.root(&format!("sed -i 's|^source = .*|source = \"{written}\"|' {CONFIG} && systemctl reload laterna"));
    guest.awaits(
        &format!("laterna status --json | grep -q \"{}\"", spec.split(['?', ':']).nth(1).unwrap_or(spec)),
        LONG,
    );
}

fn log(guest: &Guest) -> String {
    guest.root("journalctl --no-pager -u laterna")
}

/// Shows `vivid` to the viewer, lets it see that nobody has the camera open while nobody watches, and plugs it out and in.
fn vivid(guest: &Guest, viewer: &Viewer, camera: &str) {
    guest.step("a camera, its light, and what happens when it is plugged out");
    guest.root(&format!("{camera} vivid"));
    show(guest, "camera:/dev/video0?size=320x180&fps=5");
    viewer.marks();
    viewer.sees_bars(VIVID);
    let status: Value = serde_json::from_str(&guest.root("laterna status --json")).unwrap();
    let what = status["source"]["what"].as_str().unwrap();
    assert!(what.starts_with("camera \"vivid\" /dev/video0 320x180") && what.ends_with("YUYV"), "{what}");
    assert_eq!(guest.root(&format!("{camera} opened /dev/video0")), "laterna");

    guest.root(&format!("{camera} unplug"));
    guest.awaits("laterna status | grep -q \"the camera was unplugged\"", LONG);
    guest.root(&format!("{camera} replug"));
    guest.awaits("! laterna status | grep -q \"the camera was unplugged\"", LONG);
    viewer.sees_bars(VIVID);
    let log = log(guest);
    assert_eq!(log.matches("is lost (the camera was unplugged); trying it every second").count(), 1, "{log}");
    assert_eq!(log.matches("the camera is back: camera \"vivid\"").count(), 1, "{log}");
    assert!(viewer.0.run::<bool>("return window.laterna.pc === lt.kept", &[]), "the page had to connect again");

    viewer.0.open("about:blank");
    guest.awaits(&format!("test -z \"$({camera} opened /dev/video0)\""), LONG);
}

/// Shows what a camera that gives other formats sends.
fn formats(guest: &Guest, viewer: &Viewer, camera: &str, code: &str) {
    guest.root(&format!("{camera} loopback {LOOPBACK}"));
    let device = format!("/dev/video{LOOPBACK}");
    // One that ends early.
    guest.root("head -c 3000 /host/camera.jpg > /tmp/broken.jpg");
    for (format, files) in [("MJPG", "camera.jpg /tmp/broken.jpg"), ("NV12", ""), ("YU12", "")] {
        guest.step(&format!("a camera that gives {format}"));
        guest.root(&format!(
            "systemd-run -q --collect --unit=feed --working-directory=/host {camera} feed {device} {format} 320x180 5 {files}"
        ));
        guest.awaits(&format!("laterna sources | grep -q {device}"), LONG);
        show(guest, &format!("camera:{device}?size=320x180&fps=5"));
        viewer.open(code);
        viewer.sees_bars(FED);
        let status = guest.root("laterna status");
        let name = if format == "MJPG" { "MJPEG" } else { format };
        assert!(
            status.contains(&format!("camera \"Lab camera\" {device} 320x180")) && status.contains(name),
            "{status}"
        );
        viewer.0.open("about:blank");
        guest.awaits(&format!("test \"$({camera} opened {device})\" = python3"), LONG);
        show(guest, "pattern");
        guest.root("systemctl stop feed");
    }
    let log = log(guest);
    assert!(log.contains("a picture of the camera is left out: its JPEG is broken"), "{log}");
}

/// Shows all that, and the test card at last, as it was.
pub fn cameras(guest: &Guest, viewer: &Viewer, code: &str) {
    let camera = "/host/camera";
    vivid(guest, viewer, camera);
    formats(guest, viewer, camera, code);
    guest.step("the test card again");
    viewer.open(code);
    viewer.sees_the_card();
}
