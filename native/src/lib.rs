//! The native transport of `authz`: gRPC over HTTP/2 on a thread of its own.
//!
//! Python keeps every decision.  This crate carries bytes to it and back:
//!
//! * [`server`] accepts connections and sends each call where it belongs,
//! * [`opening`] tells a peer that speaks HTTP/1,
//! * [`grpc`] frames what a call says and is told,
//! * [`seam`] is where a call crosses into Python and its answer comes back,
//! * [`arrivals`] and [`room`] bound what peers may hold of connections and of memory,
//! * [`health`] answers `grpc.health.v1`, and [`tls`] reads certificates.

mod arrivals;
mod grpc;
mod health;
mod opening;
mod room;
mod seam;
mod server;
mod tls;

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::seam::{Call, Seam};
use crate::server::{Limits, Listener, Shared};

const AF_UNIX: i32 = 1; // Linux's sys/socket.h

/// A gRPC server.  Made, run and stopped by `authz/transport/native.py`.
#[pyclass(frozen, module = "authz_native")]
struct Server {
    shared: Arc<Shared>,
}

#[pymethods]
impl Server {
    /// `calls` is what the calls are for, `limits` bounds them, `reflection` is the
    /// file descriptor set to tell about, and `before_handshake` is called before
    /// each TLS handshake: the place to call `use_certificate` with a newer one.
    #[new]
    #[pyo3(signature = (calls, limits, *, reflection, before_handshake))]
    fn new(
        calls: &Bound<'_, PyAny>,
        limits: Limits,
        reflection: Option<&[u8]>,
        before_handshake: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let seam = Seam::new(calls, before_handshake)?;
        let shared = Shared::new(seam, limits, reflection).map_err(invalid)?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Use this certificate chain and key (PEM) for handshakes from now on.
    ///
    /// With `client_ca`, only for clients whose certificate it has signed.  Raises
    /// `ValueError`, and keeps what it had.
    fn use_certificate(&self, chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> PyResult<()> {
        let config = tls::server_config(chain, key, client_ca).map_err(invalid)?;
        self.shared.use_certificate(config);
        Ok(())
    }

    /// Serve on listening sockets, which are taken over, until `stop`.  Calls `began` once
    /// it does; raises what keeps it from that.
    ///
    /// Belongs into a thread of its own, made by Python: the interpreter knows it
    /// then, and taking its lock for a call costs a fraction of a microsecond.
    #[allow(clippy::needless_pass_by_value)] // the shape of a Python method
    fn run(
        &self,
        py: Python<'_>,
        sockets: Vec<Bound<'_, PyAny>>,
        began: Py<PyAny>,
    ) -> PyResult<()> {
        let listeners = sockets.iter().map(take_over).collect::<PyResult<_>>()?;
        // Other Python threads go on; the lock is taken anew for each call.
        let began = || {
            // The only thing to fail is a loop that is closed, and nobody waits there.
            let _ = Python::attach(|py| began.call0(py));
        };
        py.detach(|| server::run(&self.shared, listeners, began))?;
        Ok(())
    }

    /// Set what health answers.
    fn set_serving(&self, serving: bool) {
        self.shared.set_serving(serving);
    }

    /// Take no new calls and end once those in flight have, in `grace_seconds` at most.
    ///
    /// May be called again with a shorter grace.
    fn stop(&self, grace_seconds: f64) {
        self.shared.stop(Duration::from_secs_f64(grace_seconds));
    }
}

/// Take a Python socket's file descriptor: from now on it is closed here.
#[allow(unsafe_code)]
fn take_over(socket: &Bound<'_, PyAny>) -> PyResult<Listener> {
    let unix = socket.getattr("family")?.eq(AF_UNIX)?;
    socket.call_method1("setblocking", (false,))?;
    let fd: RawFd = socket.call_method0("detach")?.extract()?;
    if fd < 0 {
        return Err(PyValueError::new_err("the socket is closed"));
    }
    // SAFETY: `detach` gives the descriptor away: it was open, and nobody else will
    // close it.  The only unsafe line of the crate; the standard library knows no
    // safe way to take a descriptor over.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(if unix {
        Listener::Unix(fd.into())
    } else {
        Listener::Tcp(fd.into())
    })
}

#[allow(clippy::needless_pass_by_value)] // the shape of map_err
fn invalid(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pymodule]
mod authz_native {
    #[pymodule_export]
    use super::{Call, Server};
}
