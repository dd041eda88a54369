//! An open socket with what waits for it. Any thread may write; none ever waits.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustls::ClientConnection;
use tokio::{net::TcpStream, sync::Notify};

use super::{
    Error,
    outbox::{BATCH, Outbox},
};
use crate::flv::SharedTag;

#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    /// Innermost lock.
    sending: Mutex<Sending>,
    /// Wakes the task that looks after the connection: the socket did not take everything, or is broken.
    left_over: Notify,
    /// Bytes of media that the socket took, on this connection and those before it.
    written: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Sending {
    outbox: Outbox,
    tls: Option<Box<ClientConnection>>,
    /// Set when the stream is live: the message stream that media goes into.
    media: Option<u32>,
    failure: Option<Error>,
}

impl Link {
    pub(super) fn new(stream: TcpStream, tls: Option<ClientConnection>, written: Arc<AtomicU64>) -> Self {
        let sending = Sending { outbox: Outbox::default(), tls: tls.map(Box::new), media: None, failure: None };
        Self { stream, sending: Mutex::new(sending), left_over: Notify::new(), written }
    }

    /// The server has taken the stream: media may come.
    pub(super) fn go_live(&self, stream: u32) {
        self.lock().media = Some(stream);
    }

    /// Sends tags, or queues what the socket does not take.
    pub(super) fn push(&self, tags: impl IntoIterator<Item = SharedTag>) {
        let mut sending = self.lock();
        let Some(stream) = sending.media else { return };
        if sending.failure.is_some() {
            return; // whoever looks after the connection is about to say so
        }
        let now = Instant::now();
        tags.into_iter().for_each(|tag| sending.outbox.push_tag(tag, stream, now));
        // What waits already has somebody who waits for the socket.
        if !self.flush(&mut sending) {
            drop(sending);
            self.left_over.notify_one();
        }
    }

    /// Queues what is no media, and sends what the socket takes.
    pub(super) fn answer(&self, bytes: &mut BytesMut) -> Result<(), Error> {
        let mut sending = self.lock();
        let queued = sending.outbox.push(bytes.split().freeze());
        queued.map_err(|_| Error::Protocol("it asks and takes no answers"))?;
        self.flush(&mut sending);
        Ok(())
    }

    /// Sends what the socket takes; whether that was all.
    pub(super) fn send(&self) -> bool {
        self.flush(&mut self.lock())
    }

    /// Whether anything waits for the socket.
    pub(super) fn has_queued(&self) -> bool {
        let sending = self.lock();
        match &sending.tls {
            // Until then the server is waited for, and not the socket.
            Some(tls) if tls.is_handshaking() => tls.wants_write(),
            Some(tls) => tls.wants_write() || !sending.outbox.is_empty(),
            None => !sending.outbox.is_empty(),
        }
    }

    /// How long the oldest tag has been waiting for the socket. For ever, if too much waits.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        self.lock().outbox.lag(now)
    }

    /// Why nothing more can be written.
    pub(super) fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    /// Returns when there may be something to read.
    pub(super) async fn readable(&self) {
        let _ = self.stream.readable().await; // an error shows when it is read
    }

    /// Returns when something that was left over may be written.
    pub(super) async fn writable(&self) {
        if !self.has_queued() {
            self.left_over.notified().await;
        }
        let _ = self.stream.writable().await;
    }

    /// Reads what is there, and whether more of it has been read and decrypted already; `None`: nothing yet.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<Option<(usize, bool)>, Error> {
        let mut more = false;
        let read = {
            let mut sending = self.lock();
            match &mut sending.tls {
                None => self.stream.try_read(buffer),
                Some(tls) => {
                    let read = read_tls(&self.stream, tls, buffer);
                    let state = read.as_ref().ok().and_then(|_| tls.process_new_packets().ok());
                    more = state.is_some_and(|state| state.plaintext_bytes_to_read() > 0);
                    self.flush(&mut sending); // the handshake, what waited for it, an alert
                    read.map_err(|error| Error::of_tls(&error))?
                }
            }
        };
        match read {
            Ok(0) => Err(Error::Closed),
            Ok(count) => Ok(Some((count, more))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(Error::of_socket(&error)),
        }
    }

    /// Nothing more will be written.
    pub(super) fn shut(&self) {
        let mut sending = self.lock();
        if let Some(tls) = &mut sending.tls {
            tls.send_close_notify();
            self.flush(&mut sending);
        }
        let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write); // it is over already then
    }

    /// Writes until nothing is left, or the socket takes no more; whether nothing is left.
    fn flush(&self, sending: &mut Sending) -> bool {
        match self.write(sending) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                sending.failure.get_or_insert(Error::of_socket(&error));
                false
            }
        }
    }

    fn write(&self, sending: &mut Sending) -> io::Result<()> {
        loop {
            if let Some(tls) = &mut sending.tls {
                while tls.wants_write() {
                    tls.write_tls(&mut NonBlocking(&self.stream))?;
                }
                if tls.is_handshaking() {
                    return Ok(()); // the rest follows when the server has answered
                }
            }
            let mut slices = [IoSlice::new(&[]); BATCH];
            let count = sending.outbox.fill(&mut slices);
            if count == 0 {
                return Ok(());
            }
            let written = match &mut sending.tls {
                None => self.stream.try_write_vectored(&slices[..count]),
                Some(tls) => tls.writer().write_vectored(&slices[..count]),
            };
            let written = match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => written?,
            };
            sending.outbox.wrote(written);
            if sending.media.is_some() {
                self.written.fetch_add(written as u64, Ordering::Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records without anything in them for us that are read in one go. A server that sends nothing else has to wait its turn.
const MOST_READS: usize = 16;

/// Reads plain bytes; the inner result is the socket's.
fn read_tls(
    stream: &TcpStream,
    tls: &mut ClientConnection,
    buffer: &mut [u8],
) -> Result<io::Result<usize>, rustls::Error> {
    for _ in 0..MOST_READS {
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Closed without close_notify: servers do that.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Ok(0)),
            read => return Ok(read),
        }
        match tls.read_tls(&mut NonBlocking(stream)) {
            Ok(0) => return Ok(Ok(0)),
            Ok(_) => tls.process_new_packets()?,
            Err(error) => return Ok(Err(error)),
        };
    }
    Ok(tls.reader().read(buffer))
}

/// The socket, as rustls wants it.
struct NonBlocking<'a>(&'a TcpStream);

impl io::Read for NonBlocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod threads;
