//! The floor: the same packets at the same times, sealed by the same cipher and sent to as many sockets, and nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rtc_crypto::{AeadAlgorithm, AeadCipher};
use serde_json::json;

use super::RATE;
use super::child::{Child, Picture};
use super::socket::{Departure, Socket};
use super::threads::own;
use crate::report::{Report, percent};

/// RTP header and extensions.
const HEADER: usize = 24;
/// AES-GCM's tag.
const TAG: usize = 16;

/// What a viewer costs at the least, in percent of a core at the rate of the bars.
pub struct Floor {
    /// With UDP GSO.
    pub segmented: f64,
}

/// Measures both ways of sending.
pub fn measure(viewers: usize, pictures: &[Picture], report: &mut Report) -> Floor {
    let plain = replay(viewers, pictures, false, report);
    let segmented = replay(viewers, pictures, true, report);
    report.add("floor: AES-GCM and sendmmsg, a viewer", "% of a core", plain, None, None);
    report.add("floor: AES-GCM and sendmmsg with GSO, a viewer", "% of a core", segmented, None, None);
    Floor { segmented }
}

fn replay(viewers: usize, pictures: &[Picture], segmented: bool, report: &mut Report) -> f64 {
    let mut receiver = Child::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), false, None);
    let sinks: Vec<_> =
        receiver.sink(viewers).into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect();
    let socket = Socket::open(Ipv4Addr::LOCALHOST).unwrap();
    let provider = rtc_crypto::default_provider().unwrap();
    let cipher = |index: usize| provider.crypto().new_aead(AeadAlgorithm::Aes128Gcm, &[index as u8; 16]).unwrap();
    let mut ciphers: Vec<_> = (0..viewers).map(cipher).collect();
    let (first, last) = (pictures[0].0, pictures[pictures.len() - 1].0);
    // Nothing is ever sent here: it is a wait that may not be slept.
    let (_never, waits) = mpsc::sync_channel::<()>(0);
    let payload = vec![0x5a; 2048];
    let largest = pictures.iter().map(|Picture(_, _, sizes)| sizes.iter().map(|size| usize::from(*size)).sum()).max();
    let (mut buffer, mut sent, mut bytes, mut refused) = (vec![0; viewers * largest.unwrap_or(0)], 0, 0, 0);
    let (start, before) = (Instant::now(), own());
    for Picture(captured, _, sizes) in pictures {
        let due = start + Duration::from_secs_f64((captured - first).max(0.0));
        let _ = waits.recv_timeout(due.saturating_duration_since(Instant::now()));
        let mut batch: Vec<(SocketAddr, usize, usize, u16)> = Vec::new();
        let mut used = 0;
        for (cipher, to) in ciphers.iter_mut().zip(&sinks) {
            for (index, size) in sizes.iter().enumerate() {
                let packet = &mut buffer[used..used + usize::from(*size)];
                packet[HEADER..usize::from(*size) - TAG].copy_from_slice(&payload[..usize::from(*size) - HEADER - TAG]);
                seal(cipher.as_mut(), packet, sent);
                match batch.last_mut() {
                    Some(run) if segmented && index > 0 && run.2 - run.1 < 60_000 && index % 60 != 0 => {
                        run.2 += packet.len()
                    }
                    _ => batch.push((*to, used, used + packet.len(), *size)),
                }
                used += usize::from(*size);
                sent += 1;
                bytes += u64::from(*size);
            }
        }
        let messages: Vec<_> = batch
            .iter()
            .map(|(to, start, end, size)| Departure {
                to: *to,
                payload: &buffer[*start..*end],
                segment: (end - start > usize::from(*size)).then_some(*size),
            })
            .collect();
        for chunk in messages.chunks(64) {
            refused += chunk.len() - socket.send_runs(chunk);
        }
    }
    let used = own().saturating_sub(before);
    let took = last - first;
    receiver.run(Duration::from_millis(300));
    let taken = receiver.take(0);
    let name = if segmented { "floor with GSO" } else { "floor without GSO" };
    let text = format!(
        "{sent} packets, {:.2} µs each, {refused} messages refused, {} arrived, {} lost by sockets",
        used.as_secs_f64() * 1e6 / sent as f64,
        taken.sunk,
        taken.sink_lost
    );
    report.note(name, json!(text));
    let rate = bytes as f64 * 8.0 / took / viewers as f64;
    percent(used, Duration::from_secs_f64(took)) / viewers as f64 * RATE / rate
}

fn seal(cipher: &mut dyn AeadCipher, packet: &mut [u8], number: u64) {
    packet[..HEADER].fill(0x80);
    packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    let (header, rest) = packet.split_at_mut(HEADER);
    let (payload, tag) = rest.split_at_mut(rest.len() - TAG);
    cipher.seal_in_place(&nonce, header, payload, tag).unwrap();
}
