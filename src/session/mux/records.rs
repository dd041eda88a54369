//! Numbers the plaintext DTLS records of one session anew, so that what is repeated is no replay.
//!
//! A datagram sent again as it was has the sequence numbers of before, and what a peer has seen it drops (RFC 6347
//! section 4.1.2.6). Not even that is harmless: OpenSSL throws a ChangeCipherSpec that overtook its flight away but
//! remembers its number, so that the handshake hangs for good. Retransmissions proper have new numbers (section 4.2.4).
//! Records of epoch 0 have no MAC: giving them numbers of our own, in the order of sending, changes nothing else.

/// Type, version, epoch, sequence number, length (section 4.1).
const HEADER: usize = 13;

/// The next number of epoch 0.
#[derive(Debug, Default)]
pub(super) struct Records {
    next: u64,
}

impl Records {
    /// Numbers the plaintext records of a DTLS datagram; the others stay as they are.
    pub(super) fn number(&mut self, datagram: &mut [u8]) {
        let mut rest = datagram;
        while let Some((header, tail)) = rest.split_first_chunk_mut::<HEADER>() {
            let [_, _, _, e0, e1, sequence @ .., l0, l1] = header;
            if (*e0, *e1) == (0, 0) {
                let [_, _, number @ ..] = self.next.to_be_bytes();
                *sequence = number;
                self.next += 1;
            }
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let Some((_, tail)) = tail.split_at_mut_checked(length) else { return };
            rest = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u8, number: u8, content: &[u8]) -> Vec<u8> {
        let mut record = vec![22, 254, 253, 0, epoch, 0, 0, 0, 0, 0, number, 0, content.len() as u8];
        record.extend_from_slice(content);
        record
    }

    #[test]
    fn plaintext_records_are_numbered_in_the_order_of_sending() {
        let mut records = Records::default();
        let flight = [record(0, 7, b"key"), record(0, 8, b"change"), record(1, 0, b"finished")].concat();
        for round in 0..3 {
            let mut datagram = flight.clone();
            records.number(&mut datagram);
            let expected =
                [record(0, 2 * round, b"key"), record(0, 2 * round + 1, b"change"), record(1, 0, b"finished")];
            assert_eq!(datagram, expected.concat());
        }
    }

    #[test]
    fn truncated_datagrams_are_left_where_they_end() {
        let whole = [record(0, 7, b"key"), record(0, 8, b"change")].concat();
        for length in 0..whole.len() {
            let mut datagram = whole[..length].to_vec();
            Records::default().number(&mut datagram);
            assert_eq!(datagram.len(), length);
        }
    }
}
