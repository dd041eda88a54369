//! The interceptor that sends what an [`Outlet`](super::Outlet) was handed, next to the wire so that nothing else looks at
//! each packet, and that hears what the peer reports.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use rtc::{
    interceptor::{AttributedPacket, Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    rtcp::sender_report::SenderReport,
    sansio::Protocol,
    shared::{TransportContext, error::Error},
};

use super::{Shared, sending::Wish};
use crate::session::{reporter::reporter, time};

/// Wire-ward of everything else.
pub(in crate::session) fn slot() -> Slot {
    Slot::from(1_500)
}

/// The interceptor.
pub(in crate::session) struct EgressTap {
    shared: Arc<Shared>,
    /// When there is something to do although nobody says so.
    next: Option<Instant>,
    is_open: bool,
    made: Vec<Packet>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl EgressTap {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (read, write) = (VecDeque::new(), VecDeque::new());
        Self { shared, next: None, is_open: false, made: Vec::new(), read, write }
    }

    /// Takes what is to be sent now.
    fn make(&mut self, now: Instant) {
        self.shared.pending.store(false, Relaxed);
        let mut sending = self.shared.lock();
        self.next = sending.poll(now, &mut self.made);
        drop(sending);
        self.write.extend(self.made.drain(..).map(|packet| TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(packet),
        }));
    }

    /// The first time that the stack asks is when it can send.
    fn open(&mut self) {
        if !std::mem::replace(&mut self.is_open, true) {
            self.shared.lock().open();
            self.shared.events.ready();
        }
    }

    fn hear(&mut self, packets: &[Box<dyn rtc::rtcp::Packet>], now: Instant) {
        if let (Some(routes), Some(ssrc)) = (self.shared.routes.get(), reporter(packets)) {
            routes.prove_reporter(ssrc);
        }
        let mut wishes: Vec<Wish> = Vec::new();
        let mut sending = self.shared.lock();
        for packet in packets {
            sending.hear(&**packet, now, &mut wishes);
        }
        let estimate = sending.estimate();
        drop(sending);
        for wish in wishes {
            match wish {
                Wish::Keyframe(track) => self.shared.events.keyframe_wanted(track),
                Wish::Repairs => self.shared.pending.store(true, Relaxed),
            }
        }
        self.shared.estimate.send_if_modified(|told| {
            let differs = *told != estimate;
            *told = estimate;
            differs
        });
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for EgressTap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &tagged.message.packet {
            self.hear(packets, tagged.now);
        }
        self.read.push_back(tagged);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        // The stack sees none of the packets, so that its reports of them are wrong.
        let reports = match &tagged.message.packet {
            Packet::Rtcp(packets) => packets.iter().any(|packet| packet.as_any().is::<SenderReport>()),
            _ => false,
        };
        if !reports {
            self.write.push_back(tagged);
        }
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.open();
        if self.write.is_empty() && self.shared.pending.load(Relaxed) {
            self.make(time::now());
        }
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.next.is_some_and(|next| next <= now) {
            self.make(now);
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.next
    }
}

impl Interceptor for EgressTap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}

    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
