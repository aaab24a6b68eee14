//! Connections and calls.
//!
//! One thread serves everything.  A connection is a task, a call is a task; `.await`
//! marks where one steps aside for the others.  Dropping a task ends it at its
//! `.await`: this is how a caller's reset stream or lost connection ends its call.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, ready};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{net, os::unix};

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pyo3::FromPyObject;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Status, body::Body};
use tonic_health::pb::health_server::HealthServer;

use crate::health::{HealthService, State};
use crate::seam::{MESSAGE_HEAD, Seam};

pub const AUTHORIZATION: &str = "envoy.service.auth.v3.Authorization";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The first bytes of every HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest life of a call, whatever deadline it names: one that stalls is no leak.
const CALL_SECONDS: u64 = 60;

/// Pause after a failed accept: out of file descriptors, it would fail again at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The bounds of `authz.transport.Limits`, read from its attributes.
#[derive(FromPyObject)]
pub struct Limits {
    message_bytes: usize,
    header_bytes: u32,
    connections: u32,
    streams_per_connection: u32,
    pending_resets: usize,
    stream_errors: usize,
    handshake_seconds: f64,
    ping_seconds: f64,
    ping_timeout_seconds: f64,
    connection_age_seconds: f64,
    connection_age_grace_seconds: f64,
}

pub enum Listener {
    Tcp(net::TcpListener),
    Unix(unix::net::UnixListener),
}

type BoxError = Box<dyn Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Handler = Box<dyn Fn(Request<Incoming>) -> BoxFuture<http::Response<Body>> + Send + Sync>;

/// What every connection and call needs.
pub struct Shared {
    seam: Seam,
    limits: Limits,
    http2: http2::Builder<TokioExecutor>,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    health: watch::Sender<State>,
    /// Health and reflection, by the full name of their service.
    others: Vec<(&'static str, Handler)>,
    /// One slot a connection; when all are free again, no connection is left.
    slots: Arc<Semaphore>,
    /// Once set: when everything must have ended.
    end: watch::Sender<Option<Instant>>,
}

impl Shared {
    pub fn new(seam: Seam, limits: Limits, reflection: Option<&[u8]>) -> Result<Self, BoxError> {
        let health = watch::Sender::new(State::NotServing);
        let service = HealthServer::new(HealthService {
            state: health.subscribe(),
        });
        let mut others = vec![handler(
            service.max_decoding_message_size(limits.message_bytes),
        )];
        if let Some(descriptors) = reflection {
            others.extend(reflections(descriptors)?);
        }
        Ok(Self {
            seam,
            http2: http2(&limits),
            tls: Mutex::new(None),
            health,
            others,
            slots: Arc::new(Semaphore::new(limits.connections as usize)),
            end: watch::Sender::new(None),
            limits,
        })
    }

    pub fn use_certificate(&self, config: ServerConfig) {
        *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(config));
    }

    pub fn set_serving(&self, serving: bool) {
        let state = if serving {
            State::Serving
        } else {
            State::NotServing
        };
        self.health.send_if_modified(|current| {
            let changes = *current != State::Closed && *current != state;
            if changes {
                *current = state;
            }
            changes
        });
    }

    pub fn stop(&self, grace: Duration) {
        self.health.send_replace(State::Closed);
        let at = Instant::now() + grace;
        self.end
            .send_modify(|end| *end = Some(end.map_or(at, |before| before.min(at))));
    }

    /// Return once a stop has begun.
    async fn stopping(&self) {
        let _ = self.end.subscribe().wait_for(Option::is_some).await;
    }

    /// Return once every connection has ended after a stop, or may wait no longer.
    async fn ended(&self) {
        self.stopping().await;
        let mut end = self.end.subscribe();
        loop {
            let at = end.borrow_and_update().unwrap_or_else(Instant::now);
            tokio::select! {
                _ = self.slots.acquire_many(self.limits.connections) => return,
                () = sleep_until(at) => return,
                _ = end.changed() => {} // a shorter grace
            }
        }
    }

    /// Return what to shake hands with, if this listener has TLS.
    fn tls(&self) -> Option<TlsAcceptor> {
        self.seam.before_handshake();
        let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        tls.clone().map(TlsAcceptor::from)
    }
}

