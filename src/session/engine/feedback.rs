//! RTCP: what viewers report, in the session's own terms, and the reports that are sent to them (RFC 3550, RFC 4585, RFC 5104, transport-cc).

use rtc_rtcp::goodbye::Goodbye;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::reception_report::ReceptionReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

/// One thing that a viewer reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feedback {
    /// Please a keyframe (PLI or FIR) for this SSRC.
    KeyframeRequest {
        /// The stream it is about.
        ssrc: u32,
    },
    /// These packets of this SSRC did not arrive.
    Missing {
        /// The stream it is about.
        ssrc: u32,
        /// Their sequence numbers.
        sequences: Vec<u16>,
    },
    /// These transport-wide sequence numbers arrived.
    Arrived(Vec<u16>),
    /// A report block.
    Report {
        /// The stream it is about.
        ssrc: u32,
        /// The highest sequence number received, with its cycles above.
        highest: u32,
        /// Lost since the last report, of 256.
        fraction_lost: u8,
        /// The middle 32 bits of the last sender report's NTP time; 0 for none.
        last_sender_report: u32,
        /// How long ago it came, in 1/65536 s.
        delay: u32,
    },
    /// What the other side says of a stream of its own; viewers have none, but a receiver of the daemon's hears the daemon's.
    SenderReport {
        /// The stream.
        ssrc: u32,
        /// NTP time of sending.
        ntp: u64,
        /// The same moment in the stream's RTP timestamps.
        rtp: u32,
    },
    /// The viewer says goodbye.
    Goodbye,
}

/// Packets of one transport-cc message that are looked at: more is no honest message at these rates.
const MOST_STATUSES: u16 = 8_192;

/// Reads a compound RTCP packet; what can't be parsed is passed over.
pub fn parse(compound: &[u8]) -> Vec<Feedback> {
    let mut out = Vec::new();
    for packet in packets(compound) {
        let packet = packet.as_any();
        if let Some(pli) = packet.downcast_ref::<PictureLossIndication>() {
            out.push(Feedback::KeyframeRequest { ssrc: pli.media_ssrc });
        } else if let Some(fir) = packet.downcast_ref::<FullIntraRequest>() {
            out.extend(fir.fir.iter().map(|entry| Feedback::KeyframeRequest { ssrc: entry.ssrc }));
        } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            let sequences = nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
            out.push(Feedback::Missing { ssrc: nack.media_ssrc, sequences });
        } else if let Some(transport) = packet.downcast_ref::<TransportLayerCc>() {
            out.push(Feedback::Arrived(arrived(transport)));
        } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
            out.extend(report.reports.iter().map(block));
        } else if let Some(report) = packet.downcast_ref::<SenderReport>() {
            out.push(Feedback::SenderReport { ssrc: report.ssrc, ntp: report.ntp_time, rtp: report.rtp_time });
            out.extend(report.reports.iter().map(block));
        } else if packet.is::<Goodbye>() {
            out.push(Feedback::Goodbye);
        }
    }
    out
}

/// The packets of a compound, each parsed for itself: one that can't be read takes no other with it.
fn packets(mut compound: &[u8]) -> Vec<Box<dyn rtc_rtcp::Packet>> {
    let mut out = Vec::new();
    while let [_, _, high, low, ..] = compound {
        let length = 4 * (usize::from(u16::from_be_bytes([*high, *low])) + 1);
        let Some((mut packet, rest)) = compound.split_at_checked(length) else { break };
        out.extend(rtc_rtcp::packet::unmarshal(&mut packet).into_iter().flatten());
        compound = rest;
    }
    out
}

fn block(report: &ReceptionReport) -> Feedback {
    Feedback::Report {
        ssrc: report.ssrc,
        highest: report.last_sequence_number,
        fraction_lost: report.fraction_lost,
        last_sender_report: report.last_sender_report,
        delay: report.delay,
    }
}

/// The transport-wide sequence numbers that a message says arrived.
fn arrived(message: &TransportLayerCc) -> Vec<u16> {
    let mut out = Vec::new();
    let mut offset = 0u16;
    let count = message.packet_status_count.min(MOST_STATUSES);
    let mut status = |offset: u16, symbol: &SymbolTypeTcc| {
        if matches!(symbol, SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta) {
            out.push(message.base_sequence_number.wrapping_add(offset));
        }
    };
    for chunk in &message.packet_chunks {
        match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                for _ in 0..run.run_length.min(count.saturating_sub(offset)) {
                    status(offset, &run.packet_status_symbol);
                    offset += 1;
                }
            }
            PacketStatusChunk::StatusVectorChunk(vector) => {
                for symbol in vector.symbol_list.iter().take(usize::from(count.saturating_sub(offset))) {
                    status(offset, symbol);
                    offset += 1;
                }
            }
        }
    }
    out
}

/// A sender report's figures (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The stream.
    pub ssrc: u32,
    /// NTP time of sending.
    pub ntp: u64,
    /// The same moment in the stream's RTP timestamps.
    pub rtp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// Writes a compound packet of sender reports and the canonical name; `None` if there is nothing to write.
pub fn sender_report(infos: &[SenderInfo], cname: &str) -> Option<Vec<u8>> {
    let reports = infos.iter().map(|info| -> Box<dyn rtc_rtcp::Packet> {
        Box::new(SenderReport {
            ssrc: info.ssrc,
            ntp_time: info.ntp,
            rtp_time: info.rtp,
            packet_count: info.packets,
            octet_count: info.octets,
            ..Default::default()
        })
    });
    let chunk = |info: &SenderInfo| SourceDescriptionChunk {
        source: info.ssrc,
        items: vec![SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: cname.to_owned().into() }],
    };
    let description = SourceDescription { chunks: infos.iter().map(chunk).collect() };
    if infos.is_empty() {
        return None;
    }
    let packets: Vec<_> = reports.chain([Box::new(description) as Box<dyn rtc_rtcp::Packet>]).collect();
    rtc_rtcp::packet::marshal(&packets).ok().map(|bytes| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn transport_feedback_names_what_arrived() {
        // Base 100, 5 packets: a run of two received, then a vector: lost, received, lost.
        let mut packet = vec![0x8f, 205, 0, 5];
        packet.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 100, 0, 5, 0, 0, 1, 0]);
        packet.extend([0x20, 2, 0x90, 0]); // run of 2 small deltas; one-bit vector 0 1 0 …
        packet.extend([1, 1, 1, 0]); // three small deltas, padding
        let length = (packet.len() / 4 - 1) as u8;
        packet[3] = length;
        assert_eq!(parse(&packet), [Feedback::Arrived(vec![100, 101, 103])]);
    }

    #[test]
    fn garbage_says_nothing() {
        for length in 0..64 {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 37 + length) as u8 | 0x80).collect();
            let _ = parse(&bytes);
        }
        let pli = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(parse(&pli), [Feedback::KeyframeRequest { ssrc: 9 }]);
        let broken = [0x9f, 201, 0, 1, 0, 0, 0, 1];
        assert_eq!(
            parse(&[&broken[..], &pli].concat()),
            [Feedback::KeyframeRequest { ssrc: 9 }],
            "what is broken stays alone"
        );
    }

    #[test]
    fn a_sender_report_is_read_back() {
        let info = SenderInfo { ssrc: 7, ntp: 1 << 40, rtp: 3, packets: 4, octets: 5 };
        let bytes = sender_report(&[info], "laterna").unwrap();
        assert_eq!(bytes[1], 200);
        assert_eq!(bytes.len() % 4, 0);
    }
}
