//! Checks the tests' own eyes, without the daemon: what an X client draws is on the screen, what a page shows is read.

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::firefox::{Autoplay, Firefox};
use crate::support::page::Page;
use crate::support::strip::Layout;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;

#[test]
fn an_x_client_draws_the_strip_and_the_patches() {
    let screen = Xvfb::start(1365, 767);
    let mut client = XClient::open(&screen.display());
    let patches = client.draw_patches();
    let last = client.stamp();
    client.sync();
    let picture = client.picture();
    let pixel = |x: usize, y: usize| &picture[(y * 1365 + x) * 4..][..3];
    for patch in patches {
        let [red, green, blue] = patch.rgb;
        assert_eq!(pixel(patch.x as usize, patch.y as usize), [blue, green, red], "{}", patch.name);
    }
    let layout = Layout::of(1365);
    let white = |index: u32| pixel((index * layout.cell + 8) as usize, 8) == [255; 3];
    assert!(white(0) && !white(1));
    let number = (2..34).fold(0, |number, index| number << 1 | u32::from(white(index)));
    assert_eq!(number, last.number);
}

#[test]
fn a_page_reads_the_strip_off_a_looped_back_canvas() {
    reads_the_strip(&Browser::start());
}

#[test]
fn a_page_in_firefox_reads_the_strip_off_a_looped_back_canvas() {
    reads_the_strip(&Firefox::start(Autoplay::Blocked));
}

fn reads_the_strip(browser: &impl Page) {
    browser.open("about:blank");
    let options = json!({ "kind": "typing", "width": 1280, "height": 720, "rate": 10, "seconds": 3, "warm": 2, "codec": "video/VP8" });
    let result: Value = browser.run("return lt.floor(args[0])", &[options]);
    let seen = result["seen"].as_array().unwrap();
    assert!(seen.len() > 20, "only {} numbers were read: {result}", seen.len());
    let ages: Vec<f64> = seen.iter().map(|s| s["at"].as_f64().unwrap()).collect();
    assert!(ages.is_sorted(), "numbers were shown out of order");
}
