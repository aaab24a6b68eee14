//! Where a call crosses into Python.
//!
//! Python runs one thread at a time: whoever holds its lock (the GIL).  `cached`
//! is asked on our own thread, holding it for microseconds.  What `cached` cannot
//! answer goes to the asyncio loop in the main thread, and is waited for without it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tonic::Status;

/// How many bytes of questions may wait for the loop; a further one waits its turn here.
///
/// Calls that were cancelled count until the loop has let go of them: a peer that asks
/// and resets faster than the loop works is slowed down.  Room for more calls than
/// `Service` takes (20,000, small ones as most are): which are too many, it says itself.
const WAITING_BYTES: usize = 128 * 1024 * 1024;

/// How many bytes of large messages may be read at the same time, whole ones or parts.
const READING_BYTES: usize = 64 * 1024 * 1024;

/// What a waiting call costs besides its message: a task, its frames, a stream.
const CALL_BYTES: usize = 4 * 1024;

/// How many bytes stand before each message of gRPC.
pub const MESSAGE_HEAD: usize = 5;

/// A `CheckRequest`, and the room that it has reserved if it is a large one.
pub struct Message {
    pub wire: Bytes,
    pub room: Option<OwnedSemaphorePermit>,
}

/// Python's side: what to call for each event in the life of a call.
pub struct Seam {
    cached: Py<PyAny>,
    submit: Py<PyAny>,
    cancel: Py<PyAny>,
    fault: Py<PyAny>,
    before_handshake: Option<Py<PyAny>>,
    /// For large messages, until they are whole.
    reading: Arc<Semaphore>,
    /// For calls, until the loop has answered them.
    waiting: Arc<Semaphore>,
}

impl Seam {
    pub fn new(calls: &Bound<'_, PyAny>, before_handshake: Option<Py<PyAny>>) -> PyResult<Self> {
        let method = |name| calls.getattr(name).map(Bound::unbind);
        Ok(Self {
            cached: method("cached")?,
            submit: method("submit")?,
            cancel: method("cancel")?,
            fault: method("fault")?,
            before_handshake,
            reading: Arc::new(Semaphore::new(READING_BYTES)),
            waiting: Arc::new(Semaphore::new(WAITING_BYTES)),
        })
    }

    /// Answer a `CheckRequest`: from memory, else from the loop, else by the catch-all.
    ///
    /// Every answer is copied once, out of Python and into its frame.
    pub async fn answer(
        &self,
        message: Message,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        if let Some(answer) = self.cached(&message.wire) {
            return Ok(answer);
        }
        match self.ask(message, deadline).await {
            Ok(answer) => Ok(answer),
            Err(error) => self.fault(error),
        }
    }

    /// Ask Python's memory.  An exception is no answer: the whole way will give one.
    fn cached(&self, wire: &[u8]) -> Option<Bytes> {
        with_python(|py| {
            let answer = self.cached.call1(py, (PyBytes::new(py, wire),))?;
            let answer = answer.cast_bound::<PyBytes>(py)?;
            Ok(framed(answer.as_bytes()))
        })
        .ok()
    }

    /// Hand a call to the loop and wait.  Dropped while it waits, it cancels the call.
    async fn ask(&self, message: Message, deadline: Option<Instant>) -> PyResult<Bytes> {
        let Message {
            wire,
            room: reading,
        } = message;
        let room = reserve(&self.waiting, wire.len() + CALL_BYTES).await;
        drop(reading);
        let (answer, answered) = oneshot::channel();
        let call = with_python(|py| {
            let call = Call {
                wire: PyBytes::new(py, &wire).unbind(),
                deadline,
                answer: Mutex::new(Some(answer)),
                _room: room,
            };
            let call = Py::new(py, call)?;
            self.submit.call1(py, (&call,))?;
            Ok(call)
        })?;
        let mut waiting = Waiting {
            seam: self,
            call: Some(call),
        };
        let answer = answered.await;
        waiting.call = None;
        answer.map_err(|_| PyRuntimeError::new_err("the call ended without an answer"))
    }

    /// Wait for room to read a large message of so many bytes.
    pub async fn room_to_read(&self, bytes: usize) -> OwnedSemaphorePermit {
        reserve(&self.reading, bytes).await
    }

    /// Turn an exception into the catch-all answer; the error itself goes to the log only.
    fn fault(&self, error: PyErr) -> Result<Bytes, Status> {
        with_python(|py| {
            let answer = self.fault.call1(py, (error.into_value(py),))?;
            let answer = answer.cast_bound::<PyBytes>(py)?;
            Ok(framed(answer.as_bytes()))
        })
        .map_err(|_| Status::internal("internal error"))
    }

    /// Whether TCP has TLS.
    pub fn has_tls(&self) -> bool {
        self.before_handshake.is_some()
    }

    /// Let Python look whether the certificate files have changed.
    pub fn before_handshake(&self) {
        if let Some(look) = &self.before_handshake {
            // It logs what is wrong by itself, and the certificate of before stays.
            let _ = with_python(|py| look.call0(py));
        }
    }
}

/// A call that `cached` could not answer, as Python sees it.
#[pyclass(frozen, module = "authz_native")]
pub struct Call {
    /// The `CheckRequest`.
    #[pyo3(get)]
    wire: Py<PyBytes>,
    deadline: Option<Instant>,
    answer: Mutex<Option<oneshot::Sender<Bytes>>>,
    _room: OwnedSemaphorePermit,
}

#[pymethods]
impl Call {
    /// The seconds to the caller's deadline; `None`: it has none.
    fn time_remaining(&self) -> Option<f64> {
        let deadline = self.deadline?;
        Some((deadline - Instant::now()).as_secs_f64())
    }

    /// Answer the call.  Too late is nothing wrong: the caller may have gone.
    fn answer(&self, wire: &[u8]) {
        if let Some(answer) = self.take_answer() {
            let _ = answer.send(framed(wire));
        }
    }

    /// Say that no answer will come, if none has: `fault` gives it then.
    fn close(&self) {
        drop(self.take_answer());
    }
}

impl Call {
    fn take_answer(&self) -> Option<oneshot::Sender<Bytes>> {
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.take()
    }
}

/// A call in the loop; if nobody waits for it any more, the loop hears of it.
struct Waiting<'a> {
    seam: &'a Seam,
    call: Option<Py<Call>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            // The only thing to fail is a loop that is closed, and with it the call.
            let _ = with_python(|py| self.seam.cancel.call1(py, (call,)));
        }
    }
}

async fn reserve(room: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let reserved = Arc::clone(room).acquire_many_owned(bytes).await;
    reserved.expect("nobody closes the semaphore")
}

/// Put the head before a message: not compressed, and how long it is.
fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(MESSAGE_HEAD + message.len());
    bytes.put_u8(0);
    // An answer is far below the 4 GiB that the head can say.
    bytes.put_u32(u32::try_from(message.len()).unwrap_or_default());
    bytes.put_slice(message);
    bytes.freeze()
}

/// Take Python's lock, do a short piece of work, and give it back.
///
/// A panic becomes an exception here: it neither crosses into Python nor ends the server.
fn with_python<T>(work: impl FnOnce(Python<'_>) -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(|| Python::attach(work)))
        .unwrap_or_else(|_| Err(PyRuntimeError::new_err("panic")))
}
