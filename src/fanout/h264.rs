//! RTP payloads of H.264 (RFC 6184, packetization-mode 1): single NAL units, STAP-A for small neighbours, FU-A in equal fragments (rule 8).

use bytes::{Bytes, BytesMut};

use super::Payload;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// Splits an Annex B access unit into payloads of at most `most` bytes.
///
/// A NAL unit that does not fit is cut into fragments of equal size (the last may be shorter), so that they go out as one GSO run;
/// parameter sets before a picture are joined into one STAP-A.
pub fn packetise(data: &Bytes, most: usize) -> Vec<Payload> {
    let mut payloads = Vec::with_capacity(data.len() / most + 2);
    let mut small: Vec<Bytes> = Vec::new();
    for nal in nal_units(data) {
        let joined: usize = 1 + small.iter().map(|n| n.len() + 2).sum::<usize>() + nal.len() + 2;
        if is_parameter_set(&nal) && joined <= most {
            small.push(nal);
            continue;
        }
        flush(&mut small, &mut payloads);
        if nal.len() <= most {
            payloads.push(Payload::new(&[], nal));
        } else {
            fragment(&nal, most, &mut payloads);
        }
    }
    flush(&mut small, &mut payloads);
    payloads
}

fn is_parameter_set(nal: &[u8]) -> bool {
    matches!(nal.first().map(|b| b & 0x1f), Some(6..=8))
}

fn flush(small: &mut Vec<Bytes>, payloads: &mut Vec<Payload>) {
    match small.len() {
        0 => {}
        1 => payloads.push(Payload::new(&[], small.remove(0))),
        _ => {
            let importance = small.iter().map(|nal| nal[0] & 0x60).max().unwrap_or(0);
            let mut body = BytesMut::new();
            for nal in small.drain(..) {
                body.extend_from_slice(&(nal.len() as u16).to_be_bytes());
                body.extend_from_slice(&nal);
            }
            payloads.push(Payload::new(&[importance | STAP_A], body.freeze()));
        }
    }
}

fn fragment(nal: &Bytes, most: usize, payloads: &mut Vec<Payload>) {
    let (header, body) = (nal[0], nal.slice(1..));
    let count = body.len().div_ceil(most - 2);
    let size = body.len().div_ceil(count);
    let mut start = 0;
    while start < body.len() {
        let end = (start + size).min(body.len());
        let first = if start == 0 { FU_START } else { 0 };
        let last = if end == body.len() { FU_END } else { 0 };
        payloads.push(Payload::new(&[header & 0xe0 | FU_A, header & 0x1f | first | last], body.slice(start..end)));
        start = end;
    }
}

/// The NAL units between the start codes of an Annex B stream, without trailing zeros.
fn nal_units(data: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(found) = find_start_code(&data[at..]) {
        starts.push(at + found + 3);
        at += found + 3;
    }
    starts.push(data.len() + 3);
    (0..starts.len() - 1).filter_map(move |i| {
        let (start, mut end) = (starts[i], starts[i + 1] - 3);
        while end > start && data[end - 1] == 0 {
            end -= 1;
        }
        (end > start).then(|| data.slice(start..end))
    })
}

/// Where `00 00 01` is next.
fn find_start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        // A start code ends in 1; everything in between can be skipped three bytes at a time.
        match data.get(at + 2)? {
            0 => at += 1,
            1 if data[at] == 0 && data[at + 1] == 0 => return Some(at),
            _ => at += 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(payload: &Payload) -> Vec<u8> {
        let mut out = vec![0; payload.len()];
        payload.write(&mut out, 0);
        out
    }

    /// Puts payloads together again as a receiver does.
    fn depacketise(payloads: &[Payload]) -> Vec<Vec<u8>> {
        let mut nals = Vec::new();
        let mut open: Vec<u8> = Vec::new();
        for payload in payloads.iter().map(bytes) {
            match payload[0] & 0x1f {
                STAP_A => {
                    let mut rest = &payload[1..];
                    while let [a, b, tail @ ..] = rest {
                        let length = usize::from(u16::from_be_bytes([*a, *b]));
                        nals.push(tail[..length].to_vec());
                        rest = &tail[length..];
                    }
                }
                FU_A => {
                    if payload[1] & FU_START != 0 {
                        open = vec![payload[0] & 0xe0 | payload[1] & 0x1f];
                    }
                    open.extend(&payload[2..]);
                    if payload[1] & FU_END != 0 {
                        nals.push(std::mem::take(&mut open));
                    }
                }
                _ => nals.push(payload),
            }
        }
        nals
    }

    #[test]
    fn units_of_any_size_come_back_whole() {
        for size in [1usize, 2, 3, 99, 100, 101, 102, 197, 198, 199, 1000, 4321] {
            let nals: Vec<Vec<u8>> = vec![
                vec![0x67, 1, 2, 3],
                vec![0x68, 9],
                std::iter::once(0x65).chain((1..size).map(|i| (i % 251) as u8 + 1)).collect(),
            ];
            let mut stream = Vec::new();
            for nal in &nals {
                stream.extend([0, 0, 0, 1]);
                stream.extend(nal);
            }
            let payloads = packetise(&stream.into(), 100);
            assert_eq!(depacketise(&payloads), nals, "{size}");
            let lengths: Vec<_> = payloads.iter().skip(1).map(Payload::len).collect();
            assert!(lengths.iter().all(|l| *l <= 100));
            let (last, equal) = lengths.split_last().expect("a picture has payloads");
            assert!(equal.iter().all(|l| *l == equal[0] && last <= l), "fragments differ: {lengths:?}");
        }
    }

    #[test]
    fn streams_without_a_start_code_give_nothing() {
        for stream in [vec![], vec![1], vec![0, 0], vec![0, 0, 1], vec![5; 100]] {
            assert!(packetise(&stream.into(), 100).is_empty());
        }
    }
}
