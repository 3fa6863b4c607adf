#![allow(clippy::unwrap_used)]
use super::*;
use crate::session::turns::Turns;

const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

fn to(port: u16) -> SocketAddr {
    SocketAddr::new(FROM.ip(), port)
}

fn push(batch: &mut SendBatch, tag: u32, byte: u8, length: usize) {
    let write = |space: &mut [u8]| {
        space[..length].fill(byte);
        length
    };
    batch.push(tag, FROM, to(tag as u16), 1500, write).unwrap();
}

fn runs() -> SendBatch {
    SendBatch::with_segmentation(Segmentation::Except(HashMap::new()))
}

/// What a sender saw: destination port, bytes, segment.
type Seen = Vec<(u16, usize, Option<u16>)>;

fn seen(message: &Departure<'_>) -> (u16, usize, Option<u16>) {
    (message.to.port(), message.payload.len(), message.segment)
}

#[test]
fn equal_packets_to_one_destination_are_one_message() {
    let mut batch = runs();
    for (tag, length) in [(1, 1000), (1, 1000), (1, 400), (1, 1000), (2, 100), (2, 200), (1, 50)] {
        push(&mut batch, tag, 7, length);
    }
    batch.push(9, FROM, to(9), 1500, |_| 0).unwrap();
    let mut sent = Seen::new();
    let report = batch.flush_by(Instant::now(), |messages| {
        sent.extend(messages.iter().map(seen));
        Ok(messages.len())
    });
    assert_eq!(sent, [(1, 2400, Some(1000)), (1, 1000, None), (2, 100, None), (2, 200, None), (1, 50, None)]);
    assert_eq!(report, SendReport { sent: 7, dropped: 0, calls: 1, would_block: false });
    assert!(batch.is_empty());
}

#[test]
fn runs_stay_within_the_kernels_limits() {
    let mut batch = runs();
    (0..70).for_each(|_| push(&mut batch, 1, 0, 100));
    (0..60).for_each(|_| push(&mut batch, 2, 0, 1200));
    let mut sent = Seen::new();
    batch.flush_by(Instant::now(), |messages| {
        sent.extend(messages.iter().map(seen));
        Ok(messages.len())
    });
    let expected = [(1, 6400, Some(100)), (1, 600, Some(100)), (2, 63_600, Some(1200)), (2, 8400, Some(1200))];
    assert_eq!(sent, expected);
}

