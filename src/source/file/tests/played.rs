//! Lessons that play in real time.

use super::*;

fn play(path: &Path, looped: bool, fps: u32) -> (Source, mpsc::Receiver<Frame>) {
    let (sender, frames) = mpsc::sync_channel(10_000);
    let sink: FrameSink = Arc::new(move |frame| sender.send(frame).unwrap());
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

fn grey(frame: &Frame) -> u8 {
    rgb(frame, 64, 48)[1]
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
    let mut all = vec![first];
    while all.len() < 25 {
        all.push(frames.recv_timeout(DEADLINE).unwrap());
    }
    for pair in all.windows(2) {
        assert!(grey(&pair[0]) < grey(&pair[1]), "the order is wrong");
        assert_eq!((pair[1].captured - pair[0].captured).as_millis(), 40);
    }
    // It stands, and is given again to whoever comes.
    assert!(frames.recv_timeout(Duration::from_millis(200)).is_err());
    source.refresh();
    let again = frames.recv_timeout(DEADLINE).unwrap();
    assert!(again.damage == Damage::whole(Size::new(128, 96)) && grey(&again) == grey(&all[24]));
}

#[test]
fn a_lesson_waits_for_whoever_watches_and_goes_on_from_there() {
    let made = Made::new();
    let (source, frames) = play(&flickering(&made, "a.mp4", 25, 40), true, 30);
    source.set_active(true);
    let seen: Vec<Frame> = (0..10).map(|_| frames.recv_timeout(DEADLINE).unwrap()).collect();
    source.set_active(false);
    let mut last = grey(&seen[9]);
    while let Ok(frame) = frames.recv_timeout(Duration::from_millis(300)) {
        last = grey(&frame);
    }
    source.set_active(true);
    assert_eq!(grey(&frames.recv_timeout(DEADLINE).unwrap()), last, "the picture where it stood");
    let next = grey(&frames.recv_timeout(DEADLINE).unwrap());
    assert!(next > last && next - last <= 10, "from {last} to {next}");
    // Then to its end, and from its beginning again.
    let mut greys: Vec<u8> = (0..40).map(|_| grey(&frames.recv_timeout(DEADLINE).unwrap())).collect();
    greys.dedup();
    let falls = greys.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert_eq!(falls, 1, "{greys:?}");
}

#[test]
fn no_more_pictures_are_given_than_are_asked_for() {
    let made = Made::new();
    let (source, frames) = play(&flickering(&made, "a.mp4", 50, 50), false, 10);
    source.set_active(true);
    let mut all = vec![frames.recv_timeout(DEADLINE).unwrap()];
    while let Ok(frame) = frames.recv_timeout(Duration::from_millis(500)) {
        all.push(frame);
    }
    println!("{:?}", all.iter().map(|f| ((f.captured - all[0].captured).as_millis(), grey(f))).collect::<Vec<_>>());
    assert!((10..=12).contains(&all.len()), "{} pictures of a second at 10", all.len());
    let steps = all.windows(2).map(|pair| pair[1].captured - pair[0].captured);
    assert!(steps.min().unwrap() >= Duration::from_millis(70));
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
