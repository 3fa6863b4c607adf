//! Lessons that play in real time.

use super::*;

/// What is kept of a frame: its stores are few.
struct Seen {
    captured: Instant,
    damage: Damage,
    grey: u8,
}

fn play(path: &Path, looped: bool, fps: u32) -> (Source, mpsc::Receiver<Seen>) {
    let (sender, frames) = mpsc::sync_channel(10_000);
    let sink: FrameSink = Arc::new(move |frame: Frame| {
        let grey = rgb(&frame, 64, 48)[1];
        sender.send(Seen { captured: frame.captured, damage: frame.damage, grey }).unwrap();
    });
    let options = SourceOptions { fps, ..SourceOptions::default() };
    let source = open(path, looped, Duration::ZERO, &options, sink, &Watch::new().0).unwrap();
    (source, frames)
}

/// A picture that differs in all of it from the one before; so many of them.
fn flickering(made: &Made, name: &str, rate: u32, pictures: u32) -> PathBuf {
    let source = format!("color=c=gray:s=128x96:r={rate},geq=lum='16+mod(N*5,220)':cb=128:cr=128");
    let count = pictures.to_string();
    made.file(name, &[&["-f", "lavfi", "-i", &source, "-frames:v", &count], H264, &["-qp", "1"]])
}

#[test]
fn the_first_picture_is_there_at_once_and_the_others_in_their_time() {
    let made = Made::new();
    let (source, frames) = play(&flickering(&made, "a.mp4", 25, 25), false, 30);
    assert_eq!((source.size(), source.sound().is_none()), (Size::new(128, 96), true));
    println!("{}", source.describe());
    assert!(frames.recv_timeout(Duration::from_millis(100)).is_err(), "it plays though nobody watches");
    let before = Instant::now();
    source.set_active(true);
    let first = frames.recv_timeout(DEADLINE).unwrap();
    println!("the first picture after {:?}", before.elapsed());
    assert_eq!(first.damage, Damage::whole(Size::new(128, 96)));
    let (mut all, last) = (vec![first], last_grey(&made.path("a.mp4")));
    while all.last().unwrap().grey != last {
        all.push(frames.recv_timeout(DEADLINE).unwrap());
    }
    println!("{} of 25 pictures on a machine that does other things", all.len());
    for pair in all.windows(2).skip(1) {
        assert!(pair[0].grey < pair[1].grey, "the order is wrong");
        // Some may be left out where the machine was late, but those that come are in their time.
        let step = (pair[1].captured - pair[0].captured).as_millis();
        assert!(step % 40 == 0 || step > 500, "a step of {step} ms");
    }
    // It stands, and is given again to whoever comes.
    assert!(frames.recv_timeout(Duration::from_millis(200)).is_err());
    source.refresh();
    let again = frames.recv_timeout(DEADLINE).unwrap();
    assert!(again.damage == Damage::whole(Size::new(128, 96)) && again.grey == last);
}

/// The grey of the last picture of a file.
fn last_grey(path: &Path) -> u8 {
    rgb(&painted(pictures(&mut lesson(path), 1000).last().unwrap()), 64, 48)[1]
}

#[test]
fn a_lesson_waits_for_whoever_watches_and_goes_on_from_there() {
    let made = Made::new();
    let (source, frames) = play(&flickering(&made, "a.mp4", 25, 40), true, 30);
    source.set_active(true);
    let mut last = 0;
    for _ in 0..10 {
        last = frames.recv_timeout(DEADLINE).unwrap().grey;
    }
    source.set_active(false);
    while let Ok(frame) = frames.recv_timeout(Duration::from_millis(1_000)) {
        last = frame.grey;
    }
    source.set_active(true);
    assert_eq!(frames.recv_timeout(DEADLINE).unwrap().grey, last, "the picture where it stood");
    // Then to its end, and from its beginning again.
    let mut before = last;
    loop {
        let grey = frames.recv_timeout(DEADLINE).unwrap().grey;
        if grey < before {
            assert!(before > 180 && grey < 60, "from {before} to {grey}");
            break;
        }
        assert!(grey - before < 100, "from {before} to {grey}");
        before = grey;
    }
}

#[test]
fn no_more_pictures_are_given_than_are_asked_for() {
    let made = Made::new();
    let (source, frames) = play(&flickering(&made, "a.mp4", 50, 50), false, 10);
    source.set_active(true);
    let mut all = vec![frames.recv_timeout(DEADLINE).unwrap()];
    while let Ok(frame) = frames.recv_timeout(Duration::from_millis(1_500)) {
        all.push(frame);
    }
    assert!((3..=12).contains(&all.len()), "{} pictures of a second at 10", all.len());
    assert_eq!(all.last().unwrap().grey, last_grey(&made.path("a.mp4")));
    let steps = all.windows(2).map(|pair| pair[1].captured - pair[0].captured);
    assert!(steps.min().unwrap() >= Duration::from_millis(25));
}

#[test]
fn a_slide_that_stands_still_is_given_once() {
    let made = Made::new();
    let (source, frames) = play(&made.colour("a.mp4", "red", 25), false, 30);
    source.set_active(true);
    frames.recv_timeout(DEADLINE).unwrap();
    let more = std::iter::from_fn(|| frames.recv_timeout(Duration::from_millis(1_200)).ok()).count();
    assert!(more <= 2, "{more} pictures more of one that never changes");
}

#[test]
fn a_lesson_whose_file_is_gone_when_it_begins_again_is_lost_and_comes_back_with_it() {
    let made = Made::new();
    let (path, away) = (flickering(&made, "a.mp4", 25, 25), made.path("away.mp4"));
    let (source, frames) = play(&path, true, 30);
    let health = source.health();
    let awaits = |is_well: bool| {
        let deadline = Instant::now() + DEADLINE;
        while (*health.borrow() == Health::Well) != is_well {
            assert!(Instant::now() < deadline, "{:?}", health.borrow());
            std::thread::yield_now();
        }
    };
    source.set_active(true);
    frames.recv_timeout(DEADLINE).unwrap();
    std::fs::rename(&path, &away).unwrap();
    awaits(false);
    while frames.try_recv().is_ok() {}
    source.refresh();
    assert!(frames.recv_timeout(Duration::from_millis(200)).is_err(), "what is gone is shown");
    assert!(matches!(&*health.borrow(), Health::Lost { why } if why.contains("a.mp4") && why.contains("no such file")));
    std::fs::rename(&away, &path).unwrap();
    awaits(true);
    while frames.try_recv().is_ok() {}
    let mut last = frames.recv_timeout(DEADLINE).unwrap().grey;
    for _ in 0..10 {
        let grey = frames.recv_timeout(DEADLINE).unwrap().grey;
        assert!(grey != last, "it stands");
        last = grey;
    }
}
