//! What the stack itself reads of a peer before and beside media: DTLS (RFC 6347) and SCTP (RFC 9260), each between two ends of it of
//! which one is changed on its way. What is changed at random is refused early; what comes of a real end and is changed in a few
//! places gets to where it is made use of.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rtc::{
    crypto::RTCCryptoProvider,
    dtls::{
        config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
        crypto::Certificate,
        endpoint::Endpoint as Dtls,
        extension::extension_use_srtp::SrtpProtectionProfile,
    },
    sctp::{
        Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint as Sctp, EndpointConfig, Payload,
        PayloadProtocolIdentifier, ServerConfig, TransportConfig,
    },
    shared::TransportProtocol,
};

use crate::session::data::LARGEST_MESSAGE;

/// Datagrams of one show; two ends that have agreed need a dozen.
const MOST_DATAGRAMS: usize = 60;
/// What one datagram may bring about: a flight of a handshake, a window of data.
const MOST_ANSWERS: usize = 64;

fn addresses() -> [SocketAddr; 2] {
    [1, 2].map(|host| SocketAddr::from(([192, 0, 2, host], 4000)))
}

/// Changes of datagrams, five bytes each: which one of those that go this way, what is done, where (two bytes), a value.
struct Edits<'a>(&'a [u8]);

impl Edits<'_> {
    /// The datagrams that are delivered in place of one.
    fn of(&self, number: usize, datagram: Vec<u8>) -> Vec<Vec<u8>> {
        let (mut datagram, mut more) = (datagram, Vec::new());
        for edit in self.0.chunks_exact(5).filter(|edit| usize::from(edit[0]) == number) {
            let &[_, what, high, low, value] = edit else { continue };
            let place = usize::from(u16::from_be_bytes([high, low])) % datagram.len().max(1);
            match (what % 9, datagram.get_mut(place)) {
                (_, None) => {}
                (0, Some(byte)) => *byte ^= value.max(1),
                (1, Some(byte)) => *byte = value,
                (2, _) => datagram.truncate(place),
                (3, _) => drop(datagram.remove(place)),
                (4, _) => drop(datagram.splice(place..place, std::iter::repeat_n(value, usize::from(value) + 1))),
                (5, _) => more.push(datagram.clone()),
                (6, _) => datagram.clear(),
                (7, _) => {
                    let copy = datagram.get(place..).unwrap_or_default().to_vec();
                    datagram.extend(copy);
                }
                (_, Some(byte)) => *byte = byte.wrapping_add(value),
            }
            datagram.truncate(4096);
        }
        more.push(datagram);
        more.retain(|datagram| !datagram.is_empty());
        more
    }
}

/// The first byte says whose datagrams are changed; then the changes.
pub fn dtls(input: &[u8]) {
    let Some((first, edits)) = input.split_first() else { return };
    let (edits, changed) = (Edits(edits), usize::from(first & 1));
    let [here, there] = addresses();
    let now = Instant::now();
    let mut ends = [None, Some(config(false))].map(|server| Dtls::new(here, TransportProtocol::UDP, server));
    if ends[0].connect(now, there, config(true), None).is_err() {
        panic!("it cannot connect");
    }
    let (mut now, mut counts, mut told) = (now, [0, 0], false);
    for _ in 0..MOST_DATAGRAMS {
        let mut on_their_way: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
        for (from, end) in ends.iter_mut().enumerate() {
            let out: Vec<_> = std::iter::from_fn(|| end.poll_transmit()).map(|sent| sent.message.to_vec()).collect();
            assert!(out.len() <= MOST_ANSWERS, "{} datagrams of the handshake", out.len());
            for datagram in out {
                let number = counts[from];
                counts[from] += 1;
                let delivered = if from == changed { edits.of(number, datagram) } else { vec![datagram] };
                on_their_way.extend(delivered.into_iter().map(|datagram| (1 - from, datagram)));
            }
        }
        if on_their_way.is_empty() {
            // Who waits repeats; who is done says something.
            now += Duration::from_secs(1);
            for end in &mut ends {
                let _ = end.handle_timeout(there, now);
                told |= end.write(now, there, b"application data").is_ok();
            }
            if told {
                return;
            }
            continue;
        }
        for (to, datagram) in on_their_way {
            // Of an error the session ends, or it goes on: that is the stack's business.
            let _ = ends[to].read(now, there, None, BytesMut::from(&datagram[..]));
        }
    }
}

/// As the stack sets it up for a session of ours; the certificate is not looked at.
fn config(is_client: bool) -> Arc<HandshakeConfig> {
    static PROVIDER: LazyLock<Arc<dyn RTCCryptoProvider>> =
        LazyLock::new(|| rtc::crypto::default_provider().unwrap_or_else(|error| panic!("{error}")));
    static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(|| {
        Certificate::generate_self_signed(vec!["x".to_owned()], PROVIDER.crypto())
            .unwrap_or_else(|error| panic!("{error}"))
    });
    let config = ConfigBuilder::default()
        .with_crypto_provider(PROVIDER.clone())
        .with_certificates(vec![CERTIFICATE.clone()])
        .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .build(is_client, None);
    Arc::new(config.unwrap_or_else(|error| panic!("{error}")))
}

