//! Lets only such DTLS records through to rtc-dtls as an honest viewer sends (RFC 6347, section 4; RFC 9147 is not spoken).
//!
//! rtc-dtls keeps records of future epochs and handshake fragments without a bound, and puts fragments together by recursion: a few hundred
//! datagrams of a stranger who forges an address would take memory or the process. What is refused here is as if it had been lost.

use bytes::BytesMut;

/// Handshake fragments of one session before it is connected, and records after (a peer repeats its last flight when ours was lost).
const MOST_FRAGMENTS: u32 = 96;
const MOST_LATE_RECORDS: u32 = 64;
/// Records of the next epoch that may come before the handshake is done (Finished, and its repeats).
const MOST_EARLY_RECORDS: u32 = 16;
/// The largest handshake message: a chain of certificates is far smaller.
const MOST_MESSAGE: usize = 16_384;

/// Bytes of a record's header.
const HEADER: usize = 13;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// One piece of a handshake message.
pub(super) struct Fragment<'a> {
    /// The message's type.
    pub(super) kind: u8,
    /// The whole message's length.
    pub(super) total: usize,
    /// Where this piece begins in it.
    pub(super) offset: usize,
    /// The piece.
    pub(super) body: &'a [u8],
}

/// Counts what one session was let.
#[derive(Debug, Default)]
pub(super) struct RecordFilter {
    fragments: u32,
    early: u32,
    late: u32,
}

impl RecordFilter {
    /// The records of a datagram that may be read, in order; empty where there are none.
    pub(super) fn pass(&mut self, datagram: &[u8], connected: bool) -> BytesMut {
        let mut out = BytesMut::new();
        for record in records(datagram) {
            if self.admits(record, connected) {
                out.extend_from_slice(record);
            }
        }
        out
    }

    fn admits(&mut self, record: &[u8], connected: bool) -> bool {
        let (kind, epoch) = (record[0], u16::from_be_bytes([record[3], record[4]]));
        match (epoch, connected) {
            // Once connected only what is encrypted counts: the rest anybody can send.
            (1, true) => matches!(kind, ALERT | HANDSHAKE) && count(&mut self.late, 1, MOST_LATE_RECORDS),
            (1, false) => matches!(kind, ALERT | HANDSHAKE) && count(&mut self.early, 1, MOST_EARLY_RECORDS),
            (0, false) => match kind {
                CHANGE_CIPHER_SPEC => true,
                HANDSHAKE => fragments(record)
                    .is_some_and(|found| count(&mut self.fragments, found.len() as u32, MOST_FRAGMENTS)),
                // A plaintext alert proves nothing; a handshake that fails ends by its time.
                _ => false,
            },
            _ => false,
        }
    }
}

fn count(counter: &mut u32, more: u32, most: u32) -> bool {
    *counter = counter.saturating_add(more);
    *counter <= most
}

/// The whole records of a datagram, headers included.
pub(super) fn records(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_be_bytes([*rest.get(11)?, *rest.get(12)?]));
        let (record, tail) = rest.split_at_checked(HEADER + length)?;
        rest = tail;
        Some(record)
    })
}

/// The handshake fragments of a plaintext record; `None` unless it is of that kind, and each is whole and lies inside its message.
pub(super) fn fragments(record: &[u8]) -> Option<Vec<Fragment<'_>>> {
    let number = |bytes: &[u8]| bytes.iter().fold(0usize, |number, byte| number << 8 | usize::from(*byte));
    let mut rest = record.get(HEADER..).filter(|_| record[0] == HANDSHAKE)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let header = rest.get(..12)?;
        let (total, offset, length) = (number(&header[1..4]), number(&header[6..9]), number(&header[9..12]));
        let empty_message = total == 0 && offset == 0 && length == 0;
        if total > MOST_MESSAGE || offset + length > total || (length == 0 && !empty_message) {
            return None;
        }
        found.push(Fragment { kind: header[0], total, offset, body: rest.get(12..12 + length)? });
        rest = &rest[12 + length..];
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, 0xfe, 0xfd];
        out.extend(epoch.to_be_bytes());
        out.extend([0; 6]);
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
        out
    }

    fn fragment(total: u8, offset: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![1, 0, 0, total, 0, 0, 0, 0, offset, 0, 0, body.len() as u8];
        out.extend(body);
        out
    }

    #[test]
    fn whole_fragments_pass_and_hollow_ones_do_not() {
        let mut filter = RecordFilter::default();
        let good = record(HANDSHAKE, 0, &[fragment(9, 0, &[1; 4]), fragment(9, 4, &[2; 5])].concat());
        assert_eq!(filter.pass(&good, false)[..], good[..]);
        let mut hollow = fragment(0, 7, &[]);
        hollow[11] = 1;
        for bad in [hollow, fragment(3, 2, &[1; 2]), vec![1; 5], vec![]] {
            assert!(filter.pass(&record(HANDSHAKE, 0, &bad), false).is_empty(), "{bad:?}");
        }
        assert!(filter.pass(&good[..good.len() - 1], false).is_empty(), "cut short");
    }

    #[test]
    fn future_epochs_plaintext_alerts_and_floods_are_lost() {
        let mut filter = RecordFilter::default();
        assert!(filter.pass(&record(23, 2, &[7; 100]), true).is_empty());
        assert!(filter.pass(&record(ALERT, 0, &[2, 40]), false).is_empty());
        assert!(filter.pass(&record(HANDSHAKE, 0, &fragment(1, 0, &[1])), true).is_empty());
        let early = (0..1000).filter(|_| !filter.pass(&record(HANDSHAKE, 1, &[7; 40]), false).is_empty()).count();
        let late = (0..1000).filter(|_| !filter.pass(&record(ALERT, 1, &[7; 26]), true).is_empty()).count();
        let plain = record(HANDSHAKE, 0, &fragment(1, 0, &[1]));
        let fragments = (0..1000).filter(|_| !filter.pass(&plain, false).is_empty()).count();
        assert_eq!((early, late, fragments), (16, 64, 96));
    }
}
