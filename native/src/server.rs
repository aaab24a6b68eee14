//! Connections and calls.
//!
//! One thread serves everything but TLS handshakes, which cost most and are made by whoever
//! connects: they have a thread of their own.  A connection is a task, and its calls are
//! part of it; `.await` marks where one steps aside for the others.  Dropping a future ends it at
//! its `.await`: this is how a caller's reset stream or lost connection ends its call.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use std::{net, os::unix};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::server::{Connection, SendResponse};
use h2::{Ping, PingPong, RecvStream};
use http::{Request, Response};
use pyo3::FromPyObject;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::{self, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Status, body::Body};
use tonic_health::pb::health_server::HealthServer;

use crate::arrivals::{Arrival, Arrivals};
use crate::grpc::{self, Incoming, Unread};
use crate::health::{HealthService, State};
use crate::opening::Opening;
use crate::room::Room;
use crate::seam::{MESSAGE_HEAD, Seam};

pub const AUTHORIZATION: &str = "envoy.service.auth.v3.Authorization";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Longest life of a Check, whatever deadline it names: one that stalls is no leak.
const CALL_SECONDS: u64 = 60;

/// What a question to health or reflection stays below: it is a name.
const QUESTION_BYTES: usize = 4 * 1024;

/// Pause after a failed accept: out of file descriptors, it would fail again at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The bounds of `authz.transport.Limits`, read from its attributes.
#[derive(FromPyObject)]
pub struct Limits {
    message_bytes: usize,
    message_seconds: f64,
    held_bytes: usize,
    held_bytes_per_connection: usize,
    header_bytes: u32,
    connections: u32,
    streams_per_connection: u32,
    pending_resets: usize,
    stream_errors: usize,
    handshake_seconds: f64,
    handshakes: usize,
    handshakes_per_source: usize,
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
type Handler = Box<dyn Fn(Request<Incoming>) -> BoxFuture<Response<Body>> + Send + Sync>;

/// What every connection and call needs.
pub struct Shared {
    seam: Seam,
    limits: Limits,
    http2: h2::server::Builder,
    tls: Mutex<Option<Arc<ServerConfig>>>,
    health: watch::Sender<State>,
    /// Health and reflection, by the full name of their service.
    others: Vec<(&'static str, Handler)>,
    /// One slot a connection; when all are free again, no connection is left.
    slots: Arc<Semaphore>,
    /// Those among them that have not said yet what they are.
    arrivals: Arc<Arrivals>,
    /// For the bytes of calls that have arrived and are not answered.
    held: Arc<Semaphore>,
    /// Whether a peer that speaks HTTP/1 has been told of: one line is enough.
    http1_told: AtomicBool,
    /// Once set: when everything must have ended.
    end: watch::Sender<Option<Instant>>,
}

impl Shared {
    pub fn new(seam: Seam, limits: Limits, reflection: Option<&[u8]>) -> Result<Self, BoxError> {
        let health = watch::Sender::new(State::NotServing);
        let service = HealthServer::new(HealthService {
            state: health.subscribe(),
        });
        let mut others = vec![handler(service.max_decoding_message_size(QUESTION_BYTES))];
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
            arrivals: Arc::new(Arrivals::new(
                limits.handshakes,
                limits.handshakes_per_source,
            )),
            held: Arc::new(Semaphore::new(limits.held_bytes)),
            http1_told: AtomicBool::new(false),
            end: watch::Sender::new(None),
            limits,
        })
    }

    fn http1_peer(&self) {
        if !self.http1_told.swap(true, Ordering::Relaxed) {
            self.seam.http1_peer();
        }
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

    /// Wait for a peer to say what it is, until it should have, or a stop.
    async fn greeting<T>(&self, by: Instant, greeting: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            greeted = timeout_at(by, greeting) => greeted.ok(),
            () = self.stopping() => None,
        }
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

    /// Let Python look at the certificate files, and return what to shake hands with.
    ///
    /// Files are read on this thread, which all handshakes share: keep them on a disk.
    fn renewed_tls(&self) -> Option<TlsAcceptor> {
        self.seam.before_handshake();
        let tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        tls.clone().map(TlsAcceptor::from)
    }
}

/// Serve on the calling thread until `stop`; `began` is called once nothing can fail any more.
pub fn run(shared: &Arc<Shared>, listeners: Vec<Listener>, began: impl FnOnce()) -> io::Result<()> {
    // Dropped after the other, whose sockets it watches.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handshakes = shared.seam.has_tls().then(handshakes).transpose()?;
    runtime.block_on(async {
        for listener in listeners {
            let shared = Arc::clone(shared);
            match listener {
                Listener::Tcp(it) => {
                    let handshakes = handshakes.as_ref().map(|other| other.handle().clone());
                    tokio::spawn(accept_tcp(shared, TcpListener::from_std(it)?, handshakes))
                }
                Listener::Unix(it) => {
                    tokio::spawn(accept_unix(shared, UnixListener::from_std(it)?))
                }
            };
        }
        began();
        shared.ended().await;
        Ok(())
    })
    // The runtimes are dropped here, and with them what has not ended by itself.
}

/// Make the thread that shakes hands.
fn handshakes() -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("authz-tls")
        .enable_time()
        .build()
}