/// One end of an association.
struct End {
    endpoint: Sctp,
    association: Option<(AssociationHandle, Association)>,
}

/// The first byte says whose packets are changed; then the changes. Checksums are made right again. One panic of the stack is known:
/// an ABORT or ERROR whose cause is longer than its packet. It is the end of its session (`mux/runtime`).
pub fn sctp(input: &[u8]) {
    match catch_unwind(AssertUnwindSafe(|| associate(input))) {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => panic!("{fault}"),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            if !said.is_some_and(|said| said.starts_with("range end out of bounds")) {
                resume_unwind(panic);
            }
        }
    }
}

fn associate(input: &[u8]) -> Result<(), String> {
    let Some((first, edits)) = input.split_first() else { return Ok(()) };
    let (edits, changed) = (Edits(edits), usize::from(first & 1));
    let [here, there] = addresses();
    let mut now = Instant::now();
    let transport = || TransportConfig::default().with_max_message_size(LARGEST_MESSAGE as u32);
    let mut ends = [None, Some(Arc::new(ServerConfig::new(transport())))].map(|server| End {
        endpoint: Sctp::new(here, TransportProtocol::UDP, Arc::new(EndpointConfig::default()), server),
        association: None,
    });
    match ends[0].endpoint.connect(now, ClientConfig::new(transport()), there) {
        Ok(association) => ends[0].association = Some(association),
        Err(error) => return Err(error.to_string()),
    }
    let mut counts = [0, 0];
    for turn in 0..MOST_DATAGRAMS {
        if turn == 6 {
            ends[0].say(now);
        }
        let mut on_their_way: VecDeque<(usize, Vec<u8>)> = VecDeque::new();
        for (from, end) in ends.iter_mut().enumerate() {
            let out = end.out(now);
            if out.len() > MOST_ANSWERS * 16 {
                return Err(format!("{} packets at once", out.len()));
            }
            for packet in out {
                let number = counts[from];
                counts[from] += 1;
                let delivered = if from == changed { edits.of(number, packet) } else { vec![packet] };
                on_their_way.extend(delivered.into_iter().map(|packet| (1 - from, checked(packet))));
            }
        }
        if on_their_way.is_empty() {
            now += Duration::from_secs(1);
            for end in &mut ends {
                if let Some((_, association)) = &mut end.association {
                    association.handle_timeout(now);
                }
            }
        }
        for (to, packet) in on_their_way {
            ends[to].take(packet, there, now)?;
        }
    }
    Ok(())
}

impl End {
    fn out(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let Some((_, association)) = &mut self.association else { return Vec::new() };
        let sent = std::iter::from_fn(|| association.poll_transmit(now)).take(MOST_ANSWERS);
        let packets = sent.flat_map(|sent| match sent.message {
            Payload::RawEncode(packets) => packets,
            _ => Vec::new(),
        });
        packets.map(|packet| packet.to_vec()).collect()
    }

    fn take(&mut self, packet: Vec<u8>, from: SocketAddr, now: Instant) -> Result<(), String> {
        match self.endpoint.handle(now, from, None, Bytes::from(packet)) {
            // The stack has one for each connection.
            Some((handle, DatagramEvent::NewAssociation(association))) if self.association.is_none() => {
                self.association = Some((handle, association));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = self.association.as_mut().filter(|(own, _)| *own == handle) {
                    association.handle_event(event);
                }
            }
            _ => {}
        }
        let Some((_, association)) = &mut self.association else { return Ok(()) };
        while association.poll().is_some() {}
        while association.poll_endpoint_event().is_some() {}
        while association.accept_stream().is_some() {}
        for id in association.stream_ids() {
            let Ok(mut stream) = association.stream(id) else { continue };
            while let Ok(Some(message)) = stream.read_sctp() {
                if message.len() > LARGEST_MESSAGE {
                    return Err(format!("a message of {} bytes", message.len()));
                }
            }
        }
        Ok(())
    }

    /// A short message and a long one in one stream, and one in another that is then closed.
    fn say(&mut self, now: Instant) {
        let Some((_, association)) = &mut self.association else { return };
        for (id, messages) in [(0, &[5_usize, 5000][..]), (2, &[20])] {
            let Ok(mut stream) = association.open_stream(id, PayloadProtocolIdentifier::Binary) else { continue };
            for length in messages {
                let _ = stream.write_sctp(now, &Bytes::from(vec![7; *length]), PayloadProtocolIdentifier::Binary);
            }
            if id == 2 {
                let _ = stream.close(now);
            }
        }
    }
}

/// With the right CRC-32C (RFC 9260 section 6.8).
fn checked(mut packet: Vec<u8>) -> Vec<u8> {
    if let Some(checksum) = packet.get_mut(8..12) {
        checksum.fill(0);
    }
    let mut crc = u32::MAX;
    for byte in &packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    if let Some(checksum) = packet.get_mut(8..12) {
        checksum.copy_from_slice(&(!crc).to_le_bytes());
    }
    packet
}
