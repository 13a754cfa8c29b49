//! iceoryx2's publish and subscribe, a service each way.  A message is copied into the loan and out of the sample, and
//! who waits looks again and again: these services have no other way to wait.
#![allow(non_upper_case_globals)]
use iceoryx2::port::{publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::*;
use std::hint::spin_loop;

type Ipc = ipc::Service;

struct Link {
    out: Publisher<Ipc, [u8], ()>,
    into: Subscriber<Ipc, [u8], ()>,
    _node: Node<Ipc>,
}

impl peers::Link for Link {
    fn open(name: &str, server: bool, size: usize) -> Self {
        set_log_level(LogLevel::Error);
        let depth = ((1 << 20) / size).clamp(2, 1024);
        let node = NodeBuilder::new().create::<Ipc>().unwrap();
        let service = |direction: &str| {
            node.service_builder(&format!("{name}-{direction}").as_str().try_into().unwrap())
                .publish_subscribe::<[u8]>()
                .max_publishers(1)
                .max_subscribers(1)
                .history_size(0)
                .subscriber_max_buffer_size(depth)
                .enable_safe_overflow(false)
                .open_or_create()
                .unwrap()
        };
        let ends = (service("there"), service("back"));
        let (there, back) = if server { (ends.1, ends.0) } else { ends };
        let out = there
            .publisher_builder()
            .initial_max_slice_len(size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .unwrap();
        let into = back.subscriber_builder().create().unwrap();
        while there.dynamic_config().number_of_subscribers() == 0 || back.dynamic_config().number_of_publishers() == 0 {
            std::thread::yield_now() // what is sent before both are there is lost
        }
        Link { out, into, _node: node }
    }

    fn send(&mut self, message: &[u8]) {
        loop {
            // None is to be had while all are on the way.
            let Ok(sample) = self.out.loan_slice_uninit(message.len()) else {
                spin_loop();
                continue;
            };
            // 0: dropped, since the subscriber is there and has not begun to receive.
            if sample.write_from_slice(message).send().unwrap() == 1 {
                return;
            }
        }
    }

    fn receive(&mut self, room: &mut [u8]) {
        let sample = loop {
            match self.into.receive().unwrap() {
                Some(sample) => break sample,
                None => spin_loop(),
            }
        };
        room.copy_from_slice(sample.payload())
    }
}

peers::peer!(Link);
