//! Slow and hostile viewers harm themselves only, and what they did is counted.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::light::{Manner, Viewer, offer};
use crate::stage::{FAILED, GONE, SOON};
use crate::support::daemon::{Daemon, Setup};
use crate::support::{heavy, report_wall_time};

/// Each viewer has an address of its own, as in a class.
fn address(index: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 3, 0, 1)) + index).into()
}

fn daemon(places: &str) -> Daemon {
    Setup::new(&["--source", "pattern", "--max-viewers", places, "--log", "debug"]).start()
}

fn plays(viewer: &Viewer) {
    let before = viewer.seen().pictures.len();
    viewer.sees("five more pictures", SOON, |seen| seen.pictures.len() > before + 4);
}

/// The daemon's resident memory in KiB.
fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The figure after `name:` or `name=` in a log line.
fn figure(line: &str, name: &str) -> u64 {
    let rest = line.split(name).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    let digits: String = rest.trim_start_matches([':', '=', ' ']).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn an_honest_viewer_misses_nothing_beside_hostile_ones_and_what_they_did_is_counted() {
    let _machine = heavy();
    let mut daemon = daemon("20");
    let honest = Viewer::join(&daemon, address(0), Manner::Honest);
    plays(&honest);
    let honest_session = offer(&daemon, address(1), Manner::Honest).unwrap();
    let victim = honest_session.remote.clone();
    let second = honest_session.connect(Manner::Honest);
    plays(&second);
    let others: Vec<(Manner, Viewer)> = [Manner::Mute, Manner::Begging, Manner::Garbling, Manner::Deaf]
        .into_iter()
        .zip(2..)
        .map(|(manner, index)| (manner, Viewer::join(&daemon, address(index), manner)))
        .collect();
    for (manner, viewer) in &others {
        viewer.sees(&format!("{manner:?} is connected"), SOON, |seen| seen.connected);
    }
    let impostor = Viewer::join(&daemon, address(9), Manner::Impostor);
    // Checks of a live session's name, but with a wrong integrity, from an unknown address; and noise of all kinds.
    let (forger, to, forged) = offer(&daemon, address(10), Manner::Honest).unwrap().forge(&victim);
    let stranger = UdpSocket::bind((address(11), 0)).unwrap();
    let (before, begun) = (honest.seen(), Instant::now());
    let mut noise = 1_u32;
    while begun.elapsed() < Duration::from_secs(8) {
        let seen = honest.seen().pictures.len();
        for first in [0, 1, 22, 64, 128, 144] {
            let mut garbage = vec![first; 64 + (noise % 1200) as usize];
            garbage.iter_mut().skip(1).for_each(|byte| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (noise >> 24) as u8;
            });
            let _ = stranger.send_to(&garbage, to);
            let _ = forger.send_to(&forged, to);
        }
        honest.sees("the next picture", SOON, |now| now.pictures.len() > seen);
    }
    let (after, took) = (honest.seen(), begun.elapsed());
    assert_eq!((after.missing, &after.ended), (0, &None), "something was lost");
    report_wall_time("longest pause of an honest viewer", after.longest_pause, Duration::from_millis(200));
    let during = &after.pictures[before.pictures.len()..];
    let mut sorted = during.to_vec();
    sorted.sort_unstable();
    let usual = sorted[sorted.len() / 2];
    let keyframes = during.iter().filter(|packets| **packets > 4 * usual + 4).count();
    println!("{} pictures in {took:.1?}, {keyframes} of them keyframes, {usual} packets usually", during.len());
    assert!(keyframes <= 4 + 2 * took.as_secs() as usize / 5 + 2, "{keyframes} keyframes");
    plays(&second);
    for (manner, viewer) in &others {
        let seen = viewer.seen();
        println!("{manner:?}: {} pictures, {} repeats, {} missing", seen.pictures.len(), seen.repeats, seen.missing);
        assert_eq!(seen.ended, None, "{manner:?}");
        if *manner != Manner::Deaf {
            plays(viewer);
        }
    }
    daemon.logged(&["viewer never connected", "handshake failed"], SOON);
    daemon.logged(&["viewer left", "nothing heard"], SOON);
    drop((others, impostor));
    daemon.logged_times(4, GONE, SOON);
    let told: Vec<String> = daemon.log().lines().into_iter().map(|line| line.text).collect();
    let counted: Vec<&String> =
        told.iter().filter(|line| line.contains("asked for") && line.contains("unheard")).collect();
    let most = |name: &str| counted.iter().map(|line| figure(line, name)).max().unwrap_or_default();
    println!(
        "refused {} keyframes and {} repeats; {} datagrams were no sign of life",
        most("keyframes_refused"),
        most("guarded"),
        most("unheard")
    );
    assert!(most("keyframes_refused") > 500 && most("guarded") > 500 && most("unheard") > 1_000, "{counted:#?}");
    assert_eq!((honest.seen().missing, second.seen().missing), (0, 0));
    drop((honest, second));
    daemon.logged_times(6, GONE, SOON);
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0));
    let figures = daemon.logged(&["datagrams of the media socket"], SOON).text;
    println!("{figures}");
    assert!(figure(&figures, "strange") > 100 && figure(&figures, "dropped") == 0, "{figures}");
}

