//! How many bytes of calls may be held: of all connections, and of each.
//!
//! Room is taken for what has arrived, not for what may come, and nobody waits for it:
//! a call that finds none is answered that we are overloaded.  So a peer that begins
//! calls and does not end them holds what it has sent, and keeps nobody else waiting.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The room of one connection: its share, and what is left of all.
pub struct Room {
    all: Arc<Semaphore>,
    share: Arc<Semaphore>,
}

/// Bytes that a call takes; dropped, they are free again.
#[derive(Default)]
pub struct Taken(Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>);

impl Room {
    pub fn new(all: &Arc<Semaphore>, share: usize) -> Self {
        Self {
            all: Arc::clone(all),
            share: Arc::new(Semaphore::new(share)),
        }
    }

    /// Have a call take so many bytes in all; false: there is no room, and it takes what it took.
    pub fn top_up(&self, taken: &mut Taken, bytes: usize) -> bool {
        let more = bytes.saturating_sub(taken.bytes());
        let Ok(more) = u32::try_from(more) else {
            return false;
        };
        let (share, all) = (Arc::clone(&self.share), Arc::clone(&self.all));
        let (Ok(share), Ok(all)) = (
            share.try_acquire_many_owned(more),
            all.try_acquire_many_owned(more),
        ) else {
            return false;
        };
        match &mut taken.0 {
            Some((of_share, of_all)) => {
                of_share.merge(share);
                of_all.merge(all);
            }
            nothing => *nothing = Some((share, all)),
        }
        true
    }
}

impl Taken {
    fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |(_, all)| all.num_permits())
    }
}
