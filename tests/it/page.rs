//! The viewer page's own doings: what it says where there is no place, and its controls on small screens.

use serde_json::{Value, json};

use crate::stage::{SOON, Stage, millis};
use crate::support::browser::Browser;
use crate::support::daemon::Setup;
use crate::support::heavy;
use crate::support::page::Page;

const PATTERN: (u16, u16) = (1280, 720);

#[test]
fn a_page_without_a_place_says_so_and_gets_in_when_one_is_free() {
    let _machine = heavy();
    let stage = Stage::open(&Setup::new(&["--source", "pattern", "--max-viewers", "1"]), PATTERN);
    let window = stage.browser.new_window();
    stage.browser.open(&stage.daemon.page());
    stage.awaits_state(&["full"], SOON);
    let words: String = stage.browser.run("return document.querySelector('#card').innerText", &[]);
    assert!(words.contains("All places are taken"), "{words}");
    stage.browser.switch(&window.before);
    stage.browser.close_window(&window.this);
    stage.awaits_state(&["playing"], SOON);
    // The daemon said Retry-After: 5.
    let script = "return performance.getEntriesByType('resource').filter(({ name, responseStatus }) => name.endsWith('/whep') && responseStatus !== 204).map(({ startTime }) => startTime)";
    let asked: Vec<f64> = stage.browser.run(script, &[]);
    assert!(asked.len() >= 2, "the page asked at {asked:?}");
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 5000.0), "the page asked at {asked:?}");
}

#[test]
fn a_broadcast_without_sound_shows_no_control_for_it() {
    let _machine = heavy();
    let stage = Stage::open(&Setup::new(&["--source", "pattern", "--audio", "off"]), PATTERN);
    assert_eq!(stage.browser.run::<String>("return window.laterna.sound", &[]), "none");
    let script = "return ['#sound', '#sound-on'].map((id) => document.querySelector(id).checkVisibility())";
    assert_eq!(stage.browser.run::<[bool; 2]>(script, &[]), [false, false]);
    stage.browser.run::<Value>("document.dispatchEvent(new KeyboardEvent('keydown', { key: 'm' }))", &[]);
    assert_eq!(stage.browser.run::<String>("return window.laterna.sound", &[]), "none");
}

#[test]
fn a_wrong_code_is_not_kept_for_an_address_without_one() {
    let _machine = heavy();
    let stage = Stage::open(&Setup::new(&["--source", "pattern"]), PATTERN);
    let page = stage.daemon.page();
    let (address, _) = page.split_once('#').unwrap();
    let says = |wanted: &str| {
        let script = "const is = () => document.querySelector('#headline').innerText;
                      return lt.until(() => is() === args[0], args[1], () => `${args[0]}, it is ${is()}`)";
        stage.browser.run::<Value>(script, &[json!(wanted), millis(SOON)]);
    };
    stage.browser.open(&format!("{address}#aaaaaaaaaa"));
    says("This code is not right");
    stage.browser.open(address);
    says("An access code is needed");
    stage.browser.open(&page);
    stage.awaits_state(&["playing"], SOON);
    stage.browser.open(address);
    stage.awaits_state(&["playing"], SOON);
}

#[test]
fn a_button_for_the_sound_covers_little_of_a_picture_that_is_watched() {
    let _machine = heavy();
    let browser = Browser::start_with(&["--autoplay-policy=document-user-activation-required"]);
    let stage = Stage::play(&Setup::new(&["--source", "pattern", "--audio", "tone"]), PATTERN, browser);
    let script = "
        const button = document.querySelector('#sound-on');
        await lt.until(() => button.checkVisibility(), args[0], () => 'the button');
        await lt.until(() => 'idle' in document.documentElement.dataset, args[0], () => 'an idle page');
        const { left, right, top, bottom } = button.getBoundingClientRect();
        return [right - left, bottom - top, left, innerHeight - bottom]";
    for (width, height) in [(1280, 720), (360, 640)] {
        stage.browser.resize(width, height);
        let [wide, high, left, below]: [f64; 4] = stage.browser.run(script, &[millis(SOON)]);
        assert!((44.0..=48.0).contains(&wide) && (44.0..=48.0).contains(&high), "{wide} × {high}");
        assert!((0.0..=8.0).contains(&left) && (0.0..=8.0).contains(&below), "{left} and {below} from the corner");
    }
    stage.browser.click("#sound-on");
    let script = "const is = () => window.laterna.sound;
                  return lt.until(() => is() === 'on', args[0], () => `sound on, it is ${is()}`)";
    stage.browser.run::<Value>(script, &[millis(SOON)]);
}

#[test]
fn the_controls_fit_beside_each_other_on_a_phone() {
    let _machine = heavy();
    let stage = Stage::open(&Setup::new(&["--source", "pattern"]), PATTERN);
    stage.browser.resize(360, 640);
    let script = "
        const shown = ['#sound-on', '#sound', '#panel-button', '#full-button'].map((id) => document.querySelector(id));
        const boxes = (hidden) => {
          for (const element of shown) element.hidden = element.matches(hidden);
          return shown.filter((element) => !element.hidden).map((element) => element.getBoundingClientRect()).map(({ left, right, top, bottom }) => [left, right, top, bottom]);
        };
        return [boxes('#sound'), boxes('#sound-on')]";
    for boxes in stage.browser.run::<Vec<Vec<[f64; 4]>>>(script, &[]) {
        assert_eq!(boxes.len(), 3);
        for [left, right, top, bottom] in &boxes {
            assert!(*left >= 0.0 && *right <= 360.0 && *bottom <= 640.0, "outside the page: {boxes:?}");
            assert!(right - left >= 44.0 && bottom - top >= 44.0, "too small for a finger: {boxes:?}");
        }
        for (index, one) in boxes.iter().enumerate() {
            let apart = |other: &[f64; 4]| one[1] <= other[0] || other[1] <= one[0];
            assert!(boxes[index + 1..].iter().all(apart), "one lies over another: {boxes:?}");
        }
    }
}
