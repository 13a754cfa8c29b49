//! FastIPC as its examples use it: who waits spins, then sleeps.  RING: its rings' size, 1 MiB unless told.
#![allow(non_upper_case_globals)]
use fipc::{stream, Connection};
use std::time::Duration;

struct Link(Connection);

impl peers::Link for Link {
    fn open(name: &str, server: bool, _: usize) -> Self {
        let ring = std::env::var("RING").map_or(1 << 20, |ring| ring.parse().unwrap());
        Link(if server {
            stream::create(name, ring).unwrap().accept(None).unwrap()
        } else {
            stream::connect(name, Duration::from_secs(30)).unwrap()
        })
    }

    fn send(&mut self, message: &[u8]) {
        self.0.send(message, None).unwrap()
    }

    fn receive(&mut self, room: &mut [u8]) {
        assert_eq!(self.0.receive_into(room, None).unwrap(), room.len())
    }
}

peers::peer!(Link);
