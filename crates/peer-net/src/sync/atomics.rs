//! Atomics with something to do around each access, with the methods that this crate uses.

use std::sync::atomic::Ordering;

use super::watched::{after, atomic, before};

macro_rules! watched {
    ($name:ident, $value:ty $(, $number:ident)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(atomic::$name);

        #[allow(dead_code, reason = "each type has the methods of all")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                before(order);
                let value = self.0.load(order);
                after();
                value
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                before(order);
                self.0.store(value, order);
                after();
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                before(order);
                let value = self.0.swap(value, order);
                after();
                value
            }

            $(
                pub(crate) fn $number(&self, value: $value, order: Ordering) -> $value {
                    before(order);
                    let value = self.0.$number(value, order);
                    after();
                    value
                }
            )*
        }
    };
}

watched!(AtomicBool, bool);
watched!(AtomicU64, u64, fetch_add, fetch_sub);
watched!(AtomicUsize, usize, fetch_add, fetch_sub);
