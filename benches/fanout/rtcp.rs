//! The reports of a receiver: receiver reports (RFC 3550, section 6.4.2) and transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::Duration;

/// The receiver's own stream, of which there is none.
const OWN_SSRC: u32 = 1;
/// Unit of arrival times: 250 µs.
const DELTA: Duration = Duration::from_micros(250);
/// Unit of the reference time.
const REFERENCE: Duration = Duration::from_millis(64);
/// Most packets that one message tells of.
const MOST_STATUSES: usize = 2_000;

/// What a receiver report says of the media.
#[derive(Debug, Clone, Copy, Default)]
pub struct Block {
    /// The media's stream.
    pub ssrc: u32,
    /// Lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Lost in all.
    pub lost: u32,
    /// The highest sequence number, with its cycles above.
    pub highest: u32,
    /// The middle 32 bits of the last sender report's NTP time, and the time since, in 1/65536 s.
    pub last_report: (u32, u32),
}

/// Appends a receiver report.
pub fn receiver_report(out: &mut Vec<u8>, block: &Block) {
    out.extend([0x81, 201, 0, 7]);
    out.extend(OWN_SSRC.to_be_bytes());
    out.extend(block.ssrc.to_be_bytes());
    out.extend((u32::from(block.fraction_lost) << 24 | block.lost & 0xff_ffff).to_be_bytes());
    out.extend(block.highest.to_be_bytes());
    out.extend(0u32.to_be_bytes());
    out.extend(block.last_report.0.to_be_bytes());
    out.extend(block.last_report.1.to_be_bytes());
}

/// Appends transport-wide feedback about packets in the order of their (unwrapped) numbers, with their times of arrival.
pub fn transport_feedback(out: &mut Vec<u8>, ssrc: u32, number: u8, arrived: &[(u64, Duration)]) {
    let (Some((base, first_at)), Some((last, _))) = (arrived.first(), arrived.last()) else { return };
    let count = ((last - base + 1) as usize).min(MOST_STATUSES);
    // 0: not received; 1: a delta of one byte; 2: of two.
    let mut symbols = vec![0u8; count];
    let mut deltas = Vec::with_capacity(count + 8);
    let reference = first_at.as_nanos() / REFERENCE.as_nanos();
    let mut before = (reference * REFERENCE.as_nanos() / DELTA.as_nanos()) as i64;
    for (number, at) in arrived {
        let Some(symbol) = symbols.get_mut((number - base) as usize) else { break };
        let ticks = (at.as_nanos() / DELTA.as_nanos()) as i64;
        let delta = (ticks - before).clamp(i64::from(i16::MIN), i64::from(i16::MAX));
        before += delta;
        if let Ok(small) = u8::try_from(delta) {
            *symbol = 1;
            deltas.push(small);
        } else {
            *symbol = 2;
            deltas.extend((delta as i16).to_be_bytes());
        }
    }
    let start = out.len();
    out.extend([0x8f, 205, 0, 0]);
    out.extend(OWN_SSRC.to_be_bytes());
    out.extend(ssrc.to_be_bytes());
    out.extend((*base as u16).to_be_bytes());
    out.extend((count as u16).to_be_bytes());
    out.extend((((reference as u32) & 0xff_ffff) << 8 | u32::from(number)).to_be_bytes());
    if symbols.iter().all(|symbol| *symbol == 1) {
        out.extend((1u16 << 13 | count as u16).to_be_bytes());
    } else {
        for chunk in symbols.chunks(7) {
            let bits = chunk.iter().enumerate().map(|(i, symbol)| u16::from(*symbol) << (12 - 2 * i)).sum::<u16>();
            out.extend((0xc000 | bits).to_be_bytes());
        }
    }
    out.extend(deltas);
    let length = (out.len() - start).next_multiple_of(4);
    out.resize(start + length, 0);
    out[start + 2..start + 4].copy_from_slice(&((length / 4 - 1) as u16).to_be_bytes());
}