/// Serve on the calling thread until `stop`.
pub fn run(shared: &Arc<Shared>, listeners: Vec<Listener>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for listener in listeners {
            let shared = Arc::clone(shared);
            match listener {
                Listener::Tcp(it) => tokio::spawn(accept_tcp(shared, TcpListener::from_std(it)?)),
                Listener::Unix(it) => {
                    tokio::spawn(accept_unix(shared, UnixListener::from_std(it)?))
                }
            };
        }
        shared.ended().await;
        Ok(())
    })
    // The runtime is dropped here, and with it what has not ended by itself.
}

async fn accept_tcp(shared: Arc<Shared>, listener: TcpListener) {
    while let Some((stream, slot)) = next(&shared, || listener.accept()).await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _slot = slot;
            let by = shared.limits.handshake_ends();
            // Nagle's algorithm would hold a small answer back (RFC 896).
            let _ = stream.set_nodelay(true);
            match shared.tls() {
                None => carry(shared, stream, by).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout_at(by, tls.accept(stream)).await {
                        carry(shared, stream, by).await;
                    }
                }
            }
        });
    }
}

/// Without TLS, whatever the others have: the file's mode says who may connect.
async fn accept_unix(shared: Arc<Shared>, listener: UnixListener) {
    while let Some((stream, slot)) = next(&shared, || listener.accept()).await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _slot = slot;
            let by = shared.limits.handshake_ends();
            carry(shared, stream, by).await;
        });
    }
}

/// Accept the next connection once there is a slot for it; `None`: we are stopping.
async fn next<S, P, F>(shared: &Shared, accept: impl Fn() -> F) -> Option<(S, OwnedSemaphorePermit)>
where
    F: Future<Output = io::Result<(S, P)>>,
{
    let accepted = async {
        let slot = Arc::clone(&shared.slots).acquire_owned().await.ok()?;
        loop {
            match accept().await {
                Ok((stream, _)) => return Some((stream, slot)),
                Err(_) => sleep(ACCEPT_RETRY).await,
            }
        }
    };
    tokio::select! {
        next = accepted => next,
        () = shared.stopping() => None,
    }
}

/// Serve one connection to its end.
async fn carry<S>(shared: Arc<Shared>, mut stream: S, greeted_by: Instant)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if !matches!(
        timeout_at(greeted_by, greeted(&mut stream)).await,
        Ok(Ok(true))
    ) {
        return; // no HTTP/2, or a peer that says nothing
    }
    // hyper wants to see the greeting too: it is put back in front.
    let (read, write) = tokio::io::split(stream);
    let stream = TokioIo::new(tokio::io::join(AsyncReadExt::chain(PREFACE, read), write));
    let service = hyper::service::service_fn({
        let shared = Arc::clone(&shared);
        move |request| respond(Arc::clone(&shared), request)
    });
    let mut connection = pin!(shared.http2.serve_connection(stream, service));
    let grace = tokio::select! {
        _ = connection.as_mut() => return,
        () = shared.stopping() => None, // `ended` has the clock
        () = sleep(shared.limits.age()) => Some(Duration::from_secs_f64(shared.limits.connection_age_grace_seconds)),
    };
    // GOAWAY: calls in flight end, the caller takes new ones elsewhere (RFC 9113 section 6.8).
    connection.as_mut().graceful_shutdown();
    let _ = timeout(grace.unwrap_or(Duration::MAX), connection).await;
}