async fn accept_tcp(
    shared: Arc<Shared>,
    listener: TcpListener,
    handshakes: Option<runtime::Handle>,
) {
    while let Some((stream, peer, slot)) = next(&shared, || listener.accept()).await {
        let Some(arrival) = shared.arrivals.enter(peer.ip()) else {
            continue; // its source has enough of them, or all have: it is hung up on
        };
        let shared = Arc::clone(&shared);
        let handshakes = handshakes.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let by = shared.limits.handshake_ends();
            // Nagle's algorithm would hold a small answer back (RFC 896).
            let _ = stream.set_nodelay(true);
            match handshakes {
                None => carry(shared, stream, by, Some(arrival)).await,
                Some(thread) => {
                    let shaking = shake_hands(Arc::clone(&shared), stream, by);
                    if let Ok(Some(stream)) = thread.spawn(shaking).await {
                        carry(shared, stream, by, Some(arrival)).await;
                    }
                }
            }
        });
    }
}

/// Shake hands; `None`: no certificate, or a peer that does not.  Never without TLS.
async fn shake_hands(
    shared: Arc<Shared>,
    stream: TcpStream,
    by: Instant,
) -> Option<TlsStream<TcpStream>> {
    let tls = shared.renewed_tls()?;
    shared.greeting(by, tls.accept(stream)).await?.ok()
}

/// Without TLS, whatever the others have: the file's mode says who may connect.
async fn accept_unix(shared: Arc<Shared>, listener: UnixListener) {
    while let Some((stream, _, slot)) = next(&shared, || listener.accept()).await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _slot = slot;
            let by = shared.limits.handshake_ends();
            carry(shared, stream, by, None).await;
        });
    }
}

/// Accept the next connection, and wait until there is a slot for it; `None`: we are stopping.
async fn next<S, P, F>(
    shared: &Shared,
    accept: impl Fn() -> F,
) -> Option<(S, P, OwnedSemaphorePermit)>
where
    F: Future<Output = io::Result<(S, P)>>,
{
    let accepted = async {
        let (stream, peer) = loop {
            match accept().await {
                Ok(accepted) => break accepted,
                Err(_) => sleep(ACCEPT_RETRY).await,
            }
        };
        let slot = Arc::clone(&shared.slots).acquire_owned().await.ok()?;
        Some((stream, peer, slot))
    };
    tokio::select! {
        next = accepted => next,
        () = shared.stopping() => None,
    }
}

/// Serve one connection to its end.
async fn carry<S>(shared: Arc<Shared>, stream: S, greeted_by: Instant, arrival: Option<Arrival>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = Opening::new(stream, || shared.http1_peer());
    let handshake = shared.http2.handshake(stream);
    let Some(Ok(mut connection)) = shared.greeting(greeted_by, handshake).await else {
        return; // no HTTP/2, or a peer that says nothing
    };
    drop(arrival);
    let room = Room::new(&shared.held, shared.limits.held_bytes_per_connection);
    let mut vanished = pin!(vanished(connection.ping_pong(), &shared.limits));
    // `drive` may be dropped and begun again: all that it goes on with stands here.
    let mut calls = FuturesUnordered::new();
    let begin = |(request, respond)| serve(&shared, &room, request, respond);
    let grace = tokio::select! {
        () = drive(&mut connection, &mut calls, begin) => return,
        () = &mut vanished => return,
        () = shared.stopping() => Duration::MAX, // `ended` has the clock
        () = sleep(shared.limits.age()) => shared.limits.age_grace(),
    };
    // GOAWAY: calls in flight end, the caller takes new ones elsewhere (RFC 9113 section 6.8).
    connection.graceful_shutdown();
    tokio::select! {
        _ = timeout(grace, drive(&mut connection, &mut calls, begin)) => {}
        () = vanished => {}
    }
}

