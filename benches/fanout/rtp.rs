//! What a receiver that can't decode counts: packets, gaps and pictures by the RTP headers alone (RFC 3550, RFC 8285).

use std::time::Duration;

/// RTP clock of video.
const VIDEO_RATE: f64 = 90_000.0;
/// Seconds between the NTP epoch (1900) and the Unix epoch (1970).
const NTP_UNIX_OFFSET: f64 = 2_208_988_800.0;

/// The header of an RTP packet.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Whether it is the last packet of its picture.
    pub marker: bool,
    /// Its sequence number.
    pub sequence: u16,
    /// Its timestamp.
    pub timestamp: u32,
    /// Its stream.
    pub ssrc: u32,
    /// The transport-wide sequence number, where the extension is there.
    pub transport: Option<u16>,
}

impl Header {
    /// Reads the header; `transport` is the id of the transport-wide sequence number.
    pub fn parse(data: &[u8], transport: u8) -> Option<Self> {
        let [first, second, s0, s1, rest @ ..] = data else { return None };
        let (timestamp, rest) = rest.split_first_chunk()?;
        let (ssrc, rest) = rest.split_first_chunk()?;
        Some(Self {
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([*s0, *s1]),
            timestamp: u32::from_be_bytes(*timestamp),
            ssrc: u32::from_be_bytes(*ssrc),
            transport: if first & 0x10 != 0 { extension(rest, transport) } else { None },
        })
    }
}

/// A two-byte element of the one-byte form.
fn extension(data: &[u8], wanted: u8) -> Option<u16> {
    let words = usize::from(u16::from_be_bytes([*data.get(2)?, *data.get(3)?]));
    let mut elements = data.get(4..4 + 4 * words)?;
    while let [head, rest @ ..] = elements {
        let length = if *head == 0 { 0 } else { usize::from(head & 15) + 1 };
        if head >> 4 == wanted && length == 2 {
            return Some(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        }
        elements = rest.get(length..)?;
    }
    None
}

/// One picture that has arrived whole.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// When its last packet came: wall time since the Unix epoch.
    pub at: Duration,
    /// Bytes of its datagrams, in order.
    pub sizes: Vec<u16>,
}

/// A moment of the sender, by its report.
#[derive(Debug, Clone, Copy)]
pub struct SenderMoment {
    /// NTP time.
    pub ntp: u64,
    /// The same moment in RTP timestamps.
    pub rtp: u32,
    /// When the report came: wall time since the Unix epoch.
    pub at: Duration,
}

impl SenderMoment {
    /// The wall time of a timestamp, in seconds since the Unix epoch.
    pub fn wall(&self, timestamp: u32) -> f64 {
        let ahead = f64::from(timestamp.wrapping_sub(self.rtp) as i32) / VIDEO_RATE;
        self.ntp as f64 / 4_294_967_296.0 - NTP_UNIX_OFFSET + ahead
    }

    /// The middle 32 bits of the NTP time, and the time since the report in 1/65536 s (RFC 3550, section 6.4.1).
    pub fn last_report(&self, now: Duration) -> (u32, u32) {
        let delay = now.saturating_sub(self.at).as_secs_f64() * 65_536.0;
        ((self.ntp >> 16) as u32, delay as u32)
    }
}

/// What came of one stream in a window of time.
#[derive(Debug, Default)]
pub struct Counts {
    /// Media packets.
    pub packets: u64,
    /// Bytes of their datagrams.
    pub bytes: u64,
    /// Media packets whose sequence numbers never came.
    pub missing: u64,
    /// Packets of the retransmission stream.
    pub repeats: u64,
    /// Whole pictures.
    pub pictures: Vec<Picture>,
}

/// The media stream of one viewer.
#[derive(Debug, Default)]
pub struct Stream {
    /// What came since the window began.
    pub counts: Counts,
    /// The highest sequence number with its cycles above, once there is one.
    pub highest: Option<u32>,
    /// The picture that is arriving: its timestamp and its packets; `None` where one of them is missing.
    arriving: Option<(u32, Vec<u16>)>,
    begun: bool,
}

impl Stream {
    /// Takes a media packet; returns whether it made the first picture whole.
    pub fn handle(&mut self, header: &Header, length: usize, at: Duration) -> bool {
        self.counts.packets += 1;
        self.counts.bytes += length as u64;
        let highest = *self.highest.get_or_insert(u32::from(header.sequence).wrapping_sub(1));
        let step = header.sequence.wrapping_sub(highest as u16);
        if step == 0 || step > 0x8000 {
            // Sent twice, or late: it has been counted as missing.
            self.counts.missing = self.counts.missing.saturating_sub(u64::from(step != 0));
            return false;
        }
        self.highest = Some(highest.wrapping_add(u32::from(step)));
        self.counts.missing += u64::from(step - 1);
        if !self.begun {
            // The first packet of all has the first transport-wide number: what begins later lacks its beginning.
            self.begun = true;
            self.arriving = (header.transport == Some(0)).then(|| (header.timestamp, Vec::new()));
        } else if step != 1 {
            self.arriving = None;
        }
        if let Some((timestamp, sizes)) = &mut self.arriving {
            *timestamp = header.timestamp;
            sizes.push(length as u16);
        }
        if !header.marker {
            return false;
        }
        let whole = self.arriving.replace((header.timestamp, Vec::new()));
        let Some((timestamp, sizes)) = whole else { return false };
        self.counts.pictures.push(Picture { timestamp, at, sizes });
        true
    }
}
