//! Sound from a real PulseAudio server: what it plays comes out of the capture whole, and what happens to it harms nobody.
#![cfg(feature = "pulse")]

use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use laterna::alive::Watch;
use laterna::audio::{AudioCapture, AudioError, AudioSpec, tone};
use laterna::encoder::{AccessUnit, Codec};

use crate::support::process::{Output, Process};
use crate::support::pulse::Pulse;
use crate::support::report_wall_time;
use crate::support::tone::Tone;

const DEADLINE: Duration = Duration::from_secs(20);

/// A capture, and what comes out of it.
struct Listening {
    capture: AudioCapture,
    units: Receiver<AccessUnit>,
}

fn listen(server: &str, spec: &AudioSpec) -> Result<Listening, AudioError> {
    let (sink, units) = sync_channel(4096);
    let sink = Arc::new(move |unit| sink.try_send(unit).unwrap());
    let capture = AudioCapture::open_on(Some(server), spec, sink, &Watch::new().0)?;
    Ok(Listening { capture, units })
}

impl Listening {
    /// The next packets, together `seconds` long.
    fn next(&self, seconds: u32) -> Vec<AccessUnit> {
        (0..seconds * 50).map(|_| self.units.recv_timeout(DEADLINE).expect("no sound came")).collect()
    }
}

/// Decodes packets in a row into one channel, after checking that they are in a row.
fn decode(units: &[AccessUnit]) -> Vec<f32> {
    let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
    let mut signal = Vec::new();
    for pair in units.windows(2) {
        assert_eq!(pair[1].sample, pair[0].sample + 960, "samples were lost");
        let step = pair[1].captured - pair[0].captured;
        assert!(step.abs_diff(Duration::from_millis(20)) <= Duration::from_millis(1), "a step of {step:?}");
    }
    for unit in units {
        assert_eq!(unit.codec, Codec::Opus);
        let mut out = vec![0.0; 1920];
        assert_eq!(decoder.decode_float(&unit.data, &mut out, false).unwrap(), 960);
        signal.extend(out.iter().step_by(2));
    }
    signal
}

/// Asserts that a tone is there at this level, without a break from half a second on.
fn assert_tone(units: &[AccessUnit], level: f64) {
    let heard = Tone::measure(&decode(units)[24_000..], 48_000.0, 1000.0);
    println!("heard {heard:?}");
    assert!((heard.frequency - 1000.0).abs() < 0.5 && (heard.level - level).abs() < 0.5, "{heard:?}");
    assert!(heard.breaks.is_empty() && heard.rest < level - 30.0, "{heard:?}");
}

/// CPU time that this process's thread `audio` has used; the only one while the caller holds the machine.
fn cpu_of_capture() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let named =
        tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "audio"));
    let nanos = named.map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
        stat.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanos.sum())
}

#[test]
fn what_the_system_plays_is_captured_whole() {
    let server = Pulse::start(&[]);
    let _player = server.play(1000.0, -12.0, 60);
    let listening = listen(&server.address(), &AudioSpec::System).unwrap();
    assert_eq!(listening.capture.describe(), "system (speakers)");
    listening.capture.set_active(true);
    // Until the player and the server have settled.
    listening.next(2);
    let units = listening.next(5);
    let late = Instant::now().saturating_duration_since(units[249].captured);
    report_wall_time("from capture to packet, the packet's own 20 ms included", late, Duration::from_millis(60));
    assert_tone(&units, -12.0);
}

#[test]
fn the_test_tone_is_what_it_says() {
    let listening = listen("", &AudioSpec::Tone).unwrap();
    listening.capture.set_active(true);
    assert_tone(&listening.next(3), tone::LEVEL);
    // Nobody listens any more: what was on its way may still come, and then nothing.
    listening.capture.set_active(false);
    while listening.units.recv_timeout(Duration::from_millis(200)).is_ok() {}
    listening.capture.set_active(true);
    let units = listening.next(1);
    decode(&units);
}

#[test]
fn a_server_that_dies_comes_back_by_itself() {
    let mut server = Pulse::start(&[]);
    let player = server.play(1000.0, -12.0, 60);
    let listening = listen(&server.address(), &AudioSpec::Auto).unwrap();
    listening.capture.set_active(true);
    let before = listening.next(2).pop().unwrap();
    drop(player);
    server.restart();
    let _player = server.play(1000.0, -12.0, 60);
    let after = loop {
        let unit = listening.units.recv_timeout(DEADLINE).expect("the sound did not come back");
        if unit.sample > before.sample + 48_000 / 5 && unit.captured - before.captured > Duration::from_millis(400) {
            break unit;
        }
    };
    let samples = (after.sample - before.sample) as f64 / 48_000.0;
    let time = (after.captured - before.captured).as_secs_f64();
    assert!((samples - time).abs() < 0.01, "{samples} s of samples, {time} s of time");
    listening.next(2);
    assert_tone(&listening.next(3), -12.0);
}

