//! The RTCP messages that ask for keyframes.

use std::collections::HashMap;

use rtc::rtcp::{
    Packet,
    payload_feedbacks::{
        full_intra_request::{FirEntry, FullIntraRequest},
        picture_loss_indication::PictureLossIndication,
    },
};

use super::{keyframe::Ask, record::MOST_STREAMS};

/// We send no media, so that any number is as good as another; not 0, which some take for "none".
const OUR_SSRC: u32 = 1;

/// Makes the messages, and numbers the commands among them.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// For each SSRC the number of its next command (RFC 5104 section 4.3.1.1).
    commands: HashMap<u32, u8>,
}

impl Requests {
    pub(super) fn message(&mut self, ssrc: u32, ask: Ask) -> Box<dyn Packet> {
        match ask {
            Ask::Pli => Box::new(PictureLossIndication { sender_ssrc: OUR_SSRC, media_ssrc: ssrc }),
            Ask::Fir => {
                if self.commands.len() >= MOST_STREAMS && !self.commands.contains_key(&ssrc) {
                    self.commands.clear();
                }
                let next = self.commands.entry(ssrc).or_default();
                let entry = FirEntry { ssrc, sequence_number: *next };
                // Each is a new command: what a repeated one brought has not arrived, and a sender answers it only once.
                *next = next.wrapping_add(1);
                Box::new(FullIntraRequest { sender_ssrc: OUR_SSRC, media_ssrc: 0, fir: vec![entry] })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_to_each_stream_are_numbered_by_themselves() {
        let mut requests = Requests::default();
        let mut number = |ssrc| {
            let message = requests.message(ssrc, Ask::Fir);
            let fir = message.as_any().downcast_ref::<FullIntraRequest>().unwrap();
            assert_eq!((fir.media_ssrc, fir.fir[0].ssrc), (0, ssrc));
            fir.fir[0].sequence_number
        };
        assert_eq!([number(7), number(7), number(8), number(7)], [0, 1, 0, 2]);
        assert_eq!((3..=258).map(|_| number(7)).last(), Some(2), "modulo 256");
    }
}
