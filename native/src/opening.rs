//! What a peer says first.
//!
//! An Envoy whose cluster lacks HTTP/2 sends HTTP/1.  It is hung up on, its callers get an
//! empty 503, and without a word from us nobody learns why.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The shortest request of HTTP/1 is as long: `GET / HTTP/1.1` and the end of its line.
const HEAD_BYTES: usize = 16;

/// A stream that calls `tell` if it begins with a request of HTTP/1.
pub struct Opening<S, F> {
    stream: S,
    head: Vec<u8>,
    tell: F,
}

impl<S, F> Opening<S, F> {
    pub fn new(stream: S, tell: F) -> Self {
        Self {
            stream,
            head: Vec::with_capacity(HEAD_BYTES),
            tell,
        }
    }
}

/// A method, a space and a path (RFC 9112 section 3).  HTTP/2 begins with `PRI *`.
fn is_http1(head: &[u8]) -> bool {
    let method = head.iter().take_while(|byte| byte.is_ascii_uppercase());
    let method = method.count();
    method > 0 && head[method..].starts_with(b" /")
}

impl<S: AsyncRead + Unpin, F: Fn() + Unpin> AsyncRead for Opening<S, F> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        let missing = HEAD_BYTES - this.head.len();
        if missing > 0 {
            let new = &buffer.filled()[before..];
            this.head.extend_from_slice(&new[..new.len().min(missing)]);
            if this.head.len() == HEAD_BYTES && is_http1(&this.head) {
                (this.tell)();
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Opening<S, F> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