#[test]
fn a_server_that_hangs_holds_up_nothing_and_is_heard_again_once_it_goes_on() {
    let server = Pulse::start(&[]);
    let _player = server.play(1000.0, -12.0, 60);
    let listening = listen(&server.address(), &AudioSpec::System).unwrap();
    listening.capture.set_active(true);
    listening.next(1);
    server.freeze(true);
    // Until it counts as lost and the capture tries to reach it again.
    while listening.units.recv_timeout(Duration::from_secs(4)).is_ok() {}
    server.freeze(false);
    listening.next(1);
    server.freeze(true);
    while listening.units.recv_timeout(Duration::from_secs(4)).is_ok() {}
    let start = Instant::now();
    drop(listening);
    report_wall_time("ending while the server hangs", start.elapsed(), Duration::from_millis(100));
    let start = Instant::now();
    let without = listen(&server.address(), &AudioSpec::Auto).unwrap();
    report_wall_time("opening while the server hangs", start.elapsed(), Duration::from_secs(3));
    assert!(!without.capture.is_there());
    server.freeze(false);
}

#[test]
fn the_default_sink_is_followed() {
    let server = Pulse::start(&["module-null-sink sink_name=headphones rate=48000"]);
    server.control(&["set-default-sink", "speakers"]);
    let listening = listen(&server.address(), &AudioSpec::System).unwrap();
    listening.capture.set_active(true);
    listening.next(1);
    server.control(&["set-default-sink", "headphones"]);
    let _player = server.play(1000.0, -12.0, 60);
    let deadline = Instant::now() + DEADLINE;
    let mut units = Vec::new();
    while units.len() < 150 {
        let unit = listening.units.recv_timeout(DEADLINE).unwrap();
        // Silence has short packets, and pauses between them.
        if unit.data.len() > 60 {
            units.push(unit)
        } else {
            units.clear()
        }
        assert!(Instant::now() < deadline, "the new default sink is not heard");
    }
    assert_tone(&units[50..], -12.0);
}

#[test]
fn a_microphone_is_chosen_by_a_part_of_its_name() {
    let microphone = |name: &str, description: &str| {
        format!(
            "module-remap-source master=speakers.monitor source_name={name} source_properties=device.description={description}"
        )
    };
    let modules = [microphone("usb_1", "Desk"), microphone("usb_2", "Ceiling")];
    let server = Pulse::start(&modules.each_ref().map(String::as_str));
    let _player = server.play(1000.0, -12.0, 60);
    let open = |name: Option<&str>| listen(&server.address(), &AudioSpec::Mic(name.map(str::to_owned)));
    let error = open(Some("usb")).err().unwrap().to_string();
    assert!(error.contains("Desk (usb_1)") && error.contains("Ceiling (usb_2)"), "{error}");
    let error = open(Some("webcam")).err().unwrap().to_string();
    assert!(error.contains("no microphone") && error.contains("Desk (usb_1)"), "{error}");
    assert_eq!(open(None).unwrap().capture.describe(), "mic (Desk)", "a monitor is no microphone");
    let listening = open(Some("ceil")).unwrap();
    assert_eq!(listening.capture.describe(), "mic (Ceiling)");
    listening.capture.set_active(true);
    listening.next(2);
    assert_tone(&listening.next(2), -12.0);
}

/// What [`a_microphone_of_alsa_is_recorded_where_no_server_runs`] runs with an environment of its own.
#[cfg(feature = "alsa")]
#[test]
#[ignore = "a part of another test"]
fn records_by_alsa() {
    let listening = listen("unix:/nonexistent/native", &AudioSpec::Mic(None)).unwrap();
    listening.capture.set_active(true);
    listening.next(2);
    // ALSA's plugin for PulseAudio may lose samples, so breaks are no matter here.
    let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
    let mut signal = Vec::new();
    for unit in listening.next(2) {
        let mut out = vec![0.0; 1920];
        decoder.decode_float(&unit.data, &mut out, false).unwrap();
        signal.extend(out.iter().step_by(2));
    }
    let heard = Tone::measure(&signal, 48_000.0, 1000.0);
    assert!((heard.frequency - 1000.0).abs() < 1.0 && (heard.level + 12.0).abs() < 1.0, "{heard:?}");
    println!("by ALSA: {} {heard:?}", listening.capture.describe());
}

