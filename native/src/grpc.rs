//! gRPC's framing of calls, on streams of HTTP/2 (PROTOCOL-HTTP2.md of gRPC).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

use crate::room::{Room, Taken};
use crate::seam::{MESSAGE_HEAD, Message};

/// Why there is no message.
pub enum Unread {
    /// The peer has broken a rule of gRPC's, or has gone.
    Refused(Status),
    /// There is no room for what has arrived.
    NoRoom,
}

impl From<Status> for Unread {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// The caller's deadline, as "Timeout" in gRPC's PROTOCOL-HTTP2.md: up to 8 digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Read a call's only message: a byte that says whether it is compressed, four of length, and
/// the message ("Length-Prefixed-Message" in gRPC's PROTOCOL-HTTP2.md).
///
/// What has come of one that is not whole takes room; one that comes at once takes none here.
/// One without room is read to its end and not kept: to h2 what comes on a stream that we have
/// ended is a fault of the peer's, and after some of these it hangs up on all its calls.
pub async fn message(mut body: RecvStream, at_most: usize, room: &Room) -> Result<Message, Unread> {
    let mut bytes = BytesMut::new();
    let mut taken = Taken::default();
    let mut no_room = false;
    while let Some(data) = poll_fn(|context| poll_data(&mut body, context)).await {
        let data = data.map_err(|_| Status::cancelled("the caller has gone"))?;
        if no_room {
            continue;
        }
        bytes.extend_from_slice(&data);
        let length = bytes
            .get(1..MESSAGE_HEAD)
            .map(|mut length| length.get_u32());
        if length.is_some_and(|length| length as usize > at_most) {
            return Err(Status::resource_exhausted("the message is too large").into());
        }
        if bytes.len() > MESSAGE_HEAD + at_most {
            return Err(Status::internal("more than one message").into());
        }
        if !body.is_end_stream() && !room.top_up(&mut taken, bytes.len()) {
            no_room = true;
            (bytes, taken) = (BytesMut::new(), Taken::default());
        }
    }
    if no_room {
        return Err(Unread::NoRoom);
    }
    if bytes.len() < MESSAGE_HEAD {
        return Err(Status::internal("no message").into());
    }
    let (compressed, length) = (bytes.get_u8(), bytes.get_u32());
    if compressed != 0 {
        return Err(Status::unimplemented("compression is not supported").into());
    }
    if bytes.len() != length as usize {
        return Err(Status::internal("the message is not as long as it says").into());
    }
    Ok(Message {
        wire: bytes.freeze(),
        taken,
    })
}

/// Read what has come of a request's body, and let its sender send as much again.
fn poll_data(
    body: &mut RecvStream,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, h2::Error>>> {
    let data = ready!(body.poll_data(context));
    Poll::Ready(data.map(|data| {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        Ok(data)
    }))
}

/// Answer with a framed message, and the status behind it as trailers.
pub fn answer(mut respond: SendResponse<Bytes>, framed: Bytes) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(framed, false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

/// Answer with a status and nothing else.
pub fn refuse(mut respond: SendResponse<Bytes>, status: Status) -> Result<(), h2::Error> {
    respond.send_response(status.into_http(), true).map(drop)
}

/// Send what a generated service answers, as long as it does and the caller listens.
pub async fn forward(
    mut respond: SendResponse<Bytes>,
    response: Response<Body>,
) -> Result<(), h2::Error> {
    let (head, mut body) = response.into_parts();
    let only_head = http_body::Body::is_end_stream(&body);
    let mut stream = respond.send_response(Response::from_parts(head, ()), only_head)?;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            reset = poll_fn(|context| stream.poll_reset(context)) => return reset.map(drop),
        };
        let Some(Ok(frame)) = frame else {
            return Ok(());
        };
        match frame.into_data() {
            Ok(data) => send(&mut stream, data).await?,
            Err(last) => return stream.send_trailers(last.into_trailers().unwrap_or_default()),
        }
    }
}

/// Send as the caller takes it: what it does not read is not collected here.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(granted) = poll_fn(|context| stream.poll_capacity(context)).await else {
            return Ok(()); // the caller has gone
        };
        let part = data.split_to(granted?.min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}

/// A request's body, as the generated services want it.
pub struct Incoming(pub RecvStream);

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let data = ready!(poll_data(&mut self.0, context));
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }
}