#[test]
fn a_full_house_refuses_with_its_reason_and_gives_back_what_is_not_used() {
    let _machine = heavy();
    let daemon = daemon("8");
    let honest = Viewer::join(&daemon, address(100), Manner::Honest);
    plays(&honest);
    let (mut taken, mut refused) = (0, 0);
    for index in 0..300 {
        match offer(&daemon, address(200 + index % 50), Manner::Honest) {
            Ok(_) => taken += 1,
            Err(response) => {
                assert!(response.starts_with("HTTP/1.1 503"), "{response}");
                assert!(response.to_ascii_lowercase().contains("laterna-reason: full"), "{response}");
                assert!(response.contains("max-viewers"), "{response}");
                refused += 1;
            }
        }
    }
    println!("{taken} offers were taken, {refused} refused");
    assert!(taken >= 7 && refused > 0);
    let asked = Instant::now();
    let newcomer = loop {
        if let Ok(offered) = offer(&daemon, address(101), Manner::Honest) {
            break offered.connect(Manner::Honest);
        }
        assert!(asked.elapsed() < SOON, "places that are not used are given back");
        // A viewer that is refused tries again; here as soon as its neighbour has more pictures.
        plays(&honest);
    };
    plays(&newcomer);
    report_wall_time("a newcomer to a house full of abandoned offers", asked.elapsed(), Duration::from_secs(4));
    daemon.logged_times(taken, FAILED, Duration::from_secs(30));
    let seen = honest.seen();
    assert_eq!((seen.missing, seen.ended), (0, None));
}

#[test]
fn a_thousand_offers_that_never_connect_leave_nothing_in_memory() {
    let _machine = heavy();
    let daemon = daemon("600");
    let honest = Viewer::join(&daemon, address(1_000), Manner::Honest);
    plays(&honest);
    let round = |number: usize| {
        for index in 0..500 {
            assert!(offer(&daemon, address(1_100 + index), Manner::Honest).is_ok());
        }
        let at_most = memory(&daemon);
        daemon.logged_times(500 * number, FAILED, Duration::from_secs(60));
        (at_most, memory(&daemon))
    };
    let rounds = [1, 2, 3].map(round);
    println!("KiB at the most and when all were gone: {rounds:?}");
    // The rest of the daemon may grow meanwhile, once; what five hundred sessions leave (they take 7 MB) would be left by each round.
    let grown = rounds.windows(2).map(|two| two[1].1.saturating_sub(two[0].1)).min().unwrap();
    assert!(grown < 2_000, "{rounds:?}");
    plays(&honest);
    let seen = honest.seen();
    assert_eq!((seen.missing, seen.ended), (0, None));
}

#[test]
fn a_hundred_handshakes_with_wrong_certificates_leave_nothing_in_memory() {
    let _machine = heavy();
    let daemon = daemon("40");
    let honest = Viewer::join(&daemon, address(400), Manner::Honest);
    plays(&honest);
    let round = |number: usize| {
        let impostors: Vec<Viewer> =
            (0..20).map(|index| Viewer::join(&daemon, address(500 + index), Manner::Impostor)).collect();
        daemon.logged_times(20 * number, &["viewer never connected", "handshake failed"], Duration::from_secs(60));
        drop(impostors);
        memory(&daemon)
    };
    let before = (1..=3).fold(0, |_, number| round(number));
    let after = (4..=8).fold(0, |_, number| round(number));
    println!("{before} KiB after 60 handshakes, {after} KiB after 160");
    assert!(after < before + 4_000, "{before} KiB became {after} KiB");
    plays(&honest);
    let seen = honest.seen();
    assert_eq!((seen.missing, seen.ended), (0, None));
}

#[test]
fn a_flood_for_one_session_that_joins_keeps_no_other_from_joining() {
    let _machine = heavy();
    let daemon = daemon("20");
    let honest = Viewer::join(&daemon, address(600), Manner::Honest);
    plays(&honest);
    let target = offer(&daemon, address(601), Manner::Honest).unwrap();
    let (socket, to, check) = offer(&daemon, address(602), Manner::Honest).unwrap().forge(&target.remote);
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                sent += u64::from(socket.send_to(&check, to).is_ok());
            }
            sent
        });
        let asked = Instant::now();
        let newcomers: Vec<Viewer> =
            (0..12).map(|index| Viewer::join(&daemon, address(610 + index), Manner::Honest)).collect();
        let came = newcomers.iter().all(|newcomer| {
            let deadline = SOON.saturating_sub(asked.elapsed());
            newcomer.sees("a picture in the flood", deadline, |seen| !seen.pictures.is_empty());
            newcomer.seen().ended.is_none()
        });
        stop.store(true, Ordering::Relaxed);
        assert!(came);
        report_wall_time("twelve viewers join beside a flood", asked.elapsed(), Duration::from_secs(2));
        flood.join().unwrap()
    });
    let line = daemon.logged(&["a session sent more than any handshake has"], Duration::from_secs(30));
    let dropped = figure(&line.text, "dropped");
    println!("{sent} checks were sent, {dropped} dropped before the join thread");
    assert!(dropped > 1_000);
    plays(&honest);
}

#[test]
fn handshakes_leave_the_processor_to_pictures() {
    let daemon = daemon("1");
    // Both threads have been at work.
    plays(&Viewer::join(&daemon, address(700), Manner::Honest));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let nice: Vec<(String, i64)> = tasks
        .map(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            let (name, fields) = stat.rsplit_once(')').unwrap();
            let name = name.split_once('(').unwrap().1.to_owned();
            (name, fields.split_whitespace().nth(16).unwrap().parse().unwrap())
        })
        .collect();
    let of = |wanted: &str| nice.iter().find(|(name, _)| name == wanted).unwrap_or_else(|| panic!("{nice:?}")).1;
    // 19 is the end of the scale, which a run that is niced itself comes to.
    assert_eq!(of("join"), (of("media") + 10).min(19), "{nice:?}");
}
