//! The first bytes of a connection. The server finds the HTTP version out from them, which it has to do where connections
//! may become WebSockets, and has no time limit while it does; nor may it take HTTP/2, whose limits nobody has set.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum_server::accept::Accept;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How an HTTP/2 connection begins (RFC 9113 section 3.4), as far as it takes to tell it from every request of HTTP/1.
const PREFACE: &[u8] = b"PRI ";

/// Accepts as the one inside does, and watches the first bytes of what comes out of it.
#[derive(Clone)]
pub(crate) struct Http1Only<A> {
    inner: A,
    timeout: Duration,
}

impl<A> Http1Only<A> {
    /// A request has to begin within this time.
    pub(crate) fn new(inner: A, timeout: Duration) -> Self {
        Self { inner, timeout }
    }
}

impl<A, I, S> Accept<I, S> for Http1Only<A>
where
    A: Accept<I, S, Future: Send + 'static>,
{
    type Stream = Opening<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let (accepting, timeout) = (self.inner.accept(stream, service), self.timeout);
        Box::pin(async move {
            let (stream, service) = accepting.await?;
            Ok((Opening { stream, opening: Some((Box::pin(sleep(timeout)), 0)) }, service))
        })
    }
}

/// A connection whose beginning is watched.
pub(crate) struct Opening<S> {
    stream: S,
    /// Until a request has begun: by when it has to, and how much like HTTP/2 it looks.
    opening: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some((deadline, alike)) = &mut self.opening else { return read };
        match read {
            Poll::Pending => deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let new = buf.filled().get(before..).unwrap_or_default();
                let expected = PREFACE.get(*alike..).unwrap_or_default();
                let same = new.iter().zip(expected).take_while(|(new, expected)| new == expected).count();
                *alike += same;
                if *alike == PREFACE.len() {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "HTTP/2 is not served")));
                }
                // The end of the stream is no HTTP/2 either.
                if new.is_empty() || same < new.len() {
                    self.opening = None;
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn opened() -> (DuplexStream, Opening<DuplexStream>) {
        let (client, stream) = duplex(1024);
        (client, Opening { stream, opening: Some((Box::pin(sleep(TIMEOUT)), 0)) })
    }

    /// What the server reads of these pieces, each in a read of its own.
    async fn read(pieces: &[&str]) -> io::Result<String> {
        let (mut client, mut server) = opened();
        let mut all = String::new();
        for piece in pieces {
            client.write_all(piece.as_bytes()).await.unwrap();
            let mut bytes = [0; 64];
            let n = server.read(&mut bytes).await?;
            all.push_str(str::from_utf8(&bytes[..n]).unwrap());
        }
        Ok(all)
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_no_request_in_time_is_let_go_and_who_does_may_take_his_time() {
        let (_client, mut server) = opened();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut client, mut server) = opened();
        client.write_all(b"P").await.unwrap();
        server.read_u8().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut, "it may still be HTTP/2");
        for begun in ["G", "PO"] {
            let (mut client, mut server) = opened();
            client.write_all(begun.as_bytes()).await.unwrap();
            server.read_exact(&mut vec![0; begun.len()]).await.unwrap();
            let next = tokio::time::timeout(TIMEOUT * 10, server.read_u8()).await;
            assert!(next.is_err(), "{begun}: from here on it is the server's to wait");
        }
    }

    #[tokio::test]
    async fn http_2_is_refused_and_every_method_of_http_1_passes() {
        for pieces in [&["PRI * HTTP/2.0"][..], &["P", "R", "I", " "], &["PR", "I *"]] {
            assert_eq!(read(pieces).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{pieces:?}");
        }
        for pieces in [&["POST /"][..], &["P", "ATCH"], &["PR", "OPFIND"], &["GET /", "PRI * HTTP/2.0"]] {
            assert_eq!(read(pieces).await.unwrap(), pieces.concat());
        }
    }
}