#[cfg(feature = "alsa")]
#[test]
fn a_microphone_of_alsa_is_recorded_where_no_server_runs() {
    let server = Pulse::start(&[]);
    let _player = server.play(1000.0, -12.0, 60);
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["sound::records_by_alsa", "--exact", "--ignored", "--nocapture"]);
    command.env("HOME", server.home_with_alsa()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Process::spawn(&mut command);
    let output = Output::follow(child.child().stdout.take().unwrap());
    let errors = Output::follow(child.child().stderr.take().unwrap());
    let heard = output.wait(DEADLINE, |line| line.contains("by ALSA: mic"));
    assert!(heard.is_some(), "{}{}", output.tail(20), errors.tail(20));
    println!("{}", output.tail(5));
}

/// What [`alsa_s_device_of_endless_zeros_is_no_microphone`] runs with an environment of its own.
#[cfg(feature = "alsa")]
#[test]
#[ignore = "a part of another test"]
fn finds_a_microphone_that_is_none() {
    let nowhere = "unix:/nonexistent/native";
    let error = listen(nowhere, &AudioSpec::Mic(Some("samples".to_owned()))).err().unwrap().to_string();
    println!("by name: {error}");
}

#[cfg(feature = "alsa")]
#[test]
fn alsa_s_device_of_endless_zeros_is_no_microphone() {
    let home = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["sound::finds_a_microphone_that_is_none", "--exact", "--ignored", "--nocapture"]);
    command.env("HOME", home.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Process::spawn(&mut command);
    let output = Output::follow(child.child().stdout.take().unwrap());
    let errors = Output::follow(child.child().stderr.take().unwrap());
    // "Discard all samples (playback) or generate zero samples (capture)" has the name that is asked for.
    let told = output.wait(DEADLINE, |line| line.contains("by name: ") && line.contains("no microphone"));
    assert!(told.is_some_and(|line| !line.text.contains("zero samples")), "{}{}", output.tail(20), errors.tail(20));
}

/// What [`a_device_that_gives_samples_without_end_is_lost_and_bounded`] runs with an environment of its own.
#[cfg(feature = "alsa")]
#[test]
#[ignore = "a part of another test"]
fn records_without_end() {
    let listening = listen("unix:/nonexistent/native", &AudioSpec::Mic(Some("default".to_owned()))).unwrap();
    let start = Instant::now();
    listening.capture.set_active(true);
    let mut units = Vec::new();
    while start.elapsed() < Duration::from_secs(4) {
        units.extend(listening.units.recv_timeout(Duration::from_millis(100)));
    }
    println!("without end: {} packets", units.len());
}

#[cfg(feature = "alsa")]
#[test]
fn a_device_that_gives_samples_without_end_is_lost_and_bounded() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".asoundrc"), "pcm.!default { type null }\n").unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["sound::records_without_end", "--exact", "--ignored", "--nocapture"]);
    command.env("HOME", home.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Process::spawn(&mut command);
    let output = Output::follow(child.child().stdout.take().unwrap());
    let errors = Output::follow(child.child().stderr.take().unwrap());
    let told = output.wait(DEADLINE, |line| line.contains("without end: "));
    let told = told.unwrap_or_else(|| panic!("{}{}", output.tail(20), errors.tail(20)));
    let packets = told.text.split_whitespace().rev().nth(1).and_then(|count| count.parse::<usize>().ok());
    // At most half a second at each of the four openings, and of silence the beginning only.
    assert!(packets.is_some_and(|packets| (1..=200).contains(&packets)), "{}", told.text);
}

#[test]
fn without_a_server_auto_is_off_and_what_is_named_an_error() {
    let nowhere = "unix:/nonexistent/native";
    let listening = listen(nowhere, &AudioSpec::Auto).unwrap();
    assert_eq!((listening.capture.describe().as_str(), listening.capture.is_there()), ("off", false));
    let error = listen(nowhere, &AudioSpec::System).err().unwrap().to_string();
    assert!(error.starts_with("audio system: no sound server: none runs") && !error.contains('\n'), "{error}");
}

#[test]
#[ignore = "a measurement of half a minute: prints what capturing costs"]
fn cost_of_capture() {
    let _machine = crate::support::heavy();
    let server = Pulse::start(&[]);
    let listening = listen(&server.address(), &AudioSpec::System).unwrap();
    listening.capture.set_active(true);
    listening.next(1);
    let measure = |what: &str| {
        let (start, cpu) = (Instant::now(), cpu_of_capture());
        while start.elapsed() < Duration::from_secs(10) {
            let _ = listening.units.recv_timeout(Duration::from_millis(500));
        }
        let share = (cpu_of_capture() - cpu).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
        println!("{what}: {share:.2} % of a core");
    };
    measure("capture of silence, nothing encoded");
    let _player = server.play(1000.0, -12.0, 60);
    listening.next(1);
    measure("capture and encoding of a tone");
    listening.capture.set_active(false);
    measure("nobody listens");
}