/// Read the greeting of HTTP/2; false at the first byte that is none of it.
async fn greeted(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
    let mut buffer = [0; PREFACE.len()];
    let mut read = 0;
    while read < PREFACE.len() {
        let more = stream.read(&mut buffer[read..]).await?;
        read += more;
        if more == 0 || buffer[..read] != PREFACE[..read] {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Send a call where it belongs.  What has no answer is a gRPC status, never an error here.
async fn respond(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    let path = request.uri().path();
    if path == CHECK {
        return Ok(check(shared, request).await);
    }
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let handler = shared
        .others
        .iter()
        .find(|(name, _)| service.is_some_and(|(service, _)| service == *name));
    Ok(match handler {
        Some((_, handler)) => handler(request).await,
        None => Status::unimplemented("unknown method").into_http(),
    })
}

/// The one method that matters.  Its framing is written out: it is short, and tonic's costs
/// as much as the whole way to Python and back (README.md has the figures).
async fn check(shared: Arc<Shared>, request: Request<Incoming>) -> http::Response<Body> {
    let now = Instant::now();
    let deadline = grpc_timeout(request.headers()).map(|timeout| now + timeout);
    let latest = now + Duration::from_secs(CALL_SECONDS);
    let call = async {
        let wire = message(request.into_body(), shared.limits.message_bytes).await?;
        shared.seam.answer(wire, deadline).await
    };
    match timeout_at(deadline.map_or(latest, |at| at.min(latest)), call).await {
        Ok(Ok(framed)) => ok(framed),
        Ok(Err(status)) => status.into_http(),
        Err(_) => Status::deadline_exceeded("the deadline has passed").into_http(),
    }
}

/// Read a call's only message: a byte that says whether it is compressed, four of length, and
/// the message ("Length-Prefixed-Message" in gRPC's PROTOCOL-HTTP2.md).
async fn message(mut body: Incoming, at_most: usize) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Status::cancelled("the caller has gone"))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
        let length = bytes
            .get(1..MESSAGE_HEAD)
            .map(|mut length| length.get_u32());
        if length.is_some_and(|length| length as usize > at_most) {
            return Err(Status::resource_exhausted("the message is too large"));
        }
        if bytes.len() > MESSAGE_HEAD + at_most {
            return Err(Status::internal("more than one message"));
        }
    }
    if bytes.len() < MESSAGE_HEAD {
        return Err(Status::internal("no message"));
    }
    let (compressed, length) = (bytes.get_u8(), bytes.get_u32());
    if compressed != 0 {
        return Err(Status::unimplemented("compression is not supported"));
    }
    if bytes.len() != length as usize {
        return Err(Status::internal("the message is not as long as it says"));
    }
    Ok(bytes.freeze())
}

/// Answer with a framed message, and the status behind it as trailers.
fn ok(framed: Bytes) -> http::Response<Body> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(framed).with_trailers(ready(Some(Ok(trailers))));
    let mut response = http::Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The caller's deadline, as "Timeout" in gRPC's PROTOCOL-HTTP2.md: up to 8 digits and a unit.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
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

fn http2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .auto_date_header(false) // nobody reads it
        .max_concurrent_streams(limits.streams_per_connection)
        // Bounds CONTINUATION frames too: CVE-2024-27316 and its kin.
        .max_header_list_size(limits.header_bytes)
        // Rapid reset, CVE-2023-44487: streams that a peer opened and took back.
        .max_pending_accept_reset_streams(limits.pending_resets)
        // MadeYouReset, CVE-2025-8671: streams that a peer made us take back.
        .max_local_error_reset_streams(limits.stream_errors)
        .keep_alive_interval(Duration::from_secs_f64(limits.ping_seconds))
        .keep_alive_timeout(Duration::from_secs_f64(limits.ping_timeout_seconds));
    http2
}

/// Describe the services of `descriptors`, and health and reflection, to grpcurl.
fn reflections(descriptors: &[u8]) -> Result<[(&'static str, Handler); 2], BoxError> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            )
            .include_reflection_service(false) // both, instead of the own one
    };
    Ok([
        handler(builder().build_v1()?),
        handler(builder().build_v1alpha()?),
    ])
}

/// Make a generated service callable by the name that it has.
fn handler<S>(service: S) -> (&'static str, Handler)
where
    S: Service<Request<Incoming>, Response = http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let call = move |request| -> BoxFuture<_> {
        let response = service.clone().call(request);
        Box::pin(async move { response.await.unwrap_or_else(|never| match never {}) })
    };
    (S::NAME, Box::new(call))
}

impl Limits {
    /// When a connection that begins now must have shaken hands and said what it is.
    fn handshake_ends(&self) -> Instant {
        Instant::now() + Duration::from_secs_f64(self.handshake_seconds)
    }

    /// How long a connection may last: by a tenth more or less, for not all to end at once.
    fn age(&self) -> Duration {
        if self.connection_age_seconds == 0.0 {
            return Duration::MAX;
        }
        let [random, ..] = RandomState::new().hash_one(()).to_ne_bytes();
        let percent = 90 + u32::from(random % 21);
        Duration::from_secs_f64(self.connection_age_seconds) * percent / 100
    }
}
