//! Connections that have not said yet what they are, by where they come from.
//!
//! A peer that only connects, or begins a handshake and leaves it, costs a place here
//! until its time is up.  The places are bounded, and one source has a share of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bits of an IPv6 address say whose it is: a site has the rest to itself (RFC 6177).
const IPV6_PREFIX_BITS: u32 = 64;

pub struct Arrivals {
    places: Arc<Semaphore>,
    at_most_per_source: usize,
    sources: Mutex<HashMap<IpAddr, usize>>,
}

/// A place; dropped, it is free again.
pub struct Arrival {
    arrivals: Arc<Arrivals>,
    source: IpAddr,
    _place: OwnedSemaphorePermit,
}

impl Arrivals {
    pub fn new(at_most: usize, at_most_per_source: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(at_most)),
            at_most_per_source,
            sources: Mutex::default(),
        }
    }

    /// Return a place for a connection from there, or `None`: hang up on it.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Arrival> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let source = source(address);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let own = sources.entry(source).or_default();
        if *own >= self.at_most_per_source {
            return None;
        }
        *own += 1;
        Some(Arrival {
            arrivals: Arc::clone(self),
            source,
            _place: place,
        })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let sources = &self.arrivals.sources;
        let mut sources = sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut own) = sources.entry(self.source) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(it) => {
            Ipv6Addr::from_bits(it.to_bits() & (u128::MAX << IPV6_PREFIX_BITS)).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}
