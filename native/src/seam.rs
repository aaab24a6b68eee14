//! Where a call crosses into Python.
//!
//! Python runs one thread at a time: whoever holds its lock (the GIL).  `cached`
//! is asked on our own thread, holding it for microseconds.  What `cached` cannot
//! answer goes to the asyncio loop in the main thread, and is waited for without it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use crate::room::{Room, Taken};

/// What a waiting call costs besides its message: a task, its frames, a stream.
const CALL_BYTES: usize = 4 * 1024;

/// How many bytes stand before each message of gRPC.
pub const MESSAGE_HEAD: usize = 5;

/// A `CheckRequest`, and the room that it took while it arrived.
pub struct Message {
    pub wire: Bytes,
    pub taken: Taken,
}

/// How far a call has come.
enum Reached {
    Answer(Bytes),
    /// It waits in the loop.
    Loop(Py<Call>, oneshot::Receiver<Bytes>),
    /// More is asked already than there is room for.
    NoRoom,
}

/// Python's side: what to call for each event in the life of a call.
pub struct Seam {
    cached: Py<PyAny>,
    submit: Py<PyAny>,
    cancel: Py<PyAny>,
    fault: Py<PyAny>,
    overloaded: Py<PyAny>,
    http1_peer: Py<PyAny>,
    before_handshake: Option<Py<PyAny>>,
}

impl Seam {
    pub fn new(calls: &Bound<'_, PyAny>, before_handshake: Option<Py<PyAny>>) -> PyResult<Self> {
        let method = |name| calls.getattr(name).map(Bound::unbind);
        Ok(Self {
            cached: method("cached")?,
            submit: method("submit")?,
            cancel: method("cancel")?,
            fault: method("fault")?,
            overloaded: method("overloaded")?,
            http1_peer: method("http1_peer")?,
            before_handshake,
        })
    }

    /// Answer a `CheckRequest`: from memory, else from the loop, else by the catch-all.
    ///
    /// Every answer is copied once, out of Python and into its frame.
    pub async fn answer(
        &self,
        message: Message,
        room: &Room,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        match self.reach(message, room, deadline, Instant::now()) {
            Ok(Reached::Answer(answer)) => Ok(answer),
            Ok(Reached::Loop(call, answered)) => match self.wait(call, answered).await {
                Ok(answer) => Ok(answer),
                Err(error) => self.fault(error),
            },
            Ok(Reached::NoRoom) => self.overloaded(),
            Err(error) => self.fault(error),
        }
    }

    /// Ask Python's memory, else hand the call to the loop: Python's lock is taken once.
    ///
    /// Calls that were cancelled take room until the loop has let go of them: a peer that
    /// asks and resets faster than the loop works is refused.
    fn reach(
        &self,
        message: Message,
        room: &Room,
        deadline: Option<Instant>,
        arrived: Instant,
    ) -> PyResult<Reached> {
        let Message { wire, mut taken } = message;
        with_python(|py| {
            let asked = PyBytes::new(py, &wire);
            if let Some(answer) = self.cached(&asked, arrived) {
                return Ok(Reached::Answer(answer));
            }
            if !room.top_up(&mut taken, wire.len() + CALL_BYTES) {
                return Ok(Reached::NoRoom);
            }
            let (answer, answered) = oneshot::channel();
            let call = Call {
                wire: asked.unbind(),
                arrived,
                deadline,
                answer: Mutex::new(Some(answer)),
                _taken: taken,
            };
            let call = Py::new(py, call)?;
            self.submit.call1(py, (&call,))?;
            Ok(Reached::Loop(call, answered))
        })
    }

    /// Ask Python's memory.  An exception is no answer: the whole way will give one.
    fn cached(&self, wire: &Bound<'_, PyBytes>, arrived: Instant) -> Option<Bytes> {
        let waited_s = arrived.elapsed().as_secs_f64();
        let answer = self.cached.call1(wire.py(), (wire, waited_s)).ok()?;
        let answer = answer.cast_bound::<PyBytes>(wire.py()).ok()?;
        Some(framed(answer.as_bytes()))
    }

    /// Wait for the loop's answer.  Dropped while it waits, it cancels the call.
    async fn wait(&self, call: Py<Call>, answered: oneshot::Receiver<Bytes>) -> PyResult<Bytes> {
        let mut waiting = Waiting {
            seam: self,
            call: Some(call),
        };
        let answer = answered.await;
        waiting.call = None;
        answer.map_err(|_| PyRuntimeError::new_err("the call ended without an answer"))
    }

    /// Return the answer for a call that there is no room or no time for.
    pub fn overloaded(&self) -> Result<Bytes, Status> {
        Self::own_answer(|py| self.overloaded.call0(py))
    }

    /// Turn an exception into the catch-all answer; the error itself goes to the log only.
    fn fault(&self, error: PyErr) -> Result<Bytes, Status> {
        Self::own_answer(|py| self.fault.call1(py, (error.into_value(py),)))
    }

    fn own_answer(ask: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>) -> Result<Bytes, Status> {
        with_python(|py| {
            let answer = ask(py)?;
            let answer = answer.cast_bound::<PyBytes>(py)?;
            Ok(framed(answer.as_bytes()))
        })
        .map_err(|_| Status::internal("internal error"))
    }

    /// Whether TCP has TLS.
    pub fn has_tls(&self) -> bool {
        self.before_handshake.is_some()
    }

    /// Let Python say that a peer speaks HTTP/1.
    pub fn http1_peer(&self) {
        let _ = with_python(|py| self.http1_peer.call0(py));
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
    arrived: Instant,
    deadline: Option<Instant>,
    answer: Mutex<Option<oneshot::Sender<Bytes>>>,
    _taken: Taken,
}

#[pymethods]
impl Call {
    /// The seconds to the caller's deadline; `None`: it has none.
    fn time_remaining(&self) -> Option<f64> {
        let deadline = self.deadline?;
        Some((deadline - Instant::now()).as_secs_f64())
    }

    /// The seconds since it arrived.
    fn waited(&self) -> f64 {
        self.arrived.elapsed().as_secs_f64()
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