/// A kernel that takes messages as far as `budget` bytes go, and notes each: destination port, first byte.
fn kernel<'a>(
    budget: &'a mut usize,
    taken: &'a mut Vec<(u16, u8)>,
) -> impl FnMut(&[Departure<'_>]) -> io::Result<usize> + 'a {
    move |messages| {
        let mut count = 0;
        for message in messages {
            let Some(left) = budget.checked_sub(message.payload.len()) else { break };
            *budget = left;
            taken.push((message.to.port(), message.payload[0]));
            count += 1;
        }
        if count > 0 { Ok(count) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_full_kernel_buffer_delays_the_rest_in_order_and_loses_nothing() {
    let (mut batch, start) = (runs(), Instant::now());
    let (mut pushed, mut taken) = (Vec::new(), Vec::new());
    let mut turn = |batch: &mut SendBatch, at: u64, byte: u8, mut budget: usize| {
        for tag in (1..=4).filter(|_| byte > 0) {
            push(batch, tag, byte, 1000);
            push(batch, tag, byte, 1000);
            pushed.push((tag as u16, byte));
        }
        let report = batch.flush_by(start + ms(at), kernel(&mut budget, &mut taken));
        assert_eq!(report.dropped, 0);
        report.would_block
    };
    assert!(turn(&mut batch, 0, 1, 3000));
    assert_eq!(batch.poll_timeout(), Some(start + MOST_WAIT));
    assert!(turn(&mut batch, 33, 2, 1000), "a newer picture waits behind the older one");
    assert!(turn(&mut batch, 66, 3, 9000));
    assert_eq!(batch.poll_timeout(), Some(start + ms(33) + MOST_WAIT));
    assert!(!turn(&mut batch, 100, 0, 100_000));
    assert_eq!((batch.is_empty(), batch.poll_timeout()), (true, None));
    assert_eq!(taken, pushed);
}

#[test]
fn what_waits_is_not_written_over() {
    let (mut batch, start) = (runs(), Instant::now());
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    let mut seed = 7_u32;
    for step in 0..20_000_u32 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 4 + (seed >> 16) as usize % 1200;
        let write = |space: &mut [u8]| {
            space[..length].fill(step as u8);
            space[..4].copy_from_slice(&step.to_be_bytes());
            length
        };
        let pushed = batch.push(seed >> 30, FROM, to(1), 1500, write).is_ok();
        if pushed {
            expected.push((step, length));
        }
        if !pushed || seed >> 24 & 63 == 0 {
            // In 200 steps out of a thousand the kernel takes everything, else next to nothing.
            let mut budget = if step % 1000 < 200 { usize::MAX } else { 3000 };
            let report = batch.flush_by(start, |messages| {
                let message = messages[0];
                budget = budget.checked_sub(message.payload.len()).ok_or(io::ErrorKind::WouldBlock)?;
                for datagram in message.payload.chunks(message.segment.map_or(usize::MAX, usize::from)) {
                    assert!(datagram[4..].iter().all(|byte| *byte == datagram[3]));
                    sent.push((u32::from_be_bytes(datagram[..4].try_into().unwrap()), datagram.len()));
                }
                Ok(1)
            });
            assert_eq!(report.dropped, 0);
        }
    }
    batch.flush_by(start, |messages| {
        let one = &messages[0];
        for datagram in one.payload.chunks(one.segment.map_or(usize::MAX, usize::from)) {
            sent.push((u32::from_be_bytes(datagram[..4].try_into().unwrap()), datagram.len()));
        }
        Ok(1)
    });
    assert!(sent == expected, "{} of {} datagrams, in order", sent.len(), expected.len());
}

#[test]
fn what_waits_too_long_is_given_up_and_its_owner_told() {
    let (mut batch, start) = (runs(), Instant::now());
    for tag in [1, 2, 2, 3] {
        push(&mut batch, tag, 1, 100);
    }
    let (mut budget, mut taken) = (100, Vec::new());
    batch.flush_by(start, kernel(&mut budget, &mut taken));
    push(&mut batch, 2, 2, 100);
    let report = batch.flush_by(start + ms(100), kernel(&mut budget, &mut taken));
    assert_eq!((report.dropped, report.would_block), (0, true));
    let report = batch.flush_by(start + MOST_WAIT, kernel(&mut budget, &mut taken));
    assert_eq!((report.sent, report.dropped), (0, 3));
    let dropped = |tag, packets| Dropped { tag, packets, cause: DropCause::Full };
    assert_eq!(batch.dropped(), [dropped(2, 2), dropped(3, 1)]);
    assert_eq!(batch.poll_timeout(), Some(start + ms(100) + MOST_WAIT), "what came later waits for its own time");
    budget = 100;
    let report = batch.flush_by(start + MOST_WAIT, kernel(&mut budget, &mut taken));
    assert_eq!(report, SendReport { sent: 1, dropped: 0, calls: 1, would_block: false });
    assert_eq!(taken, [(1, 1), (2, 2)]);
    assert!(batch.is_empty() && batch.dropped().is_empty());
}

#[test]
fn what_waits_is_bounded_and_the_oldest_is_given_up() {
    let (mut batch, start) = (runs(), Instant::now());
    let (mut bytes, mut dropped) = (0, Vec::new());
    for tag in 0..3000 {
        for _ in 0..10 {
            let full = batch.push(tag, FROM, to(1), 1500, |_| 1200).is_err();
            if full {
                batch.flush_by(start, |_| Err(io::ErrorKind::WouldBlock.into()));
                dropped.extend(batch.dropped().iter().map(|dropped| (dropped.tag, dropped.packets)));
                batch.push(tag, FROM, to(1), 1500, |_| 1200).unwrap();
            }
            bytes += 1200;
        }
        let held: usize = batch.chunks.iter().map(|chunk| chunk.buffer.len()).sum();
        assert!(held <= 24 << 20, "{held}");
    }
    let lost: usize = dropped.iter().map(|(_, packets)| packets * 1200).sum();
    assert!(dropped.is_sorted_by_key(|(tag, _)| *tag) && dropped[0].0 == 0, "the oldest go first: {dropped:?}");
    assert!(bytes - lost > 23 << 20, "{lost} of {bytes} bytes were given up");
    let rest = batch.flush_by(start, |messages| Ok(messages.len()));
    assert_eq!((rest.sent * 1200, rest.dropped), (bytes - lost, 0));
    assert_eq!(batch.chunks.len(), 1, "the memory is given back");
}

/// A network card of so many bytes a millisecond behind a kernel buffer of the system's default size.
struct Card {
    rate: usize,
    queued: usize,
}

impl Card {
    const BUFFER: usize = 212_992;

    /// Sends a 100 kB keyframe to each of sixty viewers and waits as the media thread does; tells who got all of it.
    fn keyframe(&mut self, batch: &mut SendBatch, start: Instant, turns: &mut Turns) -> Vec<u32> {
        let mut got = vec![0; 60];
        let mut viewers: Vec<u32> = (0..60).collect();
        turns.rotate(&mut viewers, true);
        let mut flush = |batch: &mut SendBatch, at| {
            batch.flush_by(at, |messages| {
                // As Linux does: a message is taken whole while the buffer is not yet full.
                if self.queued >= Self::BUFFER {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.queued += messages[0].payload.len();
                got[usize::from(messages[0].to.port())] += messages[0].payload.len();
                Ok(1)
            });
            self.queued = self.queued.saturating_sub(self.rate);
            if !batch.dropped().is_empty() {
                turns.handle_overflow();
            }
        };
        for tag in viewers {
            for _ in 0..100 {
                while batch.push(tag, FROM, to(tag as u16), 1500, |_| 1000).is_err() {
                    flush(batch, start);
                }
            }
        }
        for at in 0..1000 {
            flush(batch, start + ms(at));
        }
        assert!(batch.is_empty());
        (0..60).filter(|viewer| got[*viewer as usize] == 100_000).collect()
    }
}

#[test]
fn a_gigabit_card_takes_keyframes_for_sixty_viewers() {
    let (mut batch, mut turns, start) = (runs(), Turns::default(), Instant::now());
    let mut card = Card { rate: 125_000, queued: 0 };
    for second in 0..5 {
        let served = card.keyframe(&mut batch, start + ms(1000 * second), &mut turns);
        assert_eq!(served.len(), 60);
    }
}

#[test]
fn a_card_too_slow_for_all_serves_each_in_its_turn() {
    let (mut batch, mut turns, start) = (runs(), Turns::default(), Instant::now());
    let mut card = Card { rate: 12_500, queued: 0 };
    let mut waits = vec![0; 60];
    for second in 0..100 {
        let served = card.keyframe(&mut batch, start + ms(1000 * second), &mut turns);
        assert!(served.len() >= 18, "{served:?}");
        waits.iter_mut().for_each(|wait| *wait += 1);
        served.iter().for_each(|viewer| waits[*viewer as usize] = 0);
        assert!(waits.iter().all(|wait| *wait <= 8), "nobody waits for many keyframes: {waits:?}");
    }
}

#[test]
fn an_unreachable_destination_harms_no_other() {
    let mut batch = runs();
    for tag in [1, 2, 2, 3] {
        push(&mut batch, tag, 0, 100);
    }
    let mut sent = Seen::new();
    let report = batch.flush_by(Instant::now(), |messages| match messages[0].to.port() {
        2 => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
        _ => {
            sent.push(seen(&messages[0]));
            Ok(1)
        }
    });
    assert_eq!((report.sent, report.dropped), (2, 2));
    assert_eq!(batch.dropped(), [Dropped { tag: 2, packets: 2, cause: DropCause::Refused }]);
    assert_eq!(sent, [(1, 100, None), (3, 100, None)]);
}

#[test]
fn a_path_without_segmentation_gets_single_packets() {
    for errno in [libc::EIO, libc::EINVAL, libc::EMSGSIZE] {
        let mut batch = runs();
        let mut refusals = 0;
        for _ in 0..2 {
            for (tag, length) in [(1, 300), (1, 300), (1, 120), (2, 300), (2, 300), (1, 300), (1, 300)] {
                push(&mut batch, tag, 0, length);
            }
            let mut sent = Seen::new();
            let report = batch.flush_by(Instant::now(), |messages| {
                let refused = |m: &Departure<'_>| m.to.port() == 1 && m.segment.is_some();
                let taken = messages.iter().take_while(|m| !refused(m)).count();
                sent.extend(messages.iter().take(taken).map(seen));
                if taken > 0 {
                    return Ok(taken);
                }
                refusals += 1;
                Err(io::Error::from_raw_os_error(errno))
            });
            let single = (1, 300, None);
            assert_eq!(sent, [single, single, (1, 120, None), (2, 600, Some(300)), single, single]);
            assert_eq!((report.sent, report.dropped), (7, 0));
        }
        assert_eq!(refusals, 1, "the path is remembered");
    }
}

#[test]
fn a_path_that_refused_a_run_gets_runs_again_after_a_while() {
    for errno in [libc::EINVAL, libc::EIO] {
        let (mut batch, start) = (runs(), Instant::now());
        // The local address is gone for a moment: the kernel refuses all, runs or not.
        for _ in 0..3 {
            push(&mut batch, 1, 0, 300);
        }
        let report = batch.flush_by(start, |_| Err(io::Error::from_raw_os_error(errno)));
        assert_eq!((report.sent, report.dropped), (0, 3));
        for (after, expected) in
            [(REFUSAL - ms(1), vec![None; 3]), (REFUSAL, vec![None; 3]), (REFUSAL, vec![Some(300)])]
        {
            for _ in 0..3 {
                push(&mut batch, 1, 0, 300);
            }
            let mut segments = Vec::new();
            batch.flush_by(start + after, |messages| {
                segments.extend(messages.iter().map(|message| message.segment));
                Ok(messages.len())
            });
            assert_eq!(segments, expected);
        }
    }
}

#[test]
fn a_full_batch_says_so() {
    let mut batch = runs();
    let mut pushed = 0;
    while batch.push(pushed, FROM, to(1), 1500, |_| 1200).is_ok() {
        pushed += 1;
    }
    assert!((400..=MOST_RUNS as u32).contains(&pushed), "{pushed}");
    assert_eq!(batch.flush_by(Instant::now(), |messages| Ok(messages.len())).sent, pushed as usize);
    assert!(batch.push(0, FROM, to(1), 1500, |_| 1200).is_ok());
}