/// Begin each call that arrives, go on with those that have begun, until the connection ends.
async fn drive<S, F>(
    connection: &mut Connection<S, Bytes>,
    calls: &mut FuturesUnordered<F>,
    begin: impl Fn((Request<RecvStream>, SendResponse<Bytes>)) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    poll_fn(|context| {
        loop {
            // Reads what has come, and writes all answers of the round before at once.
            while let Poll::Ready(arrived) = connection.poll_accept(context) {
                let Some(Ok(call)) = arrived else {
                    return Poll::Ready(()); // closed, or broken
                };
                calls.push(begin(call));
            }
            let mut answered = false;
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(context) {
                answered = true;
            }
            if !answered {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Return once the peer does not answer a ping any more.
async fn vanished(pings: Option<PingPong>, limits: &Limits) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        sleep(Duration::from_secs_f64(limits.ping_seconds)).await;
        let answer = pings.ping(Ping::opaque());
        match timeout(Duration::from_secs_f64(limits.ping_timeout_seconds), answer).await {
            Ok(Ok(_)) => {}
            _ => return,
        }
    }
}

/// Send a call where it belongs, and what comes of it to the caller, unless that one has gone.
async fn serve(
    shared: &Shared,
    room: &Room,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let path = request.uri().path();
    if path == CHECK {
        let result = tokio::select! {
            biased;
            result = check(shared, room, request) => result,
            _ = poll_fn(|context| respond.poll_reset(context)) => return,
        };
        // An error is a peer that has gone meanwhile.
        let _ = match result {
            Ok(framed) => grpc::answer(respond, framed),
            Err(status) => grpc::refuse(respond, status),
        };
        return;
    }
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let handler = shared
        .others
        .iter()
        .find(|(name, _)| service.is_some_and(|(service, _)| service == *name));
    let _ = match handler {
        Some((_, handler)) => grpc::forward(respond, handler(request.map(Incoming)).await).await,
        None => grpc::refuse(respond, Status::unimplemented("unknown method")),
    };
}

/// The one method that matters.  It is written out: what it takes is short, and a server that
/// does more costs as much as the whole way to Python and back (README.md has the figures).
async fn check(
    shared: &Shared,
    room: &Room,
    request: Request<RecvStream>,
) -> Result<Bytes, Status> {
    let now = Instant::now();
    let deadline = grpc::timeout(request.headers()).map(|timeout| now + timeout);
    let latest = now + Duration::from_secs(CALL_SECONDS);
    let call = async {
        let limits = &shared.limits;
        let message = grpc::message(request.into_body(), limits.message_bytes, room);
        match timeout_at(limits.message_ends(now), message).await {
            Ok(Ok(message)) => shared.seam.answer(message, room, deadline).await,
            Ok(Err(Unread::Refused(status))) => Err(status),
            // An answer, and no error of gRPC's: Envoy may take an error for a yes.
            Ok(Err(Unread::NoRoom)) | Err(_) => shared.seam.overloaded(),
        }
    };
    timeout_at(deadline.map_or(latest, |at| at.min(latest)), call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("the deadline has passed")))
}

fn http2(limits: &Limits) -> h2::server::Builder {
    let window = u32::try_from(MESSAGE_HEAD + limits.message_bytes).unwrap_or(u32::MAX);
    let mut http2 = h2::server::Builder::new();
    http2
        // What a peer may send that we have not read: one message, of one call and of all.
        .initial_window_size(window)
        .initial_connection_window_size(window)
        .max_concurrent_streams(limits.streams_per_connection)
        // Bounds CONTINUATION frames too: CVE-2024-27316 and its kin.
        .max_header_list_size(limits.header_bytes)
        // What is on its way when we end a stream is no fault of the peer's: of as many as may
        // be open we know for a second that it was us.
        .max_concurrent_reset_streams(limits.streams_per_connection as usize)
        // Rapid reset, CVE-2023-44487: streams that a peer opened and took back.
        .max_pending_accept_reset_streams(limits.pending_resets)
        // MadeYouReset, CVE-2025-8671: streams that a peer made us take back.
        .max_local_error_reset_streams(Some(limits.stream_errors));
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
        handler(
            builder()
                .build_v1()?
                .max_decoding_message_size(QUESTION_BYTES),
        ),
        handler(
            builder()
                .build_v1alpha()?
                .max_decoding_message_size(QUESTION_BYTES),
        ),
    ])
}

/// Make a generated service callable by the name that it has.
fn handler<S>(service: S) -> (&'static str, Handler)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
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

    /// When a call that begins now must have sent its message.
    fn message_ends(&self, now: Instant) -> Instant {
        now + Duration::from_secs_f64(self.message_seconds)
    }

    fn age_grace(&self) -> Duration {
        Duration::from_secs_f64(self.connection_age_grace_seconds)
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
