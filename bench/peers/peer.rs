//! peer.h in Rust: what is a `Link` is exported by `peer!`.
use std::ffi::{c_char, c_void, CStr};
use std::slice::{from_raw_parts, from_raw_parts_mut};

pub trait Link: Sized {
    fn open(name: &str, server: bool, size: usize) -> Self;
    fn send(&mut self, message: &[u8]);
    fn receive(&mut self, room: &mut [u8]);
}

#[repr(C)]
pub struct Peer {
    open: unsafe extern "C" fn(*const c_char, bool, usize) -> *mut c_void,
    send: unsafe extern "C" fn(*mut c_void, *const u8, usize),
    receive: unsafe extern "C" fn(*mut c_void, *mut u8, usize),
    close: unsafe extern "C" fn(*mut c_void),
}

impl Peer {
    pub const fn of<L: Link>() -> Self {
        Self { open: open::<L>, send: send::<L>, receive: receive::<L>, close: close::<L> }
    }
}

unsafe extern "C" fn open<L: Link>(name: *const c_char, server: bool, size: usize) -> *mut c_void {
    Box::into_raw(Box::new(L::open(CStr::from_ptr(name).to_str().unwrap(), server, size))).cast()
}

unsafe extern "C" fn send<L: Link>(link: *mut c_void, message: *const u8, size: usize) {
    (*link.cast::<L>()).send(from_raw_parts(message, size))
}

unsafe extern "C" fn receive<L: Link>(link: *mut c_void, room: *mut u8, size: usize) {
    (*link.cast::<L>()).receive(from_raw_parts_mut(room, size))
}

unsafe extern "C" fn close<L: Link>(link: *mut c_void) {
    drop(Box::from_raw(link.cast::<L>()))
}

#[macro_export]
macro_rules! peer {
    ($link:ty) => {
        #[no_mangle]
        pub static bench_peer: $crate::Peer = $crate::Peer::of::<$link>();
    };
}
