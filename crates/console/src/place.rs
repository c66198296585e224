//! The place of a connection that has not authenticated, taken before anything is spent on it.

use instance_connect_core::places::{ConnectionId, ConnectionLimits, NoPlace, PerSource, Places};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Those of one gateway. Who comes when all are taken takes that of whoever has waited longest, where most are held: however many
/// somebody opens, they push out their own.
#[derive(Clone, Debug)]
pub(crate) struct UnauthenticatedPlaces(Arc<Mutex<Places<oneshot::Sender<()>>>>);

/// One of them, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: UnauthenticatedPlaces,
    id: ConnectionId,
    closed: oneshot::Receiver<()>,
}

/// For whoever finds out that a connection is somebody's who is expected.
#[derive(Clone, Debug)]
pub(crate) struct Expecting {
    places: UnauthenticatedPlaces,
    id: ConnectionId,
}

impl UnauthenticatedPlaces {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Mutex::new(Places::new(limits))))
    }

    /// Gives a new connection a place.
    ///
    /// # Errors
    /// [`NoPlace`] when everybody who has one is expected.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<Place, NoPlace> {
        let (close, closed) = oneshot::channel();
        let (id, goes) = self.lock().admit(peer, PerSource::Limited, close)?;
        if let Some(goes) = goes {
            // Its task looks at this first.
            let _ = goes.send(());
        }
        Ok(Place { places: self.clone(), id, closed })
    }

    /// Takes all from strangers, and says how many there were.
    #[cfg(test)]
    pub(crate) fn clear(&self) -> usize {
        self.lock().close_waiting(|_| true).len()
    }

    fn lock(&self) -> MutexGuard<'_, Places<oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Ends when it has been given to another.
    pub(crate) async fn taken(&mut self) {
        if (&mut self.closed).await.is_err() {
            // Nobody can take it any more.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn expecting(&self) -> Expecting {
        Expecting { places: self.places.clone(), id: self.id }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().left(self.id);
    }
}

impl Expecting {
    /// Whoever has been expected here is not pushed out by others.
    pub(crate) fn is_expected(&self) {
        // Too late where the place is another's already: its task ends.
        let _ = self.places.lock().works(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn who_is_expected_keeps_the_place_and_others_push_out_their_own() {
        let places = UnauthenticatedPlaces::new(ConnectionLimits { in_all: 3, per_source: 2 });
        let expected = places.admit(peer(1)).unwrap();
        expected.expecting().is_expected();
        let mut first = places.admit(peer(1)).unwrap();
        let mut second = places.admit(peer(1)).unwrap();
        assert_eq!(first.closed.try_recv(), Ok(()), "two of one source at most");
        let mut other = places.admit(peer(2)).unwrap();
        let third = places.admit(peer(3)).unwrap();
        assert_eq!(second.closed.try_recv(), Ok(()), "the source that holds most makes room");
        drop((expected, first, second, third));
        assert!(other.closed.try_recv().is_err());
        drop(other);
        assert_eq!(places.clear(), 0);
    }
}
